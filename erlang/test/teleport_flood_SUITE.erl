%% A flood of large messages, and what is small meanwhile: pings of distributed Erlang, and calls.
%%
%% A machine that is busy makes all of it slow, so nothing here is measured by the clock. What counts is how many small round
%% trips there are in the midst of a flood, beside how many there are in one by distributed Erlang.
-module(teleport_flood_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([small_messages_pass_large_ones/1]).

-define(LARGE, (32 bsl 20)).
-define(SENDERS, 2).
-define(EACH, 10).
-define(ALL, (?SENDERS * ?EACH)).
%% Room for nine large messages: what had to wait for those under way would wait for several.
-define(CONFIGURATION, [{peer_window, 12 * ?LARGE}]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [small_messages_pass_large_ones].

%% Two nodes; this one stands by.
init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    [{Peer, Node}, {OtherPeer, Other}] =
        [teleport_test:start_peer(peer:random_name(), ?CONFIGURATION) || _ <- [1, 2]],
    [{peers, [Peer, OtherPeer]}, {nodes, {Node, Other}} | Config].

end_per_suite(Config) ->
    [teleport_test:stop_peer(Peer) || Peer <- ?config(peers, Config)],
    ok.

small_messages_pass_large_ones(Config) ->
    {Node, Other} = ?config(nodes, Config),
    [{DisterlPings, DisterlCalls}, {Pings, Calls}] =
        [flood(Node, Other, Send) || Send <- [fun erlang:send/2, fun teleport:send/2]],
    ct:log("small round trips while ~w large messages arrived:~n"
           "flood by distributed Erlang: ~w pings, ~w calls; flood by teleport: ~w pings, ~w calls",
           [?ALL, DisterlPings, DisterlCalls, Pings, Calls]),
    ?assert(Pings >= 3 * DisterlPings),
    %% In turn with the large ones there would be one for each, at most.
    ?assert(Calls >= 3 * ?ALL).

%% How many pings of distributed Erlang, and calls of teleport, were answered from the first large message to the last.
flood(Node, Other, Send) ->
    Self = self(),
    Answerer = spawn(Other, fun() -> answer(0) end),
    Probes = [spawn(Node, fun() -> Self ! {self(), probe(Probe, Answerer, 0)} end)
              || Probe <- [fun ping/1, fun call/1]],
    Senders = [spawn_monitor(Node, fun() ->
        Message = {large, binary:copy(<<1>>, ?LARGE)},
        [Send(Answerer, Message) || _ <- lists:seq(1, ?EACH)]
    end) || _ <- lists:seq(1, ?SENDERS)],
    [receive {'DOWN', Monitor, process, Sender, Reason} -> ?assertEqual(normal, Reason) end
     || {Sender, Monitor} <- Senders],
    [Pings, Calls] = [receive {Probe, RoundTrips} -> RoundTrips end || Probe <- Probes],
    exit(Answerer, kill),
    {Pings, Calls}.

%% Takes the large ones, and tells the small ones how many there were.
answer(Arrived) ->
    receive
        {large, Binary} when byte_size(Binary) =:= ?LARGE -> answer(Arrived + 1);
        {ping, From, Tag} -> From ! {Tag, Arrived}, answer(Arrived);
        {'$gen_call', From, arrived} -> _ = gen:reply(From, Arrived), answer(Arrived)
    end.

ping(Answerer) ->
    Tag = make_ref(),
    Answerer ! {ping, self(), Tag},
    receive {Tag, Arrived} -> Arrived end.

call(Answerer) ->
    teleport:gs_call(Answerer, arrived, infinity).

probe(Probe, Answerer, RoundTrips) ->
    case Probe(Answerer) of
        0 -> probe(Probe, Answerer, 0);
        ?ALL -> RoundTrips;
        _Between -> probe(Probe, Answerer, RoundTrips + 1)
    end.
