%% Nodes whose program is there, and whose virtual machine is not, or is about to end: the engine's threads must not answer for it, and
%% what it has sent is on its way.
-module(teleport_pulse_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_node_that_writes_its_crash_dump_is_down/1, a_node_whose_schedulers_hang_is_down/1, an_engine_without_a_pulse_begins_anew/1,
         an_engine_that_ends_leaves_nothing/1, what_was_sent_before_a_stop_arrives/1,
         what_was_sent_over_a_carried_connection_before_a_halt_arrives/1, a_halt_waits_for_no_stopped_peer/1]).

-import(teleport_test_carrier, [carrier/0, start/1, start_in/2, with/2, name/1, at/2, at/4, is_carried/2, watcher/2, told/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [a_node_that_writes_its_crash_dump_is_down, a_node_whose_schedulers_hang_is_down, an_engine_without_a_pulse_begins_anew,
     an_engine_that_ends_leaves_nothing, what_was_sent_before_a_stop_arrives,
     what_was_sent_over_a_carried_connection_before_a_halt_arrives, a_halt_waits_for_no_stopped_peer].

init_per_suite(Config) ->
    ok = teleport_test:epmd(),
    Config.

end_per_suite(_Config) ->
    ok.

%% It is written into a pipe that nobody reads, so it takes for ever.
a_node_that_writes_its_crash_dump_is_down(Config) ->
    Pipe = filename:join(?config(priv_dir, Config), "crash.dump"),
    "" = os:cmd("mkfifo " ++ Pipe),
    with([carrier(), start_in([{"ERL_CRASH_DUMP", Pipe}], ["-proto_dist", "teleport"])], fun([A, B]) ->
        is_down_without_ticks(A, B, fun() -> erlang:halt("a crash of the test") end)
    end).

a_node_whose_schedulers_hang_is_down(_Config) ->
    Flags = ["-proto_dist", "teleport", "-kernel", "net_ticktime", "4"],
    with([start(Flags), start(Flags)], fun([A, B]) ->
        is_down_without_ticks(A, B, fun() ->
            erts_debug:set_internal_state(available_internal_state, true),
            erts_debug:set_internal_state(block, 600_000)
        end)
    end).

%% A is told that B is down after `Stop', with the program of B still there.
is_down_without_ticks(A, B, Stop) ->
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    ?assert(is_carried(A, B)),
    Watcher = watcher(A, B),
    Program = at(B, os, getpid, []),
    try
        _ = at(B, erlang, spawn, [Stop]),
        ?assertEqual(nodedown, told(Watcher)),
        ?assert(filelib:is_dir("/proc/" ++ Program))
    after
        teleport_test:signal(kill, Program)
    end.

%% The manager gets to know.
an_engine_without_a_pulse_begins_anew(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        Watcher = watcher(A, B),
        [Answers] = at(B, fun answering/0),
        true = at(B, erlang, exit, [Answers, kill]),
        ?assertEqual(nodedown, told(Watcher)),
        teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(B)]) =:= pong end),
        ?assert(is_carried(A, B)),
        ?assertMatch([_], at(B, fun answering/0))
    end).

an_engine_that_ends_leaves_nothing(_Config) ->
    with([start([])], fun([A]) ->
        {ok, _} = at(A, application, ensure_all_started, [teleport]),
        ?assertMatch([_], at(A, fun answering/0)),
        ok = at(A, application, stop, [teleport]),
        teleport_test:eventually(fun() -> at(A, fun answering/0) =:= [] end),
        ok = at(A, application, start, [teleport]),
        ?assertMatch([_], at(A, fun answering/0))
    end).

%% The processes here that answer an engine.
answering() ->
    [Pid || Pid <- erlang:processes(), erlang:process_info(Pid, initial_call) =:= {initial_call, {teleport_pulse, open, 1}}].

%% By `halt' the connection of distributed Erlang is closed first, whose nodedown ends the session at the other node.
what_was_sent_before_a_stop_arrives(_Config) ->
    %% For as long as a busy machine may take.
    Running = fun() -> running(["-teleport", "stop_timeout", "20000"]) end,
    with([Running(), Running()], fun([A, B]) ->
        ?assertEqual(20, arrived_before(A, B, fun teleport:send/2, fun() -> init:stop() end))
    end).

%% But for what the virtual machine has not handed over: it keeps back up to a megabyte (`+zdbbl'). Over inet_tcp some is lost like
%% that, too.
what_was_sent_over_a_carried_connection_before_a_halt_arrives(_Config) ->
    Send = fun(To, Message) -> To ! Message, ok end,
    [with([carrier(), carrier()], fun([A, B]) ->
        Arrived = arrived_before(A, B, Send, Halt),
        ?assert(Arrived >= 10, {arrived, Arrived})
    end)
     || Halt <- [fun() -> erlang:halt(0) end, fun() -> init:stop() end]].

%% Longer than for so many seconds.
a_halt_waits_for_no_stopped_peer(_Config) ->
    with([running([]), running([])], fun([A, B]) ->
        ok = sink(A),
        ok = at(B, teleport, send, [{sink, name(A)}, 1]),
        [Stopped, Halting] = [at(Node, os, getpid, []) || Node <- [A, B]],
        ok = teleport_test:signal(stop, Stopped),
        try
            _ = at(B, erlang, spawn, [fun() -> ok = teleport:send({sink, name(A)}, 2), erlang:halt(0, [{flush, false}]) end]),
            teleport_test:eventually(fun() -> not filelib:is_dir("/proc/" ++ Halting) end)
        after
            ok = teleport_test:signal(cont, Stopped)
        end
    end).

running(Flags) ->
    Node = start(Flags),
    {ok, _} = at(Node, application, ensure_all_started, [teleport]),
    Node.

%% How many of 20 messages, of 100 KB each, that B sends to A before `Halt' have arrived when A has its nodedown.
arrived_before(A, B, Send, Halt) ->
    ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
    ok = sink(A),
    Watcher = watcher(A, B),
    To = {sink, name(A)},
    ok = at(B, fun() -> Send(To, 0) end),
    _ = at(B, erlang, spawn, [fun() -> [ok = Send(To, {N, binary:copy(<<N>>, 100000)}) || N <- lists:seq(1, 20)], Halt() end]),
    ?assertEqual(nodedown, told(Watcher)),
    at(A, fun() -> sink ! {get, self()}, receive {sink, Messages} -> length([N || {N, <<N, _/binary>>} <- Messages]) end end).

%% A process that keeps what it is sent.
sink(Node) ->
    Keep = fun Keep(Messages) -> receive {get, Pid} -> Pid ! {sink, Messages}; Message -> Keep([Message | Messages]) end end,
    true = at(Node, fun() -> register(sink, spawn(fun() -> Keep([]) end)) end),
    ok.
