%% Functions that are applied on other nodes: what comes of them, as of `erpc'.
-module(teleport_apply_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([values/1, outcomes_as_of_erpc/1, large_values/1, a_process_of_its_own/1, output_goes_to_the_caller/1, killed/1,
         timeouts/1, a_caller_that_ends/1, nodedown/1, not_taken/1, many_at_once/1, too_large/1]).
-export([leader/0, wait_for/1, fail/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [values, outcomes_as_of_erpc, large_values, a_process_of_its_own, output_goes_to_the_caller, killed, timeouts,
     a_caller_that_ends, nodedown, not_taken, many_at_once, too_large].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    true = erpc:call(Node, code, add_patha, [filename:dirname(code:which(?MODULE))]),
    [{peer, Peer}, {node, Node} | Config].

end_per_suite(Config) ->
    teleport_test:stop_peer(?config(peer, Config)),
    ok = application:stop(teleport).

end_per_testcase(_Case, _Config) ->
    ?assertMatch(#{waiting_for := 0}, teleport:info()),
    ?assertEqual([], teleport_test:mailbox()).

values(Config) ->
    Node = ?config(node, Config),
    ?assertEqual(Node, teleport:apply(Node, erlang, node, [])),
    ?assertEqual([3, 2, 1], teleport:apply(Node, lists, reverse, [[1, 2, 3]], 30000)),
    ?assertEqual(x, teleport:apply(Node, erlang, hd, [[x]], {abs, erlang:monotonic_time(millisecond) + 30000})),
    ?assertEqual(node(), teleport:apply(node(), erlang, node, [])).

outcomes_as_of_erpc(Config) ->
    Calls = [[erlang, throw, [thrown]], [erlang, exit, [tired]], [erlang, error, [wrong]], [erlang, exit, [normal]],
             [nomodule, f, []], [lists, nofunction, [x]], [lists, seq, [a, b]], [erlang, '+', [1, a]],
             [lists, map, [x | y]], [erlang, self, [x, y]], [?MODULE, fail, [badarg]], [?MODULE, fail, [{erpc, timeout}]],
             %% What is no call.
             ["lists", reverse, [[]]], [lists, "reverse", [[]]], [lists, reverse, x],
             [lists, reverse, [[]], -1], [lists, reverse, [[]], soon], [lists, reverse, [[]], 16#100000000],
             [lists, reverse, [[]], {abs, soon}], [lists, reverse, [[]], {abs, 1 bsl 70}]],
    [begin
         [Erpc, Ours] = [teleport_test:outcome(Module, Function, [Node | Call]) || {Module, Function} <- [{erpc, call}, {teleport, apply}]],
         ?assertEqual({Node, Call, Erpc}, {Node, Call, Ours})
     end || Node <- [?config(node, Config), node(), nobody@nowhere, "no node"], Call <- Calls].

%% Not at the end of what is called, so that it is on the stack.
fail(Reason) ->
    [erlang:error(Reason), x].

large_values(Config) ->
    Node = ?config(node, Config),
    Large = rand:bytes(50 bsl 20),
    ?assertEqual(50 bsl 20, teleport:apply(Node, erlang, byte_size, [Large])),
    ?assertEqual({Large}, teleport:apply(Node, erlang, list_to_tuple, [[Large]])).

a_process_of_its_own(Config) ->
    Node = ?config(node, Config),
    [First, Second] = [teleport:apply(Node, erlang, self, []) || _ <- [1, 2]],
    ?assertEqual({Node, true}, {node(First), First =/= Second}),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Second]) end),
    %% Two at a time do not wait for each other.
    Self = self(),
    Waiting = spawn_link(fun() -> Self ! {waited, teleport:apply(Node, ?MODULE, wait_for, [Self])} end),
    {waiting, Pid} = teleport_test:receive_one(),
    ?assertEqual(Node, teleport:apply(Node, erlang, node, [])),
    Pid ! go,
    ?assertEqual({waited, gone}, teleport_test:receive_one()),
    teleport_test:eventually(fun() -> not is_process_alive(Waiting) end).

%% Says that it is there, and waits to be told to go.
wait_for(Caller) ->
    Caller ! {waiting, self()},
    receive go -> gone end.

output_goes_to_the_caller(Config) ->
    ?assertEqual(group_leader(), teleport:apply(?config(node, Config), ?MODULE, leader, [])).

leader() ->
    group_leader().

%% The process that was at it, not the function.
killed(Config) ->
    Node = ?config(node, Config),
    [begin
         Self = self(),
         _ = spawn_link(fun() -> Self ! teleport_test:outcome(teleport, apply, [Node, ?MODULE, wait_for, [Self]]) end),
         {waiting, Pid} = teleport_test:receive_one(),
         exit(Pid, Reason),
         ?assertEqual({exit, {signal, Ended}}, teleport_test:receive_one())
     end || {Reason, Ended} <- [{kill, killed}, {tired, tired}]].

%% The function goes on, and its late value gets nowhere.
timeouts(Config) ->
    Node = ?config(node, Config),
    ?assertError({erpc, timeout}, teleport:apply(Node, ?MODULE, wait_for, [self()], 200)),
    {waiting, Pid} = teleport_test:receive_one(),
    Monitor = erlang:monitor(process, Pid),
    Pid ! go,
    ?assertMatch({'DOWN', Monitor, process, Pid, _}, teleport_test:receive_one()),
    ?assertEqual(Node, teleport:apply(Node, erlang, node, [])).

a_caller_that_ends(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    Caller = spawn(fun() -> teleport:apply(Node, ?MODULE, wait_for, [Self]) end),
    {waiting, Pid} = teleport_test:receive_one(),
    exit(Caller, kill),
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 0 end),
    ?assert(erpc:call(Node, erlang, is_process_alive, [Pid])),
    Monitor = erlang:monitor(process, Pid),
    Pid ! go,
    ?assertMatch({'DOWN', Monitor, process, Pid, {teleport_apply, answered}}, teleport_test:receive_one()).

nodedown(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ?assertError({erpc, noconnection}, teleport:apply(Node, erlang, halt, [137, [{flush, false}]], 30000)),
    teleport_test:stop_peer(Peer),
    ?assertError({erpc, noconnection}, teleport:apply(Node, erlang, node, [])).

not_taken(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, application, set_env, [teleport, apply, false]),
    ok = erpc:call(Node, teleport, start, []),
    ?assertError({erpc, notsup}, teleport:apply(Node, erlang, node, [])),
    teleport_test:stop_peer(Peer).

many_at_once(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    _ = [spawn_link(fun() -> Self ! teleport:apply(Node, erlang, '+', [I, 0]) end) || I <- lists:seq(1, 500)],
    ?assertEqual(lists:seq(1, 500), lists:sort([teleport_test:receive_one() || _ <- lists:seq(1, 500)])).

too_large(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, application, set_env, [teleport, max_message, 1000000]),
    ok = erpc:call(Node, teleport, start, []),
    ?assertError({erpc, {too_large, _, 1000000}}, teleport:apply(Node, erlang, byte_size, [<<0:8000008>>])),
    ?assertError({erpc, {rejected, _}}, teleport:apply(Node, binary, copy, [<<0>>, 1000001])),
    ?assertEqual(900000, byte_size(teleport:apply(Node, binary, copy, [<<0>>, 900000]))),
    teleport_test:stop_peer(Peer).
