%% What stands in for the functions of OTP's behaviours, between real nodes, with servers that know nothing of teleport.
-module(teleport_calls_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([requests/1, responses_by_message/1, a_response_that_comes_too_late/1, responses_as_of_otp/1,
         a_server_that_ends/1, a_node_that_goes_down/1, order_of_requests_and_casts/1, a_stop_while_it_waits/1]).
-export([multi_call/1, multi_call_with_a_timeout/1, multi_call_of_large_terms/1, abcast/1]).
-export([statem_calls/1, events/1, calls_of_event_handlers/1, events_as_of_otp/1]).
-export([prime/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [requests, responses_by_message, a_response_that_comes_too_late, responses_as_of_otp,
     a_server_that_ends, a_node_that_goes_down, order_of_requests_and_casts, a_stop_while_it_waits,
     multi_call, multi_call_with_a_timeout, multi_call_of_large_terms, abcast,
     statem_calls, events, calls_of_event_handlers, events_as_of_otp,
     prime].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    [{peer, Peer}, {node, Node} | Config].

end_per_suite(Config) ->
    teleport_test:stop_peer(?config(peer, Config)),
    ok = application:stop(teleport).

init_per_testcase(Case, Config) ->
    [{server, teleport_test_server:start_at(?config(node, Config), Case)} | Config].

%% Nothing is left of any case.
end_per_testcase(_Case, Config) ->
    exit(?config(server, Config), kill),
    ?assertMatch(#{waiting_for := 0}, teleport:info()),
    ?assertEqual([], teleport_test:mailbox()).

%% Requests.

requests(Config) ->
    {Node, Server} = {?config(node, Config), ?config(server, Config)},
    yes = global:register_name(teleport_calls, Server),
    Refs = [Server, {requests, Node}, {global, teleport_calls}, {via, global, teleport_calls}],
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

responses_by_message(Config) ->
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

a_response_that_comes_too_late(Config) ->
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
responses_as_of_otp(Config) ->
    Node = ?config(node, Config),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    Refs = [{nobody, Node}, Dead, nobody, {nobody, node()}, {global, nobody}, {via, global, nobody}, {x, nobody@nowhere}],
    [?assertEqual(gen_server:receive_response(gen_server:send_request(Ref, hello), 30000),
                  teleport:receive_response(teleport:send_request(Ref, hello), 30000)) || Ref <- Refs].

a_server_that_ends(Config) ->
    {Node, Server} = {?config(node, Config), ?config(server, Config)},
    Answered = teleport:send_request(Server, {echo, x}),
    Ended = teleport:send_request(Server, {exit, {tired, "of it"}}),
    Behind = teleport:send_request({a_server_that_ends, Node}, never),
    ?assertEqual({error, {{tired, "of it"}, Server}}, teleport:receive_response(Ended, 30000)),
    ?assertEqual({reply, {ok, x}}, teleport:receive_response(Answered, 30000)),
    %% By name it is another pair: it may have found the server, or not.
    {error, {Reason, {a_server_that_ends, Node}}} = teleport:receive_response(Behind, 30000),
    ?assert(lists:member(Reason, [{tired, "of it"}, noproc])).

a_node_that_goes_down(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Id = teleport:send_request(Server, never),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 1 end),
    erpc:cast(Node, erlang, halt, [137, [{flush, false}]]),
    ?assertEqual({error, {noconnection, Server}}, teleport:receive_response(Id, 30000)),
    teleport_test:stop_peer(Peer).

%% The first of them begins the session.
order_of_requests_and_casts(_Config) ->
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
a_stop_while_it_waits(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    {Stopped, StoppedNode} = teleport_test:start_peer(),
    Self = self(),
    Ask = fun() ->
        Responses = [teleport:receive_response(teleport:send_request({x, StoppedNode}, hello), infinity) || _ <- [1, 2]],
        Self ! {responses, Responses, teleport_test:mailbox()}
    end,
    %% Who is asked for the address does not answer.
    Manager = erpc:call(StoppedNode, erlang, whereis, [teleport_manager]),
    ok = erpc:call(StoppedNode, sys, suspend, [Manager]),
    Asking = spawn(Node, Ask),
    Waits = fun() ->
        erpc:call(Node, erlang, process_info, [Asking, current_function]) =:= {current_function, {teleport_request, accepted, 4}}
    end,
    teleport_test:eventually(Waits),
    ok = erpc:call(Node, application, stop, [teleport]),
    {responses, Responses, Mailbox} = teleport_test:receive_one(),
    ?assertEqual([{error, {noconnection, {x, StoppedNode}}} || _ <- [1, 2]], Responses),
    ?assertEqual([], Mailbox),
    [teleport_test:stop_peer(P) || P <- [Peer, Stopped]].

%% Several nodes.

multi_call(Config) ->
    {Peer, Other} = teleport_test:start_peer(),
    Node = ?config(node, Config),
    {ok, Here} = teleport_test_server:start(multi_call),
    _ = teleport_test_server:start_at(Other, multi_call),
    Nodes = [Node, nobody@nowhere, node(), Other],
    Replies = [{N, {ok, hello}} || N <- [Node, node(), Other]],
    ?assertEqual({Replies, [nobody@nowhere]}, teleport:multi_call(Nodes, multi_call, {echo, hello})),
    {AllReplies, []} = teleport:multi_call(multi_call, {echo, hello}),
    ?assertEqual(lists:sort(Replies), lists:sort(AllReplies)),
    ?assertEqual({[], Nodes}, teleport:multi_call(Nodes, nobody, {echo, hello}, 30000)),
    ?assertEqual({[], []}, teleport:multi_call([], multi_call, {echo, hello})),
    %% The server sees who calls.
    ?assertEqual({[{Node, self()}], []}, teleport:multi_call([Node], multi_call, caller)),
    exit(Here, kill),
    teleport_test:stop_peer(Peer).

multi_call_with_a_timeout(Config) ->
    Node = ?config(node, Config),
    {ok, Here} = teleport_test_server:start(multi_call_with_a_timeout),
    Nodes = [Node, node()],
    %% A request that is taken back before there is a session is never sent.
    ok = teleport:prime(Node),
    ?assertEqual({[], Nodes}, teleport:multi_call(Nodes, multi_call_with_a_timeout, {held, x}, 1)),
    %% Behind the late replies.
    ?assertEqual({[{N, {released, 1}} || N <- Nodes], []},
                 teleport:multi_call(Nodes, multi_call_with_a_timeout, release, 30000)),
    ?assertEqual([], teleport_test:mailbox()),
    exit(Here, kill).

multi_call_of_large_terms(Config) ->
    Node = ?config(node, Config),
    Large = rand:bytes(8 bsl 20),
    ?assertEqual({[{Node, {ok, Large}}, {Node, {ok, Large}}], []},
                 teleport:multi_call([Node, Node], multi_call_of_large_terms, {echo, Large})).

abcast(Config) ->
    Node = ?config(node, Config),
    {ok, Here} = teleport_test_server:start(abcast),
    ?assertEqual(abcast, teleport:abcast([nobody@nowhere, node(), Node], abcast, {note, 1})),
    ?assertEqual(abcast, teleport:abcast(abcast, {note, 2})),
    ?assertEqual(abcast, teleport:abcast([Node, node()], nobody, {note, 3})),
    %% To a name, so that it comes behind them.
    [?assertEqual([1, 2], teleport:gs_call({abcast, N}, notes)) || N <- [Node, node()]],
    exit(Here, kill).

%% gen_statem.

%% Its messages are those of a gen_server.
statem_calls(Config) ->
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

events(Config) ->
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

calls_of_event_handlers(Config) ->
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

events_as_of_otp(Config) ->
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

prime(_Config) ->
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
                 {peer:call(Plain, teleport, nodes, []), peer:call(Plain, teleport, prime, [node()])}),
    ?assertEqual({error, {not_running, PlainNode}}, teleport:prime(PlainNode)),
    peer:stop(Plain).
