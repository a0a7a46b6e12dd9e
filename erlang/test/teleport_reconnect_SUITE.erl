%% Nodes that go and come back: what was under way is told once, what comes after goes to the new life.
-module(teleport_reconnect_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_node_that_ends_comes_back/1, a_node_that_is_stopped_comes_back/1, a_killed_node_comes_back/1,
         a_node_disconnected_by_hand_comes_back/1]).

-define(PATIENCE, 30000).
-define(RING, 4).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [a_node_that_ends_comes_back, a_node_that_is_stopped_comes_back, a_killed_node_comes_back,
     a_node_disconnected_by_hand_comes_back].

init_per_suite(Config) ->
    ok = teleport_test:start_here([]),
    Config.

end_per_suite(_Config) ->
    teleport_test:stop_here().

init_per_testcase(_Case, Config) ->
    Members = [member(peer:random_name()) || _ <- lists:seq(1, ?RING)],
    [{members, Members} | Config].

%% One of them may have come back.
end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        [teleport_test:stop_peer(Peer) || {Peer, _Node} <- ?config(members, Config)],
        teleport_test:eventually(fun() -> teleport:nodes() =:= [] end)
    end).

a_node_that_ends_comes_back(Config) ->
    comes_back(Config, fun(_Peer, Node) -> ok = erpc:call(Node, init, stop, []) end).

a_node_that_is_stopped_comes_back(Config) ->
    comes_back(Config, fun(Peer, _Node) -> teleport_test:stop_peer(Peer) end).

a_killed_node_comes_back(Config) ->
    comes_back(Config, fun(_Peer, Node) -> teleport_test:signal(kill, erpc:call(Node, os, getpid, [])) end).

comes_back(Config, End) ->
    [{Peer, Node}, {_, Neighbour} | _] = Members = ?config(members, Config),
    Ring = [Member || {_, Member} <- Members],
    ring(Ring),
    [Init, Server] = [erpc:call(Node, erlang, whereis, [Name]) || Name <- [init, server]],
    Watchers = watchers(node(), Server) ++ watchers(Neighbour, Server),
    ok = End(Peer, Node),
    told(Watchers),
    [?assertMatch(#{waiting_for := 0}, erpc:call(From, teleport, info, [])) || From <- [node(), Neighbour]],
    teleport_test:eventually(fun() -> not lists:member(Node, erlang:nodes()) end),
    ?assertEqual({error, {not_running, Node}}, teleport:send({server, Node}, {note, early})),

    [Name, _Host] = string:split(atom_to_list(Node), "@"),
    {Again, Node} = member(Name),
    ring(Ring),
    %% A pid of the earlier life is not the process that has its number now, as `init' always has.
    Tracer = traced(Node, init),
    [begin
         ok = teleport:send(Old, {note, old}),
         ok = teleport:cast(Old, {note, old}),
         ?assertExit({noproc, _}, teleport:gs_call(Old, notes))
     end || Old <- [Init, Server]],
    ok = teleport:send({server, Node}, {note, new}),
    ?assertEqual([new], teleport:gs_call({server, Node}, notes)),
    {messages, Traced} = erpc:call(Node, erlang, process_info, [Tracer, messages]),
    ?assertEqual([], [Message || {trace, _, 'receive', Message} <- Traced, is_old(Message)]),
    ?assertEqual([], teleport_test:mailbox()),
    teleport_test:stop_peer(Again).

%% Distributed Erlang says that the node is down, though it lives.
a_node_disconnected_by_hand_comes_back(Config) ->
    [{_, Node}, {_, Neighbour} | _] = Members = ?config(members, Config),
    Server = erpc:call(Node, erlang, whereis, [server]),
    Here = watchers(node(), Server),
    [begin
        ring([Member || {_, Member} <- Members]),
        Watchers = watchers(Neighbour, Server),
        true = erpc:call(Neighbour, erlang, disconnect_node, [Node]),
        told(callers_give_up(Watchers)),
        %% It is the same life.
        ok = erpc:call(Neighbour, teleport, send, [Server, {note, Round}]),
        ?assertEqual(lists:seq(1, Round), erpc:call(Neighbour, teleport, gs_call, [Server, notes]))
    end || Round <- lists:seq(1, 5)],
    %% No other process was told.
    ?assertEqual([], teleport_test:mailbox()),
    true = erpc:call(Node, teleport_nif, disconnect, [node()]),
    told(callers_give_up(Here)),
    ?assertEqual([], teleport_test:mailbox()).

%% A node with a place in the ring, and a server.
member(Name) ->
    {Peer, Node} = teleport_test:start_peer(Name),
    _ = teleport_test_server:start_at(Node, server),
    Self = self(),
    _ = spawn(Node, fun() -> true = register(place, self()), Self ! {placed, Node}, place() end),
    receive {placed, Node} -> {Peer, Node} end.

place() ->
    receive
        {token, [], Home, Token} -> ok = teleport:send(Home, {home, Token});
        {token, [Next | Rest], Home, Token} -> ok = teleport:send({place, Next}, {token, Rest, Home, Token})
    end,
    place().

%% A process there whose mailbox tells what another one gets.
traced(Node, Name) ->
    Tracer = spawn(Node, timer, sleep, [infinity]),
    1 = erpc:call(Node, fun() -> erlang:trace(whereis(Name), true, ['receive', {tracer, Tracer}]) end),
    Tracer.

is_old({note, old}) -> true;
is_old({'$gen_cast', _}) -> true;
is_old({'$gen_call', _, _}) -> true;
is_old(_Other) -> false.

%% From every place, in both directions, small and large tokens go once around.
ring(Nodes) ->
    Ways = [begin {Before, From} = lists:split(Start, Way), From ++ Before end
            || Way <- [Nodes, lists:reverse(Nodes)], Start <- lists:seq(0, length(Nodes) - 1)],
    Tokens = [{Way, Number, binary:copy(<<Number>>, Size)} || Way <- Ways, {Number, Size} <- [{1, 10}, {2, 200000}, {3, 10}]],
    [ok = teleport:send({place, First}, {token, Rest ++ [First], self(), Token}) || {[First | Rest], _, _} = Token <- Tokens],
    Home = [receive {home, Token} -> Token after ?PATIENCE -> error(lost) end || _ <- Tokens],
    ?assertEqual(lists:sort(Tokens), lists:sort(Home)).

%% Processes there that wait for the server, each with what it is to be told, once. All of them wait already.
watchers(From, Server) ->
    Down = {nodedown, node(Server)},
    Kinds = [{fun() -> teleport_test:caught(fun() -> teleport:gs_call(Server, never, infinity) end) end,
              {'EXIT', {Down, {gen_server, call, [Server, never, infinity]}}}},
             {fun() -> down(teleport:monitor(Server)) end, {Server, noconnection}},
             {fun() -> response(teleport:send_request(Server, never)) end, {error, {noconnection, Server}}}],
    Self = self(),
    Waiting = [{spawn(From, fun() -> told_once(Self, Wait()) end), Told} || {Wait, Told} <- Kinds, _ <- lists:seq(1, 10)],
    Watched = fun() ->
        #{peers := Peers} = erpc:call(node(Server), teleport, info, []),
        maps:get(watched, maps:get(From, Peers, #{watched => 0}))
    end,
    teleport_test:eventually(fun() -> Watched() =:= length(Waiting) end),
    Calling = [{spawn(From, fun() -> told_once(Self, calls(Self, Server, 0)) end), Down} || _ <- lists:seq(1, 10)],
    [receive {Caller, answered} -> ok end || {Caller, _} <- Calling],
    Waiting ++ Calling.

down(Monitor) ->
    case teleport_test:receive_one() of
        {'DOWN', Monitor, process, Process, Reason} -> {Process, Reason}
    end.

response(Id) ->
    teleport:check_response(teleport_test:receive_one(), Id).

%% Call upon call, until one has no answer. Where the next one finds a new session there may be none without.
calls(Test, Server, Number) ->
    try teleport:gs_call(Server, {echo, Number}, infinity) of
        {ok, Number} ->
            Number =:= 0 andalso (Test ! {self(), answered}),
            receive give_up -> {nodedown, node(Server)}
            after 0 -> calls(Test, Server, Number + 1)
            end
    catch
        exit:{Reason, {gen_server, call, _}} -> Reason
    end.

callers_give_up(Watchers) ->
    [Caller ! give_up || {Caller, {nodedown, _}} <- Watchers],
    Watchers.

%% Says what it was told, and later what else came.
told_once(Test, Told) ->
    Test ! {self(), told, Told},
    receive show -> Test ! {self(), teleport_test:mailbox() -- [give_up]} end.

told(Watchers) ->
    [?assertEqual(Told, receive {Watcher, told, Is} -> Is after ?PATIENCE -> nothing end) || {Watcher, Told} <- Watchers],
    [Watcher ! show || {Watcher, _} <- Watchers],
    [?assertEqual([], receive {Watcher, Mailbox} -> Mailbox end) || {Watcher, _} <- Watchers].
