%% The first message to a node sets up the session and its pool, from any sender, and from many at once.
-module(teleport_first_send_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_thousand_first_sends_make_one_session/1, nodes_that_send_first_at_once_have_one_session/1,
         the_peer_is_just_starting/1]).

%% Every third is bulk.
-define(SIZES, {100000, 10, 1000}).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [a_thousand_first_sends_make_one_session, nodes_that_send_first_at_once_have_one_session,
     the_peer_is_just_starting].

init_per_suite(Config) ->
    ok = teleport_test:start_here([]),
    Config.

end_per_suite(_Config) ->
    teleport_test:stop_here().

init_per_testcase(_Case, Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    [{peer, Peer}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    ok = application:unset_env(teleport, peers),
    teleport_test:stop_peer(?config(peer, Config)).

%% One session, and one pool: a proxy counts the connections.
a_thousand_first_sends_make_one_session(Config) ->
    Node = ?config(node, Config),
    Proxy = proxy(node(), Node),
    Sink = teleport_test:sink(Node),
    %% One in fifty sends a large message too.
    Counts = [case I rem 50 of 0 -> 3; _ -> 2 end || I <- lists:seq(1, 1000)],
    Senders = [sender(Sink, Count) || Count <- Counts],
    ?assertEqual([], teleport:nodes()),
    go(Senders),
    Sent = lists:sum(Counts),
    ?assertEqual([], teleport_test:arrived([Sink], Sent)),
    #{peers := Peers} = teleport:info(),
    ?assertMatch(#{Node := #{dialled := true, messages_sent := Sent, no_process := 0}}, Peers),
    ?assertEqual([Node], maps:keys(Peers)),
    %% One of the pool may be about to open. With more than one pool there would always be more.
    teleport_test:eventually(fun() ->
        #{express_connections := Express, bulk_connections := Bulk} = peer_info(node(), Node),
        1 + Express + Bulk =:= accepted(Proxy)
    end).

%% Both nodes dial at the same time, and end with one session.
nodes_that_send_first_at_once_have_one_session(Config) ->
    Node = ?config(node, Config),
    Proxies = [proxy(node(), Node), proxy(Node, node())],
    Ways = [{node(), Node, teleport_test:sink(Node)}, {Node, node(), teleport_test:sink(node())}],
    Sinks = [Sink || {_, _, Sink} <- Ways],
    Dialled = [begin
        ok = disconnected(Node, Round),
        Senders = [erpc:call(From, fun() -> sender(Sink, 3) end) || {From, _To, Sink} <- Ways, _ <- lists:seq(1, 4)],
        Before = [accepted(Proxy) || Proxy <- Proxies],
        go(Senders),
        ?assertEqual([], teleport_test:arrived(Sinks, Round * length(Senders) * 3)),
        [One, Other] = [peer_info(From, To) || {From, To, _} <- Ways],
        ?assertNotEqual(maps:get(dialled, One), maps:get(dialled, Other)),
        %% Nothing went by another session, which would have counted it.
        ?assertEqual([12, 12, 12, 12],
                     [maps:get(Key, Info) || Info <- [One, Other], Key <- [messages_sent, messages_received]]),
        lists:zipwith(fun(Proxy, Number) -> accepted(Proxy) > Number end, Proxies, Before)
    end || Round <- lists:seq(1, 50)],
    Crossed = length([yes || [true, true] <- Dialled]),
    ct:log("both dialled in ~w of 50 rounds", [Crossed]),
    ?assert(Crossed > 0).

%% Where the one finds the other. Ends with the calling process.
proxy(Node, Peer) ->
    {ok, Address} = erpc:call(Peer, teleport_manager, address, []),
    {Proxy, Instead} = teleport_test_proxy:start(Address),
    ok = erpc:call(Node, application, set_env, [teleport, peers, #{Peer => Instead}]),
    Proxy.

accepted(Proxy) ->
    #{accepted := Accepted} = teleport_test_proxy:counts(Proxy),
    Accepted.

%% Neither of them has a session, and each of them knows.
disconnected(Node, Round) ->
    case Round rem 2 of
        0 -> teleport_nif:disconnect(Node);
        1 -> erpc:call(Node, teleport_nif, disconnect, [node()])
    end,
    teleport_test:eventually(fun() ->
        not teleport_test:has_session(node(), Node) andalso not teleport_test:has_session(Node, node())
    end).

peer_info(Node, Peer) ->
    #{peers := #{Peer := Info}} = erpc:call(Node, teleport, info, []),
    Info.

%% What was accepted arrives, and before that the error says why nothing is. Some come before the start, some during it.
the_peer_is_just_starting(Config) ->
    Node = ?config(node, Config),
    Sink = teleport_test:sink(Node),
    Messages = 20,
    [begin
        ok = erpc:call(Node, application, stop, [teleport]),
        teleport_test:eventually(fun() -> not teleport_test:has_session(node(), Node) end),
        Early = [persistent(Sink, Node, Messages) || _ <- lists:seq(1, 10)],
        [receive {Sender, refused} -> ok end || Sender <- Early],
        Late = [persistent(Sink, Node, Messages) || _ <- lists:seq(1, 10)],
        ok = erpc:call(Node, teleport, start, []),
        [receive {Sender, sent} -> ok end || Sender <- Early ++ Late],
        ?assertEqual([], teleport_test:arrived([Sink], Round * 20 * Messages)),
        ?assertEqual([Node], teleport:nodes())
    end || Round <- lists:seq(1, 10)].

%% A process that sends its first message until it is accepted, and then the others.
persistent(Sink, Node, Messages) ->
    Caller = self(),
    spawn(fun() ->
        Refused = fun() -> Caller ! {self(), refused} end,
        ok = until_accepted(Sink, Node, Refused),
        ok = teleport_test:numbered(Sink, 2, Messages, ?SIZES),
        Caller ! {self(), sent}
    end).

until_accepted(Sink, Node, Refused) ->
    case teleport:send(Sink, teleport_test:number(self(), 1, 10)) of
        ok ->
            ok;
        {error, {not_running, Node}} ->
            Refused(),
            until_accepted(Sink, Node, Refused);
        {error, {connect, _Why}} ->
            %% An attempt that knew where its engine was before the stop.
            Refused(),
            until_accepted(Sink, Node, Refused)
    end.

%% A process that waits to be told to send this many messages.
sender(Sink, Count) ->
    spawn(fun() ->
        receive go -> ok end,
        teleport_test:numbered(Sink, 1, Count, ?SIZES)
    end).

go(Senders) ->
    lists:foreach(fun(Sender) -> Sender ! go end, Senders).
