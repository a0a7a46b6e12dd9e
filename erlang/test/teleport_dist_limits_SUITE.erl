%% What a carrier bounds, and what it does not: messages, what waits for peers, and handshakes of peers that mean harm.
-module(teleport_dist_limits_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_message_over_max_message_is_carried/1, what_waits_for_all_peers/1, small_messages_are_not_pulled_ahead/1,
         who_does_not_wait_is_refused_and_who_need_not_goes_on/1, too_long_handshakes_end_the_channel/1,
         handshakes_that_stall_are_bounded/1, a_plain_node_that_comes_at_the_limit_of_processes_ends_nothing/1]).

-import(teleport_test_carrier, [carrier/0, plain/0, start/1, with/2, name/1, at/2, at/4, is_carried/2, watcher/2, told/1,
                                told_of/2, next/0]).

-define(PATIENCE, 30000).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [a_message_over_max_message_is_carried, what_waits_for_all_peers, small_messages_are_not_pulled_ahead,
     who_does_not_wait_is_refused_and_who_need_not_goes_on, too_long_handshakes_end_the_channel,
     handshakes_that_stall_are_bounded, a_plain_node_that_comes_at_the_limit_of_processes_ends_nothing].

init_per_suite(Config) ->
    ok = teleport_test:epmd(),
    Config.

end_per_suite(_Config) ->
    ok.

%% As with `inet_tcp' a message may be of any size, whatever the others may be.
a_message_over_max_message_is_carried(_Config) ->
    Start = fun() -> start(["-proto_dist", "teleport", "-teleport", "max_message", "1048576"]) end,
    with([Start(), Start()], fun([A, B]) ->
        Watcher = watcher(A, B),
        at(A, fun() ->
            Echo = spawn(name(B), teleport_test_carrier, echo, []),
            [begin
                 Term = {Size, binary:copy(<<Size:64>>, Size div 8 + 1)},
                 Echo ! {self(), Term},
                 ?assertEqual({Echo, Term}, next())
             end || Size <- [1048576, 10 * 1048576, 100 * 1048576]]
        end),
        ?assertEqual(nodeup, told(Watcher)),
        ?assertMatch([], lists:delete(nodeup, at(A, fun() -> told_of(element(2, Watcher), name(B)) end))),
        %% That of the application's functions holds.
        [ok = at(Node, teleport, start, []) || Node <- [A, B]],
        ?assertMatch({error, {too_large, _, 1048576}},
                     at(A, fun() -> teleport:send({nobody, name(B)}, binary:copy(<<1>>, 2 * 1048576)) end))
    end).

%% Peers that stand still: what is pulled out of the virtual machine for them is bounded for all together.
what_waits_for_all_peers(_Config) ->
    with([carrier() || _ <- lists:seq(1, 8)], fun([A | Peers]) ->
        Pids = [begin
            ?assertEqual(pong, at(A, net_adm, ping, [name(Peer)])),
            at(Peer, os, getpid, [])
        end || Peer <- Peers],
        [teleport_test:signal(stop, Pid) || Pid <- Pids],
        Names = [name(Peer) || Peer <- Peers],
        Senders = at(A, fun() ->
            Message = binary:copy(<<7>>, 1048576),
            Sending = fun(Node) -> fun() -> [{nobody, Node} ! Message || _ <- lists:seq(1, 200)] end end,
            [spawn(Sending(Node)) || Node <- Names]
        end),
        Waiting = fun() ->
            #{peers := Known} = at(A, teleport, info, []),
            lists:sum([maps:get(waiting, maps:get(Node, Known)) || Node <- Names])
        end,
        teleport_test:eventually(fun() ->
            Before = Waiting(),
            [{status, suspended}] =:= lists:usort([at(A, erlang, process_info, [Sender, status]) || Sender <- Senders])
                andalso Before > 400 andalso Waiting() =:= Before
        end),
        %% In MiB: what all may have, and one pull of each.
        ?assert(Waiting() =< 512 + length(Peers)),
        [teleport_test:signal(cont, Pid) || Pid <- Pids],
        teleport_test:eventually(fun() -> not lists:any(fun(Sender) -> at(A, erlang, is_process_alive, [Sender]) end, Senders) end),
        teleport_test:eventually(fun() -> Waiting() =:= 0 end)
    end).

%% Where the window is full of small messages the virtual machine's queue keeps the others: nothing small would go past them.
small_messages_are_not_pulled_ahead(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        Sink = at(B, fun() -> spawn(fun() -> sink(0) end) end),
        {Sender, Before} = flooded(A, B, Sink, fun(Sender) ->
            %% Those, and what was pulled together with the last of them.
            ?assert(waiting(A, B) =< 64 + 256),
            {Sender, sent(A)}
        end),
        ct:log("~b messages were sent", [Before]),
        ?assert(Before < 100000),
        teleport_test:eventually(fun() -> sent(A) > Before + 100000 end),
        true = at(A, erlang, exit, [Sender, kill]),
        teleport_test:eventually(fun() -> not at(A, erlang, is_process_alive, [Sender]) end),
        %% The one that it was at may have gone out.
        Numbers = sent(A),
        teleport_test:eventually(fun() -> lists:member(at(B, fun() -> count(Sink) end), [Numbers, Numbers + 1]) end),
        teleport_test:eventually(fun() -> waiting(A, B) =:= 0 end)
    end).

%% What senders are told of a full queue is what they are told over `inet_tcp'.
who_does_not_wait_is_refused_and_who_need_not_goes_on(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        Monitor = at(A, fun() ->
            Seen = spawn(fun() ->
                receive {monitor, Busy, busy_dist_port, _} -> receive {who, From} -> From ! {busy, Busy} end end
            end),
            undefined = erlang:system_monitor(Seen, [busy_dist_port]),
            Seen
        end),
        Sink = at(B, fun() -> spawn(fun() -> sink(0) end) end),
        To = {nobody, name(B)},
        flooded(A, B, Sink, fun(Sender) ->
            ?assertEqual(nosuspend, at(A, erlang, send, [To, hello, [nosuspend]])),
            ?assertEqual(false, at(A, erlang, send_nosuspend, [To, hello])),
            %% From 25.3 on.
            at(A, fun() ->
                try process_flag(async_dist, true) of
                    false -> hello = erlang:send(To, hello)
                catch error:badarg -> none
                end
            end),
            ?assertEqual([{status, suspended}], at(A, erlang, process_info, [Sender, [status]])),
            ?assertEqual({busy, Sender}, at(A, fun() -> Monitor ! {who, self()}, next() end))
        end),
        teleport_test:eventually(fun() -> at(A, erlang, send, [To, hello, [nosuspend]]) =:= ok end)
    end).

%% A process at A sends numbers to a process at B, which stands still, until it is suspended and nothing moves any more. Does something
%% with it then, and lets B go on.
flooded(A, B, Sink, Do) ->
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    BPid = at(B, os, getpid, []),
    teleport_test:signal(stop, BPid),
    try
        Sender = at(A, fun() ->
            Sent = counters:new(1, []),
            ok = persistent_term:put(?MODULE, Sent),
            spawn(fun() -> number(Sink, Sent, 1) end)
        end),
        Still = fun() -> {at(A, erlang, process_info, [Sender, status]), sent(A), waiting(A, B)} end,
        teleport_test:eventually(fun() ->
            {Status, _, Waiting} = Before = Still(),
            Status =:= {status, suspended} andalso Waiting > 64 andalso Still() =:= Before
        end),
        Do(Sender)
    after
        teleport_test:signal(cont, BPid)
    end.

sent(A) ->
    at(A, fun() -> counters:get(persistent_term:get(?MODULE), 1) end).

waiting(A, B) ->
    #{peers := Known} = at(A, teleport, info, []),
    maps:get(waiting, maps:get(name(B), Known)).

%% Whether they come with the handshake or later, more or longer packets than a handshake has end the channel.
too_long_handshakes_end_the_channel(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ok = at(A, teleport_test_log, note, []),
        Said = fun() -> at(A, teleport_test_log, count, ["more in its handshake"]) end,
        %% The other one has nobody who would answer.
        ok = at(A, sys, suspend, [net_kernel]),
        Sent = fun(Packets, Patience) ->
            at(B, fun() ->
                Channel = channel(name(A)),
                {[], false} = teleport_nif:carrier_own(Channel),
                [ok = teleport_nif:carrier_packet(Channel, Packet) || Packet <- Packets],
                receive {teleport_carrier, closed} -> closed after Patience -> open end
            end)
        end,
        ?assertEqual(open, Sent(lists:duplicate(16, binary:copy(<<0>>, 65535)), 2000)),
        ?assertEqual(0, Said()),
        ?assertEqual(closed, Sent([binary:copy(<<0>>, 65536)], ?PATIENCE)),
        teleport_test:eventually(fun() -> Said() =:= 1 end),
        ?assertEqual(closed, Sent(lists:duplicate(17, <<0>>), ?PATIENCE)),
        ok = at(A, sys, resume, [net_kernel]),
        %% Of a connection that is up, and its process would not take them.
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        Watcher = watcher(A, B),
        at(B, fun() ->
            Channel = channel_of(name(A)),
            [teleport_nif:carrier_packet(Channel, <<0>>) || _ <- lists:seq(1, 16)]
        end),
        ?assertEqual(nodedown, told(Watcher)),
        %% The other node hears of it later.
        teleport_test:eventually(fun() -> at(B, net_adm, ping, [name(A)]) =:= pong end)
    end).

handshakes_that_stall_are_bounded(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ok = at(A, teleport_test_log, note, []),
        ok = at(A, sys, suspend, [net_kernel]),
        Begun = at(B, fun() ->
            Self = self(),
            %% One after the other: a channel that is begun behind a later one is none.
            [begin
                 spawn(fun() ->
                     Channel = channel(name(A)),
                     {[], false} = teleport_nif:carrier_own(Channel),
                     ok = teleport_nif:carrier_packet(Channel, <<>>),
                     Self ! begun,
                     receive {teleport_carrier, closed} -> Self ! closed end,
                     receive after infinity -> Channel end
                 end),
                 receive begun -> ok after ?PATIENCE -> error(not_begun) end
             end || _ <- lists:seq(1, 20)],
            [closed = next() || _ <- lists:seq(1, 16)],
            receive closed -> more after 500 -> four end
        end),
        ?assertEqual(four, Begun),
        %% They are closed before it is said.
        teleport_test:eventually(fun() -> at(A, teleport_test_log, count, ["it has begun others"]) =:= 1 end),
        %% When those have ended there is room for others.
        ok = at(A, sys, resume, [net_kernel]),
        teleport_test:eventually(fun() -> at(B, net_adm, ping, [name(A)]) =:= pong end),
        ?assert(is_carried(A, B))
    end).

%% A process that asks it whether it carries is not to be had.
a_plain_node_that_comes_at_the_limit_of_processes_ends_nothing(_Config) ->
    with([start(["-proto_dist", "teleport", "+P", "1024"]), plain()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        %% OTP itself needs a process for the connection: so it is there, and said to have come when there is none.
        Answer = at(A, fun() ->
            Manager = whereis(teleport_manager),
            {Filler, Monitor} = spawn_monitor(fun() -> fill([]) end),
            teleport_test:eventually(fun() -> erlang:system_info(process_count) >= erlang:system_info(process_limit) end),
            Manager ! {nodeup, name(B), []},
            Answered = try gen_server:call(Manager, nothing) catch exit:Reason -> Reason end,
            Filler ! stop,
            receive {'DOWN', Monitor, process, Filler, normal} -> Answered end
        end),
        ?assertEqual({error, badarg}, Answer)
    end).

%% At nodes.

%% Takes all processes that there are, until it is told to stop.
fill(Fillers) ->
    try spawn(fun() -> receive stop -> ok end end) of
        Filler -> fill([Filler | Fillers])
    catch
        error:system_limit ->
            %% Each attempt is an error in the log of the virtual machine.
            receive
                stop -> [exit(Filler, kill) || Filler <- Fillers], ok
            after 1 -> fill(Fillers)
            end
    end.

number(Sink, Sent, N) ->
    Sink ! N,
    ok = counters:add(Sent, 1, 1),
    number(Sink, Sent, N + 1).

%% Takes numbers, one behind the other.
sink(Last) ->
    receive
        {count, From} -> From ! {count, Last}, sink(Last);
        N when N =:= Last + 1 -> sink(N)
    end.

count(Sink) ->
    Sink ! {count, self()},
    receive {count, N} -> N end.

%% A channel to a node, for whom it was not opened by distributed Erlang.
channel(Node) ->
    Tag = make_ref(),
    waiting = teleport_nif:carrier_connect(Node, Tag),
    receive {teleport_sent, Tag, {ok, Channel}} -> Channel end.

%% That of distributed Erlang's connection: what its process asks for data.
channel_of(Node) ->
    {Node, Controller} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    {links, Links} = process_info(Controller, links),
    1 = erlang:trace_pattern({teleport_nif, carrier_take, 1}, true, []),
    [1 = erlang:trace(Pid, true, [call]) || Pid <- Links, is_pid(Pid)],
    Asked = spawn_request(Node, erlang, node, []),
    receive {trace, _Pid, call, {teleport_nif, carrier_take, [Channel]}} -> ok end,
    [1 = erlang:trace(Pid, false, [call]) || Pid <- Links, is_pid(Pid)],
    receive {spawn_reply, Asked, ok, _} -> Channel end.
