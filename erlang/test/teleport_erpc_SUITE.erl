%% Functions that are applied on other nodes: what comes of them, as of `erpc'.
-module(teleport_erpc_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([values_are_returned/1, outcomes_are_those_of_erpc/1, large_values_go_both_ways/1,
         each_function_has_a_process_of_its_own/1, output_goes_to_the_caller/1, a_group_leader_that_has_ended/1,
         a_killed_function_is_an_exit/1, a_late_value_gets_nowhere/1, a_caller_that_ends_ends_its_function/1,
         outcomes_come_behind_what_the_function_has_sent/1,
         nodedown_is_noconnection/1, a_node_without_apply_refuses/1, values_do_not_wait_for_each_other/1,
         a_node_without_apply_calls_itself_and_others/1, many_calls_at_once_have_their_own_values/1,
         results_that_are_too_large_are_errors/1, results_that_cannot_be_decoded_are_errors/1]).
-export([multicalls_are_those_of_erpc/1, casts_are_those_of_erpc/1, requests_are_those_of_erpc/1,
         collections_are_those_of_erpc/1, options_are_those_of_erpc/1,
         ends_are_told_wherever_it_was/1, the_fallback_asks_nodes_without_teleport/1]).
-export([leader/0, wait_for/1, fail/1, here/0, stream/3]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [values_are_returned, outcomes_are_those_of_erpc, large_values_go_both_ways, each_function_has_a_process_of_its_own,
     output_goes_to_the_caller, a_group_leader_that_has_ended, a_killed_function_is_an_exit, a_late_value_gets_nowhere,
     a_caller_that_ends_ends_its_function, outcomes_come_behind_what_the_function_has_sent, nodedown_is_noconnection,
     a_node_without_apply_refuses,
     values_do_not_wait_for_each_other, a_node_without_apply_calls_itself_and_others,
     many_calls_at_once_have_their_own_values, results_that_are_too_large_are_errors,
     results_that_cannot_be_decoded_are_errors, multicalls_are_those_of_erpc,
     casts_are_those_of_erpc, requests_are_those_of_erpc, collections_are_those_of_erpc,
     options_are_those_of_erpc, ends_are_told_wherever_it_was,
     the_fallback_asks_nodes_without_teleport].

init_per_suite(Config) ->
    Pair = teleport_test:init_pair(Config),
    true = erpc:call(?config(node, Pair), code, add_patha, [filename:dirname(code:which(?MODULE))]),
    Pair.

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

end_per_testcase(_Case, _Config) ->
    teleport_test:ended(fun() ->
        teleport_test:nothing_is_left()
    end).

values_are_returned(Config) ->
    Node = ?config(node, Config),
    ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])),
    ?assertEqual([3, 2, 1], teleport_erpc:call(Node, lists, reverse, [[1, 2, 3]], 30000)),
    ?assertEqual(x, teleport_erpc:call(Node, erlang, hd, [[x]], {abs, erlang:monotonic_time(millisecond) + 30000})),
    ?assertEqual(node(), teleport_erpc:call(node(), erlang, node, [])).

outcomes_are_those_of_erpc(Config) ->
    Calls = [[erlang, throw, [thrown]], [erlang, exit, [tired]], [erlang, error, [wrong]], [erlang, exit, [normal]],
             [nomodule, f, []], [lists, nofunction, [x]], [lists, seq, [a, b]], [erlang, '+', [1, a]],
             [lists, map, [x | y]], [erlang, self, [x, y]], [?MODULE, fail, [badarg]], [?MODULE, fail, [{erpc, timeout}]],
             %% What is no call.
             ["lists", reverse, [[]]], [lists, "reverse", [[]]], [lists, reverse, x],
             [lists, reverse, [[]], -1], [lists, reverse, [[]], soon], [lists, reverse, [[]], 16#100000000],
             [lists, reverse, [[]], {abs, soon}], [lists, reverse, [[]], {abs, 1 bsl 70}]],
    [begin
         [Erpc, Ours] = [teleport_test:outcome(Module, call, [Node | Call]) || Module <- [erpc, teleport_erpc]],
         ?assertEqual({Node, Call, Erpc}, {Node, Call, Ours})
     end || Node <- [?config(node, Config), node(), nobody@nowhere, "no node"], Call <- Calls].

%% Not at the end of what is called, so that it is on the stack.
fail(Reason) ->
    [erlang:error(Reason), x].

large_values_go_both_ways(Config) ->
    Node = ?config(node, Config),
    Large = rand:bytes(50 bsl 20),
    ?assertEqual(50 bsl 20, teleport_erpc:call(Node, erlang, byte_size, [Large])),
    ?assertEqual({Large}, teleport_erpc:call(Node, erlang, list_to_tuple, [[Large]])).

each_function_has_a_process_of_its_own(Config) ->
    Node = ?config(node, Config),
    [First, Second] = [teleport_erpc:call(Node, erlang, self, []) || _ <- [1, 2]],
    ?assertEqual({Node, true}, {node(First), First =/= Second}),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Second]) end),
    %% Two at a time do not wait for each other.
    Self = self(),
    Waiting = spawn_link(fun() -> Self ! {waited, teleport_erpc:call(Node, ?MODULE, wait_for, [Self])} end),
    {waiting, Pid} = teleport_test:receive_one(),
    ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])),
    Pid ! go,
    ?assertEqual({waited, gone}, teleport_test:receive_one()),
    teleport_test:eventually(fun() -> not is_process_alive(Waiting) end).

%% Says that it is there, and waits to be told to go.
wait_for(Caller) ->
    Caller ! {waiting, self()},
    receive go -> gone end.

output_goes_to_the_caller(Config) ->
    ?assertEqual(group_leader(), teleport_erpc:call(?config(node, Config), ?MODULE, leader, [])).

leader() ->
    group_leader().

%% As of a process that was started from a shell of the other node's, which has ended.
a_group_leader_that_has_ended(Config) ->
    Node = ?config(node, Config),
    Leader = spawn(Node, fun() -> ok end),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Leader]) end),
    {_, Monitor} = spawn_monitor(fun() ->
        true = group_leader(Leader, self()),
        Node = teleport_erpc:call(Node, erlang, node, []),
        [{ok, Node}] = teleport_erpc:multicall([Node], erlang, node, []),
        exit(done)
    end),
    ?assertMatch({'DOWN', Monitor, process, _, done}, teleport_test:receive_one()).

%% A map is one from OTP 28 on.
options_are_those_of_erpc(Config) ->
    Options = [#{}, #{timeout => 30000}, #{timeout => infinity, always_spawn => true}, #{always_spawn => x}, #{timeout => x},
               #{other => 1}],
    [begin
         Call = [Node, erlang, node, [], With],
         ?assertEqual({Call, teleport_test:outcome(erpc, call, Call)}, {Call, teleport_test:outcome(teleport_erpc, call, Call)}),
         Calls = [[Node, node()], erlang, node, [], With],
         ?assertEqual({Calls, teleport_test:outcome(erpc, multicall, Calls)},
                      {Calls, teleport_test:outcome(teleport_erpc, multicall, Calls)})
     end || Node <- [?config(node, Config), node()], With <- Options].

%% On this node too.
ends_are_told_wherever_it_was(Config) ->
    Killed = [fun() -> exit(self(), kill) end, fun() -> spawn_link(fun() -> exit(tired) end), receive never -> ok end end],
    [begin
         Nodes = [?config(node, Config), node()],
         %% With a timeout, or `erpc' does it in the calling process.
         ?assertEqual(erpc:multicall(Nodes, Fun, 30000), teleport_erpc:multicall(Nodes, Fun, 30000)),
         [begin
              [Erpc, Ours] = [teleport_test:outcome(M, receive_response, [M:send_request(Node, Fun)]) || M <- [erpc, teleport_erpc]],
              ?assertEqual(Erpc, Ours)
          end || Node <- Nodes]
     end || Fun <- Killed].

%% The process that was at it, not the function.
a_killed_function_is_an_exit(Config) ->
    Node = ?config(node, Config),
    [begin
         Self = self(),
         _ = spawn_link(fun() -> Self ! teleport_test:outcome(teleport_erpc, call, [Node, ?MODULE, wait_for, [Self]]) end),
         {waiting, Pid} = teleport_test:receive_one(),
         exit(Pid, Reason),
         ?assertEqual({exit, {signal, Ended}}, teleport_test:receive_one())
     end || {Reason, Ended} <- [{kill, killed}, {tired, tired}]].

%% The function goes on, and its late value gets nowhere.
a_late_value_gets_nowhere(Config) ->
    Node = ?config(node, Config),
    ?assertError({erpc, timeout}, teleport_erpc:call(Node, ?MODULE, wait_for, [self()], 200)),
    {waiting, Pid} = teleport_test:receive_one(),
    Monitor = erlang:monitor(process, Pid),
    Pid ! go,
    ?assertMatch({'DOWN', Monitor, process, Pid, _}, teleport_test:receive_one()),
    ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])).

a_caller_that_ends_ends_its_function(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    Caller = spawn(fun() -> teleport_erpc:call(Node, ?MODULE, wait_for, [Self]) end),
    {waiting, Pid} = teleport_test:receive_one(),
    exit(Caller, kill),
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 0 end),
    ?assert(erpc:call(Node, erlang, is_process_alive, [Pid])),
    Monitor = erlang:monitor(process, Pid),
    Pid ! go,
    ?assertMatch({'DOWN', Monitor, process, Pid, {teleport_apply, answered}}, teleport_test:receive_one()).

%% As where one connection carries both.
outcomes_come_behind_what_the_function_has_sent(Config) ->
    Node = ?config(node, Config),
    Numbers = lists:seq(1, 20),
    [begin
         ?assertEqual(Outcome, teleport_test:outcome(teleport_erpc, call, [Node, ?MODULE, stream, [self(), Numbers, End]])),
         ?assertEqual(Numbers, [Number || {chunk, Number, _} <- teleport_test:mailbox()]),
         _ = [?assertMatch({chunk, Number, _}, teleport_test:receive_one()) || Number <- Numbers]
     end || {End, Outcome} <- [{return, {returned, return}}, {kill, {exit, {signal, killed}}}]].

%% Sends what is large, and ends like that.
stream(Caller, Numbers, End) ->
    Chunk = binary:copy(<<1>>, 2 bsl 20),
    [ok = teleport:send(Caller, {chunk, Number, Chunk}) || Number <- Numbers],
    End =:= kill andalso exit(self(), kill),
    End.

nodedown_is_noconnection(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ?assertError({erpc, noconnection}, teleport_erpc:call(Node, erlang, halt, [137, [{flush, false}]], 30000)),
    teleport_test:stop_peer(Peer),
    ?assertError({erpc, noconnection}, teleport_erpc:call(Node, erlang, node, [])).

%% Values that take long to encode do not hold up others: each process that has one sends it itself.
values_do_not_wait_for_each_other(Config) ->
    Node = ?config(node, Config),
    ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])),
    {monitored_by, Relays} = erpc:call(Node, fun() -> process_info(whereis(teleport_apply), monitored_by) end),
    Holding = spawn(Node, fun() ->
        [true = erlang:suspend_process(Relay) || Relay <- Relays, is_pid(Relay)],
        receive go_on -> ok end
    end),
    teleport_test:eventually(fun() ->
        lists:all(fun(Relay) -> erpc:call(Node, erlang, process_info, [Relay, status]) =:= {status, suspended} end, Relays)
    end),
    ?assertEqual(lists:seq(1, 10000), teleport_erpc:call(Node, lists, seq, [1, 10000], 30000)),
    Holding ! go_on.

%% The key is about what other nodes may do here.
a_node_without_apply_calls_itself_and_others(_Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{apply, false}, {fallback, disterl}]),
    {PlainPeer, Plain} = teleport_test:start_peer(),
    ok = erpc:call(Plain, application, stop, [teleport]),
    At = [Node, Plain],
    ?assertEqual([{ok, N} || N <- At], erpc:call(Node, teleport_erpc, multicall, [At, erlang, node, []])),
    ?assertEqual(At, [erpc:call(Node, fun() ->
        teleport_erpc:receive_response(teleport_erpc:send_request(N, erlang, node, []), 30000)
    end) || N <- At]),
    [teleport_test:stop_peer(Some) || Some <- [Peer, PlainPeer]].

a_node_without_apply_refuses(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, application, set_env, [teleport, apply, false]),
    ok = erpc:call(Node, teleport, start, []),
    ?assertError({erpc, notsup}, teleport_erpc:call(Node, erlang, node, [])),
    teleport_test:stop_peer(Peer).

many_calls_at_once_have_their_own_values(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    _ = [spawn_link(fun() -> Self ! teleport_erpc:call(Node, erlang, '+', [I, 0]) end) || I <- lists:seq(1, 500)],
    ?assertEqual(lists:seq(1, 500), lists:sort([teleport_test:receive_one() || _ <- lists:seq(1, 500)])).

results_that_are_too_large_are_errors(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, application, set_env, [teleport, max_message, 1000000]),
    ok = erpc:call(Node, teleport, start, []),
    ?assertError({erpc, {too_large, _, 1000000}}, teleport_erpc:call(Node, erlang, byte_size, [<<0:8000008>>])),
    ?assertError({erpc, {rejected, _}}, teleport_erpc:call(Node, binary, copy, [<<0>>, 1000001])),
    ?assertEqual(900000, byte_size(teleport_erpc:call(Node, binary, copy, [<<0>>, 900000]))),
    teleport_test:stop_peer(Peer).

%% They are not taken for the end of a node, since then the function would be applied again.
results_that_cannot_be_decoded_are_errors(_Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{max_term, 2 bsl 20}]),
    Seq = fun(Length) ->
        erpc:call(Node, teleport_test, outcome, [teleport_erpc, call, [node(), lists, seq, [1, Length]]])
    end,
    ?assertMatch({error, {erpc, {rejected, _}}}, Seq(1000000)),
    ?assertEqual({returned, lists:seq(1, 1000)}, Seq(1000)),
    teleport_test:stop_peer(Peer).

%% What each function of erpc does with the same arguments.
as_of_erpc(Function, Calls) ->
    [begin
         [Erpc, Ours] = [teleport_test:outcome(Module, Function, Args) || Module <- [erpc, teleport_erpc]],
         ?assertEqual({Args, Erpc}, {Args, Ours})
     end || Args <- Calls].

here() -> node().

%% No node of that name: its host is known, so that both say so at once.
nobody() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom("nobody@" ++ Host).

fun_here() -> fun ?MODULE:here/0.

multicalls_are_those_of_erpc(Config) ->
    Nodes = [?config(node, Config), node(), nobody()],
    as_of_erpc(multicall,
               [[Nodes, fun_here()], [Nodes, fun_here(), 5000], [Nodes, erlang, node, []], [Nodes, erlang, throw, [thrown], 5000],
                [Nodes, erlang, exit, [tired]], [Nodes, ?MODULE, fail, [badarg]], [[], erlang, node, []],
                [[hd(Nodes), hd(Nodes)], erlang, '+', [1, 2]], [[node()], timer, sleep, [infinity], 10], [Nodes, lists, seq, [a, b]],
                [[hd(Nodes)], fun(_) -> ok end], [Nodes, no_fun], [not_a_list, erlang, node, []], [["no node"], erlang, node, []],
                [Nodes, "erlang", node, []], [Nodes, erlang, node, [], soon], [[hd(Nodes) | node()], erlang, node, []]]).

casts_are_those_of_erpc(Config) ->
    Nodes = [Node, _] = [?config(node, Config), node()],
    Send = [erlang, send, [self(), cast]],
    as_of_erpc(cast, [[Node | Send], [node() | Send], [nobody() | Send], ["no node" | Send], [Node, erlang, send, no_list]]),
    as_of_erpc(multicast, [[Nodes | Send], [[] | Send], [no_list | Send], [Nodes, "erlang", send, []]]),
    _ = [?assertEqual(cast, teleport_test:receive_one()) || _ <- lists:seq(1, 2 * (2 + 2))],
    Self = self(),
    ok = teleport_erpc:cast(Node, fun() -> Self ! {cast, node()} end),
    ?assertEqual({cast, Node}, teleport_test:receive_one()),
    ?assertError({erpc, badarg}, teleport_erpc:cast(Node, no_fun)).

requests_are_those_of_erpc(Config) ->
    Await = [fun(Module, Id) -> Module:receive_response(Id) end,
             fun(Module, Id) -> Module:receive_response(Id, 5000) end,
             fun(Module, Id) -> Module:wait_response(Id, 5000) end,
             fun(Module, Id) -> receive Message -> Module:check_response(Message, Id) after 5000 -> none end end],
    Calls = [[fun_here()], [erlang, node, []], [erlang, throw, [thrown]], [erlang, exit, [tired]], [?MODULE, fail, [badarg]],
             [lists, seq, [a, b]]],
    [begin
         [Erpc, Ours] = [teleport_test:outcome(erlang, apply, [Wait, [Module, erlang:apply(Module, send_request, [Node | Call])]])
                         || Module <- [erpc, teleport_erpc]],
         ?assertEqual({Node, Call, Erpc}, {Node, Call, Ours})
     end || Node <- [?config(node, Config), node(), nobody()], Call <- Calls, Wait <- Await],
    as_of_erpc(send_request, [["no node", erlang, node, []], [node(), no_fun], [node(), erlang, "node", []],
                            [node(), fun_here(), label, no_map]]),
    %% One that takes long.
    Node = ?config(node, Config),
    Id = teleport_erpc:send_request(Node, ?MODULE, wait_for, [self()]),
    ?assertEqual(no_response, teleport_erpc:wait_response(Id, 1000)),
    {waiting, Pid} = teleport_test:receive_one(),
    ?assertEqual([no_response, no_response], [teleport_erpc:wait_response(Id), teleport_erpc:check_response(other, Id)]),
    Pid ! go,
    ?assertEqual(gone, teleport_erpc:receive_response(Id)),
    Late = teleport_erpc:send_request(Node, ?MODULE, wait_for, [self()]),
    {waiting, Waiting} = teleport_test:receive_one(),
    ?assertError({erpc, timeout}, teleport_erpc:receive_response(Late, 10)),
    Waiting ! go,
    [?assertError({erpc, badarg}, teleport_erpc:Function(no_id, 10)) || Function <- [receive_response, wait_response]],
    ?assertError({erpc, badarg}, teleport_erpc:check_response(other, no_id)).

collections_are_those_of_erpc(Config) ->
    Nodes = [Node | _] = [?config(node, Config), node(), nobody()],
    Collect = fun(Module, Call) ->
        Requests = lists:foldl(fun(At, Collection) -> erlang:apply(Module, send_request, [At | Call] ++ [At, Collection]) end,
                               Module:reqids_new(), Nodes),
        {Module:reqids_size(Requests), lists:sort([Label || {_Id, Label} <- Module:reqids_to_list(Requests)]),
         lists:sort(all(Module, Requests))}
    end,
    [?assertEqual(Collect(erpc, Call), Collect(teleport_erpc, Call))
     || Call <- [[fun_here()], [erlang, node, []], [erlang, throw, [thrown]], [lists, seq, [a, b]]]],
    Id = teleport_erpc:send_request(Node, erlang, node, []),
    Requests = teleport_erpc:reqids_add(Id, first, teleport_erpc:reqids_new()),
    ?assertError({erpc, badarg}, teleport_erpc:reqids_add(Id, again, Requests)),
    ?assertError({erpc, badarg}, teleport_erpc:reqids_size(none)),
    ?assertEqual(no_response, teleport_erpc:check_response(other, Requests, true)),
    ?assertMatch({{response, Node}, first, _}, teleport_erpc:wait_response(Requests, 5000, false)),
    ?assertEqual(no_request, teleport_erpc:receive_response(teleport_erpc:reqids_new(), 0, true)),
    Long = teleport_erpc:send_request(Node, timer, sleep, [infinity], long, #{}),
    ?assertEqual(no_response, teleport_erpc:wait_response(Long, 0, true)),
    ?assertError({erpc, timeout}, teleport_erpc:receive_response(Long, 0, true)).

%% What came of each, with its label and how many were left.
all(Module, Requests) ->
    try Module:receive_response(Requests, 5000, true) of
        no_request -> [];
        {Result, Label, Rest} -> [{Label, Result} | all(Module, Rest)]
    catch
        Class:{Reason, Label, Rest} -> [{Label, Class, Reason} | all(Module, Rest)]
    end.

%% A node without teleport.
the_fallback_asks_nodes_without_teleport(_Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{fallback, disterl}]),
    true = erpc:call(Node, code, add_patha, [filename:dirname(code:which(?MODULE))]),
    ok = application:stop(teleport),
    Call = fun(Function, Args) -> erpc:call(Node, teleport_test, outcome, [teleport_erpc, Function, Args]) end,
    ?assertEqual({returned, node()}, Call(call, [node(), erlang, node, []])),
    ?assertEqual({returned, [{ok, node()}, {ok, Node}]}, Call(multicall, [[node(), Node], erlang, node, []])),
    ?assertEqual({returned, [{throw, thrown}]}, Call(multicall, [[node()], erlang, throw, [thrown]])),
    ?assertMatch({returned, [{error, {exception, badarg, _}}]}, Call(multicall, [[node()], ?MODULE, fail, [badarg]])),
    ?assertEqual({returned, ok}, Call(cast, [node(), erlang, send, [self(), cast]])),
    ?assertEqual(cast, teleport_test:receive_one()),
    ok = teleport:start(),
    teleport_test:stop_peer(Peer).
