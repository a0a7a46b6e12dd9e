%% Which way messages go where nodes without teleport are reached over distributed Erlang, and how long it takes to find that out.
-module(teleport_route_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([nobody_waits_longer_than_it_may/1, nodes_are_asked_at_the_same_time/1, a_silent_node_does_not_hold_up_others/1,
         a_way_that_changes_to_a_frozen_node/1, only_the_first_waits_for_a_silent_node/1,
         to_find_the_way_takes_a_part_of_the_time_of_a_call/1,
         a_limit_is_for_the_way_and_for_room_together/1, who_stops_a_server_waits_no_longer_than_wanted/1,
         a_question_whose_process_was_killed_is_over/1, a_node_that_said_nothing_of_its_end/1, an_end_by_kills_is_announced/1,
         a_congested_node_does_not_hold_up_the_application/1, a_route_that_changes_is_nothing_to_other_processes/1,
         a_killed_manager_leaves_the_routes/1]).

%% What a node that says nothing takes to be asked, in milliseconds.
-define(ASKING, 5000).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [nobody_waits_longer_than_it_may, nodes_are_asked_at_the_same_time, a_silent_node_does_not_hold_up_others,
     to_find_the_way_takes_a_part_of_the_time_of_a_call,
     a_way_that_changes_to_a_frozen_node, only_the_first_waits_for_a_silent_node, a_limit_is_for_the_way_and_for_room_together,
     who_stops_a_server_waits_no_longer_than_wanted, a_question_whose_process_was_killed_is_over,
     a_node_that_said_nothing_of_its_end, an_end_by_kills_is_announced,
     a_congested_node_does_not_hold_up_the_application, a_route_that_changes_is_nothing_to_other_processes,
     a_killed_manager_leaves_the_routes].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = teleport_test:start_here([{fallback, disterl}]),
    {Peer, Node} = teleport_test:start_peer(),
    OsPid = erpc:call(Node, os, getpid, []),
    Alias = erpc:call(Node, erlang, alias, []),
    [{peer, Peer}, {node, Node}, {os_pid, OsPid}, {alias, Alias} | Config].

end_per_testcase(_Case, Config) ->
    ok = teleport_test:signal(cont, ?config(os_pid, Config)),
    teleport_test:stop_peer(?config(peer, Config)),
    teleport_test:stop_here().

nobody_waits_longer_than_it_may(Config) ->
    {Node, Alias} = {?config(node, Config), ?config(alias, Config)},
    {Server, Timeout} = {{x, Node}, {error, timeout}},
    ok = freeze(Config),
    [begin
         ok = teleport_route:forget(Node),
         {Micros, Outcome} = timer:tc(teleport_test, outcome, [Module, Function, Args]),
         ct:log("~p ~p: ~p ms", [Function, Args, Micros div 1000]),
         ?assertEqual({Function, Args, Expected}, {Function, Args, Outcome}),
         ?assert(Micros < ?ASKING * 1000, {Function, Args, Micros})
     end || {Module, Function, Args, Expected} <-
        [{teleport, send, [Server, hello, [nosuspend]], {returned, {error, busy}}},
         {teleport, send, [Server, hello, [{timeout, 20}]], {returned, Timeout}},
         {teleport, send, [Server, hello, [{timeout, 20}, {ack, x}]], {returned, Timeout}},
         {teleport, send, [Alias, hello, [{timeout, 20}]], {returned, Timeout}},
         {teleport, send, [Alias, hello, [nosuspend]], {returned, {error, busy}}},
         {teleport, cast, [Server, hello, [{timeout, 20}]], {returned, Timeout}},
         {teleport, abcast, [[Node, node()], x, hello, [{timeout, 20}]], {returned, [{Node, Timeout}, {node(), ok}]}},
         {teleport, gs_call, [Server, hello, 20], {exit, {timeout, {gen_server, call, [Server, hello, 20]}}}},
         {teleport_gen_statem, call, [Server, hello, 20], {exit, {timeout, {gen_statem, call, [Server, hello, 20]}}}},
         {teleport, gs_stop, [Server, normal, 20], {exit, timeout}},
         {teleport, multi_call, [[Node], x, hello, 20], {returned, {[], [Node]}}},
         {teleport_erpc, call, [Node, erlang, node, [], 20], {error, {erpc, timeout}}},
         {teleport, send, [{x, nobody@nowhere}, hello, [noconnect]], {returned, {error, noconnect}}}]],
    ?assertEqual([], teleport_test:mailbox()).

nodes_are_asked_at_the_same_time(Config) ->
    {Other, OtherNode} = teleport_test:start_peer(),
    {Nodes, OsPid} = {[?config(node, Config), OtherNode], erpc:call(OtherNode, os, getpid, [])},
    ok = freeze(Config),
    ok = freeze(OtherNode, OsPid),
    [begin
         [ok = teleport_route:forget(Node) || Node <- Nodes],
         {Caller, Monitor} = spawn_monitor(fun() -> exit({outcome, Call()}) end),
         teleport_test:eventually(fun() -> length(asking()) =:= length(Nodes) end),
         receive {'DOWN', Monitor, process, Caller, Reason} -> ?assertEqual({outcome, Expected}, Reason) end
     end || {Call, Expected} <-
        [{fun() -> teleport:multi_call(Nodes, x, hello, ?ASKING + 1000) end, {[], Nodes}},
         %% The reason depends on whether the connection that the first call began is given up before this one's time is.
         {fun() -> [{Node, error} || {Node, {error, _}} <- teleport:abcast(Nodes, x, hello, [{timeout, ?ASKING + 1000}])] end,
          [{Node, error} || Node <- Nodes]}]],
    ok = teleport_test:signal(cont, OsPid),
    teleport_test:stop_peer(Other).

%% A node that says nothing does not hold up the others.
a_silent_node_does_not_hold_up_others(Config) ->
    {Other, OtherNode} = teleport_test:start_peer(),
    {Node, Self} = {?config(node, Config), self()},
    _ = spawn(OtherNode, fun() ->
        true = register(x, self()),
        Self ! registered,
        [receive Message -> Self ! Message end || _ <- [before, cast]]
    end),
    ?assertEqual(registered, teleport_test:receive_one()),
    ok = teleport:send({x, OtherNode}, before),
    ?assertEqual(before, teleport_test:receive_one()),
    ok = freeze(Config),
    {Sender, Monitor} = spawn_monitor(fun() ->
        abcast = teleport:abcast([Node, OtherNode], x, {note, cast}),
        Self ! sent
    end),
    %% The order of both does not depend on when this process looks.
    ?assertEqual({'$gen_cast', {note, cast}}, teleport_test:receive_one()),
    exit(Sender, kill),
    receive {'DOWN', Monitor, process, Sender, _} -> ok end,
    teleport_test:stop_peer(Other).

%% What was sent over distributed Erlang must not be overtaken: who has no time to wait for that goes on that way.
a_way_that_changes_to_a_frozen_node(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, x),
    ok = erpc:call(Node, application, stop, [teleport]),
    teleport_test:eventually(fun() -> teleport:send(Server, {note, 1}), teleport_route:known(Node) =:= {ok, disterl} end),
    ok = erpc:call(Node, teleport, start, []),
    teleport_test:eventually(fun() -> teleport_route:known(Node) =:= {ok, pool} end),
    ok = freeze(Config),
    ?assertEqual({error, timeout}, teleport:send(Server, {note, never}, [{timeout, 20}])),
    ?assertExit({timeout, _}, teleport:gs_call(Server, notes, 20)),
    ?assertEqual(ok, teleport:send(Server, {note, 2}, [nosuspend])),
    ok = teleport_test:signal(cont, ?config(os_pid, Config)),
    ok = teleport:send(Server, {note, 3}),
    ?assertEqual([1, 2, 3], lists:usort(teleport:gs_call(Server, notes))),
    ?assertEqual([Node], teleport:nodes()).

%% The first who wants something of a node that says nothing waits for what it says, the others do not.
only_the_first_waits_for_a_silent_node(Config) ->
    Node = ?config(node, Config),
    ok = teleport_route:forget(Node),
    ok = freeze(Config),
    ?assertMatch({error, _}, teleport:send({x, Node}, hello, [{timeout, ?ASKING + 1000}])),
    teleport_test:eventually(fun() -> teleport_route:known(Node) =:= {ok, pool} end),
    ok = teleport_test:signal(cont, ?config(os_pid, Config)),
    Server = teleport_test_server:start_at(Node, server),
    teleport_test:eventually(fun() ->
        {returned, {ok, 1}} =:= teleport_test:outcome(teleport, gs_call, [Server, {echo, 1}])
    end).

%% The way takes most of it here, and then there is no session.
a_limit_is_for_the_way_and_for_room_together(Config) ->
    {Node, Limit} = {?config(node, Config), ?ASKING + 1000},
    ok = freeze(Config),
    ok = teleport_route:forget(Node),
    Calls = [{cast, [{x, Node}, hello, [{timeout, Limit}]]},
             {send, [?config(alias, Config), hello, [{timeout, Limit}]]},
             {send, [{x, Node}, hello, [{timeout, Limit}]]}],
    Begun = [{Call, spawn_monitor(fun() -> exit({ended, timer:tc(teleport_test, outcome, [teleport, Function, Args])}) end)}
             || {Function, Args} = Call <- Calls],
    Ended = [receive {'DOWN', Monitor, process, Pid, {ended, {Micros, Outcome}}} -> {Call, Micros div 1000, Outcome} end
             || {Call, {Pid, Monitor}} <- Begun],
    ct:log("~p", [Ended]),
    %% If the limit began anew after the way, the first would take as long as that.
    [?assertMatch({_, Time, {returned, {error, timeout}}} when Time < Limit + ?ASKING, Result) || Result <- Ended].

who_stops_a_server_waits_no_longer_than_wanted(Config) ->
    Node = ?config(node, Config),
    ok = teleport:send({x, Node}, hello),
    true = teleport_nif:disconnect(Node),
    teleport_test:eventually(fun() -> teleport:nodes() =:= [] end),
    ok = freeze(Config),
    {Micros, Outcome} = timer:tc(teleport_test, outcome, [teleport, gs_stop, [{x, Node}, normal, 200]]),
    ?assertEqual({exit, timeout}, Outcome),
    ?assert(Micros < ?ASKING * 1000, Micros),
    ?assertEqual([], teleport_test:mailbox()).

a_question_whose_process_was_killed_is_over(Config) ->
    Node = ?config(node, Config),
    ok = freeze(Config),
    ok = teleport_route:forget(Node),
    {Asker, Monitor} = spawn_monitor(fun() -> exit({route, teleport_manager:route(Node, 60000)}) end),
    teleport_test:eventually(fun() -> asking() =/= [] end),
    [exit(Pid, kill) || Pid <- asking()],
    receive {'DOWN', Monitor, process, Asker, Reason} -> ?assertEqual({route, pool}, Reason) end.

%% The processes that ask nodes whether there is a pool.
asking() ->
    [Pid || Pid <- processes(), process_info(Pid, initial_call) =:= {initial_call, {teleport_route, asking, 1}}].

%% A route that no longer holds is found again once a message has failed on it.
a_node_that_said_nothing_of_its_end(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, x),
    ok = teleport:send(Server, {note, 1}),
    ?assertEqual([1], teleport:gs_call(Server, notes)),
    ok = erpc:call(Node, application, stop, [teleport]),
    teleport_test:eventually(fun() -> teleport_route:known(Node) =:= error end),
    %% As if it had not said so.
    true = ets:insert(teleport_route, {Node, pool}),
    teleport_test:eventually(fun() -> teleport:send(Server, {note, 2}) =:= ok end),
    ?assertEqual([1, 2], gen_server:call(Server, notes)).

%% Also where the call then goes over distributed Erlang.
to_find_the_way_takes_a_part_of_the_time_of_a_call(Config) ->
    {Node, Limit} = {?config(node, Config), 30000},
    Server = teleport_test_server:start_at(Node, x),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = teleport_route:forget(Node),
    ok = sys:suspend(teleport_manager),
    {Caller, Monitor} = spawn_monitor(fun() -> exit(teleport:gs_call(Server, {echo, 1}, Limit)) end),
    teleport_test:eventually(fun() -> element(2, process_info(whereis(teleport_manager), message_queue_len)) > 0 end),
    _ = erlang:trace_pattern({gen_server, call, 3}, true, []),
    1 = erlang:trace(Caller, true, [call]),
    ok = sys:resume(teleport_manager),
    ?assertEqual({'DOWN', Monitor, process, Caller, {ok, 1}}, receive {'DOWN', _, _, _, _} = Down -> Down end),
    Left = receive {trace, Caller, call, {gen_server, call, [Server, {echo, 1}, Time]}} -> Time end,
    _ = erlang:trace_pattern({gen_server, call, 3}, false, []),
    ?assert(Left < Limit, Left).

%% Nobody is left there who would say so in the ordinary way.
an_end_by_kills_is_announced(Config) ->
    Node = ?config(node, Config),
    ok = teleport:send({x, Node}, hello),
    ?assertEqual({ok, pool}, teleport_route:known(Node)),
    ok = erpc:call(Node, fun() ->
        [Supervisor, Manager] = Processes = [whereis(Name) || Name <- [teleport_sup, teleport_manager]],
        %% It is not to restart the manager, which would say that it ends.
        true = erlang:suspend_process(Supervisor),
        [exit(Process, kill) || Process <- [Manager, Supervisor]],
        [receive {'DOWN', Monitor, process, _, _} -> ok end || Monitor <- [erlang:monitor(process, Process) || Process <- Processes]],
        ok
    end),
    teleport_test:eventually(fun() -> teleport_route:known(Node) =:= error end).

%% The application tells the other nodes when it begins and when it ends.
a_congested_node_does_not_hold_up_the_application(Config) ->
    Node = ?config(node, Config),
    ok = freeze(Config),
    Filling = spawn(fun Fill() -> {x, Node} ! binary:copy(<<0>>, 1 bsl 20), Fill() end),
    teleport_test:eventually(fun() -> erlang:send({x, Node}, x, [nosuspend]) =:= nosuspend end),
    {Micros, ok} = timer:tc(fun() ->
        ok = application:stop(teleport),
        teleport:start()
    end),
    exit(Filling, kill),
    ?assert(Micros < 2 * ?ASKING * 1000, Micros).

%% A change of a persistent term has the heaps of all processes searched.
a_route_that_changes_is_nothing_to_other_processes(Config) ->
    Node = ?config(node, Config),
    ok = teleport:send({x, Node}, hello),
    ?assertEqual({ok, pool}, teleport_route:known(Node)),
    Before = lists:sort(persistent_term:get()),
    ok = teleport_route:forget(Node),
    ?assertEqual(error, teleport_route:known(Node)),
    ?assertEqual(Before, lists:sort(persistent_term:get())),
    ok = teleport:send({x, Node}, hello),
    ?assertEqual({ok, pool}, teleport_route:known(Node)),
    ?assertEqual(Before, lists:sort(persistent_term:get())).

%% Nodes without teleport are reached all the same while it is restarted.
a_killed_manager_leaves_the_routes(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, x),
    ok = erpc:call(Node, application, stop, [teleport]),
    teleport_test:eventually(fun() -> teleport:send(Server, {note, before}), teleport_route:known(Node) =:= {ok, disterl} end),
    [Supervisor, Manager] = [whereis(Name) || Name <- [teleport_sup, teleport_manager]],
    %% Not before it is resumed is there another manager.
    true = erlang:suspend_process(Supervisor),
    Monitor = erlang:monitor(process, Manager),
    exit(Manager, kill),
    receive {'DOWN', Monitor, process, Manager, killed} -> ok end,
    ?assertEqual(ok, teleport:send(Server, {note, meanwhile})),
    true = erlang:resume_process(Supervisor),
    ?assertEqual([before, meanwhile], lists:usort(gen_server:call(Server, notes))).

%% Returns when it does not answer any more.
freeze(Config) ->
    freeze(?config(node, Config), ?config(os_pid, Config)).

freeze(Node, OsPid) ->
    ok = teleport_test:signal(stop, OsPid),
    teleport_test:eventually(fun() ->
        {error, {erpc, timeout}} =:= teleport_test:outcome(erpc, call, [Node, erlang, node, [], 100])
    end).
