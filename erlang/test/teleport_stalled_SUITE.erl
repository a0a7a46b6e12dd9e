%% Peers and processes that take nothing: what waits for them is bounded, or not, as promised, and holds up nobody else.
-module(teleport_stalled_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_stopped_peer_holds_up_no_other/1, a_slow_process_holds_up_no_other/1,
         asynchronous_sends_do_not_wait_and_keep_order/1, all_who_wait_are_told_of_a_peer_that_stays_stopped/1]).
-export([a_send_to_several_nodes_says_how_long_one_may_take/1, a_stopped_peer_is_not_waited_for/1,
         a_large_message_does_not_wait_for_a_busy_manager/1, a_stopped_peer_is_not_called_not_running/1]).

-define(PATIENCE, 30000).
-define(WINDOW, (16 bsl 20)).
-define(LARGE, (1 bsl 20)).
-define(SMALL, 10000).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [a_stopped_peer_holds_up_no_other, a_slow_process_holds_up_no_other, asynchronous_sends_do_not_wait_and_keep_order,
     all_who_wait_are_told_of_a_peer_that_stays_stopped, a_send_to_several_nodes_says_how_long_one_may_take,
     a_stopped_peer_is_not_waited_for, a_large_message_does_not_wait_for_a_busy_manager, a_stopped_peer_is_not_called_not_running].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    ok.

%% This node takes no part: what is measured at the sender is the sender's.
init_per_testcase(_Case, Config) ->
    [{SenderPeer, Sender}, {Peer, Node}, {OtherPeer, Other}] =
        [teleport_test:start_peer(peer:random_name(), [{peer_window, ?WINDOW}]) || _ <- [1, 2, 3]],
    OsPid = erpc:call(Node, os, getpid, []),
    [{peers, [SenderPeer, Peer, OtherPeer]}, {sender, Sender}, {node, Node}, {other, Other}, {os_pid, OsPid} | Config].

end_per_testcase(_Case, Config) ->
    %% It may be stopped still.
    teleport_test:signal(cont, ?config(os_pid, Config)),
    [teleport_test:stop_peer(Peer) || Peer <- ?config(peers, Config)].

a_stopped_peer_holds_up_no_other(Config) ->
    {Sender, Node, Other} = {?config(sender, Config), ?config(node, Config), ?config(other, Config)},
    [Sink, OtherSink] = [teleport_test:sink(N) || N <- [Node, Other]],
    Server = teleport_test_server:start_at(Other, server),
    [ok = erpc:call(Sender, teleport, prime, [N]) || N <- [Node, Other]],
    quiet(Sender, Node),
    Before = binaries(Sender),
    teleport_test:signal(stop, ?config(os_pid, Config)),

    %% Until there is room for neither large nor small ones.
    [Large, Small] = [erpc:call(Sender, fun() -> offer(Sink, Size) end) || Size <- [?LARGE, ?SMALL]],
    ct:log("accepted: ~w large ones, ~w small ones", [Large, Small]),
    Accepted = Large * ?LARGE + Small * ?SMALL,
    ?assert(Large > 0 andalso Small > 0 andalso Accepted =< ?WINDOW),
    within(?WINDOW, Sender, Before),
    #{bytes_in_flight := InFlight} = erpc:call(Sender, teleport, info, []),
    ?assert(Accepted =< InFlight andalso InFlight =< ?WINDOW),

    %% Those who do not refuse to wait, wait, each with its message.
    Waiting = 8,
    Writers = [spawn(Sender, fun() -> teleport_test:numbered(Sink, 1, 3, {?LARGE}) end) || _ <- lists:seq(1, Waiting)],
    teleport_test:eventually(fun() -> waiting(Sender, Node) =:= Waiting end),
    within(?WINDOW + Waiting * ?LARGE, Sender, Before),

    %% Others are served, with more than a window.
    [?assertEqual({ok, I}, erpc:call(Sender, teleport, gs_call, [Server, {echo, I}])) || I <- lists:seq(1, 50)],
    Served = 3 * ?WINDOW div ?LARGE,
    ok = erpc:call(Sender, teleport_test, numbered, [OtherSink, 1, Served, {?LARGE, ?SMALL, 1}]),
    ?assertEqual([], teleport_test:arrived([OtherSink], Served)),
    ?assertEqual(Waiting, waiting(Sender, Node)),
    [?assert(erpc:call(Sender, erlang, is_process_alive, [Writer])) || Writer <- Writers],

    teleport_test:signal(cont, ?config(os_pid, Config)),
    Total = Large + Small + Waiting * 3,
    ?assertEqual([], teleport_test:arrived([Sink], Total)),
    quiet(Sender, Node),
    ?assertEqual([], teleport_test:arrived([Sink], Total)),
    ?assertMatch(#{bytes_in_flight := 0}, erpc:call(Sender, teleport, info, [])),
    %% It was the same session all the time.
    ?assertMatch(#{Sender := #{messages_received := Total}}, maps:get(peers, erpc:call(Node, teleport, info, []))).

%% Mailboxes have no bounds, as ever: what a process does not take stays in its own.
a_slow_process_holds_up_no_other(Config) ->
    {Sender, Node} = {?config(sender, Config), ?config(node, Config)},
    [Slow, Quick] = [teleport_test:sink(Node) || _ <- [1, 2]],
    Self = self(),
    Suspender = spawn(Node, fun() -> true = erlang:suspend_process(Slow), Self ! suspended, receive resume -> ok end end),
    receive suspended -> ok end,
    Messages = 3 * ?WINDOW div ?LARGE,
    ok = erpc:call(Sender, teleport_test, numbered, [Slow, 1, Messages, {?LARGE}]),
    ok = erpc:call(Sender, teleport_test, numbered, [Quick, 1, 10, {?LARGE, 1}]),
    ?assertEqual([], teleport_test:arrived([Quick], 10)),
    Queue = fun() -> erpc:call(Node, erlang, process_info, [Slow, message_queue_len]) end,
    teleport_test:eventually(fun() -> Queue() =:= {message_queue_len, Messages} end),
    Suspender ! resume,
    ?assertEqual([], teleport_test:arrived([Slow], Messages)).

%% They do not wait for room, and keep their order, also with those that do.
asynchronous_sends_do_not_wait_and_keep_order(Config) ->
    {Sender, Node} = {?config(sender, Config), ?config(node, Config)},
    Sink = teleport_test:sink(Node),
    ok = erpc:call(Sender, teleport, prime, [Node]),
    teleport_test:signal(stop, ?config(os_pid, Config)),
    Count = 3 * ?WINDOW div ?LARGE,
    Send = fun(Range, Send) -> [ok = Send(Sink, teleport_test:number(self(), I, ?LARGE)) || I <- Range] end,
    Self = self(),
    Ways = [fun() -> Send(lists:seq(1, Count), fun(To, Message) -> teleport:send(To, Message, [async]) end) end]
        ++ [fun() ->
                _ = process_flag(async_dist, true),
                Send(lists:seq(1, Count), fun teleport:send/2)
            end || follows_the_flag()],
    Writers = [spawn(Sender, fun() ->
        Way(),
        Self ! {self(), sent},
        Send([Count + 1], fun teleport:send/2)
    end) || Way <- Ways],
    %% The peer has taken nothing of that.
    [receive {Writer, sent} -> ok end || Writer <- Writers],
    ?assert(waiting(Sender, Node) > Count div 2),
    teleport_test:signal(cont, ?config(os_pid, Config)),
    ?assertEqual([], teleport_test:arrived([Sink], (Count + 1) * length(Ways))).

%% From OTP 25.3 on.
follows_the_flag() ->
    try process_flag(async_dist, false) of _ -> true catch error:badarg -> false end.


%% All who wait are told; distributed Erlang, with its own ticktime, keeps its connections.
all_who_wait_are_told_of_a_peer_that_stays_stopped(Config) ->
    {Sender, Node} = {?config(sender, Config), ?config(node, Config)},
    Sink = teleport_test:sink(Node),
    Server = teleport_test_server:start_at(Node, server),
    Self = self(),
    _ = spawn(Sender, fun() ->
        Self ! {called, teleport_test:caught(fun() -> teleport:gs_call(Server, never, infinity) end)}
    end),
    _ = spawn(Sender, fun() -> _ = teleport:monitor(Server), Self ! {down, teleport_test:receive_one()} end),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 2 end),
    quiet(Sender, Node),
    teleport_test:signal(stop, ?config(os_pid, Config)),
    Accepted = erpc:call(Sender, fun() -> offer(Sink, ?LARGE) end),
    _ = spawn(Sender, fun() -> Self ! {sent, teleport:send(Sink, teleport_test:number(self(), 1, ?LARGE))} end),
    teleport_test:eventually(fun() -> waiting(Sender, Node) =:= 1 end),
    %% Not before all of them wait: the session ends soon.
    ok = erpc:call(Sender, teleport_nif, net_ticktime, [4]),
    Told = [receive {What, Is} -> Is after ?PATIENCE -> error({never, What}) end || What <- [called, down, sent]],
    ?assertMatch([{'EXIT', {{nodedown, Node}, {gen_server, call, [Server, never, infinity]}}},
                  {'DOWN', _, process, Server, noconnection},
                  {error, nodedown}], Told),
    ok = erpc:call(Sender, teleport_nif, net_ticktime, [60]),
    ?assertEqual([], erpc:call(Sender, teleport, nodes, [])),
    ?assert(lists:member(Node, erpc:call(Sender, erlang, nodes, []))),

    %% What is sent from now on goes by a new session.
    teleport_test:signal(cont, ?config(os_pid, Config)),
    Again = teleport_test:sink(Node),
    ok = erpc:call(Sender, teleport_test, numbered, [Again, 1, 10, {?LARGE, 1}]),
    ?assertEqual([], teleport_test:arrived([Again], 10)),
    %% What was unconfirmed may have arrived, but nothing twice.
    {Count, Wrong} = teleport_test:report(Sink),
    ?assertEqual([], Wrong),
    ?assert(Count =< Accepted).

%% The first large message needs a connection: where the peer is is known by then.
a_large_message_does_not_wait_for_a_busy_manager(Config) ->
    {Sender, Node} = {?config(sender, Config), ?config(node, Config)},
    Server = teleport_test_server:start_at(Node, server),
    {ok, small} = erpc:call(Sender, teleport, gs_call, [Server, {echo, small}]),
    ok = erpc:call(Node, sys, suspend, [teleport_manager]),
    Large = binary:copy(<<"large">>, ?LARGE),
    ?assertEqual({ok, Large}, erpc:call(Sender, teleport, gs_call, [Server, {echo, Large}, 4000])),
    ok = erpc:call(Node, sys, resume, [teleport_manager]).

%% Teleport may well run there.
a_stopped_peer_is_not_called_not_running(Config) ->
    {Sender, Node} = {?config(sender, Config), ?config(node, Config)},
    teleport_test:signal(stop, ?config(os_pid, Config)),
    ?assertMatch({error, {connect, _Text}}, erpc:call(Sender, teleport, send, [{server, Node}, hello])).

%% A send to several nodes says how long one of them may take.
a_send_to_several_nodes_says_how_long_one_may_take(Config) ->
    {Sender, Node, Other} = {?config(sender, Config), ?config(node, Config), ?config(other, Config)},
    Sink = teleport_test:sink(Node),
    [Held, Server] = [teleport_test_server:start_at(N, server) || N <- [Node, Other]],
    [ok = erpc:call(Sender, teleport, prime, [N]) || N <- [Node, Other]],
    quiet(Sender, Node),
    teleport_test:signal(stop, ?config(os_pid, Config)),
    _ = erpc:call(Sender, fun() -> [offer(Sink, Size) || Size <- [?LARGE, ?SMALL]] end),
    {Results, Mailbox} = erpc:call(Sender, fun() ->
        Note = fun(Number) -> {note, Number, binary:copy(<<1>>, ?SMALL)} end,
        Options = [{timeout, 100}],
        {[teleport:abcast([Node, Other, nobody@nowhere], server, Note(1), [noconnect | Options]),
          teleport:abcast([Node, Other, Node], server, Note(2), Options),
          teleport:abcast([Node, Other], server, Note(3), [nosuspend]),
          teleport:cast(Held, Note(4), Options),
          teleport:cast(Server, Note(4), Options),
          teleport:send({server, Node}, Note(5), [{ack, tag} | Options]),
          teleport:send({server, nobody@nowhere}, Note(5), [noconnect]),
          teleport:cast({server, nobody@nowhere}, Note(5), [noconnect, nosuspend])],
         teleport_test:mailbox()}
    end),
    ?assertEqual([[{Node, {error, timeout}}, {Other, ok}, {nobody@nowhere, {error, noconnect}}],
                  [{Node, {error, timeout}}, {Other, ok}, {Node, {error, timeout}}],
                  [{Node, {error, busy}}, {Other, ok}],
                  {error, timeout}, ok, {error, timeout}, {error, noconnect}, {error, noconnect}], Results),
    ?assertEqual([], Mailbox),
    %% The others have theirs, in their order.
    ?assertEqual([1, 2, 3], erpc:call(Sender, teleport, gs_call, [{server, Other}, notes]) -- [4]),
    teleport_test:signal(cont, ?config(os_pid, Config)),
    quiet(Sender, Node),
    ?assertEqual([], erpc:call(Sender, teleport, gs_call, [Held, notes])),
    teleport_test:eventually(fun() -> maps:get(bytes_in_flight, erpc:call(Sender, teleport, info, [])) =:= 0 end),
    %% What is no node is found before anything is sent.
    [?assertMatch({error, _}, erpc:call(Sender, teleport_test, outcome, [teleport, abcast, [Nodes, server, {note, 6} | More]]))
     || Nodes <- [[Other, 1], [Other | Node]], More <- [[], [[nosuspend]]]],
    ?assertNot(lists:member(6, erpc:call(Sender, teleport, gs_call, [Server, notes]))),
    [?assertMatch({error, badarg}, erpc:call(Sender, teleport_test, outcome, [teleport, send, [Server, {note, 6}, [Option]]]))
     || Option <- [{timeout, -1}, {timeout, soon}, {timeout, 16#100000000}, connect]].

%% What is the same for all nodes does not wait for the one that takes nothing, and that one has it later, in order.
a_stopped_peer_is_not_waited_for(Config) ->
    {Sender, Node, Other} = {?config(sender, Config), ?config(node, Config), ?config(other, Config)},
    Sink = teleport_test:sink(Node),
    [Held, Server] = [teleport_test_server:start_at(N, server) || N <- [Node, Other]],
    [ok = erpc:call(Sender, teleport, prime, [N]) || N <- [Node, Other]],
    quiet(Sender, Node),
    teleport_test:signal(stop, ?config(os_pid, Config)),
    {_Accepted, Applied, Mailbox} = erpc:call(Sender, fun() ->
        Accepted = [offer(Sink, Size) || Size <- [?LARGE, ?SMALL]],
        Large = binary:copy(<<1>>, ?SMALL),
        Applied = teleport_erpc:multicall([Node, Other], erlang, byte_size, [Large], 5000),
        [abcast = teleport:abcast([Node, Other], server, {note, Number, Large}) || Number <- [1, 2, 3]],
        ok = teleport_erpc:multicast([Node, Other], gen_server, cast, [server, {note, 4}]),
        {Accepted, Applied, teleport_test:mailbox()}
    end, ?PATIENCE),
    ?assertEqual([{error, {erpc, timeout}}, {ok, ?SMALL}], Applied),
    ?assertEqual([], Mailbox),
    teleport_test:eventually(fun() -> erpc:call(Sender, teleport, gs_call, [Server, notes]) =:= [1, 2, 3, 4] end),
    teleport_test:signal(cont, ?config(os_pid, Config)),
    teleport_test:eventually(fun() -> erpc:call(Sender, teleport, gs_call, [Held, notes]) =:= [1, 2, 3, 4] end).

%% Sends numbered messages until there is no room; how many there was room for. Then goes on trying for a while: none of that
%% is kept.
offer(Sink, Size) ->
    Accepted = offer(Sink, Size, 1),
    [{error, busy} = try_send(Sink, Accepted + 1, Size) || _ <- lists:seq(1, 50)],
    Accepted.

offer(Sink, Size, Number) ->
    case try_send(Sink, Number, Size) of
        ok -> offer(Sink, Size, Number + 1);
        {error, busy} -> Number - 1
    end.

try_send(Sink, Number, Size) ->
    teleport:send(Sink, teleport_test:number(self(), Number, Size), [nosuspend]).

waiting(Node, Peer) ->
    #{peers := #{Peer := #{waiting := Waiting}}} = erpc:call(Node, teleport, info, []),
    Waiting.

quiet(Node, Peer) ->
    teleport_test:eventually(fun() ->
        #{peers := #{Peer := #{unconfirmed := Unconfirmed}}} = erpc:call(Node, teleport, info, []),
        Unconfirmed =:= 0
    end).

%% What the virtual machine holds in binaries, which messages are, after everybody has let go of what is not needed.
binaries(Node) ->
    erpc:call(Node, fun() ->
        [erlang:garbage_collect(Process) || Process <- processes()],
        erlang:memory(binary)
    end).

%% Bytes of messages, and a tenth.
within(Bytes, Node, Before) ->
    Now = binaries(Node),
    ct:log("binaries: ~w bytes more, of ~w", [Now - Before, Bytes]),
    ?assert(Now - Before =< Bytes + Bytes div 10).
