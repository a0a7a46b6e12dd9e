%% Sessions that end all the time, on nodes that use all there is in the engine: nothing hangs, and nothing comes behind the
%% end of its session. And what relays and builders, which all sessions share, do not hold up.
-module(teleport_ends_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([sessions_that_end_all_the_time_hang_nothing/1, processes_killed_while_sessions_end_hang_nothing/1,
         nothing_comes_behind_the_end_of_its_session/1]).
-export([large_maps_keep_their_place/1, maps_of_others_take_turns/1, large_maps_share_memory/1]).
-export([a_flood_of_monitors_holds_up_no_one_else/1, a_small_reply_passes_a_large_one/1]).

%% Run on other nodes.
-export([victim/1, maps/1, maps_to/2, maps_to/3, count_for/2, keep/0, relays/0]).

-define(PATIENCE, 30000).
%% How often a session ends, for each number of schedulers.
-define(ENDS, list_to_integer(os:getenv("TELEPORT_ENDS", "40"))).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {seconds, 240 + 3 * ?ENDS}}].

all() ->
    [sessions_that_end_all_the_time_hang_nothing, processes_killed_while_sessions_end_hang_nothing,
     nothing_comes_behind_the_end_of_its_session, large_maps_keep_their_place, maps_of_others_take_turns,
     large_maps_share_memory, a_flood_of_monitors_holds_up_no_one_else, a_small_reply_passes_a_large_one].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    ok.

%% One node sends maps that only a process of the other can build, 20 processes of which send the other way, call and monitor.
sessions_that_end_all_the_time_hang_nothing(_Config) ->
    [end_all_the_time(Schedulers, fun(_Victim) -> ok end) || Schedulers <- [1, 2, 8]].

%% And the processes that the engine uses are killed all the while.
processes_killed_while_sessions_end_hang_nothing(_Config) ->
    %% Fewer than their supervisors give up over.
    Kills = counters:new(1, []),
    end_all_the_time(2, fun(Victim) ->
        counters:get(Kills, 1) < 8 andalso rand:uniform(3) =:= 1 andalso begin
            ok = counters:add(Kills, 1, 1),
            [begin
                 Workers = [Pid || {_, Pid, worker, _} <- supervisor:which_children({Supervisor, Victim}), is_pid(Pid)],
                 exit(lists:nth(rand:uniform(length(Workers)), Workers), kill)
             end || Supervisor <- [teleport_builder_sup, teleport_relay_sup]],
            [exit(Relay, kill) || Relay <- erpc:call(Victim, ?MODULE, relays, [])]
        end
    end).

end_all_the_time(Schedulers, Meanwhile) ->
    Count = integer_to_list(Schedulers),
    {VictimPeer, Victim} = teleport_test:start_peer(peer:random_name(), [], ["+S", Count ++ ":" ++ Count]),
    {Peer, Node} = teleport_test:start_peer(),
    %% A virtual machine that hangs does not end by itself.
    OsPid = erpc:call(Victim, os, getpid, []),
    ok = erpc:call(Victim, ?MODULE, victim, [Node]),
    ok = erpc:call(Node, ?MODULE, maps, [Victim]),
    try
        lists:foreach(fun(_) ->
            teleport_test:eventually(fun() -> teleport_test:has_session(Node, Victim) end),
            Meanwhile(Victim),
            _ = erpc:call(Node, teleport_nif, disconnect, [Victim]),
            true = is_map(erpc:call(Victim, teleport, info, [], ?PATIENCE))
        end, lists:seq(1, ?ENDS)),
        %% It still does what it is for.
        Server = teleport_test_server:start_at(Victim, undefined),
        teleport_test:eventually(fun() ->
            {ok, works} =:= erpc:call(Node, fun() ->
                teleport_test:caught(fun() -> teleport:gs_call(Server, {echo, works}, ?PATIENCE) end)
            end)
        end)
    after
        teleport_test:signal(kill, OsPid)
    end,
    teleport_test:stop_peer(VictimPeer),
    teleport_test:stop_peer(Peer).

-spec victim(node()) -> ok.
victim(Node) ->
    true = register(sink, spawn(?MODULE, keep, [])),
    [spawn(fun() -> use(Node) end) || _ <- lists:seq(1, 20)],
    ok.

use(Node) ->
    To = {sink, Node},
    _ = teleport:send(To, {hello, self()}),
    _ = teleport_test:caught(fun() -> teleport:gs_call({server, Node}, {echo, hello}, 1000) end),
    true = teleport:demonitor(teleport:monitor(To)),
    _ = teleport:send(To, {hello, self()}, [nosuspend]),
    drain(),
    use(Node).

drain() ->
    receive _ -> drain() after 1 -> ok end.

-spec maps(node()) -> ok.
maps(Victim) ->
    true = register(sink, spawn(?MODULE, keep, [])),
    {ok, _} = teleport_test_server:start(server),
    Maps = [maps:from_keys(lists:seq(1, Size), x) || Size <- [1000, 129, 9000]],
    [spawn(fun() -> send_for_ever({sink, Victim}, Map) end) || Map <- Maps, _ <- [1, 2]],
    ok.

send_for_ever(To, Message) ->
    _ = teleport:send(To, Message),
    receive after 1 -> send_for_ever(To, Message) end.

-spec keep() -> no_return().
keep() ->
    receive _ -> keep() end.

%% Large terms take long to build, and the next session begins meanwhile: what is still on its way by then is not delivered.
nothing_comes_behind_the_end_of_its_session(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = teleport:start(),
    Sender = spawn_link(Node, ?MODULE, count_for, [self(), 1]),
    lists:foldl(fun(_, Last) ->
        %% Some of a session is here, and more is on its way.
        Next = lists:foldl(fun(_, L) -> next_after(L) end, Last, [1, 2, 3]),
        %% If there is one: it may be that only the end of the last is here by now.
        _ = teleport_nif:disconnect(Node),
        Next
    end, 0, lists:seq(1, 20)),
    unlink(Sender),
    exit(Sender, kill),
    ok = application:stop(teleport),
    teleport_test:stop_peer(Peer).

%% Some are lost with their sessions.
next_after(Last) ->
    receive
        {number, I, _} when I > Last -> I;
        {number, I, _} -> error({I, behind, Last})
    after ?PATIENCE ->
        error(nothing_came)
    end.

%% Alternately what takes long to build and what does not, as fast as it is taken.
-spec count_for(pid(), pos_integer()) -> no_return().
count_for(To, I) ->
    Size = case I rem 2 of 0 -> 10; 1 -> 1000000 end,
    _ = teleport:send(To, {number, I, lists:seq(1, Size)}),
    count_for(To, I + 1).

%% Maps of all sizes, among what needs no builder, while builders are killed.
large_maps_keep_their_place(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = teleport:start(),
    Server = teleport_test_server:start_at(Node, undefined),
    Payloads = [[], binary:copy(<<1>>, 1000), maps:from_keys(lists:seq(1, 200), x), maps:from_keys(lists:seq(1, 20000), x),
                binary:copy(<<1>>, 100000), #{}],
    Numbers = lists:seq(1, 600),
    %% Fewer than their supervisor gives up over.
    Killer = spawn_link(fun() -> kill_builders(Node, 8) end),
    lists:foreach(fun(Number) ->
        Note = {note, Number, lists:nth(1 + Number rem length(Payloads), Payloads)},
        case Number rem 7 of
            0 -> {ok, Number} = teleport:gs_call(Server, Note, ?PATIENCE);
            Even when Even rem 2 =:= 0 -> ok = teleport:cast(Server, Note);
            _ -> ok = teleport:send(Server, Note)
        end
    end, Numbers),
    unlink(Killer),
    exit(Killer, kill),
    ?assertEqual(Numbers, teleport:gs_call(Server, notes, ?PATIENCE)),
    %% The replies too, which are built here.
    ?assertEqual({ok, lists:nth(4, Payloads)}, teleport:gs_call(Server, {echo, lists:nth(4, Payloads)}, ?PATIENCE)),
    #{unreadable := 0} = erpc:call(Node, teleport, info, []),
    ok = application:stop(teleport),
    teleport_test:stop_peer(Peer).

kill_builders(_Node, 0) ->
    receive stop -> ok end;
kill_builders(Node, Count) ->
    receive after rand:uniform(50) -> ok end,
    Builders = [Pid || {_, Pid, worker, _} <- supervisor:which_children({teleport_builder_sup, Node}), is_pid(Pid)],
    exit(lists:nth(rand:uniform(length(Builders)), Builders), kill),
    kill_builders(Node, Count - 1).

%% Many maps of one node wait for builders, for many processes, since those for one wait for each other anyway.
maps_of_others_take_turns(Config) ->
    case teleport_nif:makes_maps_anywhere(erlang:system_info(version)) of
        true -> {skip, "this release needs no builders"};
        false -> maps_take_turns(Config)
    end.

maps_take_turns(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    {OtherPeer, Other} = teleport_test:start_peer(),
    ok = teleport:start(),
    Builders = [Pid || {_, Pid, worker, _} <- supervisor:which_children(teleport_builder_sup)],
    [ok = sys:suspend(Builder) || Builder <- Builders],
    Self = self(),
    Takers = [spawn_link(fun() -> receive Map -> Self ! {taken, Map} end end) || _ <- lists:seq(1, 50)],
    ok = erpc:call(Node, ?MODULE, maps_to, [Takers, node]),
    ok = erpc:call(Other, ?MODULE, maps_to, [[spawn_link(fun() -> receive Map -> Self ! {taken, Map} end end)], other]),
    Received = fun(From) ->
        #{peers := #{From := #{messages_received := Count}}} = teleport:info(),
        Count
    end,
    teleport_test:eventually(fun() -> {50, 1} =:= {Received(Node), Received(Other)} end),
    [ok = sys:resume(Builder) || Builder <- Builders],
    Order = [receive {taken, #{1 := From}} -> From after ?PATIENCE -> error(nothing_came) end || _ <- [other | Takers]],
    ct:log("~w", [Order]),
    ?assert(lists:member(other, lists:sublist(Order, 10))),
    ok = application:stop(teleport),
    [teleport_test:stop_peer(P) || P <- [Peer, OtherPeer]].

-spec maps_to([pid()], atom()) -> ok.
maps_to(Takers, From) ->
    maps_to(Takers, From, 1000).

-spec maps_to([pid()], atom(), pos_integer()) -> ok.
maps_to(Takers, From, Size) ->
    lists:foreach(fun(Taker) -> ok = teleport:send(Taker, maps:from_keys(lists:seq(1, Size), From)) end, Takers).

%% What builders have of large maps takes no more memory together than one term may, and leaves some for others.
large_maps_share_memory(Config) ->
    case teleport_nif:makes_maps_anywhere(erlang:system_info(version)) of
        true -> {skip, "this release needs no builders"};
        false -> maps_share_memory(Config)
    end.

maps_share_memory(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    %% Two of these maps may take more than three quarters of it.
    ok = teleport_test:start_here([{max_term, 4 bsl 20}]),
    Builders = [Pid || {_, Pid, worker, _} <- supervisor:which_children(teleport_builder_sup)],
    [ok = sys:suspend(Builder) || Builder <- Builders],
    Self = self(),
    Takers = [spawn_link(fun() -> receive #{1 := From} -> Self ! {taken, From} end end) || _ <- lists:seq(1, 10)],
    ok = erpc:call(Node, ?MODULE, maps_to, [Takers, node, 15000]),
    %% What comes behind them is read when all of them wait for builders: it leaves no room for another one.
    List = lists:seq(1, 30000),
    ok = erpc:call(Node, teleport, send, [Self, List]),
    receive List -> ok after ?PATIENCE -> error(nothing_came) end,
    ?assertMatch([_], [Job || Builder <- Builders, {teleport_build, Job} <- element(2, process_info(Builder, messages))]),
    [ok = sys:resume(Builder) || Builder <- Builders],
    [receive {taken, node} -> ok after ?PATIENCE -> error(nothing_came) end || _ <- Takers],
    teleport_test:stop_here(),
    teleport_test:stop_peer(Peer).

%% A monitor that is ended before anything comes of it costs relays nothing, and nobody else waits for them.
a_flood_of_monitors_holds_up_no_one_else(_Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{relays, 2}]),
    {OtherPeer, Other} = teleport_test:start_peer(),
    ok = teleport:start(),
    Server = teleport_test_server:start_at(Node, undefined),
    Longest = spawn_link(Node, fun() -> longest(0) end),
    Flooders = [spawn_monitor(fun() ->
        [true = teleport:demonitor(teleport:monitor(Server)) || _ <- lists:seq(1, 20000)]
    end) || _ <- lists:seq(1, 4)],
    Calls = calls_until_down(Other, Server, Flooders, 0),
    ct:log("~w calls of another node meanwhile", [Calls]),
    ?assert(Calls > 0),
    Longest ! {report, self()},
    Length = receive {longest, L} -> L end,
    ct:log("the longest mailbox of a relay had ~w messages", [Length]),
    ?assert(Length < 100),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 0 end),
    ok = application:stop(teleport),
    [teleport_test:stop_peer(P) || P <- [Peer, OtherPeer]].

calls_until_down(_Other, _Server, [], Calls) ->
    Calls;
calls_until_down(Other, Server, Flooders, Calls) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} ->
            ?assertEqual(normal, Reason),
            calls_until_down(Other, Server, Flooders -- [{Pid, Monitor}], Calls)
    after 0 ->
        {ok, Calls} = erpc:call(Other, teleport, gs_call, [Server, {echo, Calls}, ?PATIENCE]),
        calls_until_down(Other, Server, Flooders, Calls + 1)
    end.

longest(Longest) ->
    receive {report, From} -> From ! {longest, Longest} after 1 ->
        Starters = [Pid || {_, Pid, worker, _} <- supervisor:which_children(teleport_relay_sup)],
        Lengths = [Length || Pid <- Starters ++ relays(),
                             {message_queue_len, Length} <- [process_info(Pid, message_queue_len)]],
        longest(lists:max([Longest | Lengths]))
    end.

-spec relays() -> [pid()].
relays() ->
    [Pid || Pid <- processes(), {initial_call, {teleport_relay, init, 1}} =:= process_info(Pid, initial_call)].

%% What takes long to encode holds up only what the same server answers the same caller next.
a_small_reply_passes_a_large_one(_Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{relays, 1}]),
    ok = teleport:start(),
    [Large, Small] = [teleport_test_server:start_at(Node, undefined) || _ <- [1, 2]],
    {ok, first} = teleport:gs_call(Small, {echo, first}, ?PATIENCE),
    Sent = fun() ->
        #{peers := #{} = Peers} = erpc:call(Node, teleport, info, []),
        maps:get(messages_sent, maps:get(node(), Peers))
    end,
    %% On a busy machine the large one may be through by the time that one looks. A small one that does not pass is never first.
    ?assert(lists:any(fun(_) -> passes(Large, Small, Sent) end, lists:seq(1, 10))),
    ok = application:stop(teleport),
    teleport_test:stop_peer(Peer).

%% Whether the reply of the one is sent while that of the other is still encoded.
passes(Large, Small, Sent) ->
    Before = Sent(),
    Self = self(),
    Id = teleport:send_request(Large, {run, fun() -> Self ! begun, lists:seq(1, 10000000) end}),
    receive begun -> ok end,
    %% It has answered when it answers distributed Erlang.
    {ok, answered} = gen_server:call(Large, {echo, answered}, ?PATIENCE),
    {ok, second} = teleport:gs_call(Small, {echo, second}, ?PATIENCE),
    IsFirst = Sent() =:= Before + 1,
    {ok, third} = teleport:gs_call(Large, {echo, third}, ?PATIENCE),
    ?assertEqual(Before + 3, Sent()),
    {reply, List} = teleport:receive_response(Id, ?PATIENCE),
    ?assertEqual(10000000, length(List)),
    IsFirst.
