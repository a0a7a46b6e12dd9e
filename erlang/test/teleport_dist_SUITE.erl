%% Signals of two nodes with `erl -proto_dist teleport': each kind, their order, and what ends the connection. This node is
%% reached by none.
-module(teleport_dist_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/net_address.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([calls_are_carried/1, links_and_monitors_end_as_they_should/1, remote_spawns_work/1,
         names_and_aliases_keep_one_order/1, signals_stay_behind_a_large_message/1,
         signals_without_a_message_keep_their_place/1, ends_behind_what_was_sent/1, spawn_replies_come_first/1,
         addresses_and_counts_are_told/1, the_ticktime_can_be_changed/1, a_short_ticktime_holds_at_once/1,
         messages_of_many_binaries_arrive/1, disconnected_nodes_connect_again/1,
         nodes_that_connect_at_once_are_connected/1, killed_connections_lose_nothing/1, sends_use_the_carriers_session/1,
         a_killed_manager_is_no_nodedown/1, a_killed_node_is_a_nodedown/1, modules_loaded_anew_end_no_connection/1,
         long_names_are_told_apart/1]).
%% Run at nodes.
-export([note/1]).

-import(teleport_test_carrier, [carrier/0, stop/1, name/1, at/2, at/4, is_up/2, is_carried/2, watcher/2, told/1,
                                told/2, nothing_told/1, large/0, next/0]).

-define(PATIENCE, 30000).
-define(LARGE, 4194304).
%% More large messages than have room at a peer.
-define(MANY, 12).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [calls_are_carried, links_and_monitors_end_as_they_should, remote_spawns_work, names_and_aliases_keep_one_order,
     signals_stay_behind_a_large_message, signals_without_a_message_keep_their_place, ends_behind_what_was_sent,
     spawn_replies_come_first,
     addresses_and_counts_are_told, the_ticktime_can_be_changed, a_short_ticktime_holds_at_once,
     messages_of_many_binaries_arrive, disconnected_nodes_connect_again,
     nodes_that_connect_at_once_are_connected, killed_connections_lose_nothing, sends_use_the_carriers_session,
     modules_loaded_anew_end_no_connection, long_names_are_told_apart, a_killed_manager_is_no_nodedown,
     a_killed_node_is_a_nodedown].

init_per_suite(Config) ->
    ok = teleport_test:epmd(),
    [{a, carrier()}, {b, carrier()} | Config].

end_per_suite(Config) ->
    [stop(?config(Node, Config)) || Node <- [a, b]],
    ok.

%% By the second time who has stayed in the first version is killed.
modules_loaded_anew_end_no_connection(Config) ->
    {A, B} = pair(Config),
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    Watcher = watcher(A, B),
    at(A, fun() ->
        Lingering = fun(Module) -> [Pid || Pid <- processes(), check_process_code(Pid, Module) =:= true] end,
        [begin
             _ = code:purge(Module),
             {module, Module} = code:load_file(Module),
             %% Some have nothing to do for the time being.
             ?assertEqual(pong, net_adm:ping(name(B))),
             teleport_test:eventually(fun() -> Lingering(Module) =:= [] end)
         end || _ <- [1, 2, 3], Module <- [teleport_dist_channel, teleport_dist]]
    end),
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    ?assertEqual(nothing, nothing_told(Watcher)),
    %% Its session ends with the connection all the same.
    true = at(A, erlang, disconnect_node, [name(B)]),
    ?assertEqual(nodedown, told(Watcher)),
    teleport_test:eventually(fun() -> at(A, teleport_nif, info, []) =:= {error, not_running} orelse sessions(A) =:= [] end).

sessions(Node) ->
    maps:keys(maps:get(peers, at(Node, teleport_nif, info, []))).

long_names_are_told_apart(_Config) ->
    Ending = fun(Last) -> teleport_dist:ending(list_to_atom(lists:duplicate(240, $a) ++ Last ++ "@127.0.0.1")) end,
    ?assertNotEqual(Ending("b"), Ending("c")),
    ?assertEqual(Ending("b"), Ending("b")),
    ?assertEqual('teleport_dist_a@b', teleport_dist:ending(a@b)).

calls_are_carried(Config) ->
    {A, B} = pair(Config),
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    ?assert(is_carried(A, B)),
    ?assert(is_carried(B, A)),
    ?assertEqual(name(B), at(A, erpc, call, [name(B), erlang, node, []])),
    ?assertEqual(name(B), at(A, rpc, call, [name(B), erlang, node, []])),
    at(A, fun() ->
        Echo = spawn(name(B), teleport_test_carrier, echo, []),
        [begin
             Term = {Size, binary:copy(<<Size:32>>, Size div 4 + 1), make_ref(), self(), lists:seq(1, 100)},
             Echo ! {self(), Term},
             ?assertEqual(Term, receive {Echo, Back} -> Back after ?PATIENCE -> late end)
         end || Size <- [0, 100, 1000, 70000, ?LARGE, 3 * ?LARGE]]
    end).

links_and_monitors_end_as_they_should(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        process_flag(trap_exit, true),
        Linked = spawn_link(name(B), teleport_test_carrier, echo, []),
        exit(Linked, stop),
        ?assertEqual({'EXIT', Linked, stop}, next()),
        {Monitored, Monitor} = spawn_monitor(name(B), teleport_test_carrier, echo, []),
        exit(Monitored, kill),
        ?assertEqual({'DOWN', Monitor, process, Monitored, killed}, next()),
        Nobody = erlang:monitor(process, {nobody, name(B)}),
        ?assertEqual({'DOWN', Nobody, process, {nobody, name(B)}, noproc}, next()),
        %% Nothing comes of a monitor that was given up, or of a link.
        Other = spawn_link(name(B), teleport_test_carrier, echo, []),
        GivenUp = erlang:monitor(process, Other),
        true = erlang:demonitor(GivenUp),
        true = unlink(Other),
        exit(Other, kill),
        ?assertMatch({'DOWN', _, process, Other, Reason} when Reason =:= killed orelse Reason =:= noproc,
                     begin _ = erlang:monitor(process, Other), next() end),
        ?assertEqual([], teleport_test:mailbox())
    end).

remote_spawns_work(Config) ->
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

names_and_aliases_keep_one_order(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Echo = spawn(name(B), fun() -> true = register(dist_echo, self()), teleport_test_carrier:echo() end),
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
signals_stay_behind_a_large_message(Config) ->
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

%% What leaves no message is behind the large messages that the same process has sent before, and before what it sends later.
signals_without_a_message_keep_their_place(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Nothing = fun(_) -> none end,
        Kinds = [{group_leader, fun(_) -> spawn(fun() -> receive stop -> ok end end) end,
                  fun(Sink, Leader) -> group_leader(Leader, Sink) end},
                 {link, Nothing, fun(Sink, none) -> link(Sink) end},
                 {unlink, fun(Sink) -> link(Sink) end, fun(Sink, true) -> unlink(Sink) end},
                 {monitor, Nothing, fun(Sink, none) -> is_reference(erlang:monitor(process, Sink)) end},
                 {demonitor, fun(Sink) -> erlang:monitor(process, Sink) end, fun(_, Monitor) -> demonitor(Monitor) end}],
        [begin
             Self = self(),
             Sink = spawn(name(B), fun() -> Self ! {self(), watch()} end),
             Sender = spawn(fun() ->
                 Made = Prepare(Sink),
                 Sink ! {watch, self()},
                 receive watched -> ok end,
                 [Sink ! large() || _ <- lists:seq(1, ?MANY)],
                 true = Signal(Sink, Made),
                 Sink ! last,
                 receive stop -> ok end
             end),
             ?assertEqual({Kind, ?MANY}, receive {Sink, Seen} -> {Kind, Seen} after ?PATIENCE -> {Kind, nothing} end),
             exit(Sender, kill)
         end || {Kind, Prepare, Signal} <- Kinds, _ <- lists:seq(1, 5)]
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
                 [Self ! {Number, large()} || Number <- lists:seq(1, ?MANY)],
                 Self ! {?MANY + 1, small}
             end),
             teleport_test:eventually(fun() -> erpc:call(name(B), erlang, whereis, [dist_ends]) =/= undefined end),
             Monitor = case By of
                 name -> erlang:monitor(process, {dist_ends, name(B)});
                 pid -> erlang:monitor(process, Pid)
             end,
             Pid ! go,
             ?assertEqual(lists:seq(1, ?MANY + 1), [element(1, next()) || _ <- lists:seq(0, ?MANY)]),
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
addresses_and_counts_are_told(Config) ->
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

the_ticktime_can_be_changed(Config) ->
    {A, _B} = pair(Config),
    ?assertEqual(change_initiated, at(A, net_kernel, set_net_ticktime, [30, 0])),
    teleport_test:eventually(fun() -> maps:get(net_ticktime, at(A, teleport, info, [])) =:= 30 end),
    ?assert(is_up(A, ?config(b, Config))).

%% `dist_util' gives an idle connection up when nothing has come for that long, and looks four times as often.
a_short_ticktime_holds_at_once(Config) ->
    {A, B} = pair(Config),
    Watchers = [watcher(A, B), watcher(B, A)],
    [?assertEqual(change_initiated, at(Node, net_kernel, set_net_ticktime, [4, 0])) || Node <- [A, B]],
    %% A node that stands still for seconds is rightly given up.
    Self = self(),
    _ = [spawn_link(fun() -> Self ! {stood, at(Node, teleport_test_carrier, stood_still, [10000])} end) || Node <- [A, B]],
    Stood = lists:max([receive {stood, Longest} -> Longest after 60000 -> error(nothing_came) end || _ <- [A, B]]),
    Told = [nothing_told(Watcher) || Watcher <- Watchers],
    ?assert(Told =:= [nothing, nothing] orelse Stood > 1500, {Told, Stood}),
    [?assertEqual(change_initiated, at(Node, net_kernel, set_net_ticktime, [60, 0])) || Node <- [A, B]].

%% Which are put on a dirty scheduler.
messages_of_many_binaries_arrive(Config) ->
    {A, B} = pair(Config),
    at(A, fun() ->
        Self = self(),
        Echo = spawn(name(B), fun Echo() -> receive Message -> Self ! Message, Echo() end end),
        [begin
             Message = [crypto:strong_rand_bytes(Size) || _ <- lists:seq(1, Count)],
             Echo ! {Count, Message},
             ?assertEqual({Count, Message}, next())
         end || Size <- [100, 2000], Count <- [10, 1025, 5000]],
        exit(Echo, kill)
    end).

disconnected_nodes_connect_again(Config) ->
    {A, B} = pair(Config),
    [begin
         Watchers = [watcher(A, B), watcher(B, A)],
         ?assert(at(A, erlang, disconnect_node, [name(B)])),
         [?assertEqual(nodedown, told(Watcher)) || Watcher <- Watchers],
         ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
         [?assertEqual(nodeup, told(Watcher, 2)) || Watcher <- Watchers],
         ?assert(is_carried(A, B)),
         ?assertEqual([], at(A, teleport_test_carrier, numbers, [name(B), 20]))
     end || _ <- lists:seq(1, 5)],
    %% At once: the next connection does not go over the session of the one before.
    [?assertEqual(pong, at(A, fun() -> true = erlang:disconnect_node(name(B)), net_adm:ping(name(B)) end)) || _ <- lists:seq(1, 30)].

nodes_that_connect_at_once_are_connected(Config) ->
    {A, B} = pair(Config),
    [begin
         _ = at(A, erlang, disconnect_node, [name(B)]),
         teleport_test:eventually(fun() -> not is_up(A, B) andalso not is_up(B, A) end),
         Self = self(),
         Pinging = [spawn_link(fun() -> Self ! {self(), at(One, net_adm, ping, [name(Other)])} end) || {One, Other} <- [{A, B}, {B, A}]],
         [?assertEqual(pong, receive {Pid, Answer} -> Answer end) || Pid <- Pinging],
         ?assert(is_carried(A, B)),
         ?assertEqual([], at(A, teleport_test_carrier, numbers, [name(B), 5]))
     end || _ <- lists:seq(1, 15)].

%% No node is down, nothing is lost, doubled or out of order.
killed_connections_lose_nothing(Config) ->
    {A, B} = pair(Config),
    _ = at(A, erlang, disconnect_node, [name(B)]),
    {ok, Address} = at(B, teleport_manager, address, []),
    {Proxy, Way} = teleport_test_proxy:start(Address),
    ok = at(A, application, set_env, [teleport, peers, #{name(B) => Way}]),
    try killed_connections_lose_nothing(A, B, Proxy)
    after
        ok = at(A, application, unset_env, [teleport, peers]),
        at(A, erlang, disconnect_node, [name(B)])
    end.

killed_connections_lose_nothing(A, B, Proxy) ->
    %% An answer has come: so the node is up there, too.
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    Watchers = [watcher(A, B), watcher(B, A)],
    Self = self(),
    Senders = [spawn_link(fun() -> Self ! {self(), at(One, teleport_test_carrier, numbers, [name(Other), 400])} end)
               || {One, Other} <- [{A, B}, {B, A}, {A, B}]],
    Severing = spawn_link(fun Sever() -> ok = teleport_test_proxy:sever(Proxy), receive stop -> ok after 250 -> Sever() end end),
    [?assertEqual([], receive {Sender, Wrong} -> Wrong end) || Sender <- Senders],
    Severing ! stop,
    #{cut := Cut} = teleport_test_proxy:counts(Proxy),
    ?assert(Cut > 3),
    [?assertEqual(nothing, nothing_told(Watcher)) || Watcher <- Watchers].

%% The application's functions use the session that distributed Erlang has, and ask nobody.
sends_use_the_carriers_session(Config) ->
    {A, B} = pair(Config),
    [ok = at(Node, teleport, start, []) || Node <- [A, B]],
    at(A, fun() ->
        Echo = spawn(name(B), teleport_test_carrier, echo, []),
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

a_killed_manager_is_no_nodedown(Config) ->
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
    ?assertEqual([], at(A, teleport_test_carrier, numbers, [name(B), 20])).

a_killed_node_is_a_nodedown(Config) ->
    {A, B} = pair(Config),
    Watcher = watcher(A, B),
    at(A, fun() ->
        {Pid, Monitor} = spawn_monitor(name(B), teleport_test_carrier, echo, []),
        teleport_test:signal(kill, erpc:call(name(B), os, getpid, [])),
        ?assertEqual({'DOWN', Monitor, process, Pid, noconnection}, next())
    end),
    ?assertEqual(nodedown, told(Watcher)).

%% They are connected.
pair(Config) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    {A, B}.

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

%% How many large messages are there when a signal of that process has taken effect; `late` if what was sent behind it is there first.
watch() ->
    receive
        {watch, Sender} ->
            Before = relations(Sender),
            Sender ! watched,
            watch(Sender, Before)
    end.

watch(Sender, Before) ->
    {messages, There} = process_info(self(), messages),
    receive nothing -> ok after 0 -> ok end, % signals take effect
    Changed = relations(Sender) =/= Before,
    {messages, Now} = process_info(self(), messages),
    case lists:member(last, There) of
        _ when Changed -> length([Large || Large <- Now, is_binary(Large)]);
        true -> late;
        false -> erlang:yield(), watch(Sender, Before)
    end.

relations(Process) ->
    [{links, Links}, {monitored_by, Monitors}] = process_info(self(), [links, monitored_by]),
    {group_leader(), lists:member(Process, Links), lists:member(Process, Monitors)}.
