%% Nodes that have no descriptors left, or no ports: their sessions go on, what is new fails and says why, and when there are some
%% again all works, with the same processes.
-module(teleport_descriptors_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_node_without_descriptors_serves_its_sessions_and_recovers/1,
         a_node_without_descriptors_says_why_it_does_not_connect/1, a_carrying_node_without_descriptors_goes_on/1,
         a_carrier_has_loaded_what_it_runs/1, a_carriers_first_connection_may_take_the_last_descriptors/1,
         a_node_without_ports_serves_all/1]).
%% Run on the nodes.
-export([echoed/2]).

-import(teleport_test_carrier, [carrier/0, plain/0, with/2, name/1, at/2, at/4, is_carried/2]).

-define(LARGE, (20 bsl 20)).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [a_node_without_descriptors_serves_its_sessions_and_recovers, a_node_without_descriptors_says_why_it_does_not_connect,
     a_carrying_node_without_descriptors_goes_on, a_carrier_has_loaded_what_it_runs,
     a_carriers_first_connection_may_take_the_last_descriptors, a_node_without_ports_serves_all].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    ok = teleport:start(),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(teleport).

a_node_without_descriptors_serves_its_sessions_and_recovers(_Config) ->
    {{PeerA, A}, {PeerB, B}} = {start(), start()},
    Server = teleport_test_server:start_at(B, server),
    true = erpc:call(A, net_kernel, connect_node, [B]),
    ?assertEqual({ok, 1}, teleport:gs_call(Server, {echo, 1})),
    ok = erpc:call(B, fun prepare/0),
    Before = erpc:call(B, fun children/0),
    Eater = eat_descriptors(B),
    ?assertEqual({ok, 2}, teleport:gs_call(Server, {echo, 2})),
    ?assertNotEqual(nomatch, string:find(refusal(A, Server), "it accepts connections and says nothing")),
    ?assertMatch({error, _Steps}, erpc:call(A, teleport, check, [B])),
    %% It has been tried all the time.
    teleport_test:eventually(fun() -> erpc:call(B, fun failed_accepts/0) > 0 end),
    ?assertEqual(1, erpc:call(B, fun failed_accepts/0)),
    ?assertEqual({ok, 3}, teleport:gs_call(Server, {echo, 3})),
    Eater ! stop,
    teleport_test:eventually(fun() -> erpc:call(A, teleport, send, [Server, {note, x}]) =:= ok end),
    [?assertEqual({From, ?LARGE}, {From, erpc:call(From, ?MODULE, echoed, [Server, ?LARGE])}) || From <- [node(), A]],
    ?assertEqual(Before, erpc:call(B, fun children/0)),
    [teleport_test:stop_peer(Peer) || Peer <- [PeerA, PeerB]].

a_node_without_descriptors_says_why_it_does_not_connect(_Config) ->
    {{PeerA, A}, {PeerB, B}} = {start(), start()},
    Server = teleport_test_server:start_at(A, server),
    Here = teleport_test_server:start_at(node(), undefined),
    true = erpc:call(B, net_kernel, connect_node, [A]),
    ?assertEqual({ok, 1}, erpc:call(B, teleport, gs_call, [Here, {echo, 1}])),
    ok = erpc:call(B, fun prepare/0),
    Before = erpc:call(B, fun children/0),
    Eater = eat_descriptors(B),
    ?assertNotEqual(nomatch, string:find(refusal(B, Server), "Too many open files")),
    ?assertEqual({ok, 2}, erpc:call(B, teleport, gs_call, [Here, {echo, 2}])),
    Eater ! stop,
    teleport_test:eventually(fun() -> erpc:call(B, teleport, send, [Server, {note, x}]) =:= ok end),
    ?assertEqual(?LARGE, erpc:call(B, ?MODULE, echoed, [Server, ?LARGE])),
    ?assertEqual(Before, erpc:call(B, fun children/0)),
    exit(Here, kill),
    [teleport_test:stop_peer(Peer) || Peer <- [PeerA, PeerB]].

%% Its connection to C stays; with A there is none, in either direction, until there are descriptors.
a_carrying_node_without_descriptors_goes_on(_Config) ->
    with([carrier(), carrier(), carrier()], fun([A, B, C]) ->
        ?assertEqual(pong, at(C, net_adm, ping, [name(B)])),
        ok = at(B, fun ready/0),
        Before = at(B, fun children/0),
        ok = limit(at(B, os, getpid, [])),
        Eater = at(B, fun() -> eat(fun a_file/0) end),
        ?assertEqual(name(B), at(C, erpc, call, [name(B), erlang, node, []])),
        ?assertEqual(pang, at(A, net_adm, ping, [name(B)])),
        ?assertEqual(pang, at(B, net_adm, ping, [name(A)])),
        teleport_test:eventually(fun() -> at(B, fun failed_accepts/0) > 0 end),
        ?assertEqual(name(B), at(C, erpc, call, [name(B), erlang, node, []])),
        stop = at(B, erlang, send, [Eater, stop]),
        teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(B)]) =:= pong end),
        [begin
            ?assert(is_carried(From, B)),
            ?assertEqual(teleport_test_carrier:large(), at(From, erpc, call, [name(B), teleport_test_carrier, large, []]))
        end || From <- [A, C]],
        ?assertEqual(Before, at(B, fun children/0))
    end).

%% Without the application, and before there is any connection.
a_carrier_has_loaded_what_it_runs(_Config) ->
    with([carrier()], fun([A]) ->
        {ok, Own} = at(A, application, get_key, [teleport, modules]),
        ?assertEqual([], [Module || Module <- [dist_util, inet_tcp_dist, erpc, calendar | Own],
                                    not at(A, erlang, module_loaded, [Module])])
    end).

%% Nothing is left to load a module with, which `net_kernel' would need to take the connection.
a_carriers_first_connection_may_take_the_last_descriptors(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        ok = at(A, fun ready/0),
        ok = limit(at(A, os, getpid, [])),
        Eater = at(A, fun() -> eat(fun a_file/0) end),
        spared = at(A, fun() -> spare(Eater) end),
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assertEqual([name(B)], at(A, erlang, nodes, [])),
        stop = at(A, erlang, send, [Eater, stop])
    end).

%% The engine's connections are no ports. Nor does it begin without one: it only does not see whether the virtual machine stands still.
a_node_without_ports_serves_all(_Config) ->
    {{PeerA, A}, {PeerB, B}} = {teleport_test:start_peer(), teleport_test:start_peer(peer:random_name(), [], ["+Q", "1024"])},
    Server = teleport_test_server:start_at(B, server),
    true = erpc:call(A, net_kernel, connect_node, [B]),
    ?assertEqual({ok, 1}, teleport:gs_call(Server, {echo, 1})),
    ok = erpc:call(B, fun prepare/0),
    Eater = erpc:call(B, fun() -> eat(fun a_port/0) end),
    ?assertEqual({ok, 2}, teleport:gs_call(Server, {echo, 2})),
    ?assertEqual({ok, 3}, erpc:call(A, teleport, gs_call, [Server, {echo, 3}])),
    ok = erpc:call(B, application, stop, [teleport]),
    ok = erpc:call(B, teleport, start, []),
    [teleport_test:eventually(fun() -> erpc:call(From, teleport, send, [Server, {note, x}]) =:= ok end) || From <- [node(), A]],
    Before = erpc:call(B, fun children/0),
    Eater ! stop,
    [?assertEqual({From, ?LARGE}, {From, erpc:call(From, ?MODULE, echoed, [Server, ?LARGE])}) || From <- [node(), A]],
    ?assertEqual(Before, erpc:call(B, fun children/0)),
    [teleport_test:stop_peer(Peer) || Peer <- [PeerA, PeerB]].

%% Nodes.

%% One that gives up in time.
start() ->
    teleport_test:start_peer(peer:random_name(), [{setup_timeout, 2000}]).

%% Why a node does not send.
refusal(Node, To) ->
    {error, {connect, Text}} = erpc:call(Node, teleport, send, [To, {note, x}]),
    Text.

-spec echoed(pid(), non_neg_integer()) -> non_neg_integer().
echoed(Server, Bytes) ->
    {ok, Echoed} = teleport:gs_call(Server, {echo, binary:copy(<<7>>, Bytes)}, 30000),
    byte_size(Echoed).

eat_descriptors(Node) ->
    ok = limit(erpc:call(Node, os, getpid, [])),
    erpc:call(Node, fun() -> eat(fun a_file/0) end).

%% Leaves it few descriptors more than it has open, so that they are soon taken.
limit(OsPid) ->
    {ok, Open} = file:list_dir("/proc/" ++ OsPid ++ "/fd"),
    "" = os:cmd("prlimit --pid " ++ OsPid ++ " --nofile=" ++ integer_to_list(length(Open) + 16) ++ ":"),
    ok.

%% At nodes.

%% Loads what OTP may need when files cannot be read.
prepare() ->
    Loaded = fun(Application) ->
        {ok, Modules} = application:get_key(Application, modules),
        _ = code:ensure_modules_loaded(Modules)
    end,
    lists:foreach(Loaded, [kernel, stdlib]),
    ready().

%% Loads what these tests call, waits for OTP's resolver, and notes warnings from now on. What a node needs it has loaded itself.
ready() ->
    {ok, _} = inet:getaddrs("localhost", inet),
    _ = code:ensure_modules_loaded([teleport_test, teleport_test_carrier, teleport_test_log, teleport_test_server, net_adm, sys]),
    teleport_test_log:note().

failed_accepts() ->
    _ = sys:get_state(teleport_log),
    teleport_test_log:count("cannot accept").

children() ->
    {whereis(teleport_sup), lists:sort([{Id, Pid} || {Id, Pid, _Type, _Modules} <- supervisor:which_children(teleport_sup)])}.

%% A process that has taken all that there is, and takes what others give back, until it is told to stop.
eat(Open) ->
    Self = self(),
    Eater = spawn(fun() -> eat(Open, Self, []) end),
    receive {Eater, full} -> Eater end.

eat(Open, Parent, Held) ->
    case Open() of
        none ->
            Parent ! {self(), full},
            receive
                stop -> ok;
                {spare, From} -> spare(From, Held)
            after 5 -> eat(Open, Parent, Held)
            end;
        One ->
            eat(Open, Parent, [One | Held])
    end.

%% Has it give three files back, and take nothing more: a connection that is handed on takes two for a moment.
spare(Eater) ->
    Eater ! {spare, self()},
    receive {Eater, spared} -> spared end.

%% Files that nobody holds any more are closed.
spare(From, Files) ->
    {Some, Held} = lists:split(3, Files),
    [ok = file:close(File) || File <- Some],
    From ! {self(), spared},
    receive stop -> Held end.

a_file() ->
    case file:open("/dev/null", [read, raw]) of
        {ok, File} -> File;
        {error, emfile} -> none
    end.

%% Without a descriptor.
a_port() ->
    try open_port({spawn_driver, "tcp_inet"}, [binary])
    catch error:system_limit -> none
    end.
