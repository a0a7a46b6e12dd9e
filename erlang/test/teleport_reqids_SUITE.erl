%% Collections of requests, to servers of this node and of another one.
-module(teleport_reqids_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([responses_come_in_the_order_of_answers/1, responses_are_checked_by_message/1, collections_are_those_of_otp/1,
         late_replies_reach_no_mailbox/1, requests_can_be_waited_for_again/1, servers_that_end_end_their_requests/1,
         a_reply_by_hand_comes_before_the_end/1,
         all_behaviours_have_collections/1, functions_of_otp_take_the_ids/1, bad_input_fails_as_that_of_otp/1]).

-define(BOTH, [teleport_gen_server, gen_server]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [responses_come_in_the_order_of_answers, responses_are_checked_by_message, collections_are_those_of_otp,
     late_replies_reach_no_mailbox, requests_can_be_waited_for_again, servers_that_end_end_their_requests,
     a_reply_by_hand_comes_before_the_end,
     all_behaviours_have_collections, functions_of_otp_take_the_ids, bad_input_fails_as_that_of_otp].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(_Case, Config) ->
    {ok, Here} = teleport_test_server:start(undefined),
    [{servers, [Here, teleport_test_server:start_at(?config(node, Config), undefined)]} | Config].

%% Nothing is left of any case.
end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        [exit(Server, kill) || Server <- ?config(servers, Config)],
        teleport_test:nothing_is_left()
    end).

responses_come_in_the_order_of_answers(Config) ->
    M = teleport_gen_server,
    Ids = ask(M, [{{Server, I}, Server, {echo, {Server, I}}} || Server <- ?config(servers, Config), I <- [1, 2]]),
    ?assertEqual(4, M:reqids_size(Ids)),
    ?assertEqual([2, 2], [length([x || {_Id, {S, _}} <- M:reqids_to_list(Ids), S =:= Server]) || Server <- ?config(servers, Config)]),
    Labels = collect(M, Ids),
    ?assertEqual(lists:sort([{Server, I} || Server <- ?config(servers, Config), I <- [1, 2]]), lists:sort(Labels)),
    %% One that is kept is there again, and is not waited for.
    [Here, There] = ?config(servers, Config),
    Kept = ask(M, [{here, Here, {echo, x}}, {there, There, {by_hand, x}}]),
    {{reply, {ok, x}}, First, Kept} = M:receive_response(Kept, 30000, false),
    {{reply, {ok, x}}, Second, Kept} = M:wait_response(Kept, 30000, false),
    ?assertEqual([here, there], lists:sort([First, Second])).

responses_are_checked_by_message(Config) ->
    M = teleport_gen_server,
    Ids = ask(M, [{I, Server, {echo, I}} || {I, Server} <- lists:zip([1, 2], ?config(servers, Config))]),
    ?assertEqual(no_reply, M:check_response(other, Ids, true)),
    {{reply, {ok, First}}, First, Rest} = M:check_response(teleport_test:receive_one(), Ids, true),
    {{reply, {ok, Second}}, Second, None} = M:check_response(teleport_test:receive_one(), Rest, true),
    ?assertEqual([1, 2], lists:sort([First, Second])),
    ?assertEqual(no_request, M:check_response(other, None, true)),
    ?assertEqual(no_request, M:receive_response(None, infinity, true)),
    ?assertEqual(no_request, M:wait_response(None, 0, false)).

collections_are_those_of_otp(Config) ->
    Node = ?config(node, Config),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    Refs = [{nobody, Node}, Dead, nobody, {nobody, node()}, {global, nobody}, {via, global, nobody}, {x, nobody@nowhere}],
    [begin
         [Otp, Ours] = [begin {Response, Label, None} = M:receive_response(ask(M, [{label, Ref, x}]), 30000, true),
                              {Response, Label, M:reqids_size(None)} end || M <- lists:reverse(?BOTH)],
         ?assertEqual({Ref, Otp}, {Ref, Ours})
     end || Ref <- Refs].

%% Neither from this node nor from the other one.
late_replies_reach_no_mailbox(Config) ->
    M = teleport_gen_server,
    Servers = ?config(servers, Config),
    Ids = ask(M, [{Server, Server, {held, x}} || Server <- Servers ++ Servers]),
    ?assertEqual(timeout, M:receive_response(Ids, 1, true)),
    [?assertEqual({released, 2}, teleport:gs_call(Server, release)) || Server <- Servers],
    ?assertEqual(timeout, M:receive_response(Ids, 0, true)),
    ?assertEqual([], teleport_test:mailbox()),
    %% At about the same time.
    [begin
         abandon(M, ask(M, [{Server, Server, {slowly, 1, I}} || Server <- Servers, I <- [1, 2]]), 1),
         [{ok, x} = teleport:gs_call(Server, {echo, x}) || Server <- Servers]
     end || _ <- lists:seq(1, 50)],
    ?assertEqual([], teleport_test:mailbox()).

%% Takes responses until none is there in time: then the rest are not waited for any more.
abandon(M, Ids, Timeout) ->
    case M:receive_response(Ids, Timeout, true) of
        {_Response, _Label, Rest} -> abandon(M, Rest, 0);
        timeout -> ok;
        no_request -> ok
    end.

requests_can_be_waited_for_again(Config) ->
    M = teleport_gen_server,
    Servers = ?config(servers, Config),
    Ids = ask(M, [{Server, Server, {held, x}} || Server <- Servers]),
    ?assertEqual([timeout, timeout], [M:wait_response(Ids, Time, true) || Time <- [0, {abs, erlang:monotonic_time(millisecond)}]]),
    [?assertEqual({released, 1}, teleport:gs_call(Server, release)) || Server <- Servers],
    ?assertEqual(lists:sort(Servers), lists:sort(collect(M, Ids))).

servers_that_end_end_their_requests(Config) ->
    M = teleport_gen_server,
    Servers = ?config(servers, Config),
    Ids = ask(M, [{Server, Server, {exit, {tired, Server}}} || Server <- Servers]),
    {{error, {{tired, First}, First}}, First, Rest} = M:receive_response(Ids, 30000, true),
    {{error, {{tired, Second}, Second}}, Second, None} = M:wait_response(Rest, 30000, true),
    ?assertEqual({lists:sort(Servers), 0}, {lists:sort([First, Second]), M:reqids_size(None)}).

%% It goes over distributed Erlang, and takes longer than the end.
a_reply_by_hand_comes_before_the_end(Config) ->
    M = teleport_gen_server,
    Large = binary:copy(<<"large">>, 1 bsl 20),
    [begin
        Server = teleport_test_server:start_at(?config(node, Config), undefined),
        Ids = ask(M, [{label, Server, {by_hand_and_end, Large, normal}}]),
        {Response, label, None} = M:Receive(Ids, 30000, true),
        ?assertEqual({{reply, {ok, Large}}, 0}, {Response, M:reqids_size(None)})
    end || Receive <- [receive_response, wait_response], _ <- lists:seq(1, 5)].

all_behaviours_have_collections(Config) ->
    Node = ?config(node, Config),
    Statem = teleport_test_statem:start_at(Node, ?FUNCTION_NAME),
    Ids = teleport_gen_statem:send_request(Statem, state, label, teleport_gen_statem:reqids_new()),
    ?assertMatch({{reply, {locked, []}}, label, _}, teleport_gen_statem:receive_response(Ids, 30000, true)),
    Manager = teleport_test_handler:start_at(Node, undefined),
    Queries = teleport_gen_event:send_request(Manager, teleport_test_handler, {echo, x}, label, teleport_gen_event:reqids_new()),
    ?assertMatch({{reply, {ok, x}}, label, _}, teleport_gen_event:wait_response(Queries, 30000, true)),
    %% All in one.
    [Here, There] = ?config(servers, Config),
    All = lists:foldl(fun({Label, Id}, Some) -> teleport_gen_event:reqids_add(Id, Label, Some) end, teleport_gen_event:reqids_new(),
                      [{statem, teleport_gen_statem:send_request(Statem, state)},
                       {event, teleport_gen_event:send_request(Manager, teleport_test_handler, {echo, x})},
                       {here, teleport:send_request(Here, {echo, x})},
                       {otp, gen_server:send_request(There, {echo, x})},
                       {there, teleport:send_request(There, {echo, x})}]),
    ?assertEqual([event, here, otp, statem, there], lists:sort(collect(teleport_gen_event, All))),
    [exit(Pid, kill) || Pid <- [Statem, Manager]].

%% They take what teleport's have made.
functions_of_otp_take_the_ids(Config) ->
    Servers = ?config(servers, Config),
    Ids = ask(teleport_gen_server, [{Server, Server, {echo, x}} || Server <- Servers]),
    ?assertEqual(lists:sort(Servers), lists:sort(collect(gen_server, Ids))).

bad_input_fails_as_that_of_otp(Config) ->
    M = teleport_gen_server,
    [Here, _There] = ?config(servers, Config),
    Ids = ask(M, [{label, Here, {echo, x}}]),
    [{Id, label}] = M:reqids_to_list(Ids),
    [?assertError(badarg, erlang:apply(Module, Function, Args))
     || {Function, Args} <- [{reqids_size, [x]}, {reqids_to_list, [x]}, {reqids_add, [x, y, Ids]}, {reqids_add, [Id, y, x]},
                             {reqids_add, [Id, again, Ids]},
                             {receive_response, [Ids, -1, true]}, {receive_response, [Ids, 0, x]}, {receive_response, [x, 0, true]},
                             {wait_response, [Ids, soon, true]}, {wait_response, [x, 0, true]},
                             {check_response, [x, y, true]}, {check_response, [x, Ids, y]}],
        Module <- [M, teleport_gen_statem, teleport_gen_event]],
    [?assertError(badarg, M:send_request(Ref, x, label, Some)) || {Ref, Some} <- [{"no reference", Ids}, {Here, x}]],
    ?assertMatch({{reply, {ok, x}}, label, _}, M:receive_response(Ids, 30000, true)).

ask(Module, Requests) ->
    lists:foldl(fun({Label, Server, Request}, Ids) -> Module:send_request(Server, Request, Label, Ids) end,
                Module:reqids_new(), Requests).

collect(Module, Ids) ->
    case Module:receive_response(Ids, 30000, true) of
        {{reply, _}, Label, Rest} -> [Label | collect(Module, Rest)];
        no_request -> []
    end.
