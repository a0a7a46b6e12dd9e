%% What stands in for the functions of OTP's behaviours, between real nodes, with servers that know nothing of teleport.
-module(teleport_calls_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([requests_by_any_reference_are_answered_in_any_order/1, a_message_is_the_response_of_no_other_request/1,
         a_response_that_comes_too_late_is_dropped/1, responses_are_those_of_gen_server/1,
         what_a_server_has_not_answered_ends_with_its_reason/1, reasons_that_look_like_those_of_nodes/1,
         what_a_node_has_not_answered_ends_with_noconnection/1,
         requests_and_casts_keep_their_order/1, a_stop_ends_requests_that_wait_for_a_session/1]).
-export([multi_call_asks_all_nodes_and_names_those_without_an_answer/1, multi_call_drops_what_comes_after_its_timeout/1,
         multi_call_carries_large_terms/1, abcast_reaches_all_nodes_in_order/1]).
-export([a_gen_statem_answers_as_a_gen_server_does/1, events_of_all_sizes_arrive_in_order/1,
         late_replies_of_event_handlers_are_dropped/1, event_managers_answer_as_to_gen_event/1]).
-export([prime_sets_a_pool_up_and_sends_nothing/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [requests_by_any_reference_are_answered_in_any_order,
     a_message_is_the_response_of_no_other_request,
     a_response_that_comes_too_late_is_dropped,
     responses_are_those_of_gen_server,
     what_a_server_has_not_answered_ends_with_its_reason,
     reasons_that_look_like_those_of_nodes,
     what_a_node_has_not_answered_ends_with_noconnection,
     requests_and_casts_keep_their_order,
     a_stop_ends_requests_that_wait_for_a_session,
     multi_call_asks_all_nodes_and_names_those_without_an_answer,
     multi_call_drops_what_comes_after_its_timeout,
     multi_call_carries_large_terms,
     abcast_reaches_all_nodes_in_order,
     a_gen_statem_answers_as_a_gen_server_does,
     events_of_all_sizes_arrive_in_order,
     late_replies_of_event_handlers_are_dropped,
     event_managers_answer_as_to_gen_event,
     prime_sets_a_pool_up_and_sends_nothing].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(Case, Config) ->
    [{server, teleport_test_server:start_at(?config(node, Config), Case)} | Config].

%% Nothing is left of any case.
end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        exit(?config(server, Config), kill),
        teleport_test:nothing_is_left()
    end).

%% Requests.

requests_by_any_reference_are_answered_in_any_order(Config) ->
    Name = ?FUNCTION_NAME,
    {Node, Server} = {?config(node, Config), ?config(server, Config)},
    yes = global:register_name(teleport_calls, Server),
    Refs = [Server, {Name, Node}, {global, teleport_calls}, {via, global, teleport_calls}],
    Ids = [{teleport:send_request(Ref, {echo, Ref}), Ref} || Ref <- Refs],
    %% In any order.
    [?assertEqual({reply, {ok, Ref}}, teleport:receive_response(Id, 30000)) || {Id, Ref} <- lists:reverse(Ids)],
    _ = global:unregister_name(teleport_calls),
    Waited = teleport:send_request(Server, {later, 20, x}),
    ?assertEqual(timeout, teleport:wait_response(Waited, 0)),
    ?assertEqual({reply, {ok, x}}, teleport:wait_response(Waited, infinity)),
    %% Servers of this node too.
    {ok, Here} = teleport_test_server:start(here),
    Local = [teleport:send_request(Ref, {echo, Ref}) || Ref <- [Here, here, {here, node()}]],
    ?assertEqual([{reply, {ok, Here}}, {reply, {ok, here}}, {reply, {ok, {here, node()}}}],
                 [teleport:receive_response(Id, {abs, erlang:monotonic_time(millisecond) + 30000}) || Id <- Local]),
    exit(Here, kill),
    ?assertError(badarg, teleport:send_request("no reference", hello)).

a_message_is_the_response_of_no_other_request(Config) ->
    Server = ?config(server, Config),
    [First, Second] = [teleport:send_request(Server, {echo, I}) || I <- [1, 2]],
    Message = teleport_test:receive_one(),
    ?assertEqual(no_reply, teleport:check_response(Message, Second)),
    ?assertEqual(no_reply, teleport:check_response(other, Second)),
    ?assertEqual({reply, {ok, 1}}, teleport:check_response(Message, First)),
    ?assertEqual({reply, {ok, 2}}, teleport:check_response(teleport_test:receive_one(), Second)),
    Nobody = teleport:send_request({nobody, ?config(node, Config)}, hello),
    ?assertEqual({error, {noproc, {nobody, ?config(node, Config)}}},
                 teleport:check_response(teleport_test:receive_one(), Nobody)).

a_response_that_comes_too_late_is_dropped(Config) ->
    Server = ?config(server, Config),
    {ok, Here} = teleport_test_server:start(undefined),
    [begin
         Id = teleport:send_request(To, {held, x}),
         ?assertEqual(timeout, teleport:receive_response(Id, 0)),
         %% Behind the late reply.
         ?assertEqual({released, 1}, teleport:gs_call(To, release)),
         ?assertEqual(timeout, teleport:receive_response(Id, 0)),
         %% At about the same time.
         [begin
              Response = teleport:receive_response(teleport:send_request(To, {slowly, 1, I}), 1),
              ?assert(lists:member(Response, [timeout, {reply, {ok, I}}]), Response),
              ?assertEqual({ok, behind}, teleport:gs_call(To, {echo, behind}))
          end || I <- lists:seq(1, 100)],
         ?assertEqual([], teleport_test:mailbox())
     end || To <- [Server, Here]],
    exit(Here, kill).

%% What OTP's functions answer, ours do.
responses_are_those_of_gen_server(Config) ->
    Node = ?config(node, Config),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    Refs = [{nobody, Node}, Dead, nobody, {nobody, node()}, {global, nobody}, {via, global, nobody}, {x, nobody@nowhere}],
    [?assertEqual(gen_server:receive_response(gen_server:send_request(Ref, hello), 30000),
                  teleport:receive_response(teleport:send_request(Ref, hello), 30000)) || Ref <- Refs].

what_a_server_has_not_answered_ends_with_its_reason(Config) ->
    Name = ?FUNCTION_NAME,
    {Node, Server} = {?config(node, Config), ?config(server, Config)},
    Answered = teleport:send_request(Server, {echo, x}),
    Ended = teleport:send_request(Server, {exit, {tired, "of it"}}),
    Behind = teleport:send_request({Name, Node}, never),
    ?assertEqual({error, {{tired, "of it"}, Server}}, teleport:receive_response(Ended, 30000)),
    ?assertEqual({reply, {ok, x}}, teleport:receive_response(Answered, 30000)),
    %% By name it is another pair: it may have found the server, or not.
    {error, {Reason, {Name, Node}}} = teleport:receive_response(Behind, 30000),
    ?assert(lists:member(Reason, [{tired, "of it"}, noproc])).

%% A server may end with any term, as with what calls say of a node.
reasons_that_look_like_those_of_nodes(Config) ->
    Node = ?config(node, Config),
    [begin
         Server = teleport_test_server:start_at(Node, undefined),
         ?assertExit({Reason, _}, teleport:gs_call(Server, {exit, Reason}))
     end || Reason <- [nodedown, not_running, {not_running, Node}, {connect, "x"}, noproc, timeout]].

what_a_node_has_not_answered_ends_with_noconnection(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Id = teleport:send_request(Server, never),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 1 end),
    erpc:cast(Node, erlang, halt, [137, [{flush, false}]]),
    ?assertEqual({error, {noconnection, Server}}, teleport:receive_response(Id, 30000)),
    teleport_test:stop_peer(Peer).

%% The first of them begins the session.
requests_and_casts_keep_their_order(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Sizes = [10, 100000, 1000, 400000],
    Ids = [begin
               ok = teleport:cast(Server, {note, {I, Size, binary:copy(<<1>>, Size)}}),
               teleport:send_request(Server, notes)
           end || I <- lists:seq(1, 5), Size <- Sizes],
    Counts = [begin {reply, Notes} = teleport:receive_response(Id, 30000), length(Notes) end || Id <- Ids],
    ?assertEqual(lists:seq(1, length(Ids)), Counts),
    teleport_test:stop_peer(Peer).

%% The engine stops while a request waits for a peer that cannot be reached.
a_stop_ends_requests_that_wait_for_a_session(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    {Stopped, StoppedNode} = teleport_test:start_peer(),
    Self = self(),
    Ask = fun() ->
        Responses = [teleport:receive_response(teleport:send_request({x, StoppedNode}, hello), infinity) || _ <- [1, 2]],
        Self ! {responses, Responses, teleport_test:mailbox()}
    end,
    %% Who is asked for the address does not answer.
    OsPid = erpc:call(StoppedNode, os, getpid, []),
    ok = teleport_test:signal(stop, OsPid),
    Asking = spawn(Node, Ask),
    Waits = fun() ->
        erpc:call(Node, erlang, process_info, [Asking, current_function]) =:= {current_function, {teleport_request, accepted, 6}}
    end,
    teleport_test:eventually(Waits),
    ok = erpc:call(Node, application, stop, [teleport]),
    {responses, Responses, Mailbox} = teleport_test:receive_one(),
    ?assertEqual([{error, {noconnection, {x, StoppedNode}}} || _ <- [1, 2]], Responses),
    ?assertEqual([], Mailbox),
    ok = teleport_test:signal(cont, OsPid),
    [teleport_test:stop_peer(P) || P <- [Peer, Stopped]].

%% Several nodes.

multi_call_asks_all_nodes_and_names_those_without_an_answer(Config) ->
    Name = ?FUNCTION_NAME,
    {Peer, Other} = teleport_test:start_peer(),
    Node = ?config(node, Config),
    {ok, Here} = teleport_test_server:start(Name),
    _ = teleport_test_server:start_at(Other, Name),
    Nodes = [Node, nobody@nowhere, node(), Other],
    Replies = [{N, {ok, hello}} || N <- [Node, node(), Other]],
    ?assertEqual({Replies, [nobody@nowhere]}, teleport:multi_call(Nodes, Name, {echo, hello})),
    {AllReplies, []} = teleport:multi_call(Name, {echo, hello}),
    ?assertEqual(lists:sort(Replies), lists:sort(AllReplies)),
    ?assertEqual({[], Nodes}, teleport:multi_call(Nodes, nobody, {echo, hello}, 30000)),
    ?assertEqual({[], []}, teleport:multi_call([], Name, {echo, hello})),
    %% The server sees who calls.
    ?assertEqual({[{Node, self()}], []}, teleport:multi_call([Node], Name, caller)),
    exit(Here, kill),
    teleport_test:stop_peer(Peer).

multi_call_drops_what_comes_after_its_timeout(Config) ->
    Name = ?FUNCTION_NAME,
    Node = ?config(node, Config),
    {ok, Here} = teleport_test_server:start(Name),
    Nodes = [Node, node()],
    %% A request that is taken back before there is a session is never sent.
    ok = teleport:prime(Node),
    ?assertEqual({[], Nodes}, teleport:multi_call(Nodes, Name, {held, x}, 1)),
    %% Behind the late replies.
    ?assertEqual({[{N, {released, 1}} || N <- Nodes], []},
                 teleport:multi_call(Nodes, Name, release, 30000)),
    ?assertEqual([], teleport_test:mailbox()),
    exit(Here, kill).

multi_call_carries_large_terms(Config) ->
    Name = ?FUNCTION_NAME,
    Node = ?config(node, Config),
    Large = rand:bytes(8 bsl 20),
    ?assertEqual({[{Node, {ok, Large}}, {Node, {ok, Large}}], []},
                 teleport:multi_call([Node, Node], Name, {echo, Large})).

abcast_reaches_all_nodes_in_order(Config) ->
    Name = ?FUNCTION_NAME,
    Node = ?config(node, Config),
    {ok, Here} = teleport_test_server:start(Name),
    ?assertEqual(abcast, teleport:abcast([nobody@nowhere, node(), Node], Name, {note, 1})),
    ?assertEqual(abcast, teleport:abcast(Name, {note, 2})),
    ?assertEqual(abcast, teleport:abcast([Node, node()], nobody, {note, 3})),
    %% To a name, so that it comes behind them.
    [?assertEqual([1, 2], teleport:gs_call({Name, N}, notes)) || N <- [Node, node()]],
    exit(Here, kill).

%% gen_statem.

%% Its messages are those of a gen_server.
a_gen_statem_answers_as_a_gen_server_does(Config) ->
    Node = ?config(node, Config),
    Statem = teleport_test_statem:start_at(Node, statem),
    ?assertEqual({locked, []}, teleport:gs_call(Statem, state)),
    %% A postponed call is answered later.
    Passing = teleport:send_request(Statem, pass),
    ?assertEqual(timeout, teleport:wait_response(Passing, 0)),
    ok = teleport:send(Statem, knock),
    ok = teleport:cast(Statem, unlock),
    ?assertEqual({reply, passed}, teleport:receive_response(Passing, 30000)),
    ?assertEqual({open, [knock, unlock]}, teleport:gs_call({statem, Node}, state, infinity)),
    ok = teleport:cast(Statem, lock),
    ?assertExit({timeout, _}, teleport:gs_call(Statem, pass, 1)),
    ok = teleport:cast(Statem, unlock),
    ?assertMatch({[{Node, {open, _}}], []}, teleport:multi_call([Node], statem, state)),
    ?assertExit({broken, {gen_server, call, [Statem, {break, broken}]}}, teleport:gs_call(Statem, {break, broken})).

%% gen_event.

events_of_all_sizes_arrive_in_order(Config) ->
    Node = ?config(node, Config),
    Manager = teleport_test_handler:start_at(Node, event_manager),
    ok = teleport_gen_event:notify(Manager, 1),
    ok = teleport_gen_event:sync_notify(Manager, 2),
    ?assertEqual([1, 2], teleport_gen_event:call(Manager, teleport_test_handler, events)),
    Large = rand:bytes(1 bsl 20),
    ok = teleport_gen_event:notify({event_manager, Node}, Large),
    ok = teleport_gen_event:sync_notify({event_manager, Node}, 3),
    %% The event manager sees its caller, and has nothing of teleport.
    ?assertEqual([1, 2, Large, 3], gen_event:call({event_manager, Node}, teleport_test_handler, events)),
    ok = teleport_gen_event:notify(Manager, {exit, tired}),
    ?assertEqual({error, bad_module}, teleport_gen_event:call(Manager, teleport_test_handler, events)),
    exit(Manager, kill),
    %% Here.
    {ok, Here} = teleport_test_handler:start(event_manager),
    ok = teleport_gen_event:notify(event_manager, 1),
    ok = teleport_gen_event:sync_notify({event_manager, node()}, 2),
    ?assertEqual([1, 2], teleport_gen_event:call(Here, teleport_test_handler, events)),
    ok = gen_event:stop(Here).

late_replies_of_event_handlers_are_dropped(Config) ->
    Node = ?config(node, Config),
    Manager = teleport_test_handler:start_at(Node, undefined),
    ?assertEqual({ok, x}, teleport_gen_event:call(Manager, teleport_test_handler, {echo, x}, infinity)),
    ?assertExit({timeout, {gen_event, call, [Manager, teleport_test_handler, held, 1]}},
                teleport_gen_event:call(Manager, teleport_test_handler, held, 1)),
    ok = teleport_test_handler:release(Manager),
    %% Behind the late reply.
    ?assertEqual({ok, y}, teleport_gen_event:call(Manager, teleport_test_handler, {echo, y})),
    ?assertEqual([], teleport_test:mailbox()),
    ?assertMatch({error, {'EXIT', tired}}, teleport_gen_event:call(Manager, teleport_test_handler, {exit, tired})),
    exit(Manager, kill).

event_managers_answer_as_to_gen_event(Config) ->
    Node = ?config(node, Config),
    Manager = teleport_test_handler:start_at(Node, undefined),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    Refs = [Manager, {nobody, Node}, Dead, nobody, {nobody, node()}, {global, nobody}, {via, global, nobody},
            {x, nobody@nowhere}],
    Calls = [[notify, [event]], [sync_notify, [event]], [call, [nohandler, query]], [call, [nohandler, query, 5000]]],
    [begin
         [Otp, Ours] = [teleport_test:outcome(Module, Function, [Ref | Args]) || Module <- [gen_event, teleport_gen_event]],
         ?assertEqual({Ref, Function, Otp}, {Ref, Function, Ours})
     end || Ref <- Refs, [Function, Args] <- Calls],
    exit(Manager, kill).

%% Nodes.

prime_sets_a_pool_up_and_sends_nothing(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ?assertNot(lists:member(Node, teleport:nodes())),
    ?assertEqual(ok, teleport:prime(Node)),
    ?assert(lists:member(Node, teleport:nodes())),
    #{peers := #{Node := #{express_connections := Express, bulk_connections := Bulk, messages_sent := Sent}}} =
        teleport:info(),
    ?assertEqual({true, true, 0}, {Express > 0, Bulk > 0, Sent}),
    ?assertEqual(ok, teleport:prime(Node)),
    ?assertEqual(ok, teleport:prime(node())),
    ?assertEqual({error, {not_running, nobody@nowhere}}, teleport:prime(nobody@nowhere)),
    ?assertError(function_clause, teleport:prime("no node")),
    teleport_test:stop_peer(Peer),
    teleport_test:eventually(fun() -> not lists:member(Node, teleport:nodes()) end),
    %% Where it does not run.
    {ok, Plain, PlainNode} = peer:start(#{name => peer:random_name(), connection => standard_io,
                                          args => teleport_test:code_path()}),
    ?assertEqual({[], {error, not_running}},
                 {teleport_test:at(Plain, teleport, nodes, []), teleport_test:at(Plain, teleport, prime, [node()])}),
    ?assertEqual({error, {not_running, PlainNode}}, teleport:prime(PlainNode)),
    peer:stop(Plain).
