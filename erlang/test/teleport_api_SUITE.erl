%% The functions of `teleport' between two real nodes.
-module(teleport_api_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_name_is_reached/1, a_pid_is_reached/1, a_large_binary_arrives_as_it_was/1,
         terms_of_all_kinds_arrive_as_they_were/1, messages_of_a_pair_keep_their_order/1,
         messages_to_no_process_vanish/1, an_unknown_node_is_named_in_the_error/1,
         a_message_that_is_too_large_is_refused/1, local_processes_are_reached_as_by_otp/1]).
-export([a_gen_server_answers_calls/1, pids_and_names_are_called/1, a_timeout_leaves_the_mailbox_clean/1,
         calls_and_monitors_of_nobody_end_with_noproc/1, a_call_ends_with_the_servers_exit_reason/1,
         a_call_takes_a_large_reply/1, a_reply_wins_over_the_end/1, casts_arrive_like_otps/1]).
-export([monitors_end_like_otps/1, an_ended_monitor_sends_no_down/1, down_comes_after_what_was_sent/1,
         callers_that_die_leave_nothing_behind/1, a_relay_that_dies_ends_its_calls/1]).
-export([calls_work_after_the_manager_has_died/1, calls_and_monitors_end_at_nodedown/1,
         a_restarted_node_is_another_one/1, what_is_refused_or_ends_is_counted/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [a_name_is_reached, a_pid_is_reached, a_large_binary_arrives_as_it_was, terms_of_all_kinds_arrive_as_they_were,
     messages_of_a_pair_keep_their_order, messages_to_no_process_vanish, an_unknown_node_is_named_in_the_error,
     a_message_that_is_too_large_is_refused, local_processes_are_reached_as_by_otp, a_gen_server_answers_calls,
     pids_and_names_are_called, a_timeout_leaves_the_mailbox_clean, calls_and_monitors_of_nobody_end_with_noproc,
     a_call_ends_with_the_servers_exit_reason, a_call_takes_a_large_reply, a_reply_wins_over_the_end, casts_arrive_like_otps,
     monitors_end_like_otps, an_ended_monitor_sends_no_down, down_comes_after_what_was_sent,
     callers_that_die_leave_nothing_behind, a_relay_that_dies_ends_its_calls, calls_work_after_the_manager_has_died,
     calls_and_monitors_end_at_nodedown, a_restarted_node_is_another_one, what_is_refused_or_ends_is_counted].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    ok = teleport:start(),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(teleport).

init_per_testcase(_Case, Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    [{peer, Peer}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    teleport_test:stop_peer(?config(peer, Config)).

%% Sending.

a_name_is_reached(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    ok = teleport:send({echo, Node}, {self(), hello}),
    ?assertEqual({echo, hello}, teleport_test:receive_one()).

a_pid_is_reached(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    Echo = erpc:call(Node, erlang, whereis, [echo]),
    ok = teleport:send(Echo, {self(), [1, 2.5, "three"]}),
    ?assertEqual({echo, [1, 2.5, "three"]}, teleport_test:receive_one()).

a_large_binary_arrives_as_it_was(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    Binary = rand:bytes(10 bsl 20),
    ok = teleport:send({echo, Node}, {self(), {Binary, tail}}),
    ?assertEqual({echo, {Binary, tail}}, teleport_test:receive_one()).

terms_of_all_kinds_arrive_as_they_were(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    Terms = [[], {}, #{a => #{1 => "x"}}, -(1 bsl 200), 1 bsl 70, -0.0, <<5:3>>, make_ref(), self(), fun lists:map/2,
             'ж', list_to_tuple(lists:seq(1, 300)), [a | b], binary:copy(<<"x">>, 70000), hd(erlang:ports()),
             lists:seq(1, 100000), [binary:copy(<<I>>, 100) || I <- lists:seq(1, 255)], fun(X) -> {X, Config} end,
             lists:foldl(fun(_, Nested) -> {Nested} end, deep, lists:seq(1, 100000))],
    [begin
         ok = teleport:send({echo, Node}, {self(), Term}),
         ?assertEqual({echo, Term}, teleport_test:receive_one())
     end || Term <- Terms].

%% Of all sizes in turn, so that they go by several connections.
messages_of_a_pair_keep_their_order(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    Sizes = [10, 200000, 100, 3000000, 1000, 70000],
    Messages = [{I, binary:copy(<<I:32>>, Size div 4)} || I <- lists:seq(1, 20), Size <- Sizes],
    [ok = teleport:send({echo, Node}, {self(), Message}) || Message <- Messages],
    [?assertEqual({echo, Message}, teleport_test:receive_one()) || Message <- Messages].

messages_to_no_process_vanish(Config) ->
    Node = ?config(node, Config),
    ok = teleport:send({nobody, Node}, hello),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Dead]) end),
    ok = teleport:send(Dead, hello),
    ?assertError(badarg, teleport:send(nobody_here, hello)),
    ?assertError(badarg, teleport:send("no reference", hello)).

an_unknown_node_is_named_in_the_error(_Config) ->
    ?assertEqual({error, {not_running, nobody@nowhere}}, teleport:send({x, nobody@nowhere}, hello)),
    ?assertEqual({error, busy}, teleport:send({x, nobody@nowhere}, hello, [nosuspend])),
    ?assertExit({{nodedown, nobody@nowhere}, {gen_server, call, [{x, nobody@nowhere}, hello]}},
                teleport:gs_call({x, nobody@nowhere}, hello)),
    ?assertEqual(ok, teleport:cast({x, nobody@nowhere}, hello)),
    Monitor = teleport:monitor({x, nobody@nowhere}),
    ?assertEqual({'DOWN', Monitor, process, {x, nobody@nowhere}, noconnection}, teleport_test:receive_one()).

a_message_that_is_too_large_is_refused(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, application, set_env, [teleport, max_message, 1000000]),
    ok = erpc:call(Node, teleport, start, []),
    Message = binary:copy(<<0>>, 1000001),
    {error, {too_large, Size, 1000000}} = teleport:send({echo, Node}, Message),
    ?assertEqual(byte_size(term_to_binary(Message)), Size).

local_processes_are_reached_as_by_otp(_Config) ->
    true = register(here, self()),
    ok = teleport:send(here, 1),
    ok = teleport:send({here, node()}, 2),
    ok = teleport:send(self(), 3),
    ?assertEqual([1, 2, 3], [teleport_test:receive_one() || _ <- [1, 2, 3]]),
    ?assertExit({noproc, {gen_server, call, [nobody, hello]}}, teleport:gs_call(nobody, hello)).

%% Calls.

a_gen_server_answers_calls(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual({ok, hello}, teleport:gs_call({server, Node}, {echo, hello})),
    ?assertEqual({ok, hello}, teleport:gs_call(Server, {echo, hello}, infinity)),
    %% The server sees its caller, and may answer later, from another process.
    ?assertEqual(self(), teleport:gs_call(Server, caller)),
    ?assertEqual({ok, later}, teleport:gs_call(Server, {later, 10, later})),
    ?assertEqual([], teleport_test:mailbox()).

pids_and_names_are_called(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    yes = global:register_name(teleport_api, Server),
    ?assertEqual({ok, 1}, teleport:gs_call({global, teleport_api}, {echo, 1})),
    ?assertEqual({ok, 2}, teleport:gs_call({via, global, teleport_api}, {echo, 2})),
    _ = global:unregister_name(teleport_api),
    ?assertExit({noproc, _}, teleport:gs_call({global, teleport_api}, {echo, 3})).

a_timeout_leaves_the_mailbox_clean(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    %% A request that is taken back before there is a session is never sent.
    ?assertEqual({ok, first}, teleport:gs_call(Server, {echo, first})),
    Timeouts = [0, 1, 5, 10],
    [?assertExit({timeout, {gen_server, call, [Server, {held, x}, Timeout]}},
                 teleport:gs_call(Server, {held, x}, Timeout)) || Timeout <- Timeouts],
    %% Behind the late replies.
    ?assertEqual({released, length(Timeouts)}, teleport:gs_call(Server, release)),
    ?assertEqual([], teleport_test:mailbox()),
    ?assertMatch(#{waiting_for := 0}, teleport:info()),
    %% Also when the reply comes at about the same time.
    Race = fun(I) ->
        try teleport:gs_call(Server, {slowly, 1, I}, 1) of
            {ok, I} -> reply
        catch exit:{timeout, _} -> timeout
        end,
        ?assertEqual({ok, behind}, teleport:gs_call(Server, {echo, behind}))
    end,
    _ = [Race(I) || I <- lists:seq(1, 200)],
    ?assertEqual([], teleport_test:mailbox()).

calls_and_monitors_of_nobody_end_with_noproc(Config) ->
    Node = ?config(node, Config),
    ?assertExit({noproc, {gen_server, call, [{nobody, Node}, hello]}}, teleport:gs_call({nobody, Node}, hello)),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Dead]) end),
    ?assertExit({noproc, {gen_server, call, [Dead, hello, 1000]}}, teleport:gs_call(Dead, hello, 1000)).

a_call_ends_with_the_servers_exit_reason(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    ?assertExit({{tired, "of it"}, {gen_server, call, [Server, _]}},
                teleport:gs_call(Server, {exit, {tired, "of it"}})).

a_call_takes_a_large_reply(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    {ok, Reply} = teleport:gs_call(Server, {bytes, 50 bsl 20}, 30000),
    ?assertEqual(50 bsl 20, byte_size(Reply)).

%% The server answers and ends at once: the reply wins.
a_reply_wins_over_the_end(Config) ->
    Node = ?config(node, Config),
    [begin
         Server = teleport_test_server:start_at(Node, undefined),
         ?assertEqual({ok, I}, teleport:gs_call(Server, {last, I}))
     end || I <- lists:seq(1, 50)],
    ?assertEqual([], teleport_test:mailbox()).

%% Casts, calls and messages of one process keep their order.
casts_arrive_like_otps(Config) ->
    Node = ?config(node, Config),
    _ = teleport_test_server:start_at(Node, server),
    To = {server, Node},
    [begin
         ok = teleport:cast(To, {note, {cast, I}}),
         ok = teleport:send(To, {note, {info, I}})
     end || I <- lists:seq(1, 100)],
    Expected = lists:append([[{cast, I}, {info, I}] || I <- lists:seq(1, 100)]),
    ?assertEqual(Expected, teleport:gs_call(To, notes)).

%% Monitors.

monitors_end_like_otps(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    [ByPid, ByName, Nobody] = [teleport:monitor(Ref) || Ref <- [Server, {server, Node}, {nobody, Node}]],
    ?assertEqual({'DOWN', Nobody, process, {nobody, Node}, noproc}, teleport_test:receive_one()),
    %% Behind the monitors.
    {ok, _} = teleport:gs_call(Server, {echo, x}),
    {ok, _} = teleport:gs_call({server, Node}, {echo, x}),
    exit(Server, kill),
    Downs = [teleport_test:receive_one(), teleport_test:receive_one()],
    ?assertEqual(lists:sort([{'DOWN', ByPid, process, Server, killed},
                             {'DOWN', ByName, process, {server, Node}, killed}]), lists:sort(Downs)).

an_ended_monitor_sends_no_down(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    Ended = teleport:monitor(Server),
    Kept = teleport:monitor(Server),
    true = teleport:demonitor(Ended),
    %% Behind the monitors.
    {ok, _} = teleport:gs_call(Server, {echo, x}),
    exit(Server, kill),
    ?assertEqual({'DOWN', Kept, process, Server, killed}, teleport_test:receive_one()),
    %% One that has ended, and one that waits in the mailbox.
    true = teleport:demonitor(Ended),
    Waiting = teleport:monitor(Server),
    teleport_test:eventually(fun() -> teleport_test:mailbox() =/= [] end),
    true = teleport:demonitor(Waiting),
    ?assertEqual([], teleport_test:mailbox()),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 0 end).

down_comes_after_what_was_sent(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    Large = binary:copy(<<1>>, 2000000),
    [begin
         Sender = erpc:call(Node, teleport_test, spawn_sender, [Self, [I, Large, {I, last}]]),
         Monitor = teleport:monitor(Sender),
         {ok, go} = {teleport:send(Sender, go), go},
         ?assertEqual(I, teleport_test:receive_one()),
         ?assertEqual(Large, teleport_test:receive_one()),
         ?assertEqual({I, last}, teleport_test:receive_one()),
         ?assertEqual({'DOWN', Monitor, process, Sender, done}, teleport_test:receive_one())
     end || I <- lists:seq(1, 20)].

%% Nothing is left of them, here or there.
callers_that_die_leave_nothing_behind(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    Callers = [spawn(fun() -> teleport:gs_call(Server, never, infinity) end) || _ <- lists:seq(1, 50)],
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 50 end),
    [exit(Caller, kill) || Caller <- Callers],
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 0 end),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 0 end).

a_relay_that_dies_ends_its_calls(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    Self = self(),
    {Caller, Monitor} = spawn_monitor(fun() ->
        Self ! {result, teleport_test:caught(fun() -> teleport:gs_call(Server, never, infinity) end)}
    end),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 1 end),
    Relays = erpc:call(Node, supervisor, which_children, [teleport_relay_sup]),
    [exit(Relay, kill) || {_, Relay, _, _} <- Relays],
    {result, {'EXIT', {{rejected, _}, _}}} = teleport_test:receive_one(),
    ?assertEqual({'DOWN', Monitor, process, Caller, normal}, teleport_test:receive_one()),
    %% New ones take over.
    Works = fun() -> try teleport:gs_call(Server, {echo, x}) =:= {ok, x} catch exit:{{rejected, _}, _} -> false end end,
    teleport_test:eventually(Works).

%% Nodes.

calls_work_after_the_manager_has_died(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual({ok, 1}, teleport:gs_call(Server, {echo, 1})),
    Manager = erpc:call(Node, erlang, whereis, [teleport_manager]),
    exit(Manager, kill),
    Works = fun() ->
        try teleport:gs_call(Server, {echo, 2}, 1000) =:= {ok, 2}
        catch exit:{_Reason, {gen_server, call, _}} -> false
        end
    end,
    teleport_test:eventually(Works),
    ?assertNotEqual(Manager, erpc:call(Node, erlang, whereis, [teleport_manager])).

calls_and_monitors_end_at_nodedown(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    Monitor = teleport:monitor(Server),
    Self = self(),
    _ = spawn(fun() -> Self ! {result, teleport_test:caught(fun() -> teleport:gs_call(Server, never, infinity) end)} end),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 2 end),
    erpc:cast(Node, erlang, halt, [137, [{flush, false}]]),
    Results = [teleport_test:receive_one(), teleport_test:receive_one()],
    ?assertEqual([{'DOWN', Monitor, process, Server, noconnection}], [Down || {'DOWN', _, _, _, _} = Down <- Results]),
    ?assertMatch([{'EXIT', {{nodedown, Node}, {gen_server, call, [Server, never, infinity]}}}],
                 [Result || {result, Result} <- Results]),
    teleport_test:eventually(fun() -> maps:get(peers, teleport:info()) =:= #{} end),
    ?assertMatch({error, {not_running, Node}}, teleport:send(Server, hello)).

a_restarted_node_is_another_one(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    Old = erpc:call(Node, erlang, whereis, [echo]),
    ok = teleport:send({echo, Node}, {self(), 1}),
    ?assertEqual({echo, 1}, teleport_test:receive_one()),
    teleport_test:stop_peer(?config(peer, Config)),
    [Name, _Host] = string:split(atom_to_list(Node), "@"),
    {Peer, Node} = teleport_test:start_peer(Name),
    ok = teleport_test:echo(Node, echo),
    ok = teleport:send({echo, Node}, {self(), 2}),
    ?assertEqual({echo, 2}, teleport_test:receive_one()),
    %% A pid of the node's earlier life is nobody's, though there may be one with the same numbers.
    ok = teleport:send(Old, {self(), 3}),
    ?assertExit({noproc, _}, teleport:gs_call(Old, hello)),
    ?assertEqual([], teleport_test:mailbox()),
    teleport_test:stop_peer(Peer).

what_is_refused_or_ends_is_counted(Config) ->
    Node = ?config(node, Config),
    ok = teleport:prime(Node),
    #{address := {Ip, Port}, handshakes_refused := Refused, sessions_ended := #{disconnected := Ended}} = Before = teleport:info(),
    %% On a busy machine one of any case before may have been slow.
    ?assertMatch(#{sessions_refused := 0, newcomers_dropped := #{full := 0, slow := _}}, Before),
    ?assertEqual([disconnected, gone, peer_gave_up, peer_shut_down, probe_unanswered, protocol_error, restarted, silent],
                 lists:sort(maps:keys(maps:get(sessions_ended, Before)))),
    ?assertMatch(#{control_lost := 0, connections_stalled := 0, connections_retired := 0, answers_refused := 0},
                 teleport:info(Node)),
    {ok, Stranger} = gen_tcp:connect(Ip, Port, []),
    ok = gen_tcp:send(Stranger, "GET / HTTP/1.1\r\n\r\n"),
    teleport_test:eventually(fun() -> maps:get(handshakes_refused, teleport:info()) =:= Refused + 1 end),
    ok = gen_tcp:close(Stranger),
    true = teleport_nif:disconnect(Node),
    teleport_test:eventually(fun() -> maps:get(disconnected, maps:get(sessions_ended, teleport:info())) =:= Ended + 1 end).
