%% Distributed Erlang over teleport: `erl -proto_dist teleport'. The tests run at nodes that are started for them; this one is reached
%% by none.
-module(teleport_dist_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/net_address.hrl").

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([calls/1, links_and_monitors/1, spawned/1, names_and_aliases/1, behind_a_large_one/1, ends_behind_what_was_sent/1,
         spawn_replies_come_first/1, connections_killed/1, both_connect_at_once/1, disconnected_and_again/1, a_killed_node/1,
         a_killed_manager/1, what_it_tells/1, sends_beside_it/1, ticktime/1]).
-export([plain_nodes_connect/1, connects_to_plain_nodes/1, another_cookie/1, plain_connections_are_closed/1, erl_call/1,
         dynamic_names/1, without_a_listener/1, without_epmd/1, ports_and_interface/1, hidden_nodes/1, ipv6/1, remsh/1,
         stopped_and_started/1, with_the_application/1, a_broken_library/1, a_release/1, both_families/1]).
-export([too_long_handshakes/1, handshakes_that_do_not_go_on/1, over_max_message/1, what_waits_for_all_peers/1, a_node_that_stops/1]).
%% Run at nodes.
-export([echo/0, note/1, numbers/2]).

-define(PATIENCE, 30000).
-define(LARGE, 4194304).
-define(COOKIE, "kT7pQ2mVx9LrD4wZsB6n").

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [{group, pair},
     plain_nodes_connect, connects_to_plain_nodes, another_cookie, plain_connections_are_closed, erl_call, dynamic_names,
     without_a_listener, without_epmd, ports_and_interface, hidden_nodes, ipv6, remsh, stopped_and_started, with_the_application,
     a_broken_library, a_release, both_families, too_long_handshakes, handshakes_that_do_not_go_on,
     over_max_message, what_waits_for_all_peers, a_node_that_stops].

groups() ->
    [{pair, [], [calls, links_and_monitors, spawned, names_and_aliases, behind_a_large_one, ends_behind_what_was_sent,
                 spawn_replies_come_first, what_it_tells, ticktime, disconnected_and_again, both_connect_at_once, connections_killed,
                 sends_beside_it, a_killed_manager, a_killed_node]}].

init_per_suite(Config) ->
    _ = os:cmd("epmd -daemon"),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_group(pair, Config) ->
    [{a, carrier()}, {b, carrier()} | Config].

end_per_group(pair, Config) ->
    [stop(?config(Node, Config)) || Node <- [a, b]],
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    ok.

%% A pair of nodes.

calls(Config) ->
    {A, B} = pair(Config),
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    ?assert(is_carried(A, B)),
    ?assert(is_carried(B, A)),
    ?assertEqual(name(B), at(A, erpc, call, [name(B), erlang, node, []])),
    ?assertEqual(name(B), at(A, rpc, call, [name(B), erlang, node, []])),
    at(A, fun() ->
        Echo = spawn(name(B), ?MODULE, echo, []),
        [begin
             Term = {Size, binary:copy(<<Size:32>>, Size div 4 + 1), make_ref(), self(), lists:seq(1, 100)},
             Echo ! {self(), Term},
             ?assertEqual(Term, receive {Echo, Back} -> Back after ?PATIENCE -> late end)
         end || Size <- [0, 100, 1000, 70000, ?LARGE, 3 * ?LARGE]]
    end).

links_and_monitors(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        process_flag(trap_exit, true),
        Linked = spawn_link(name(B), ?MODULE, echo, []),
        exit(Linked, stop),
        ?assertEqual({'EXIT', Linked, stop}, next()),
        {Monitored, Monitor} = spawn_monitor(name(B), ?MODULE, echo, []),
        exit(Monitored, kill),
        ?assertEqual({'DOWN', Monitor, process, Monitored, killed}, next()),
        Nobody = erlang:monitor(process, {nobody, name(B)}),
        ?assertEqual({'DOWN', Nobody, process, {nobody, name(B)}, noproc}, next()),
        %% Nothing comes of a monitor that was given up, or of a link.
        Other = spawn_link(name(B), ?MODULE, echo, []),
        GivenUp = erlang:monitor(process, Other),
        true = erlang:demonitor(GivenUp),
        true = unlink(Other),
        exit(Other, kill),
        ?assertMatch({'DOWN', _, process, Other, Reason} when Reason =:= killed orelse Reason =:= noproc,
                     begin _ = erlang:monitor(process, Other), next() end),
        ?assertEqual([], teleport_test:mailbox())
    end).

spawned(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Self = self(),
        Request = spawn_request(name(B), fun() -> Self ! {node(), group_leader()} end, [{reply, yes}, monitor]),
        {spawn_reply, Request, ok, Pid} = next(),
        ?assertEqual({name(B), group_leader()}, next()),
        ?assertEqual({'DOWN', Request, process, Pid, normal}, next()),
        Bad = spawn_request(name(B), erlang, apply, [], [link, {no_option, 1}]),
        ?assertEqual({spawn_reply, Bad, error, badopt}, next())
    end).

names_and_aliases(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Echo = spawn(name(B), fun() -> true = register(dist_echo, self()), echo() end),
        true = register(dist_caller, self()),
        Echo ! {{dist_caller, node()}, by_name},
        ?assertEqual({Echo, by_name}, next()),
        {dist_echo, name(B)} ! {self(), to_name},
        ?assertEqual({Echo, to_name}, next()),
        Alias = alias([reply]),
        {dist_echo, name(B)} ! {Alias, by_alias},
        ?assertEqual({Echo, by_alias}, next()),
        {dist_echo, name(B)} ! {Alias, by_alias},
        {dist_echo, name(B)} ! {self(), last},
        ?assertEqual({Echo, last}, next()),
        exit(Echo, kill)
    end).

%% Each kind of signal of a process stays behind the large message that it has sent before to the same process.
behind_a_large_one(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Self = self(),
        Sink = spawn(name(B), fun() ->
            process_flag(trap_exit, true),
            true = register(dist_sink, self()),
            Alias = alias(),
            Self ! {self(), Alias},
            note([])
        end),
        Alias = receive {Sink, Made} -> Made end,
        Signals = [{pid, fun() -> Sink ! small end},
                   {name, fun() -> {dist_sink, name(B)} ! small end},
                   {alias, fun() -> Alias ! small end},
                   {exit, fun() -> exit(Sink, small) end},
                   {link, fun() -> true = link(Sink), exit(small) end},
                   {monitor, fun() -> Sink ! {watch, self()}, receive watched -> Sink ! large(), exit(small) end end}],
        [begin
             {_, Monitor} = spawn_monitor(fun() ->
                 [begin Sink ! large(), {dist_sink, name(B)} ! large(), Alias ! large() end || _ <- [1, 2]],
                 Signal()
             end),
             receive {'DOWN', Monitor, process, _, _} -> ok end,
             Sink ! {notes, Self, if Kind =:= monitor -> 8; true -> 7 end},
             Notes = receive {Sink, Got} -> Got end,
             ?assertEqual({Kind, small}, {Kind, lists:last(Notes)}),
             ?assertMatch({Kind, [large]}, {Kind, lists:usort(lists:droplast(Notes))}),
             ?assertEqual({Kind, if Kind =:= monitor -> 8; true -> 7 end}, {Kind, length(Notes)})
         end || {Kind, Signal} <- Signals, _ <- lists:seq(1, 5)],
        exit(Sink, kill)
    end).

%% The DOWN of a monitor comes behind all that the process has sent, by whichever name the one knew the other.
ends_behind_what_was_sent(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Self = self(),
        [begin
             Pid = spawn(name(B), fun() ->
                 true = register(dist_ends, self()),
                 receive go -> ok end,
                 [Self ! {Number, large()} || Number <- lists:seq(1, 4)],
                 Self ! {5, small}
             end),
             teleport_test:eventually(fun() -> erpc:call(name(B), erlang, whereis, [dist_ends]) =/= undefined end),
             Monitor = case By of
                 name -> erlang:monitor(process, {dist_ends, name(B)});
                 pid -> erlang:monitor(process, Pid)
             end,
             Pid ! go,
             ?assertEqual([1, 2, 3, 4, 5], [element(1, next()) || _ <- lists:seq(1, 5)]),
             ?assertMatch({'DOWN', Monitor, process, _, normal}, next())
         end || By <- [name, pid], _ <- lists:seq(1, 10)]
    end).

spawn_replies_come_first(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Self = self(),
        %% What is large is on its way meanwhile.
        Flood = spawn(name(B), fun Flood() -> {nobody, node(Self)} ! large(), Flood() end),
        [begin
             Request = spawn_request(name(B), fun() -> Self ! {self(), first} end),
             {spawn_reply, Request, ok, Pid} = next(),
             ?assertEqual({Pid, first}, next())
         end || _ <- lists:seq(1, 200)],
        exit(Flood, kill)
    end).

%% Where the peer is, and how much was carried.
what_it_tells(Config) ->
    {A, B} = pair(Config),
    {_, Port} = at(B, fun() -> {ok, Address} = teleport_manager:address(), Address end),
    ?assertMatch({ok, #net_address{address = {{_, _, _, _}, Port}, family = inet}},
                 at(A, net_kernel, node_info, [name(B), address])),
    ?assertMatch({ok, #net_address{address = {{_, _, _, _}, _}}}, at(B, net_kernel, node_info, [name(A), address])),
    Carried = fun() ->
        #{peers := Peers} = at(A, teleport, info, []),
        #{carried := #{messages_sent := Sent, bytes_sent := Bytes, messages_received := _, bytes_received := _}} = maps:get(name(B), Peers),
        {Sent, Bytes}
    end,
    {ok, Steps} = at(A, teleport, check, [name(B)]),
    {node, ok, Text} = lists:keyfind(node, 1, Steps),
    ?assertNotEqual(nomatch, string:find(Text, "which goes over teleport")),
    {Sent, Bytes} = Carried(),
    at(A, fun() -> {nobody, name(B)} ! binary:copy(<<1>>, 100000) end),
    teleport_test:eventually(fun() ->
        {NowSent, NowBytes} = Carried(),
        NowSent > Sent andalso NowBytes >= Bytes + 100000
    end).

ticktime(Config) ->
    {A, _B} = pair(Config),
    ?assertEqual(change_initiated, at(A, net_kernel, set_net_ticktime, [30, 0])),
    teleport_test:eventually(fun() -> maps:get(net_ticktime, at(A, teleport, info, [])) =:= 30 end),
    ?assert(is_up(A, ?config(b, Config))).

disconnected_and_again(Config) ->
    {A, B} = pair(Config),
    [begin
         Watchers = [watcher(A, B), watcher(B, A)],
         ?assert(at(A, erlang, disconnect_node, [name(B)])),
         [?assertEqual(nodedown, told(Watcher)) || Watcher <- Watchers],
         ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
         [?assertEqual(nodeup, told(Watcher, 2)) || Watcher <- Watchers],
         ?assert(is_carried(A, B)),
         ?assertEqual([], at(A, ?MODULE, numbers, [name(B), 20]))
     end || _ <- lists:seq(1, 5)],
    %% At once: the next connection does not go over the session of the one before.
    [?assertEqual(pong, at(A, fun() -> true = erlang:disconnect_node(name(B)), net_adm:ping(name(B)) end)) || _ <- lists:seq(1, 30)].

both_connect_at_once(Config) ->
    {A, B} = pair(Config),
    [begin
         _ = at(A, erlang, disconnect_node, [name(B)]),
         teleport_test:eventually(fun() -> not is_up(A, B) andalso not is_up(B, A) end),
         Self = self(),
         Pinging = [spawn_link(fun() -> Self ! {self(), at(One, net_adm, ping, [name(Other)])} end) || {One, Other} <- [{A, B}, {B, A}]],
         [?assertEqual(pong, receive {Pid, Answer} -> Answer end) || Pid <- Pinging],
         ?assert(is_carried(A, B)),
         ?assertEqual([], at(A, ?MODULE, numbers, [name(B), 5]))
     end || _ <- lists:seq(1, 15)].

%% No node is down, nothing is lost, doubled or out of order.
connections_killed(Config) ->
    {A, B} = pair(Config),
    _ = at(A, erlang, disconnect_node, [name(B)]),
    {ok, Address} = at(B, teleport_manager, address, []),
    {Proxy, Way} = teleport_test_proxy:start(Address),
    ok = at(A, application, set_env, [teleport, peers, #{name(B) => Way}]),
    ?assert(at(A, net_kernel, connect_node, [name(B)])),
    Watchers = [watcher(A, B), watcher(B, A)],
    Self = self(),
    Senders = [spawn_link(fun() -> Self ! {self(), at(One, ?MODULE, numbers, [name(Other), 400])} end)
               || {One, Other} <- [{A, B}, {B, A}, {A, B}]],
    Severing = spawn_link(fun Sever() -> ok = teleport_test_proxy:sever(Proxy), receive stop -> ok after 250 -> Sever() end end),
    [?assertEqual([], receive {Sender, Wrong} -> Wrong end) || Sender <- Senders],
    Severing ! stop,
    #{cut := Cut} = teleport_test_proxy:counts(Proxy),
    ?assert(Cut > 3),
    [?assertEqual(nothing, nothing_told(Watcher)) || Watcher <- Watchers],
    ok = at(A, application, unset_env, [teleport, peers]),
    ?assert(at(A, erlang, disconnect_node, [name(B)])).

%% The application's functions use the session that distributed Erlang has, and ask nobody.
sends_beside_it(Config) ->
    {A, B} = pair(Config),
    [ok = at(Node, teleport, start, []) || Node <- [A, B]],
    at(A, fun() ->
        Echo = spawn(name(B), ?MODULE, echo, []),
        #{peers := #{} = Before} = teleport:info(),
        ?assertEqual([name(B)], maps:keys(Before)),
        ok = teleport:send(Echo, {self(), large()}),
        ?assertMatch({Echo, _}, next()),
        Server = teleport_test_server:start_at(name(B), dist_server),
        ?assertEqual({ok, x}, teleport:gs_call(Server, {echo, x})),
        ?assertEqual(name(B), teleport_erpc:call(name(B), erlang, node, [])),
        #{peers := After} = teleport:info(),
        [#{creation := Creation}] = maps:values(Before),
        ?assertMatch([#{creation := Creation}], maps:values(After)),
        exit(Echo, kill)
    end),
    [ok = at(Node, application, stop, [teleport]) || Node <- [A, B]],
    %% Distributed Erlang goes on.
    ?assert(is_up(A, B)),
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])).

a_killed_manager(Config) ->
    {A, B} = pair(Config),
    {ok, Address} = at(B, teleport_manager, address, []),
    [Watcher, Other] = [watcher(A, B), watcher(B, A)],
    Manager = at(B, erlang, whereis, [teleport_manager]),
    true = at(B, erlang, exit, [Manager, kill]),
    ?assertEqual(nodedown, told(Watcher)),
    ?assertEqual(nodedown, told(Other)),
    teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(B)]) =:= pong end),
    ?assert(is_carried(A, B)),
    ?assertEqual({ok, Address}, at(B, teleport_manager, address, [])),
    ?assertEqual([], at(A, ?MODULE, numbers, [name(B), 20])).

a_killed_node(Config) ->
    {A, B} = pair(Config),
    Watcher = watcher(A, B),
    at(A, fun() ->
        {Pid, Monitor} = spawn_monitor(name(B), ?MODULE, echo, []),
        teleport_test:signal(kill, erpc:call(name(B), os, getpid, [])),
        ?assertEqual({'DOWN', Monitor, process, Pid, noconnection}, next())
    end),
    ?assertEqual(nodedown, told(Watcher)).

%% Mixed clusters.

plain_nodes_connect(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        mixed(A, B)
    end).

connects_to_plain_nodes(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        mixed(A, B)
    end).

mixed(Carrier, Plain) ->
    ?assert(is_up(Carrier, Plain)),
    ?assertNot(is_carried(Carrier, Plain)),
    [?assertEqual([], at(One, ?MODULE, numbers, [name(Other), 20])) || {One, Other} <- [{Carrier, Plain}, {Plain, Carrier}]],
    %% A second carrier is connected as such, and both with the plain one.
    with([carrier()], fun([Third]) ->
        ?assertEqual(pong, at(Third, net_adm, ping, [name(Carrier)])),
        ?assert(is_carried(Third, Carrier)),
        teleport_test:eventually(fun() -> is_up(Third, Plain) end),
        ?assertNot(is_carried(Third, Plain))
    end),
    Watcher = watcher(Carrier, Plain),
    ?assert(at(Plain, erlang, disconnect_node, [name(Carrier)])),
    ?assertEqual(nodedown, told(Watcher)),
    ?assertEqual(pong, at(Carrier, net_adm, ping, [name(Plain)])).

%% A node that carries is not talked to in another way.
another_cookie(_Config) ->
    with([carrier(), start(["-proto_dist", "teleport", "-setcookie", "nT3bW8xKq1ZcV5yHj0Lf"])], fun([A, B]) ->
        ?assertEqual(pang, at(A, net_adm, ping, [name(B)])),
        ?assertNot(is_up(A, B))
    end).

plain_connections_are_closed(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        Count = fun() -> at(A, fun() -> {ok, Open} = file:list_dir("/proc/self/fd"), length(Open) end) end,
        Again = fun(Closer, Other) ->
            ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
            ?assert(at(Closer, erlang, disconnect_node, [name(Other)])),
            %% The other end is told.
            teleport_test:eventually(fun() -> not is_up(A, B) andalso not is_up(B, A) end)
        end,
        Again(A, B),
        Before = Count(),
        [begin Again(A, B), Again(B, A) end || _ <- lists:seq(1, 10)],
        teleport_test:eventually(fun() -> Count() =< Before + 2 end)
    end).

%% A node in C.
erl_call(_Config) ->
    [Program | _] = filelib:wildcard(filename:join([code:root_dir(), "lib", "erl_interface-*", "bin", "erl_call"]))
        ++ filelib:wildcard(filename:join([code:root_dir(), "erts-*", "bin", "erl_call"])),
    with([carrier()], fun([A]) ->
        [Name, _] = string:split(atom_to_list(name(A)), "@"),
        Said = os:cmd(Program ++ " -sname " ++ Name ++ " -c " ++ ?COOKIE ++ " -a 'erlang node'"),
        ?assertEqual(atom_to_list(name(A)), string:trim(Said, both, "'"))
    end).

dynamic_names(_Config) ->
    with([carrier(), start_as("undefined", ["-proto_dist", "teleport"])], fun([A, B]) ->
        ?assert(at(B, net_kernel, connect_node, [name(A)])),
        Node = at(B, erlang, node, []),
        ?assertNotEqual(nonode@nohost, Node),
        ?assertEqual([Node], at(A, erlang, nodes, [hidden])),
        ?assertEqual([], at(B, ?MODULE, numbers, [name(A), 20]))
    end).

%% It has no engine: it goes plain to others.
without_a_listener(_Config) ->
    with([carrier(), start(["-proto_dist", "teleport", "-dist_listen", "false"])], fun([A, B]) ->
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assertNot(is_carried(B, A)),
        ?assertEqual({error, not_running}, at(B, teleport_manager, address, [])),
        ?assertEqual([], at(B, ?MODULE, numbers, [name(A), 20]))
    end).

without_epmd(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Flags = ["-proto_dist", "teleport", "-start_epmd", "false", "-erl_epmd_port", integer_to_list(Port)],
    with([start(Flags), start(Flags ++ ["-dist_listen", "false"])], fun([A, B]) ->
        ?assertMatch({ok, {_, Port}}, at(A, teleport_manager, address, [])),
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)]))
    end).

ports_and_interface(_Config) ->
    Flags = fun(Ip, First, Last) ->
        ["-proto_dist", "teleport", "-kernel", "inet_dist_use_interface", Ip, "inet_dist_listen_min", integer_to_list(First),
         "inet_dist_listen_max", integer_to_list(Last)]
    end,
    with([start(Flags("{127,0,0,1}", 24371, 24379)), start(Flags("{127,0,0,1}", 24371, 24379))], fun([A, B]) ->
        [{ok, {{127, 0, 0, 1}, First}}, {ok, {{127, 0, 0, 1}, Second}}] = [at(Node, teleport_manager, address, []) || Node <- [A, B]],
        ?assertNotEqual(First, Second),
        [?assert(Port >= 24371 andalso Port =< 24379) || Port <- [First, Second]],
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        ?assert(is_carried(A, B))
    end).

hidden_nodes(_Config) ->
    with([carrier(), start(["-proto_dist", "teleport", "-hidden"])], fun([A, B]) ->
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assert(is_carried(A, B)),
        ?assertEqual([], at(A, erlang, nodes, [])),
        ?assertEqual([name(B)], at(A, erlang, nodes, [hidden]))
    end).

%% The loopback address, since hosts have names for no other.
ipv6(_Config) ->
    Flags = ["-proto_dist", "teleport6"],
    Start = fun() -> start_at("::1", Flags) end,
    with([Start(), Start(), start_at("::1", ["-proto_dist", "inet6_tcp"])], fun([A, B, Plain]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        ?assert(is_carried(A, B)),
        ?assertMatch({ok, #net_address{address = {{0, 0, 0, 0, 0, 0, 0, 1}, _}, family = inet6}},
                     at(A, net_kernel, node_info, [name(B), address])),
        ?assertEqual(pong, at(Plain, net_adm, ping, [name(A)])),
        teleport_test:eventually(fun() -> is_up(B, Plain) end)
    end).

remsh(_Config) ->
    with([carrier()], fun([A]) ->
        [begin
             Shell = ["-setcookie", ?COOKIE, "-remsh", atom_to_list(name(A)) | Flags],
             Erl = lists:join($\s, ["erl" | Shell ++ teleport_test:code_path()]),
             %% The end of its input would end the shell before it is one.
             Said = os:cmd(lists:flatten(["(echo 'node().'; sleep 5) | timeout 20 script -qc \"", Erl, "\" /dev/null"])),
             ?assertMatch({_, [_ | _]}, {Flags, string:find(Said, atom_to_list(name(A)))})
         end || Flags <- [["-sname", "undefined"], ["-sname", peer:random_name(), "-proto_dist", "teleport"],
                          ["-sname", "undefined", "-proto_dist", "teleport"]]]
    end).

stopped_and_started(_Config) ->
    with([carrier(), anonymous(["-proto_dist", "teleport"])], fun([A, B]) ->
        Short = peer:random_name(),
        Round = fun() ->
            {ok, _} = at(B, net_kernel, start, [[list_to_atom(Short), shortnames]]),
            true = at(B, erlang, set_cookie, [list_to_atom(?COOKIE)]),
            Named = {element(1, B), at(B, erlang, node, [])},
            ?assertEqual(pong, at(A, net_adm, ping, [name(Named)])),
            ?assert(is_carried(A, Named)),
            ?assertEqual([], at(A, ?MODULE, numbers, [name(Named), 20])),
            Watcher = watcher(A, Named),
            ok = at(B, net_kernel, stop, []),
            ?assertEqual(nodedown, told(Watcher))
        end,
        Round(),
        Round(),
        %% While the application runs: before distributed Erlang begins, and from within.
        ok = at(B, teleport, start, []),
        Round(),
        Round(),
        ok = at(B, application, stop, [teleport]),
        Round()
    end).

%% The application may come and go.
with_the_application(_Config) ->
    with([carrier(), anonymous(["-proto_dist", "teleport"])], fun([A, B]) ->
        ok = at(B, teleport, start, []),
        {ok, _} = at(B, net_kernel, start, [[list_to_atom(peer:random_name()), shortnames]]),
        true = at(B, erlang, set_cookie, [list_to_atom(?COOKIE)]),
        Named = {element(1, B), at(B, erlang, node, [])},
        ?assertEqual(pong, at(A, net_adm, ping, [name(Named)])),
        {ok, Address} = at(B, teleport_manager, address, []),
        %% The supervisor was the application's: distributed Erlang begins anew, at the same place.
        ok = at(B, application, stop, [teleport]),
        teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(Named)]) =:= pong end),
        ?assert(is_carried(A, Named)),
        ?assertEqual({ok, Address}, at(B, teleport_manager, address, [])),
        ok = at(B, teleport, start, []),
        ?assertEqual({ok, Address}, at(B, teleport_manager, address, [])),
        ok = at(B, application, stop, [teleport]),
        ?assert(is_up(A, Named))
    end).

%% The node ends, and says why in a line.
a_broken_library(Config) ->
    Said = os:cmd("erl -noshell -proto_dist teleport -sname " ++ peer:random_name() ++ " -pa " ++ broken(Config) ++ " 2>&1; echo ended $?"),
    ?assertMatch(["teleport cannot carry distributed Erlang (-proto_dist teleport): the library " ++ _, "ended 1"],
                 string:tokens(Said, "\r\n")).

%% The application, with something that is no library.
broken(Config) ->
    Dir = filename:join(?config(priv_dir, Config), "broken"),
    Ebin = filename:join(Dir, "ebin"),
    ok = filelib:ensure_path(filename:join(Dir, "priv")),
    ok = filelib:ensure_path(Ebin),
    [{ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
     || File <- filelib:wildcard(filename:join(filename:dirname(code:which(teleport)), "*"))],
    ok = file:write_file(filename:join([Dir, "priv", "teleport_nif.so"]), <<"not a library">>),
    Ebin.

%% Of a release, in embedded mode: modules are loaded at once, before distributed Erlang begins.
a_release(Config) ->
    with([carrier()], fun([A]) ->
        Said = os:cmd(release(Config, filename:dirname(code:which(teleport)), "good") ++ " -setcookie " ++ ?COOKIE
                      ++ " -eval 'io:format(\"~p\", [net_adm:ping(list_to_atom(\"" ++ atom_to_list(name(A)) ++ "\"))]), halt().' 2>&1"),
        ?assertEqual("pong", Said)
    end),
    Said = os:cmd(release(Config, broken(Config), "bad") ++ " 2>&1; echo ended $?"),
    ?assertMatch(["teleport cannot carry distributed Erlang (-proto_dist teleport): the library " ++ _, "ended 1"],
                 string:tokens(Said, "\r\n")).

%% A command that runs it.
release(Config, Ebin, Name) ->
    File = filename:join(?config(priv_dir, Config), Name),
    Version = fun(Application) ->
        _ = application:load(Application),
        {ok, Vsn} = application:get_key(Application, vsn),
        {Application, Vsn}
    end,
    Release = {release, {Name, "1"}, {erts, erlang:system_info(version)}, [Version(One) || One <- [kernel, stdlib, teleport]]},
    ok = file:write_file(File ++ ".rel", io_lib:format("~p.~n", [Release])),
    ok = systools:make_script(File, [local, no_warn_sasl, {path, [Ebin]}, {outdir, ?config(priv_dir, Config)}]),
    "erl -boot " ++ File ++ " -mode embedded -noshell -proto_dist teleport -sname " ++ peer:random_name().

both_families(_Config) ->
    Said = os:cmd(lists:flatten(lists:join($\s, ["erl -noshell -proto_dist teleport teleport6 -sname", peer:random_name()
                                                 | teleport_test:code_path()])) ++ " 2>&1; echo ended $?"),
    ?assertMatch(["teleport cannot carry distributed Erlang" ++ _, "ended 1"], string:lexemes(Said, "\n")).

%% As with `inet_tcp' a message may be of any size, whatever the others may be.
over_max_message(_Config) ->
    Start = fun() -> start(["-proto_dist", "teleport", "-teleport", "max_message", "1048576"]) end,
    with([Start(), Start()], fun([A, B]) ->
        Watcher = watcher(A, B),
        at(A, fun() ->
            Echo = spawn(name(B), ?MODULE, echo, []),
            [begin
                 Term = {Size, binary:copy(<<Size:64>>, Size div 8 + 1)},
                 Echo ! {self(), Term},
                 ?assertEqual({Echo, Term}, next())
             end || Size <- [1048576, 10 * 1048576, 100 * 1048576]]
        end),
        ?assertEqual(nodeup, told(Watcher)),
        ?assertMatch([], lists:delete(nodeup, at(A, fun() -> told_of(element(2, Watcher), name(B)) end))),
        %% That of the application's functions holds.
        [ok = at(Node, teleport, start, []) || Node <- [A, B]],
        ?assertMatch({error, {too_large, _, 1048576}},
                     at(A, fun() -> teleport:send({nobody, name(B)}, binary:copy(<<1>>, 2 * 1048576)) end))
    end).

%% Peers that stand still: what is pulled out of the virtual machine for them is bounded for all together.
what_waits_for_all_peers(_Config) ->
    with([carrier() || _ <- lists:seq(1, 8)], fun([A | Peers]) ->
        Pids = [begin
            ?assertEqual(pong, at(A, net_adm, ping, [name(Peer)])),
            at(Peer, os, getpid, [])
        end || Peer <- Peers],
        [teleport_test:signal(stop, Pid) || Pid <- Pids],
        Names = [name(Peer) || Peer <- Peers],
        Senders = at(A, fun() ->
            Message = binary:copy(<<7>>, 1048576),
            Sending = fun(Node) -> fun() -> [{nobody, Node} ! Message || _ <- lists:seq(1, 150)] end end,
            [spawn(Sending(Node)) || Node <- Names]
        end),
        Waiting = fun() ->
            #{peers := Known} = at(A, teleport, info, []),
            lists:sum([maps:get(waiting, maps:get(Node, Known)) || Node <- Names])
        end,
        teleport_test:eventually(fun() ->
            Before = Waiting(),
            [{status, suspended}] =:= lists:usort([at(A, erlang, process_info, [Sender, status]) || Sender <- Senders])
                andalso Before > 200 andalso Waiting() =:= Before
        end),
        %% In MiB: what all may have, and one pull of each.
        ?assert(Waiting() =< 256 + length(Peers)),
        [teleport_test:signal(cont, Pid) || Pid <- Pids],
        teleport_test:eventually(fun() -> not lists:any(fun(Sender) -> at(A, erlang, is_process_alive, [Sender]) end, Senders) end),
        teleport_test:eventually(fun() -> Waiting() =:= 0 end)
    end).

%% That is told by a nodedown, and needs no warning.
a_node_that_stops(_Config) ->
    with([carrier()], fun([A]) ->
        ok = at(A, teleport_test_log, note, []),
        [begin
             B = carrier(),
             ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
             Watcher = watcher(A, B),
             %% It does not get all of this any more.
             at(A, fun() -> spawn_link(name(B), ?MODULE, echo, []), [{nobody, name(B)} ! large() || _ <- lists:seq(1, 10)], ok end),
             at(B, init, stop, []),
             ?assertEqual(nodedown, told(Watcher)),
             stop(B)
         end || _ <- lists:seq(1, 5)],
        ?assertEqual(0, at(A, teleport_test_log, count, ["session down"]))
    end).

%% A peer that has the cookie.

%% Whether they come with the handshake or later, more or longer packets than a handshake has end the channel.
too_long_handshakes(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ok = at(A, teleport_test_log, note, []),
        Said = fun() -> at(A, teleport_test_log, count, ["more in its handshake"]) end,
        %% The other one has nobody who would answer.
        ok = at(A, sys, suspend, [net_kernel]),
        Sent = fun(Packets) ->
            at(B, fun() ->
                Channel = channel(name(A)),
                {[], false} = teleport_nif:carrier_own(Channel),
                [ok = teleport_nif:carrier_packet(Channel, Packet) || Packet <- Packets],
                receive {teleport_carrier, closed} -> closed after 2000 -> open end
            end)
        end,
        ?assertEqual(open, Sent(lists:duplicate(16, binary:copy(<<0>>, 65535)))),
        ?assertEqual(0, Said()),
        ?assertEqual(closed, Sent([binary:copy(<<0>>, 65536)])),
        teleport_test:eventually(fun() -> Said() =:= 1 end),
        ?assertEqual(closed, Sent(lists:duplicate(17, <<0>>))),
        ok = at(A, sys, resume, [net_kernel]),
        %% Of a connection that is up, and its process would not take them.
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        Watcher = watcher(A, B),
        at(B, fun() ->
            Channel = channel_of(name(A)),
            [teleport_nif:carrier_packet(Channel, <<0>>) || _ <- lists:seq(1, 16)]
        end),
        ?assertEqual(nodedown, told(Watcher)),
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)]))
    end).

handshakes_that_do_not_go_on(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ok = at(A, teleport_test_log, note, []),
        ok = at(A, sys, suspend, [net_kernel]),
        Begun = at(B, fun() ->
            Self = self(),
            %% One after the other: a channel that is begun behind a later one is none.
            [begin
                 spawn(fun() ->
                     Channel = channel(name(A)),
                     {[], false} = teleport_nif:carrier_own(Channel),
                     ok = teleport_nif:carrier_packet(Channel, <<>>),
                     Self ! begun,
                     receive {teleport_carrier, closed} -> Self ! closed end,
                     receive after infinity -> Channel end
                 end),
                 receive begun -> ok after ?PATIENCE -> error(not_begun) end
             end || _ <- lists:seq(1, 20)],
            [closed = next() || _ <- lists:seq(1, 16)],
            receive closed -> more after 500 -> four end
        end),
        ?assertEqual(four, Begun),
        ?assertEqual(1, at(A, teleport_test_log, count, ["it has begun others"])),
        %% When those have ended there is room for others.
        ok = at(A, sys, resume, [net_kernel]),
        teleport_test:eventually(fun() -> at(B, net_adm, ping, [name(A)]) =:= pong end),
        ?assert(is_carried(A, B))
    end).

%% At nodes.

%% A channel to a node, for whom it was not opened by distributed Erlang.
channel(Node) ->
    Tag = make_ref(),
    waiting = teleport_nif:carrier_connect(Node, Tag),
    receive {teleport_sent, Tag, {ok, Channel}} -> Channel end.

%% That of distributed Erlang's connection: what its process asks for data.
channel_of(Node) ->
    {Node, Controller} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    {links, Links} = process_info(Controller, links),
    1 = erlang:trace_pattern({teleport_nif, carrier_take, 1}, true, []),
    [1 = erlang:trace(Pid, true, [call]) || Pid <- Links, is_pid(Pid)],
    Asked = spawn_request(Node, erlang, node, []),
    receive {trace, _Pid, call, {teleport_nif, carrier_take, [Channel]}} -> ok end,
    [1 = erlang:trace(Pid, false, [call]) || Pid <- Links, is_pid(Pid)],
    receive {spawn_reply, Asked, ok, _} -> Channel end.

echo() ->
    receive {From, Message} -> From ! {self(), Message} end,
    echo().

%% Notes what comes, in its order.
note(Notes) ->
    receive
        {notes, From, Count} when length(Notes) >= Count -> From ! {self(), lists:reverse(Notes)}, note([]);
        {watch, Pid} -> _ = erlang:monitor(process, Pid), Pid ! watched, note(Notes);
        Large when is_binary(Large) -> note([large | Notes]);
        small -> note([small | Notes]);
        {'EXIT', _, small} -> note([small | Notes]);
        {'DOWN', _, process, _, small} -> note([small | Notes])
    end.

%% Numbered messages of all sizes to a process there: what was wrong with them.
numbers(Node, Count) ->
    Sink = teleport_test:sink(Node),
    Sizes = {10, 1000, 100000, 10, 1000000, 64},
    [Sink ! teleport_test:number(self(), Number, element(1 + Number rem tuple_size(Sizes), Sizes)) || Number <- lists:seq(1, Count)],
    Wrong = teleport_test:arrived([Sink], Count),
    exit(Sink, kill),
    Wrong.

large() ->
    binary:copy(<<7>>, ?LARGE).

next() ->
    receive Message -> Message after ?PATIENCE -> error({nothing_came, process_info(self(), messages)}) end.

%% Nodes, each with its process here and its name.

carrier() ->
    start(["-proto_dist", "teleport"]).

plain() ->
    start([]).

start(Flags) ->
    start_as(peer:random_name(), Flags).

start_as(Name, Flags) ->
    started(#{args => ["-sname", Name | flags(Flags)]}).

start_at(Host, Flags) ->
    started(#{args => ["-name", peer:random_name() ++ "@" ++ Host | flags(Flags)]}).

anonymous(Flags) ->
    started(#{args => flags(Flags)}).

flags(Flags) ->
    Cookie = case lists:member("-setcookie", Flags) of
        true -> [];
        false -> ["-setcookie", ?COOKIE]
    end,
    Cookie ++ ["-kernel", "prevent_overlapping_partitions", "false" | teleport_test:code_path()] ++ Flags.

started(Options) ->
    {ok, Peer, _} = peer:start(Options#{connection => standard_io}),
    {Peer, peer:call(Peer, erlang, node, [])}.

stop({Peer, _Node}) ->
    teleport_test:stop_peer(Peer).

with(Nodes, Do) ->
    try Do(Nodes)
    after
        [stop(Node) || Node <- Nodes]
    end.

%% They are connected.
pair(Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    {A, B}.

name({_Peer, Node}) -> Node.

at({Peer, _Node}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, 2 * ?PATIENCE).

at(Node, Fun) ->
    at(Node, erlang, apply, [Fun, []]).

is_up(Node, Other) ->
    lists:member(name(Other), at(Node, erlang, nodes, [connected])).

is_carried(Node, Other) ->
    {_, Controller} = lists:keyfind(name(Other), 1, at(Node, erlang, system_info, [dist_ctrl])),
    is_pid(Controller).

%% A process at a node that is told of another one.
watcher(Node, Other) ->
    Of = name(Other),
    Pid = at(Node, fun() ->
        Self = self(),
        Watcher = spawn(fun() -> ok = net_kernel:monitor_nodes(true), Self ! {self(), ready}, receive after infinity -> ok end end),
        receive {Watcher, ready} -> Watcher end
    end),
    {Node, Pid, Of}.

%% What it is told first of the other one, or then.
told(Watcher) ->
    told(Watcher, 1).

told({Node, Pid, Of}, Which) ->
    at(Node, fun() ->
        teleport_test:eventually(fun() -> length(told_of(Pid, Of)) >= Which end),
        lists:nth(Which, told_of(Pid, Of))
    end).

nothing_told({Node, Pid, Of}) ->
    case at(Node, fun() -> told_of(Pid, Of) end) of
        [] -> nothing;
        Told -> Told
    end.

told_of(Pid, Of) ->
    {messages, Messages} = process_info(Pid, messages),
    [What || {What, Node} <- Messages, Node =:= Of].
