%% Order: of what one process sends to another, of its calls among that, of replies and DOWN behind it; while connections are
%% cut. A proxy between the two nodes does that.
-module(teleport_order_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([pairs_keep_their_order_while_connections_are_cut/1, casts_sends_and_calls_keep_their_order/1,
         down_comes_behind_the_reply_and_that_behind_what_was_sent/1, the_reply_of_a_server_that_ends_wins/1,
         what_is_unordered_waits_for_nothing_and_is_not_waited_for/1]).

-define(PATIENCE, 30000).
%% Express and bulk in turn.
-define(SIZES, {1, 100, 60000, 10, 2000000, 1000, 70000, 3, 300000, 20000}).
%% More than one connection of each kind, whatever the machine.
-define(CONFIGURATION, [{express_connections, 2}, {bulk_connections, 3}]).
-define(FEWEST_CUTS, 20).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [pairs_keep_their_order_while_connections_are_cut,
     casts_sends_and_calls_keep_their_order,
     down_comes_behind_the_reply_and_that_behind_what_was_sent,
     the_reply_of_a_server_that_ends_wins,
     what_is_unordered_waits_for_nothing_and_is_not_waited_for].

init_per_suite(Config) ->
    ok = teleport_test:start_here(?CONFIGURATION),
    Config.

end_per_suite(_Config) ->
    teleport_test:stop_here().

%% This node dials, so that all connections go through the proxy.
init_per_testcase(_Case, Config) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), ?CONFIGURATION),
    {ok, Address} = erpc:call(Node, teleport_manager, address, []),
    {Proxy, Instead} = teleport_test_proxy:start(Address),
    ok = application:set_env(teleport, peers, #{Node => Instead}),
    ok = teleport:prime(Node),
    [{peer, Peer}, {node, Node}, {proxy, Proxy} | Config].

end_per_testcase(_Case, Config) ->
    teleport_test:stop_peer(?config(peer, Config)),
    application:unset_env(teleport, peers).

%% Many pairs, in both directions.
pairs_keep_their_order_while_connections_are_cut(Config) ->
    {Node, Proxy} = {?config(node, Config), ?config(proxy, Config)},
    Pairs = [{stream(From, Sink), Sink} || {From, To} <- [{node(), Node}, {Node, node()}], _ <- lists:seq(1, 4),
                                           Sink <- [teleport_test:sink(To)]],
    {Streams, Sinks} = lists:unzip(Pairs),
    Messages = 40,
    Sent = while_cut(Proxy, Node, fun(Round) ->
        [Stream ! {numbers, (Round - 1) * Messages + 1, Round * Messages, self()} || Stream <- Streams],
        teleport_test_proxy:sever(Proxy),
        [receive {Stream, sent} -> ok end || Stream <- Streams],
        length(Streams) * Messages
    end),
    ?assertEqual([], teleport_test:arrived(Sinks, lists:sum(Sent))),
    settled(Node),
    %% Nor did anything come once more.
    ?assertEqual([], teleport_test:arrived(Sinks, lists:sum(Sent))).

%% A process there that sends numbered messages to the sink, when it is told to.
stream(Node, Sink) ->
    Caller = self(),
    spawn(Node, fun() -> _ = erlang:monitor(process, Caller), stream(Sink) end).

stream(Sink) ->
    receive
        {numbers, First, Last, From} ->
            ok = teleport_test:numbered(Sink, First, Last, ?SIZES),
            From ! {self(), sent},
            stream(Sink);
        {'DOWN', _, process, _Caller, _} ->
            ok
    end.

%% Each caller has its own server, which notes what comes.
casts_sends_and_calls_keep_their_order(Config) ->
    {Node, Proxy} = {?config(node, Config), ?config(proxy, Config)},
    Servers = [teleport_test_server:start_at(Node, undefined) || _ <- lists:seq(1, 6)],
    Notes = 60,
    Rounds = while_cut(Proxy, Node, fun(Round) ->
        Numbers = lists:seq((Round - 1) * Notes + 1, Round * Notes),
        Callers = [spawn_monitor(fun() -> notes(Server, Numbers) end) || Server <- Servers],
        teleport_test_proxy:sever(Proxy),
        [receive {'DOWN', Monitor, process, Caller, Reason} -> ?assertEqual(normal, Reason) end
         || {Caller, Monitor} <- Callers],
        Notes
    end),
    Expected = lists:seq(1, lists:sum(Rounds)),
    [?assertEqual(Expected, teleport:gs_call(Server, notes, ?PATIENCE)) || Server <- Servers].

%% In turn as cast, message, request and call. What the servers of a round's callers get, they get in the order of the
%% numbers: the last thing is a call.
notes(Server, Numbers) ->
    Requests = lists:foldl(fun(Number, Requests) ->
        Size = element(1 + Number rem tuple_size(?SIZES), ?SIZES),
        Note = {note, Number, binary:copy(<<1>>, Size)},
        case Number rem 6 of
            0 -> {ok, Number} = teleport:gs_call(Server, Note, ?PATIENCE), Requests;
            1 -> ok = teleport:send(Server, Note), Requests;
            2 -> [{teleport:send_request(Server, Note), Number} | Requests];
            3 -> ok = teleport:cast(Server, Note), Requests;
            4 -> [{teleport:send_request(Server, Note), Number} | Requests];
            5 -> ok = teleport:send(Server, Note), Requests
        end
    end, [], Numbers),
    [{reply, {ok, Number}} = teleport:receive_response(Id, ?PATIENCE) || {Id, Number} <- Requests],
    [] = teleport_test:mailbox().

%% Of one process: what it sent, then its reply, then its DOWN.
down_comes_behind_the_reply_and_that_behind_what_was_sent(Config) ->
    {Node, Proxy} = {?config(node, Config), ?config(proxy, Config)},
    _ = while_cut(Proxy, Node, fun(_Round) ->
        Payloads = [binary:copy(<<Size:32>>, Size div 4 + 1) || Size <- tuple_to_list(?SIZES)],
        Callers = [spawn_monitor(fun() -> [finish(Node, Payload) || Payload <- Payloads] end) || _ <- lists:seq(1, 6)],
        teleport_test_proxy:sever(Proxy),
        [receive {'DOWN', Monitor, process, Caller, Reason} -> ?assertEqual(normal, Reason) end
         || {Caller, Monitor} <- Callers]
    end),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 0 end).

finish(Node, Payload) ->
    Last = spawn(Node, fun() ->
        receive
            {'$gen_call', {Caller, _} = From, finish} ->
                ok = teleport:send(Caller, {sent, Payload}),
                _ = gen:reply(From, {replied, Payload}),
                exit(tired)
        end
    end),
    Monitor = teleport:monitor(Last),
    Id = teleport:send_request(Last, finish),
    %% Short enough to be shown.
    Three = [case teleport_test:receive_one() of
                 {What, Payload} -> What;
                 {[alias | Id], {replied, Payload}} -> replied;
                 Other -> Other
             end || _ <- [1, 2, 3]],
    ?assertEqual([sent, replied, {'DOWN', Monitor, process, Last, tired}], Three).

%% 1,000 servers that answer and end at once.
the_reply_of_a_server_that_ends_wins(Config) ->
    {Node, Proxy} = {?config(node, Config), ?config(proxy, Config)},
    ok = teleport_test_proxy:lives(Proxy, {20000, 60000}),
    teleport_test_proxy:sever(Proxy),
    Call = fun(Server, Number) -> {Number, {ok, Number}} = {Number, teleport:gs_call(Server, {last, Number}, ?PATIENCE)} end,
    Callers = [spawn_monitor(fun() ->
        Servers = erpc:call(Node, fun() -> [teleport_test_server:start_at(Node, undefined) || _ <- lists:seq(1, 100)] end),
        [Call(Server, Number) || {Server, Number} <- lists:zip(Servers, lists:seq(1, 100))],
        [] = teleport_test:mailbox()
    end) || _ <- lists:seq(1, 10)],
    [receive {'DOWN', Monitor, process, Caller, Reason} -> ?assertEqual(normal, Reason) end
     || {Caller, Monitor} <- Callers],
    ?assertMatch(#{waiting_for := 0}, teleport:info()),
    #{cut := Cut} = teleport_test_proxy:counts(Proxy),
    ct:log("connections cut: ~w", [Cut]),
    ?assert(Cut > 0).

%% What is unordered neither waits for the large message that is held up, nor is it waited for.
what_is_unordered_waits_for_nothing_and_is_not_waited_for(Config) ->
    {Node, Proxy} = {?config(node, Config), ?config(proxy, Config)},
    Self = self(),
    Receiver = spawn(Node, fun() -> receive {report, Count} -> Self ! {self(), [size_of_one() || _ <- lists:seq(1, Count)]} end end),
    Large = fun(Name) -> {Name, binary:copy(<<1>>, 2000000)} end,
    ok = teleport_test_proxy:hold(Proxy, 300000),
    ok = teleport:send(Receiver, Large(unordered_large), [unordered]),
    ok = teleport:send(Receiver, before),
    ok = teleport:send(Receiver, Large(ordered_large)),
    ok = teleport:send(Receiver, behind),
    ok = teleport:send(Receiver, unordered_small, [unordered]),
    Queue = fun() -> {messages, All} = erpc:call(Node, erlang, process_info, [Receiver, messages]), All end,
    teleport_test:eventually(fun() -> length(Queue()) =:= 2 end),
    %% Both large ones are held up by now, or soon.
    teleport_test:eventually(fun() -> maps:get(held, teleport_test_proxy:counts(Proxy)) > 0 end),
    ?assertEqual([before, unordered_small], lists:sort(Queue())),
    ok = teleport_test_proxy:release(Proxy),
    teleport_test:eventually(fun() -> length(Queue()) =:= 5 end),
    Receiver ! {report, 5},
    {Receiver, Names} = teleport_test:receive_one(),
    ?assertEqual([before, ordered_large, behind], Names -- [unordered_large, unordered_small]).

size_of_one() ->
    receive
        {Name, Payload} when byte_size(Payload) =:= 2000000 -> Name;
        Name when is_atom(Name) -> Name
    end.

%% Does it again until enough connections were cut in the middle of something.
while_cut(Proxy, Node, Do) ->
    ok = teleport_test_proxy:lives(Proxy, {100000, 3000000}),
    teleport_test_proxy:sever(Proxy),
    Results = while_cut(Proxy, Node, Do, 1, []),
    ok = teleport_test_proxy:lives(Proxy, infinity),
    teleport_test_proxy:sever(Proxy),
    Results.

while_cut(Proxy, Node, Do, Round, Results) ->
    Result = Do(Round),
    #{cut := Cut} = teleport_test_proxy:counts(Proxy),
    #{peers := #{Node := #{frames_resent := Resent}}} = teleport:info(),
    ct:log("round ~w: connections cut: ~w, frames sent again: ~w", [Round, Cut, Resent]),
    case Cut >= ?FEWEST_CUTS andalso Resent > 0 of
        true -> lists:reverse([Result | Results]);
        false -> while_cut(Proxy, Node, Do, Round + 1, [Result | Results])
    end.

%% Nothing is under way.
settled(Node) ->
    Quiet = fun(At, Peer) ->
        #{peers := #{Peer := #{unconfirmed := Unconfirmed}}} = erpc:call(At, teleport, info, []),
        Unconfirmed =:= 0
    end,
    teleport_test:eventually(fun() -> Quiet(node(), Node) andalso Quiet(Node, node()) end).
