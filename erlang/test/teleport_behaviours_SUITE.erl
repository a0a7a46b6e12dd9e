%% What stands in for gen_statem, gen_event and gen_fsm, and for the ends of servers, side by side with what OTP's own
%% functions do over distributed Erlang.
-module(teleport_behaviours_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([a_gen_statem_answers_as_to_gen_statem/1, timeouts_are_those_of_gen_statem/1,
         requests_are_those_of_gen_statem/1, event_handlers_answer_as_to_gen_event/1,
         supervised_event_handlers_are_those_of_gen_event/1, a_failing_event_handler_fails_alone/1,
         event_requests_are_those_of_gen_event/1, errors_of_event_handlers_are_those_of_gen_event/1,
         a_gen_fsm_answers_as_to_gen_fsm/1, exits_are_those_of_gen_fsm/1]).
-export([a_stop_ends_as_that_of_otp/1, failing_stops_exit_as_those_of_otp/1, a_stop_that_takes_too_long/1,
         a_server_can_call_and_be_called_back/1, a_large_mailbox_is_left_alone/1,
         multi_call_of_those_that_do_not_answer/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [a_gen_statem_answers_as_to_gen_statem, timeouts_are_those_of_gen_statem, requests_are_those_of_gen_statem,
     event_handlers_answer_as_to_gen_event, supervised_event_handlers_are_those_of_gen_event, a_failing_event_handler_fails_alone,
     event_requests_are_those_of_gen_event, errors_of_event_handlers_are_those_of_gen_event,
     a_gen_fsm_answers_as_to_gen_fsm, exits_are_those_of_gen_fsm,
     a_stop_ends_as_that_of_otp, failing_stops_exit_as_those_of_otp, a_stop_that_takes_too_long,
     a_server_can_call_and_be_called_back, a_large_mailbox_is_left_alone, multi_call_of_those_that_do_not_answer].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

end_per_testcase(_Case, _Config) ->
    teleport_test:ended(fun() ->
        teleport_test:nothing_is_left()
    end).

%% OTP's module and ours, each on a process of its own that was started in the same way.
-define(BOTH(Otp), [{Otp, name(?FUNCTION_NAME, 1)},
                    {list_to_atom("teleport_" ++ atom_to_list(Otp)), name(?FUNCTION_NAME, 2)}]).

name(Case, Number) ->
    list_to_atom(lists:concat([Case, Number])).

%% gen_statem.

a_gen_statem_answers_as_to_gen_statem(Config) ->
    Node = ?config(node, Config),
    [begin
         Statem = teleport_test_statem:start_at(Node, Name),
         ok = M:cast(Statem, unlock),
         ?assertEqual({open, [unlock]}, M:call(Statem, state)),
         ok = M:cast({Name, Node}, lock),
         ?assertEqual({locked, [unlock, lock]}, M:call({Name, Node}, state, 30000)),
         ok = M:cast({nobody, Node}, lock),
         ok = M:cast({x, nobody@nowhere}, lock),
         ?assertExit({noproc, {gen_statem, call, [{nobody, Node}, state, infinity]}}, M:call({nobody, Node}, state)),
         ?assertExit({{nodedown, nobody@nowhere}, {gen_statem, call, [{x, nobody@nowhere}, state, infinity]}},
                     M:call({x, nobody@nowhere}, state)),
         ok = M:cast(Statem, unlock),
         ?assertExit({tired, {gen_statem, call, [Statem, {break, tired}, infinity]}}, M:call(Statem, {break, tired})),
         ?assertExit({noproc, {gen_statem, call, [Statem, state, infinity]}}, M:call(Statem, state))
     end || {M, Name} <- ?BOTH(gen_statem)].

timeouts_are_those_of_gen_statem(Config) ->
    Node = ?config(node, Config),
    [begin
         Statem = teleport_test_statem:start_at(Node, Name),
         [?assertExit({timeout, {gen_statem, call, [Statem, pass, Timeout]}}, M:call(Statem, pass, Timeout))
          || Timeout <- [0, 1, {clean_timeout, 1}, {dirty_timeout, 1}]],
         [?assertEqual({locked, []}, M:call(Statem, state, Timeout))
          || Timeout <- [infinity, {clean_timeout, infinity}, {dirty_timeout, infinity}, {clean_timeout, 30000}]],
         %% The late replies.
         ok = M:cast(Statem, unlock),
         ?assertEqual({open, [unlock]}, M:call(Statem, state)),
         ?assertEqual([], teleport_test:mailbox()),
         exit(Statem, kill)
     end || {M, Name} <- ?BOTH(gen_statem)].

requests_are_those_of_gen_statem(Config) ->
    Node = ?config(node, Config),
    [begin
         Statem = teleport_test_statem:start_at(Node, Name),
         Postponed = [M:send_request(Statem, pass) || _ <- [1, 2, 3]],
         [?assertEqual(timeout, M:wait_response(Id, 0)) || Id <- Postponed],
         State = M:send_request(Statem, state),
         ?assertEqual({reply, {locked, []}}, M:receive_response(State)),
         ok = M:cast(Statem, unlock),
         [First, Second, Third] = Postponed,
         ?assertEqual({reply, passed}, M:wait_response(First)),
         Message = teleport_test:receive_one(),
         ?assertEqual(no_reply, M:check_response(Message, Third)),
         ?assertEqual({reply, passed}, M:check_response(Message, Second)),
         ?assertEqual({reply, passed}, M:receive_response(Third, 30000)),
         Broken = M:send_request(Statem, {break, tired}),
         ?assertEqual({error, {tired, Statem}}, M:receive_response(Broken))
     end || {M, Name} <- ?BOTH(gen_statem)].

%% gen_event.

event_handlers_answer_as_to_gen_event(Config) ->
    Node = ?config(node, Config),
    H = teleport_test_handler,
    [begin
         Manager = teleport_test_handler:start_at(Node, Name),
         Ref = {Name, Node},
         ?assertEqual([H], M:which_handlers(Manager)),
         ?assertEqual(ok, M:add_handler(Ref, {H, 1}, [])),
         ?assertEqual({error, no}, M:add_handler(Ref, {H, 2}, no)),
         ?assertMatch({'EXIT', {undef, _}}, M:add_handler(Ref, nohandler, [])),
         ?assertEqual([{H, 1}, H], M:which_handlers(Ref)),
         ok = M:sync_notify(Manager, a),
         ok = M:notify(Manager, b),
         ?assertEqual([a, b], M:call(Manager, {H, 1}, events)),
         ?assertEqual({error, bad_module}, M:call(Manager, {H, 2}, events)),
         %% The new one goes on with what the old one had.
         ?assertEqual(ok, M:swap_handler(Manager, {{H, 1}, []}, {{H, 3}, [c]})),
         ?assertEqual([a, b, c], M:call(Ref, {H, 3}, events)),
         ?assertEqual([c, b, a], M:delete_handler(Manager, {H, 3}, done)),
         ?assertEqual({error, module_not_found}, M:delete_handler(Manager, {H, 3}, done)),
         ?assertEqual([H], M:which_handlers(Manager)),
         ?assertEqual(ok, M:stop(Ref)),
         ?assertExit(noproc, M:which_handlers(Ref)),
         ?assertExit(noproc, M:add_handler(Manager, H, []))
     end || {M, Name} <- ?BOTH(gen_event)].

supervised_event_handlers_are_those_of_gen_event(Config) ->
    Node = ?config(node, Config),
    H = teleport_test_handler,
    [begin
         Manager = teleport_test_handler:start_at(Node, Name),
         Self = self(),
         Owner = spawn(fun() ->
             ok = M:add_sup_handler(Manager, {H, sup}, []),
             ok = M:swap_sup_handler({Name, Node}, {{H, sup}, []}, {{H, swapped}, []}),
             pass_on(Self)
         end),
         ?assertEqual({gen_event_EXIT, {H, sup}, {swapped, {H, swapped}, Owner}}, teleport_test:receive_one()),
         ?assertEqual([{H, swapped}, H], M:which_handlers(Manager)),
         ?assertEqual(ok, M:add_handler(Manager, {H, other}, [])),
         ?assertEqual([], M:delete_handler(Manager, {H, other}, done)),
         ok = M:sync_notify(Manager, {exit, tired}),
         ?assertEqual({gen_event_EXIT, {H, swapped}, {'EXIT', tired}}, teleport_test:receive_one()),
         Owner ! {add, fun() -> M:add_sup_handler(Manager, {H, again}, []) end},
         ?assertEqual({added, ok}, teleport_test:receive_one()),
         ?assertEqual([{H, again}], M:which_handlers(Manager)),
         %% Its end removes what it has added.
         Owner ! stop,
         teleport_test:eventually(fun() -> M:which_handlers(Manager) =:= [] end),
         exit(Manager, kill)
     end || {M, Name} <- ?BOTH(gen_event)].

%% An error, not a reply.
errors_of_event_handlers_are_those_of_gen_event(Config) ->
    [begin
         Manager = teleport_test_handler:start_at(Node, Name),
         Ask = fun() -> M:send_request(Manager, no_handler, events) end,
         Collect = fun() -> M:send_request(Manager, no_handler, events, label, M:reqids_new()) end,
         Error = {error, bad_module},
         ?assertEqual({M, Error}, {M, M:receive_response(Ask(), 30000)}),
         ?assertEqual({M, Error}, {M, M:wait_response(Ask(), 30000)}),
         Id = Ask(),
         ?assertEqual({M, Error}, {M, M:check_response(teleport_test:receive_one(), Id)}),
         {Received, label, _} = M:receive_response(Collect(), 30000, true),
         {Waited, label, _} = M:wait_response(Collect(), 30000, true),
         Collection = Collect(),
         {Checked, label, _} = M:check_response(teleport_test:receive_one(), Collection, true),
         ?assertEqual({M, [Error, Error, Error]}, {M, [Received, Waited, Checked]}),
         exit(Manager, kill)
     end || Node <- [?config(node, Config), node()], {M, Name} <- ?BOTH(gen_event)].

%% What a process is told, and what it is to do, until it is to end.
pass_on(To) ->
    receive
        stop -> ok;
        {add, Add} -> To ! {added, Add()}, pass_on(To);
        Message -> To ! Message, pass_on(To)
    end.

%% One of them; the others and the manager go on.
a_failing_event_handler_fails_alone(Config) ->
    Node = ?config(node, Config),
    H = teleport_test_handler,
    [begin
         Manager = teleport_test_handler:start_at(Node, Name),
         ok = M:add_handler(Manager, {H, 1}, []),
         ?assertEqual({error, {'EXIT', tired}}, M:call(Manager, {H, 1}, {exit, tired})),
         ?assertEqual([H], M:which_handlers(Manager)),
         ok = M:add_handler(Manager, {H, 2}, []),
         ok = M:sync_notify(Manager, {exit, tired}),
         ?assertEqual([], M:which_handlers(Manager)),
         ok = M:stop(Manager, tired, 30000),
         ?assertExit({noproc, {gen_event, call, [{Name, Node}, H, events, 30000]}}, M:call({Name, Node}, H, events, 30000))
     end || {M, Name} <- ?BOTH(gen_event)].

event_requests_are_those_of_gen_event(Config) ->
    Node = ?config(node, Config),
    H = teleport_test_handler,
    [begin
         Manager = teleport_test_handler:start_at(Node, Name),
         Id = M:send_request(Manager, H, held),
         ?assertEqual(timeout, M:wait_response(Id, 0)),
         ok = teleport_test_handler:release(Manager),
         ?assertEqual({reply, released}, M:receive_response(Id, 30000)),
         Second = M:send_request({Name, Node}, H, {echo, x}),
         ?assertEqual({reply, {ok, x}}, M:check_response(teleport_test:receive_one(), Second)),
         Held = M:send_request(Manager, H, held),
         ok = teleport_test_handler:held(Manager),
         exit(Manager, kill),
         ?assertEqual({error, {killed, Manager}}, M:receive_response(Held, 30000))
     end || {M, Name} <- ?BOTH(gen_event)].

%% gen_fsm.

a_gen_fsm_answers_as_to_gen_fsm(Config) ->
    Node = ?config(node, Config),
    [begin
         Fsm = teleport_test_fsm:start_at(Node, Name),
         Ref = {Name, Node},
         ok = M:send_event(Fsm, 1),
         ?assertEqual({busy, 2, self()}, M:sync_send_event(Fsm, 2)),
         ok = M:send_all_state_event(Fsm, 3),
         ?assertEqual({idle, 4}, M:sync_send_event(Fsm, 4, 30000)),
         ?assertEqual({idle, [{idle, 1}, {all, 3}]}, M:sync_send_all_state_event(Fsm, log)),
         ok = M:send_event(Ref, 5),
         ok = M:send_all_state_event(Ref, 6),
         ?assertEqual({busy, [{idle, 1}, {all, 3}, {idle, 5}, {all, 6}]}, M:sync_send_all_state_event(Ref, log, infinity)),
         ?assertEqual(ok, M:stop(Fsm))
     end || {M, Name} <- ?BOTH(gen_fsm)].

exits_are_those_of_gen_fsm(Config) ->
    Node = ?config(node, Config),
    [begin
         Fsm = teleport_test_fsm:start_at(Node, Name),
         [?assertExit({timeout, {gen_fsm, Function, [Fsm, never, 1]}}, M:Function(Fsm, never, 1))
          || Function <- [sync_send_event, sync_send_all_state_event]],
         ?assertEqual(stopped, M:sync_send_all_state_event(Fsm, {stop, normal})),
         ?assertExit({noproc, {gen_fsm, sync_send_event, [Fsm, x]}}, M:sync_send_event(Fsm, x)),
         ?assertExit({noproc, {gen_fsm, sync_send_all_state_event, [{Name, Node}, x, 5000]}},
                     M:sync_send_all_state_event({Name, Node}, x, 5000)),
         Again = teleport_test_fsm:start_at(Node, Name),
         ?assertExit({tired, {gen_fsm, sync_send_event, [Again, {exit, tired}]}}, M:sync_send_event(Again, {exit, tired})),
         [?assertEqual(ok, M:Function(To, x)) || Function <- [send_event, send_all_state_event],
                                                 To <- [Again, {Name, Node}, {x, nobody@nowhere}, {global, nobody}]]
     end || {M, Name} <- ?BOTH(gen_fsm)].

%% Ends.

a_stop_ends_as_that_of_otp(Config) ->
    Node = ?config(node, Config),
    [begin
         Server = teleport_test_server:start_at(Node, stops),
         Monitor = teleport:monitor(Server),
         %% Behind the monitor.
         {ok, x} = teleport:gs_call(Server, {echo, x}),
         ?assertEqual(ok, apply(teleport, gs_stop, Args(Server))),
         ?assertEqual({'DOWN', Monitor, process, Server, Reason}, teleport_test:receive_one())
     end || {Args, Reason} <- [{fun(Server) -> [Server] end, normal},
                               {fun(_) -> [{stops, Node}] end, normal},
                               {fun(Server) -> [Server, shutdown, 30000] end, shutdown},
                               {fun(Server) -> [Server, {shutdown, x}, infinity] end, {shutdown, x}}]],
    {ok, Here} = teleport_test_server:start(undefined),
    ?assertEqual(ok, teleport:gs_stop(Here)),
    Statem = teleport_test_statem:start_at(Node, stops),
    ?assertEqual(ok, teleport_gen_statem:stop({stops, Node})),
    ?assertNot(erpc:call(Node, erlang, is_process_alive, [Statem])).

failing_stops_exit_as_those_of_otp(Config) ->
    Node = ?config(node, Config),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    Refs = [{nobody, Node}, Dead, {x, nobody@nowhere}, nobody, {nobody, node()}, {global, nobody}, {via, global, nobody}],
    [begin
         [Otp, Ours] = [teleport_test:outcome(M, F, [Ref, normal, 30000]) || {M, F} <- [{gen_server, stop}, {teleport, gs_stop}]],
         ?assertEqual({Ref, Otp}, {Ref, Ours})
     end || Ref <- Refs],
    %% One that ends by itself, when it has been asked to.
    [begin
         [Otp, Ours] = [stopped_while_it_ends(Node, M, F, Reason) || {M, F} <- [{gen_server, stop}, {teleport, gs_stop}]],
         ?assertEqual({Reason, Otp}, {Reason, Ours})
     end || Reason <- [normal, shutdown, {shutdown, x}, noproc, timeout, other]].

stopped_while_it_ends(Node, M, F, Reason) ->
    {Server, Self} = {teleport_test_server:start_at(Node, ends), self()},
    Ends = fun() ->
        Self ! busy,
        asked(),
        exit(case Reason of other -> shutdown; _ -> Reason end)
    end,
    _ = spawn(fun() -> gen_server:call(Server, {run, Ends}, infinity) end),
    receive busy -> ok end,
    Outcome = teleport_test:outcome(M, F, [{ends, Node}, Reason, 30000]),
    wait_for_the_end(Server, Node),
    Outcome.

%% Returns when there is something in the mailbox.
asked() ->
    case process_info(self(), message_queue_len) of
        {message_queue_len, 0} -> erlang:yield(), asked();
        _ -> ok
    end.

%% It goes on, if it was not told in time; and its end is no message of the caller's.
a_stop_that_takes_too_long(Config) ->
    Node = ?config(node, Config),
    [begin
         Manager = teleport_test_handler:start_at(Node, Name),
         Held = gen_event:send_request(Manager, teleport_test_handler, held),
         ok = teleport_test_handler:held(Manager),
         ?assertExit(timeout, M:stop(Manager, normal, 1000)),
         ok = teleport_test_handler:release(Manager),
         {reply, released} = gen_event:receive_response(Held, 30000),
         wait_for_the_end(Manager, Node),
         ?assertEqual([], teleport_test:mailbox())
     end || {M, Name} <- ?BOTH(gen_event)].

%% From within a server: another one, itself by all its names, and one that calls back.
a_server_can_call_and_be_called_back(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, a_server_that_calls),
    {ok, Here} = teleport_test_server:start(a_server_that_calls),
    Call = fun(To, Request) -> {run, fun() -> teleport_test:outcome(teleport, gs_call, [To, Request]) end} end,
    ?assertEqual({returned, {ok, x}}, gen_server:call(Here, Call(Server, {echo, x}))),
    Selves = [Here, a_server_that_calls, {a_server_that_calls, node()}],
    [?assertEqual({exit, {calling_self, {gen_server, call, [Self, x]}}}, gen_server:call(Here, Call(Self, x)))
     || Self <- Selves],
    %% There and back, to a second server here, which the one there calls.
    {ok, Second} = teleport_test_server:start(undefined),
    Back = teleport:gs_call(Server, {run, fun() -> teleport:gs_call(Second, {echo, back}) end}),
    ?assertEqual({ok, back}, Back),
    [exit(Pid, kill) || Pid <- [Here, Second, Server]].

a_large_mailbox_is_left_alone(Config) ->
    Server = teleport_test_server:start_at(?config(node, Config), undefined),
    Count = 200000,
    [self() ! {number, I} || I <- lists:seq(1, Count)],
    ?assertEqual([{ok, I} || I <- lists:seq(1, 50)], [teleport:gs_call(Server, {echo, I}) || I <- lists:seq(1, 50)]),
    ?assertExit({timeout, _}, teleport:gs_call(Server, never, 1)),
    ?assertEqual({message_queue_len, Count}, process_info(self(), message_queue_len)),
    [receive {number, I} -> ok end || I <- lists:seq(1, Count)],
    exit(Server, kill).

%% A server that is missing, one that ends, one that is slow, one on a node that has stopped, and a node that is gone.
multi_call_of_those_that_do_not_answer(Config) ->
    Node = ?config(node, Config),
    [{Ending, EndingNode}, {Stopped, StoppedNode}, {Gone, GoneNode}] = [teleport_test:start_peer() || _ <- [1, 2, 3]],
    [_ = teleport_test_server:start_at(N, multi) || N <- [Node, StoppedNode, GoneNode]],
    {ok, Here} = teleport_test_server:start(multi),
    teleport_test:stop_peer(Gone),
    [ok = teleport:prime(N) || N <- [Node, StoppedNode]],
    Pid = erpc:call(StoppedNode, os, getpid, []),
    ok = teleport_test:signal(stop, Pid),
    Nodes = [Node, EndingNode, StoppedNode, GoneNode, node()],
    ?assertEqual({[{Node, {ok, x}}, {node(), {ok, x}}], [EndingNode, StoppedNode, GoneNode]},
                 teleport:multi_call(Nodes, multi, {echo, x}, 5000)),
    ?assertEqual([], teleport_test:mailbox()),
    ok = teleport_test:signal(cont, Pid),
    ?assertEqual({[{StoppedNode, {ok, y}}], []}, teleport:multi_call([StoppedNode], multi, {echo, y}, 30000)),
    ?assertEqual({[], [Node, StoppedNode]}, teleport:multi_call([Node, StoppedNode], multi, {exit, tired}, 30000)),
    %% Nor does the caller answer itself. OTP waits as long as it may, or notices it (25, of itself alone).
    true = register(?FUNCTION_NAME, self()),
    ?assertEqual({[], [node()]}, teleport:multi_call([node()], ?FUNCTION_NAME, x)),
    ?assertEqual({[], [node(), Node]}, teleport:multi_call([node(), Node], ?FUNCTION_NAME, x)),
    true = unregister(?FUNCTION_NAME),
    ?assertEqual([], teleport_test:mailbox()),
    exit(Here, kill),
    [teleport_test:stop_peer(Peer) || Peer <- [Ending, Stopped]].

wait_for_the_end(Process, Node) ->
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Process]) end).
