%% The ring: distributed Erlang, teleport, and distributed Erlang carried by teleport, side by side, on real nodes of this machine.
%%
%% All rings are there all the time and take turns, so that a machine that drifts does so for all. This process takes
%% no part in distributed Erlang: it talks with the nodes by their standard input and output.
-module(teleport_ring).

-export([main/0, measure/1, json/1, table/1]).
%% For `teleport_ring_shapes'.
-export([with_rings/3, in_turn/3, stream/3, median/1, value/1]).

-export_type([options/0, report/0, figures/0]).

-type options() :: #{nodes => pos_integer(), workers => pos_integer(), size => pos_integer(),
                     warmup => non_neg_integer(), rounds => pos_integer(),
                     %% How long a round of small messages takes, one of terms, and how many calls are one of calls.
                     rate_milliseconds => pos_integer(), terms_milliseconds => pos_integer(), calls => pos_integer(),
                     %% Of single binaries, for throughput by size.
                     sizes => [pos_integer()],
                     %% For the nodes' `erl'.
                     flags => [string()],
                     %% Everything is encrypted: distributed Erlang goes over inet_tls, whose options teleport takes over.
                     tls => boolean(),
                     progress => fun((io:format(), [term()]) -> ok)}.

-type figures() :: #{megabytes_per_second := float(), cpu_seconds_per_gigabyte := float(),
                     ping_ms := #{p50 := float(), p99 := float(), max := float()},
                     pings := non_neg_integer(), pings_unanswered := non_neg_integer(),
                     mean_sender_seconds := float(), peak_rss_mib := [float()],
                     %% Each sender's microseconds in the last round, by node.
                     sender_microseconds := [[non_neg_integer()]],
                     %% Least and most of the rounds.
                     ranges := #{megabytes_per_second | cpu_seconds_per_gigabyte | mean_sender_seconds => range()},
                     messages := non_neg_integer(), lost := integer(), doubled := non_neg_integer(),
                     out_of_order := non_neg_integer()}.
%% Medians of the timed rounds; the counts are of all rounds.

-type range() :: [float()].

-type each(Value) :: #{teleport_ring_node:transport() => Value}.

-type report() :: #{disterl := figures(), teleport := figures(), carrier := figures(),
                    rate_64b := each(float()), call_us := each(float()),
                    %% MB/s.
                    terms := #{teleport_ring_stream:shape() => each(float())},
                    ranges := #{rate_64b := each(range()), call_us := each(range()),
                                terms := #{teleport_ring_stream:shape() => each(range())}},
                    %% MB/s.
                    sizes => [#{bytes := pos_integer(), teleport_ring_node:transport() => float()}]}.

-record(ring, {transport :: teleport_ring_node:transport(),
               nodes :: [{Peer :: pid(), node(), OsPid :: string()}],
               rounds = [] :: [round()],
               pings = [] :: [non_neg_integer()],
               unanswered = 0 :: non_neg_integer()}).

-record(round, {megabytes_per_second :: float(), cpu_seconds_per_gigabyte :: float(),
                senders :: [[non_neg_integer()]]}).
-type round() :: #round{}.

%% Far above what anything takes on a busy machine.
-define(PATIENCE, 120000).
-define(TRANSPORTS, [disterl, teleport, carrier]).
-define(TERMS, [binaries_80000x128, term_1mb]).
%% 1 KiB to 100 MiB.
-define(SIZES, [1 bsl 10, 4 bsl 10, 16 bsl 10, 64 bsl 10, 256 bsl 10, 1 bsl 20, 4 bsl 20, 10 bsl 20, 32 bsl 20, 100 bsl 20]).

%% @doc Measures, prints a table, and ends this virtual machine. From the environment: TELEPORT_RING_JSON, the file for
%% the results; TELEPORT_RING_ROUNDS, timed rounds; TELEPORT_RING_FLAGS, more flags for the nodes, such as
%% `+zdbbl 131072'; TELEPORT_RING_TLS=1, encrypted; TELEPORT_RING_SIZES=1, throughput by message size as well.
-spec main() -> no_return().
main() ->
    File = os:getenv("TELEPORT_RING_JSON"),
    %% Before the time is spent.
    store(File, ""),
    Report = measure(#{rounds => list_to_integer(os:getenv("TELEPORT_RING_ROUNDS", "5")),
                       flags => string:lexemes(os:getenv("TELEPORT_RING_FLAGS", ""), " "),
                       tls => is_wanted("TELEPORT_RING_TLS"),
                       sizes => case is_wanted("TELEPORT_RING_SIZES") of
                           false -> [];
                           true -> ?SIZES
                       end,
                       progress => fun(Format, Values) -> io:format(standard_error, Format, Values) end}),
    io:put_chars(table(Report)),
    store(File, json(Report)),
    Faults = [maps:get(Count, maps:get(Transport, Report)) || Transport <- ?TRANSPORTS, Count <- [lost, doubled, out_of_order]],
    case lists:all(fun(Count) -> Count =:= 0 end, Faults) of
        true -> halt(0);
        false -> fail("messages were lost, doubled or out of order", [])
    end.

is_wanted(Variable) ->
    not lists:member(os:getenv(Variable, ""), ["", "0"]).

store(false, _Text) ->
    ok;
store(File, Text) ->
    case file:write_file(File, Text) of
        ok -> ok;
        {error, Reason} -> fail("cannot write ~ts: ~ts", [File, file:format_error(Reason)])
    end.

-spec fail(io:format(), [term()]) -> no_return().
fail(Format, Values) ->
    io:format(standard_error, "ring-erlang: " ++ Format ++ "~n", Values),
    halt(1).

%% @doc Starts the nodes, runs the rounds, ends the nodes.
-spec measure(options()) -> report().
measure(Given) ->
    Defaults = #{nodes => 6, workers => 6, size => 10 bsl 20, warmup => 3, rounds => 5, rate_milliseconds => 2000,
                 terms_milliseconds => 1000, calls => 2000, sizes => [], flags => [], tls => false,
                 progress => fun(_Format, _Values) -> ok end},
    Options = maps:merge(Defaults, Given),
    with_rings([{Transport, []} || Transport <- ?TRANSPORTS], Options, fun(Rings) -> in_rings(Rings, Options) end).

in_rings(Rings, #{warmup := Warmup, rounds := Rounds} = Options) ->
    Next = fun(Round, Before) -> in_turn(Round, Before, fun(Ring) -> round(Round, Ring, Options) end) end,
    Rung = lists:foldl(Next, Rings, lists:seq(1, Warmup + Rounds)),
    Figures = [{Ring#ring.transport, figures(Ring, Options)} || Ring <- Rung],
    Rates = in_rounds(Rings, Rounds, fun(Ring) -> rate(Ring, Options) end),
    Calls = in_rounds(Rings, Rounds, fun(Ring) -> calls(Ring, Options) end),
    Stream = fun(Shape) -> in_rounds(Rings, Rounds, fun(Ring) -> element(1, stream(Shape, Ring, Options)) end) end,
    Terms = maps:from_list([{Shape, Stream(Shape)} || Shape <- ?TERMS]),
    Sizes = [(medians(Stream({binary, Size})))#{bytes => Size} || Size <- maps:get(sizes, Options)],
    Small = #{rate_64b => Rates, call_us => Calls},
    maps:merge(maps:from_list([{sizes, Sizes} || Sizes =/= []] ++ Figures),
               (each(fun medians/1, Small))#{
                   terms => each(fun medians/1, Terms),
                   ranges => (each(fun ranges/1, Small))#{terms => each(fun ranges/1, Terms)}}).

%% Starts rings, of each transport with those flags for their `erl'; does something, and ends the nodes.
-spec with_rings([{teleport_ring_node:transport(), [string()]}], options(), fun(([#ring{}]) -> Result)) -> Result.
with_rings(Transports, Options, Do) ->
    Rings = start_all(Transports, Options),
    try
        Do(Rings)
    after
        parallel([fun() -> peer:stop(Peer) end || #ring{nodes = Nodes} <- Rings, {Peer, _, _} <- Nodes])
    end.

%% The one that was first is last the next time.
in_turn(Round, Rings, Do) when Round rem 2 =:= 0 -> lists:map(Do, Rings);
in_turn(_Round, Rings, Do) -> lists:reverse(lists:map(Do, lists:reverse(Rings))).

%% The values for each transport; the first round is for warming up.
in_rounds(Rings, Rounds, Measure) ->
    All = [in_turn(Round, Rings, Measure) || Round <- lists:seq(0, Rounds)],
    maps:from_list([{Transport, [lists:nth(N, Values) || Values <- tl(All)]} || {N, Transport} <- lists:enumerate(?TRANSPORTS)]).

each(Fun, Map) -> maps:map(fun(_Key, Value) -> Fun(Value) end, Map).

medians(Values) -> each(fun median/1, Values).

ranges(Values) -> each(fun range/1, Values).

range(Values) -> [float(lists:min(Values)), float(lists:max(Values))].

%% Nodes.

start_all(Transports, #{nodes := Count, tls := IsEncrypted, flags := Flags} = Given) ->
    ok = epmd(),
    Options = Given#{certificates => case IsEncrypted of true -> certificates(); false -> none end},
    Cookie = binary_to_list(binary:encode_hex(random_bytes(16))),
    [begin
         Names = [name(Number, Transport, Index) || Index <- lists:seq(0, Count - 1)],
         Configs = [maps:merge(maps:with([workers, size], Options),
                               #{transport => Transport, index => Index,
                                 names => list_to_tuple([list_to_atom(Name ++ "@127.0.0.1") || Name <- Names])})
                    || Index <- lists:seq(0, Count - 1)],
         Nodes = parallel([fun() -> start_node(Name, Cookie, Config, Options#{flags := Flags ++ Own}) end
                           || {Name, Config} <- lists:zip(Names, Configs)]),
         _ = parallel([fun() -> call(Peer, connect, [Config]) end
                       || {{Peer, _, _}, Config} <- lists:zip(Nodes, Configs)]),
         [_, {Receiver, _, _} | _] = Nodes,
         ok = peer:call(Receiver, teleport_ring_stream, start, []),
         #ring{transport = Transport, nodes = Nodes}
     end || {Number, {Transport, Own}} <- lists:enumerate(Transports)].

name(Number, Transport, Index) ->
    lists:concat(["ring_", Number, "_", Transport, "_", Index, "_", os:getpid()]).

start_node(Name, Cookie, #{transport := Transport} = Config, #{flags := Flags, certificates := Certificates}) ->
    %% The last path that is put in front is the first one.
    Args = ["-setcookie", Cookie, "-connect_all", "false", "-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        ++ carrier(Transport, Certificates) ++ teleport_test:code_path() ++ Flags,
    {ok, Peer, Node} = peer:start(#{name => Name, host => "127.0.0.1", longnames => true, connection => standard_io,
                                    wait_boot => ?PATIENCE, args => Args}),
    {Peer, Node, call(Peer, start, [Config])}.

%% What distributed Erlang goes over.
carrier(carrier, none) -> ["-proto_dist", "teleport"];
carrier(carrier, {Options, _File}) -> ["-proto_dist", "teleport", "-teleport", "tls", lists:flatten(io_lib:format("~0p", [Options]))];
carrier(_Transport, none) -> [];
carrier(_Transport, {_Options, File}) -> ["-proto_dist", "inet_tls", "-ssl_dist_optfile", File].

%% Options of teleport's own, and a file with those of inet_tls. All nodes have one certificate, which both sides ask for.
certificates() ->
    Folder = filename:absname("erlang/_build/ring/tls"),
    Folder = teleport_test_tls:write(Folder, teleport_test_tls:authority(), [{dNSName, "127.0.0.1"}, {iPAddress, <<127, 0, 0, 1>>}]),
    Common = [{verify, verify_peer} | teleport_test_tls:options(Folder)],
    File = filename:join(Folder, "dist.conf"),
    ok = file:write_file(File, io_lib:format("~p.~n", [[{server, [{fail_if_no_peer_cert, true} | Common]},
                                                        {client, Common}]])),
    {Common, File}.

epmd() ->
    _ = os:cmd("epmd -daemon"),
    ok.

call(Peer, Function, Args) ->
    peer:call(Peer, teleport_ring_node, Function, Args, ?PATIENCE).

%% Figures.

round(Round, #ring{transport = Transport, nodes = Nodes} = Ring, #{warmup := Warmup, progress := Progress} = Options) ->
    Verify = Round =< Warmup,
    CpuBefore = cpu_seconds(Nodes),
    Start = erlang:monotonic_time(microsecond),
    Senders = parallel([fun() -> call(Peer, go, [Round, Verify]) end || {Peer, _, _} <- Nodes]),
    Seconds = (erlang:monotonic_time(microsecond) - Start) / 1.0e6,
    Cpu = cpu_seconds(Nodes) - CpuBefore,
    {Pings, Unanswered} =
        lists:unzip(parallel([fun() -> call(Peer, stop_pings, []) end || {Peer, _, _} <- Nodes])),
    Bytes = bytes(Options),
    Result = #round{megabytes_per_second = Bytes / 1.0e6 / Seconds, cpu_seconds_per_gigabyte = Cpu * 1.0e9 / Bytes,
                    senders = Senders},
    Progress("~s round ~w, ~s: ~.3f s, ~.1f MB/s, ~.2f CPU s/GB, senders ~.3f s~n",
             [case Verify of true -> "warm-up"; false -> "timed" end, Round, Transport, Seconds,
              Result#round.megabytes_per_second, Result#round.cpu_seconds_per_gigabyte, mean_seconds(Senders)]),
    case Verify of
        true -> Ring;
        false -> Ring#ring{rounds = [Result | Ring#ring.rounds], pings = lists:append(Pings) ++ Ring#ring.pings,
                           unanswered = Ring#ring.unanswered + lists:sum(Unanswered)}
    end.

%% On all hops.
bytes(#{nodes := Nodes, workers := Workers, size := Size}) ->
    Nodes * Workers * Size * (Nodes - 1).

figures(#ring{rounds = [Last | _] = Timed, nodes = Nodes, pings = Pings, unanswered = Unanswered},
        #{nodes := Count, workers := Workers, warmup := Warmup, rounds := Rounds}) ->
    {Messages, Doubled, OutOfOrder} = lists:unzip3([call(Peer, tally, []) || {Peer, _, _} <- Nodes]),
    Sorted = list_to_tuple(lists:sort(Pings)),
    Values = #{megabytes_per_second => [Round#round.megabytes_per_second || Round <- Timed],
               cpu_seconds_per_gigabyte => [Round#round.cpu_seconds_per_gigabyte || Round <- Timed],
               mean_sender_seconds => [mean_seconds(Round#round.senders) || Round <- Timed]},
    (medians(Values))#{
      ranges => ranges(Values),
      ping_ms => #{p50 => rank(Sorted, 50) / 1000, p99 => rank(Sorted, 99) / 1000, max => rank(Sorted, 100) / 1000},
      pings => tuple_size(Sorted),
      pings_unanswered => Unanswered,
      peak_rss_mib => [peak_rss_mib(OsPid) || {_, _, OsPid} <- Nodes],
      sender_microseconds => Last#round.senders,
      messages => lists:sum(Messages),
      lost => Count * Workers * (Warmup + Rounds) - lists:sum(Messages),
      doubled => lists:sum(Doubled),
      out_of_order => lists:sum(OutOfOrder)}.

mean_seconds(Senders) ->
    Times = lists:append(Senders),
    lists:sum(Times) / length(Times) / 1.0e6.

rate(#ring{transport = Transport, nodes = [{Peer, _, _}, {_, Node, _} | _]},
     #{rate_milliseconds := Milliseconds, progress := Progress}) ->
    Rate = call(Peer, rate, [Transport, Node, Milliseconds]),
    Progress("64 B, ~s: ~w messages/s~n", [Transport, round(Rate)]),
    Rate.

calls(#ring{transport = Transport, nodes = [{Peer, _, _}, {_, Node, _} | _]}, #{calls := Count, progress := Progress}) ->
    Median = median(call(Peer, calls, [Transport, Node, Count])),
    Progress("call of 64 B, ~s: p50 ~.1f us~n", [Transport, Median]),
    Median.

%% From the first node to the second: megabytes per second, and the seconds of CPU for a gigabyte.
-spec stream(teleport_ring_stream:shape(), #ring{}, options()) -> {float(), float()}.
stream(Shape, #ring{transport = Transport, nodes = [{Peer, _, _}, {_, Node, _} | _] = Nodes},
       #{terms_milliseconds := Milliseconds, progress := Progress}) ->
    Call = fun(Function, Args) -> peer:call(Peer, teleport_ring_stream, Function, [Transport, Node, Shape | Args], ?PATIENCE) end,
    ok = Call(check, []),
    CpuBefore = cpu_seconds(Nodes),
    {Bytes, Seconds} = Call(stream, [Milliseconds]),
    Rate = Bytes / 1.0e6 / Seconds,
    Progress("~w, ~s: ~.1f MB/s~n", [Shape, Transport, Rate]),
    {Rate, (cpu_seconds(Nodes) - CpuBefore) * 1.0e9 / Bytes}.

%% In user and system mode, of all threads; the kernel counts in hundredths of a second.
cpu_seconds(Nodes) ->
    lists:sum([begin
                   {ok, Stat} = file:read_file(["/proc/", OsPid, "/stat"]),
                   %% The name, in brackets, may contain anything.
                   [_, Fields] = string:split(Stat, ") ", trailing),
                   Words = string:lexemes(Fields, " "),
                   (binary_to_integer(lists:nth(12, Words)) + binary_to_integer(lists:nth(13, Words))) / 100
               end || {_, _, OsPid} <- Nodes]).

peak_rss_mib(OsPid) ->
    {ok, Status} = file:read_file(["/proc/", OsPid, "/status"]),
    {match, [KiB]} = re:run(Status, "VmHWM:\\s*(\\d+) kB", [{capture, all_but_first, binary}]),
    binary_to_integer(KiB) / 1024.

-spec median([number()]) -> float().
median(Values) ->
    Sorted = lists:sort(Values),
    Half = length(Sorted) div 2,
    case length(Sorted) rem 2 of
        1 -> float(lists:nth(Half + 1, Sorted));
        0 -> (lists:nth(Half, Sorted) + lists:nth(Half + 1, Sorted)) / 2
    end.

%% The nearest rank; 0 of nothing.
rank({}, _Percent) -> 0;
rank(Sorted, Percent) -> element(max(1, (tuple_size(Sorted) * Percent + 99) div 100), Sorted).

%% All at once; the results in order.
parallel(Funs) ->
    Started = [spawn_monitor(fun() -> exit({result, Fun()}) end) || Fun <- Funs],
    [receive
         {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
         {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
     end || {Pid, Monitor} <- Started].

random_bytes(Size) ->
    {ok, File} = file:open("/dev/urandom", [read, raw, binary]),
    {ok, Bytes} = file:read(File, Size),
    ok = file:close(File),
    Bytes.

%% Results for people.

%% @doc The figures side by side, and each sender's time.
-spec table(report()) -> iolist().
table(Report) ->
    Rings = [maps:get(Transport, Report) || Transport <- ?TRANSPORTS],
    Row = fun(Name, [First | Others] = Values) ->
        [io_lib:format("~-30s", [Name]), [io_lib:format(" ~11.2f", [Value]) || Value <- Values],
         [io_lib:format(" ~8.2f", [ratio(First, Other)]) || Other <- Others]]
    end,
    Line = fun(Name, Values) -> [Row(Name, Values), $\n] end,
    Ranged = fun(Name, Values, Ranges) ->
        [Row(Name, Values), [io_lib:format("~21s", [range_text(Range)]) || Range <- Ranges], $\n]
    end,
    Of = fun(Name, Path) -> Line(Name, [dig(Path, Ring) || Ring <- Rings]) end,
    OfRounds = fun(Name, Key) ->
        Ranged(Name, [maps:get(Key, Ring) || Ring <- Rings], [dig([ranges, Key], Ring) || Ring <- Rings])
    end,
    All = fun(Name, Path) ->
        Each = fun(Values) -> [maps:get(Transport, Values) || Transport <- ?TRANSPORTS] end,
        Ranged(Name, Each(dig(Path, Report)), Each(dig([ranges | Path], Report)))
    end,
    Memory = fun(Name, Of1) -> Line(Name, [Of1(maps:get(peak_rss_mib, Ring)) || Ring <- Rings]) end,
    Counts = fun(Key) ->
        [io_lib:format("~-30s", [Key]), [io_lib:format(" ~11w", [maps:get(Key, Ring)]) || Ring <- Rings], $\n]
    end,
    [io_lib:format("~-30s", [""]), [io_lib:format(" ~11s", [Transport]) || Transport <- ?TRANSPORTS],
     [io_lib:format(" ~8s", [string:slice(atom_to_list(Transport), 0, 8)]) || Transport <- tl(?TRANSPORTS)],
     [io_lib:format("~21s", [atom_to_list(Transport) ++ " min - max"]) || Transport <- ?TRANSPORTS], $\n,
     OfRounds("MB/s", megabytes_per_second),
     OfRounds("CPU s/GB", cpu_seconds_per_gigabyte),
     [Of("ping ms, " ++ atom_to_list(Key), [ping_ms, Key]) || Key <- [p50, p99, max]],
     OfRounds("mean sender s", mean_sender_seconds),
     Memory("peak RSS MiB, median node", fun median/1),
     Memory("peak RSS MiB, largest node", fun lists:max/1),
     All("64 B messages/s", [rate_64b]),
     All("call of 64 B us, p50", [call_us]),
     All("80,000 binaries of 128 B, MB/s", [terms, binaries_80000x128]),
     All("1 MB without binaries, MB/s", [terms, term_1mb]),
     [Counts(Key) || Key <- [pings, pings_unanswered, messages, lost, doubled, out_of_order]],
     [senders(Transport, maps:get(Transport, Report)) || Transport <- ?TRANSPORTS],
     [teleport_ring_plot:bars(?TRANSPORTS, Sizes) || #{sizes := Sizes} <- [Report]]].

range_text([Least, Most]) ->
    io_lib:format("~.2f - ~.2f", [Least, Most]).

senders(Transport, #{sender_microseconds := Nodes}) ->
    Numbered = lists:zip(lists:seq(0, length(Nodes) - 1), Nodes),
    [io_lib:format("~nSenders of the last round, microseconds, ~s:~n", [Transport]),
     [io_lib:format("  node ~w:~s~n", [Node, [io_lib:format(" ~w", [Time]) || Time <- Times]])
      || {Node, Times} <- Numbered],
     io_lib:format("  average ~.3f s~n", [mean_seconds(Nodes)])].

ratio(A, _) when A == 0 -> 0.0;
ratio(A, B) -> B / A.

dig(Path, Figures) ->
    lists:foldl(fun(Key, Map) -> maps:get(Key, Map) end, Figures, Path).

%% Results for programs.

%% @doc The report without what only people read.
-spec json(report()) -> iolist().
json(Report) ->
    Published = fun(Figures) when is_map(Figures) -> maps:without([sender_microseconds], Figures);
                   (Sizes) -> Sizes
                end,
    [value(each(Published, Report)), $\n].

%% As JSON.
-spec value(map() | list() | number() | atom()) -> iolist().
value(Map) when is_map(Map) ->
    [${, lists:join($,, [[$", atom_to_list(Key), "\":", value(Value)] || {Key, Value} <- maps:to_list(Map)]), $}];
value(List) when is_list(List) ->
    [$[, lists:join($,, [value(Value) || Value <- List]), $]];
value(Atom) when is_atom(Atom) ->
    [$", atom_to_list(Atom), $"];
value(Integer) when is_integer(Integer) ->
    integer_to_list(Integer);
value(Float) when is_float(Float) ->
    float_to_list(Float, [{decimals, 6}, compact]).
