%% What is much larger in a process than on its way is refused before it is built.
-module(teleport_limits_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_message_over_the_limit_is_counted_and_vanishes/1, callers_are_told_the_limit/1,
         terms_of_all_shapes_are_weighed_as_on_a_heap/1, binaries_do_not_count/1, a_node_that_refuses_stays_small/1,
         calls_and_monitors_beyond_the_limit_are_refused_and_others_are_served/1]).

-define(MIB, (1 bsl 20)).
-define(MAX_TERM, (4 * ?MIB)).

%% Empty lists that take 8 MiB, in half a MiB on their way.
-define(EMPTY_LISTS, (?MIB div 2)).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [a_message_over_the_limit_is_counted_and_vanishes, callers_are_told_the_limit,
     terms_of_all_shapes_are_weighed_as_on_a_heap, binaries_do_not_count, a_node_that_refuses_stays_small,
     calls_and_monitors_beyond_the_limit_are_refused_and_others_are_served].

init_per_suite(Config) ->
    ok = teleport_test:start_here([{max_term, ?MAX_TERM}]),
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{max_term, ?MAX_TERM}]),
    [{peer, Peer}, {node, Node} | Config].

end_per_suite(Config) ->
    teleport_test:stop_peer(proplists:get_value(peer, Config)),
    teleport_test:stop_here().

%% It is counted, and what comes behind it comes.
a_message_over_the_limit_is_counted_and_vanishes(Config) ->
    Node = proplists:get_value(node, Config),
    ok = teleport_test:echo(Node, messages),
    Before = unreadable(Node),
    ok = teleport:send({messages, Node}, {self(), lists:duplicate(?EMPTY_LISTS, [])}, [{ack, first}]),
    ?assertEqual({teleport, first, delivered}, teleport_test:receive_one()),
    ok = teleport:send({messages, Node}, {self(), behind}),
    ?assertEqual({echo, behind}, teleport_test:receive_one()),
    ?assertEqual(Before + 1, unreadable(Node)).

%% Callers that wait are told, and by which limit.
callers_are_told_the_limit(Config) ->
    Node = proplists:get_value(node, Config),
    Server = teleport_test_server:start_at(Node, undefined),
    Large = {echo, lists:duplicate(?EMPTY_LISTS, [])},
    {exit, {{rejected, Why}, _}} = teleport_test:outcome(teleport, gs_call, [Server, Large]),
    ?assertNotEqual(nomatch, string:find(Why, "max_term")),
    Make = {run, fun() -> lists:duplicate(?EMPTY_LISTS, []) end},
    {exit, {{unreadable_reply, Text}, _}} = teleport_test:outcome(teleport, gs_call, [Server, Make]),
    ?assertNotEqual(nomatch, string:find(Text, "max_term")),
    End = {run, fun() -> exit(lists:duplicate(?EMPTY_LISTS, [])) end},
    Ending = teleport_test_server:start_at(Node, undefined),
    {exit, {{unreadable_reason, Text}, _}} = teleport_test:outcome(teleport, gs_call, [Ending, End]),
    ?assertEqual({ok, x}, teleport:gs_call(Server, {echo, x})).

%% By what it takes on a heap: just below the limit it arrives as it was, just above it does not.
terms_of_all_shapes_are_weighed_as_on_a_heap(Config) ->
    Node = proplists:get_value(node, Config),
    Server = teleport_test_server:start_at(Node, undefined),
    Shapes = [fun(N) -> lists:duplicate(N, []) end,
              fun(N) -> lists:duplicate(N, {}) end,
              fun(N) -> list_to_tuple(lists:duplicate(N, [])) end,
              fun(N) -> lists:duplicate(N, {a, [b]}) end,
              fun(N) -> lists:duplicate(N, <<"small">>) end,
              fun(N) -> lists:duplicate(N, #{a => b}) end,
              fun(N) -> lists:duplicate(N, 1.5) end,
              fun(N) -> [lists:duplicate(N, []), binary:copy(<<1>>, ?MIB)] end,
              fun(N) -> [fun() -> lists:duplicate(N, []) end, lists:duplicate(N, [])] end,
              fun(N) -> maps:from_list([{I, I} || I <- lists:seq(1, N)]) end,
              fun(N) -> lists:duplicate(N div 100, binary:copy(<<"text">>, 50)) ++ lists:duplicate(N, []) end],
    [begin
        Each = 8 * erts_debug:flat_size(Shape(1000)) / 1000,
        Fits = Shape(round(?MAX_TERM * 0.55 / Each)),
        ?assert(teleport:gs_call(Server, {echo, Fits}) =:= {ok, Fits}),
        Over = Shape(round(?MAX_TERM * 1.1 / Each)),
        ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_call, [Server, {echo, Over}]))
    end || Shape <- Shapes].

%% What is not on the heap is not counted.
binaries_do_not_count(Config) ->
    Node = proplists:get_value(node, Config),
    Server = teleport_test_server:start_at(Node, undefined),
    Binaries = [binary:copy(<<I>>, 8 * ?MIB) || I <- lists:seq(1, 4)],
    ?assert(teleport:gs_call(Server, {echo, Binaries}) =:= {ok, Binaries}),
    Medium = [binary:copy(<<I>>, 1000) || I <- lists:seq(1, 20000)],
    ?assert(teleport:gs_call(Server, {echo, Medium}) =:= {ok, Medium}).

%% A node that refuses stays small; distributed Erlang takes it all.
a_node_that_refuses_stays_small(Config) ->
    Node = proplists:get_value(node, Config),
    Count = 2 * ?MIB,
    Term = lists:duplicate(Count, []),
    Sink = spawn(Node, fun() -> receive done -> ok end end),
    Refused = growth(Node, fun() ->
        ok = teleport:send(Sink, Term, [{ack, refused}]),
        ?assertEqual({teleport, refused, delivered}, teleport_test:receive_one())
    end),
    Taken = growth(Node, fun() ->
        Sink ! Term,
        teleport_test:eventually(fun() ->
            erpc:call(Node, erlang, process_info, [Sink, message_queue_len]) =:= {message_queue_len, 1}
        end)
    end),
    ct:pal("~b empty lists: ~b KiB more in a node that refuses them, ~b KiB with distributed Erlang",
           [Count, Refused div 1024, Taken div 1024]),
    ?assert(Refused < 8 * ?MIB),
    ?assert(Taken > 16 * Count),
    Sink ! done.

growth(Node, Do) ->
    Used = fun() -> erpc:call(Node, fun() -> _ = [garbage_collect(Process) || Process <- processes()], erlang:memory(total) end) end,
    Before = Used(),
    Do(),
    Used() - Before.

unreadable(Node) ->
    maps:get(unreadable, erpc:call(Node, teleport, info, [])).

%% One node has half of what there is, and the next one half of the rest.
calls_and_monitors_beyond_the_limit_are_refused_and_others_are_served(_Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{max_watches, 400}]),
    {OtherPeer, Other} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, undefined),
    Monitors = [teleport:monitor(Server) || _ <- lists:seq(1, 300)],
    Refused = [receive {'DOWN', Monitor, process, Server, system_limit} -> Monitor end || Monitor <- lists:nthtail(200, Monitors)],
    ?assertEqual(100, length(Refused)),
    ?assertMatch({exit, {system_limit, _}}, teleport_test:outcome(teleport, gs_call, [Server, {echo, x}])),
    Id = teleport_gen_server:send_request(Server, {echo, x}),
    ?assertEqual({error, {system_limit, Server}}, teleport_gen_server:receive_response(Id, infinity)),
    ?assertEqual({ok, other}, erpc:call(Other, teleport, gs_call, [Server, {echo, other}])),
    [true = teleport:demonitor(Monitor) || Monitor <- Monitors -- Refused],
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 0 end),
    ?assertEqual({ok, again}, teleport:gs_call(Server, {echo, again})),
    ?assertEqual([], teleport_test:mailbox()),
    [teleport_test:stop_peer(One) || One <- [Peer, OtherPeer]].
