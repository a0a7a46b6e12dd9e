%% While the application stops it still delivers what it has accepted, and takes answers; and nobody is told anything afterwards.
-module(teleport_drain_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_call_that_times_out_while_it_drains_is_cancelled/1, callers_that_end_while_it_drains/1,
         begun_for_a_server_while_it_drains/1]).
-export([calls_that_time_out_at_restarts_end_once/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [a_call_that_times_out_while_it_drains_is_cancelled, callers_that_end_while_it_drains,
     begun_for_a_server_while_it_drains, calls_that_time_out_at_restarts_end_once].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    _ = application:stop(teleport),
    _ = application:unload(teleport),
    ok.

%% Cancelled is cancelled: the mailbox stays clean although the reply, and the end of the session, are still to come.
a_call_that_times_out_while_it_drains_is_cancelled(_Config) ->
    ok = teleport_test:start_here([{stop_timeout, 60000}]),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    [begin
        teleport_test:eventually(fun() -> works(Server) end),
        OsPid = erpc:call(Node, os, getpid, []),
        ok = teleport_test:signal(stop, OsPid),
        Calls = [teleport:send_request(Server, {echo, I}) || I <- lists:seq(1, 20)],
        Monitor = teleport:monitor(Server),
        Stopping = begin_to_stop(),
        [?assertEqual(timeout, teleport:receive_response(Call, 0)) || Call <- Calls],
        true = teleport:demonitor(Monitor),
        ok = teleport_test:signal(cont, OsPid),
        ok = stopped(Stopping),
        ?assertEqual([], teleport_test:mailbox()),
        ok = teleport_test:start_here([{stop_timeout, 60000}]),
        ?assertMatch(#{waiting_for := 0}, teleport:info())
    end || _ <- lists:seq(1, 3)],
    teleport_test:stop_peer(Peer),
    ok = teleport_test:stop_here().

%% What they waited for is ended at the peer too.
callers_that_end_while_it_drains(_Config) ->
    ok = teleport_test:start_here([{stop_timeout, 60000}]),
    {Peer, Node} = teleport_test:start_peer(),
    {OtherPeer, Other} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    ?assert(works(Server)),
    Self = self(),
    {Caller, Monitor} = spawn_monitor(fun() ->
        _ = [teleport:send_request(Server, never) || _ <- lists:seq(1, 10)],
        Self ! begun,
        receive stop -> ok end
    end),
    receive begun -> ok end,
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 10 end),
    OsPid = hold_up(Other),
    Stopping = begin_to_stop(),
    Caller ! stop,
    receive {'DOWN', Monitor, process, Caller, normal} -> ok end,
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 0 end),
    ?assert(erpc:call(Node, teleport_test, has_session, [Node, node()])),
    ok = teleport_test:signal(cont, OsPid),
    ok = stopped(Stopping),
    teleport_test:stop_peer(OtherPeer),
    teleport_test:stop_peer(Peer),
    ok = application:unload(teleport).

%% A request that is held back until the relay monitors its server is delivered when it does, and the answer goes back.
begun_for_a_server_while_it_drains(_Config) ->
    ok = teleport_test:start_here([{stop_timeout, 60000}]),
    {Peer, Node} = teleport_test:start_peer(),
    {OtherPeer, Other} = teleport_test:start_peer(),
    {ok, Server} = teleport_test_server:start(undefined),
    ok = erpc:call(Node, teleport, prime, [node()]),
    OsPid = hold_up(Other),
    Relays = [Relay || {_, Relay, _, _} <- supervisor:which_children(teleport_relay_sup)],
    [true = erlang:suspend_process(Relay) || Relay <- Relays],
    Self = self(),
    _ = spawn(Node, fun() -> Self ! {answer, teleport_test:outcome(teleport, gs_call, [Server, {echo, x}, 30000])} end),
    teleport_test:eventually(fun() -> teleport_test:watched() =:= 1 end),
    Stopping = begin_to_stop(),
    [true = erlang:resume_process(Relay) || Relay <- Relays],
    ?assertEqual({answer, {returned, {ok, x}}}, teleport_test:receive_one()),
    ok = teleport_test:signal(cont, OsPid),
    ok = stopped(Stopping),
    teleport_test:stop_peer(OtherPeer),
    teleport_test:stop_peer(Peer),
    ok = application:unload(teleport).

%% Calls that time out at about the time of their reply, while the application is stopped and started: each ends once.
calls_that_time_out_at_restarts_end_once(_Config) ->
    ok = teleport_test:start_here([]),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Callers = [spawn_monitor(fun() -> call_until_told(Server) end) || _ <- lists:seq(1, 50)],
    [begin
        teleport_test:eventually(fun() -> works(Server) end),
        ok = teleport_test:stop_here(),
        ok = teleport_test:start_here([])
    end || _ <- lists:seq(1, 10)],
    [Caller ! stop || {Caller, _} <- Callers],
    [receive {'DOWN', Monitor, process, Caller, Reason} -> ?assertEqual({left, []}, Reason) end
     || {Caller, Monitor} <- Callers],
    ?assertMatch(#{waiting_for := 0}, teleport:info()),
    teleport_test:stop_peer(Peer),
    ok = teleport_test:stop_here().

call_until_told(Server) ->
    receive
        stop -> exit({left, teleport_test:mailbox()})
    after 0 ->
        try teleport:gs_call(Server, {later, 2, x}, rand:uniform(4))
        catch exit:_ -> ok
        end,
        call_until_told(Server)
    end.

works(Server) ->
    try teleport:gs_call(Server, {echo, x}, 5000) =:= {ok, x}
    catch exit:{_Reason, {gen_server, call, _}} -> false
    end.

%% This node drains until that one goes on.
hold_up(Node) ->
    ok = teleport:prime(Node),
    OsPid = erpc:call(Node, os, getpid, []),
    ok = teleport_test:signal(stop, OsPid),
    ok = teleport:send({nobody, Node}, held_up),
    OsPid.

%% Returns when the application takes nothing new any more.
begin_to_stop() ->
    Stopping = spawn_monitor(fun() -> ok = application:stop(teleport) end),
    teleport_test:eventually(fun() -> teleport:info() =:= {error, not_running} end),
    %% Other nodes are told so at once, and not by the manager, which waits.
    ?assertEqual({error, not_running}, teleport_manager:about()),
    {messages, Waiting} = process_info(whereis(teleport_manager), messages),
    ?assertEqual([], [Call || {'$gen_call', _, _} = Call <- Waiting]),
    Stopping.

stopped({Process, Monitor}) ->
    receive {'DOWN', Monitor, process, Process, Reason} -> ?assertEqual(normal, Reason) end.
