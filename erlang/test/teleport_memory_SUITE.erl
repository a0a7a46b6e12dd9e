%% What a node needs for the messages that it receives: held to what distributed Erlang needs for the same.
-module(teleport_memory_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([dropped_messages_are_collected/1, messages_that_are_kept_weigh_no_more/1,
         the_last_messages_kept_keep_no_others/1, relayed_messages_are_collected/1,
         a_hibernating_process_keeps_no_more/1, many_binaries_in_a_message_weigh_no_more/1,
         small_binaries_weigh_no_more/1, one_binary_kept_does_not_keep_the_rest/1, what_is_carried_weighs_no_more/1,
         arguments_of_functions_are_freed_on_a_quiet_node/1]).

%% Run on the peer.
-export([start/4, init/4, awake/3, peak/0]).
%% Run on the node that sends.
-export([flood/4]).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% A peak up to BAR times distributed Erlang's counts as the same. NOISE are the MiB by which either differs from run to
%% run, since it depends on when the collector comes by; what is not given back would be hundreds. The strict mode, for an idle
%% machine, has more messages, no NOISE, and the median in place of the best.
-define(BAR, 1.2).
-define(NOISE, 24).
-define(TRIES, 3).
-define(STRICT_COUNT, 3000).
-define(MIB, (1 bsl 20)).
%% Messages that are sent one behind the other.
-define(BURST, 3).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, case is_strict() of true -> 30; false -> 5 end}}].

all() ->
    [dropped_messages_are_collected, messages_that_are_kept_weigh_no_more, the_last_messages_kept_keep_no_others,
     relayed_messages_are_collected, a_hibernating_process_keeps_no_more, many_binaries_in_a_message_weigh_no_more,
     small_binaries_weigh_no_more, one_binary_kept_does_not_keep_the_rest, what_is_carried_weighs_no_more,
     arguments_of_functions_are_freed_on_a_quiet_node].

init_per_suite(Config) ->
    ok = teleport_test:start_here([]),
    Config.

end_per_suite(_Config) ->
    teleport_test:stop_here().

dropped_messages_are_collected(_Config) ->
    compare(drop).

messages_that_are_kept_weigh_no_more(_Config) ->
    compare({keep, 100}).

%% What is dropped has become old.
the_last_messages_kept_keep_no_others(_Config) ->
    compare({last, 100}).

relayed_messages_are_collected(_Config) ->
    compare(relay).

a_hibernating_process_keeps_no_more(_Config) ->
    compare(hibernate, 100000, ?MIB, 300).

many_binaries_in_a_message_weigh_no_more(_Config) ->
    Binaries = [binary(200000) || _ <- lists:seq(1, 20)],
    [compare(Kind, Words, {Binaries, [1, 2, 3]}, 300) || Kind <- [drop, {keep, 20}], Words <- [10, 1000000]].

small_binaries_weigh_no_more(_Config) ->
    [compare(Kind, 100000, Size, 100 * ?MIB div Size) || Kind <- [drop, {keep, 200}], Size <- [70000, 150000, 400000]].

%% A binary keeps all of its message, but not if that is mostly something else.
one_binary_kept_does_not_keep_the_rest(_Config) ->
    compare({pick, 50}, 1000, {lists:seq(1, 1000000), binary(100000)}, 100).

%% Distributed Erlang's own messages, where teleport carries them.
what_is_carried_weighs_no_more(_Config) ->
    Binaries = {[binary(200000) || _ <- lists:seq(1, 20)], [1, 2, 3]},
    [compare(carrier, Kind, Words, Term, Count)
     || {Kind, Words, Term, Count} <- [{drop, 1000000, binary(?MIB), 500}, {{keep, 100}, 1000, binary(?MIB), 500},
                                       {relay, 1000000, binary(?MIB), 500}, {drop, 1000000, Binaries, 300},
                                       {drop, 1000, binary(1000), 50000}]].

%% They pass the server that applies functions for other nodes.
arguments_of_functions_are_freed_on_a_quiet_node(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = erpc:call(Node, erlang, whereis, [teleport_apply]),
    [begin
         ?assertEqual(Result, teleport_erpc:call(Node, erlang, Function, [Large])),
         teleport_test:eventually(fun() ->
             [{memory, Memory}, {binary, Binaries}] = erpc:call(Node, erlang, process_info, [Server, [memory, binary]]),
             Memory < ?MIB andalso Binaries =:= []
         end)
     end || {Function, Large, Result} <- [{byte_size, binary(100 * ?MIB), 100 * ?MIB}, {length, lists:seq(1, 1000000), 1000000}]],
    teleport_test:stop_peer(Peer).

%% Processes with small and large states: the garbage of a large one lies in its old heap.
compare(Kind) ->
    [case is_strict() of
         true -> compare_strictly(Kind, Words);
         false -> compare(Kind, Words, ?MIB, 500)
     end || Words <- [10, 1000, 1000000]].

%% The bar as it stands, for an idle machine: TELEPORT_MEMORY=strict.
is_strict() ->
    os:getenv("TELEPORT_MEMORY") =:= "strict".

compare_strictly(Kind, Words) ->
    Ratios = [ratio(Kind, Words) || _ <- lists:seq(1, ?TRIES)],
    Median = lists:nth((?TRIES + 1) div 2, lists:sort(Ratios)),
    ?assert(Median =< ?BAR, {Kind, Words, Ratios}).

ratio(Kind, Words) ->
    [Ours, Theirs] = peaks(teleport, Kind, Words, binary(?MIB), ?STRICT_COUNT),
    Ours / Theirs.

%% The peaks of a node on which a process gets that number of these messages, each way.
compare(Kind, Words, Size, Count) when is_integer(Size) ->
    compare(Kind, Words, binary(Size), Count);
compare(Kind, Words, Term, Count) ->
    compare(teleport, Kind, Words, Term, Count).

compare(By, Kind, Words, Term, Count) ->
    compare(By, Kind, Words, Term, Count, ?TRIES).

compare(By, Kind, Words, Term, Count, Tries) ->
    [Ours, Theirs] = peaks(By, Kind, Words, Term, Count),
    IsNoMore = Ours =< ?BAR * Theirs + ?NOISE,
    %% What is not given back is not given back the next time either.
    case not IsNoMore andalso Tries > 1 of
        true -> compare(By, Kind, Words, Term, Count, Tries - 1);
        false -> ?assert(IsNoMore, {Kind, Words, Ours, Theirs})
    end.

peaks(By, Kind, Words, Term, Count) ->
    [Ours, Theirs] = [peak(How, Kind, Words, Term, Count) || How <- [By, distributed]],
    ct:log("~p: ~p, ~p words, ~p times ~p bytes: ~p MiB, distributed Erlang ~p MiB",
           [By, Kind, Words, Count, erlang:external_size(Term), Ours, Theirs]),
    [Ours, Theirs].

peak(carrier, Kind, Words, Term, Count) ->
    Carrier = fun teleport_test_carrier:carrier/0,
    teleport_test_carrier:with([Carrier(), Carrier()], fun([Sender, Receiver]) ->
        Node = teleport_test_carrier:name(Receiver),
        teleport_test_carrier:at(Sender, ?MODULE, flood, [distributed, Node, {Kind, Words}, {Term, Count}])
    end);
peak(How, Kind, Words, Term, Count) ->
    {Peer, Node} = teleport_test:start_peer(),
    Peak = flood(How, Node, {Kind, Words}, {Term, Count}),
    teleport_test:stop_peer(Peer),
    Peak.

-spec flood(teleport | distributed, node(), {term(), non_neg_integer()}, {term(), pos_integer()}) -> pos_integer().
flood(How, Node, {Kind, Words}, {Term, Count}) ->
    Process = erpc:call(Node, ?MODULE, start, [How, Kind, Words, self()]),
    Send = sender(How, Process),
    lists:foreach(fun(N) ->
        Send({message, Term}),
        %% What is under way at once is a matter of speed, not of memory that is not given back.
        N rem ?BURST =:= 0 andalso confirmed(Send)
    end, lists:seq(1, Count)),
    confirmed(Send),
    erpc:call(Node, ?MODULE, peak, []).

sender(teleport, Process) -> fun(Message) -> ok = teleport:send(Process, Message) end;
sender(distributed, Process) -> fun(Message) -> Process ! Message, ok end.

confirmed(Send) ->
    ok = Send({confirm, self()}),
    drain().

%% What is relayed comes back.
drain() ->
    receive
        {relayed, _} -> drain();
        confirmed -> ok
    after 60000 -> error(no_confirmation)
    end.

-spec start(teleport | distributed, term(), non_neg_integer(), pid()) -> pid().
start(How, Kind, Words, Parent) ->
    spawn(?MODULE, init, [How, Kind, Words, Parent]).

-spec init(teleport | distributed, term(), non_neg_integer(), pid()) -> no_return().
init(How, Kind, Words, Parent) ->
    State = lists:seq(1, Words div 2),
    true = garbage_collect(),
    loop(Kind, State, {[], sender(How, Parent)}).

loop(Kind, State, {Kept, Send}) ->
    receive
        {confirm, From} ->
            From ! confirmed,
            next(Kind, State, {Kept, Send});
        {message, Term} ->
            next(Kind, State, {handle(Kind, Term, Kept, Send), Send})
    end.

next(hibernate, State, Data) -> erlang:hibernate(?MODULE, awake, [hibernate, State, Data]);
next(Kind, State, Data) -> loop(Kind, State, Data).

-spec awake(term(), list(), term()) -> no_return().
awake(Kind, State, Data) ->
    loop(Kind, State, Data).

handle({keep, Most}, Term, Kept, _Send) when length(Kept) < Most -> [Term | Kept];
handle({last, Most}, Term, Kept, _Send) -> lists:sublist([Term | Kept], Most);
handle({pick, Most}, {_, Binary}, Kept, _Send) when length(Kept) < Most -> [Binary | Kept];
handle(relay, Term, Kept, Send) -> ok = Send({relayed, Term}), Kept;
handle(_, _Term, Kept, _Send) -> Kept.

%% In MiB.
-spec peak() -> pos_integer().
peak() ->
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [KiB]} = re:run(Status, "VmHWM:\\s*(\\d+) kB", [{capture, all_but_first, binary}]),
    binary_to_integer(KiB) div 1024.

binary(Size) ->
    binary:copy(<<"x">>, Size).
