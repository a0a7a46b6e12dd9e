%% A node of the ring on distributed Erlang: plain `!` between worker processes.
%%
%% Commands come as Erlang terms, one per line, on stdin; events go as JSON, one per line, to stdout.
%% The node ends with its stdin.
-module(ring).

-export([main/1]).

-define(INTERVAL, 10).
-define(ECHO_SIZE, 1024).
-define(ANSWER_DEADLINE, 10000).

-record(config, {
    index :: non_neg_integer(),
    nodes :: pos_integer(),
    workers :: pos_integer(),
    size :: pos_integer(),
    %% All nodes' names by index.
    names = {} :: tuple()
}).

-type kind() :: tick | echo.

%% Called as `erl -run ring main Index Nodes Workers Size`.
-spec main([string()]) -> pid().
main(Arguments) ->
    [Index, Nodes, Workers, Size] = [list_to_integer(Argument) || Argument <- Arguments],
    spawn(fun() ->
        control(#config{index = Index, nodes = Nodes, workers = Workers, size = Size})
    end).

%% --- Control: does what the coordinator says ---

-spec control(#config{}) -> no_return().
control(Config) ->
    process_flag(trap_exit, true),
    Control = self(),
    [register(server_name(Kind), spawn_link(fun answer/0)) || Kind <- [tick, echo]],
    spawn_link(fun() -> read_commands(Control) end),
    emit("{\"event\":\"ready\",\"address\":\"~s\",\"version\":\"OTP ~s, ERTS ~s\"}", [
        node(), erlang:system_info(otp_release), erlang:system_info(version)
    ]),
    connect(Config).

connect(Config) ->
    {peers, Names} = next_command(),
    Connected = Config#config{names = list_to_tuple(Names)},
    [true = net_kernel:connect_node(neighbour_name(Connected, Way)) || Way <- [forwards, backwards]],
    Control = self(),
    [
        register(worker_name(Number), spawn_link(fun() -> worker(Connected, Number, Control) end))
     || Number <- numbers(Connected)
    ],
    [receive {started, Number} -> ok; {'EXIT', _, Reason} -> fail(Reason) end || Number <- numbers(Connected)],
    Prober = spawn_link(fun() -> prober(Connected) end),
    emit("{\"event\":\"connected\"}", []),
    control(Connected, Prober).

control(Config, Prober) ->
    case next_command() of
        {go, Round, Verify} ->
            Prober ! {start, erlang:monotonic_time(millisecond)},
            [worker_name(Number) ! {go, Round, Verify} || Number <- numbers(Config)],
            Seconds = [acknowledged(Number, Round) || Number <- numbers(Config)],
            emit("{\"event\":\"done\",\"round\":~w,\"sender_seconds\":[~s]}", [Round, json_list(Seconds)]);
        stop_probes ->
            Prober ! {stop, self()},
            {Ticks, Echoes, Unanswered} =
                receive
                    {probes, Samples} -> Samples;
                    {'EXIT', _, Reason} -> fail(Reason)
                end,
            emit("{\"event\":\"probes\",\"tick_us\":[~s],\"echo_us\":[~s],\"unanswered\":~w}", [
                json_list(Ticks), json_list(Echoes), Unanswered
            ]);
        report ->
            Tallies = [tally(Number) || Number <- numbers(Config)],
            Sum = fun(Position) -> lists:sum([element(Position, Tally) || Tally <- Tallies]) end,
            emit("{\"event\":\"report\",\"messages\":~w,\"doubled\":~w,\"reordered\":~w}", [Sum(1), Sum(2), Sum(3)])
    end,
    control(Config, Prober).

next_command() ->
    receive
        {command, Command} -> Command;
        {'EXIT', _, Reason} -> fail(Reason)
    end.

acknowledged(Number, Round) ->
    receive
        {acknowledged, Number, Round, Native} -> Native / erlang:convert_time_unit(1, second, native);
        {'EXIT', _, Reason} -> fail(Reason)
    end.

tally(Number) ->
    worker_name(Number) ! {tally, self()},
    receive
        {tally, Number, Tally} -> Tally;
        {'EXIT', _, Reason} -> fail(Reason)
    end.

read_commands(Control) ->
    case io:get_line(standard_io, "") of
        Line when is_list(Line) ->
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, Command} = erl_parse:parse_term(Tokens),
            Control ! {command, Command},
            read_commands(Control);
        _ ->
            halt(0, [{flush, false}])
    end.

-spec fail(term()) -> no_return().
fail(Reason) ->
    Text = lists:flatten(io_lib:format("~0P", [Reason, 20])),
    Plain = [Char || Char <- Text, Char >= $\s, Char < 127, Char =/= $", Char =/= $\\],
    emit("{\"event\":\"failed\",\"reason\":\"~s\"}", [Plain]),
    halt(1).

emit(Format, Arguments) ->
    io:format(Format ++ "~n", Arguments).

json_list(Numbers) ->
    lists:join($,, [io_lib:format("~w", [Number]) || Number <- Numbers]).

%% --- Workers: send, pass on, acknowledge ---

worker(Config, Number, Control) ->
    Payload = random_bytes(Config#config.size),
    Message = {erlang:crc32(Payload), Payload},
    Control ! {started, Number},
    work(Config, Number, Control, Message, undefined, #{}).

%% Seen: the rounds of each origin's messages that ended here, the latest first, and the counts.
work(#config{index = Index} = Config, Number, Control, {Crc, Payload} = Own, Start, Seen) ->
    receive
        {go, Round, Verify} ->
            Now = erlang:monotonic_time(),
            pass_on(Config, Number, {Round, Verify, 1, Index, Crc, Payload}),
            work(Config, Number, Control, Own, Now, Seen);
        {Round, Verify, Hop, Origin, Sum, Binary} when Hop < Config#config.nodes - 1 ->
            pass_on(Config, Number, {Round, Verify, Hop + 1, Origin, Sum, Binary}),
            work(Config, Number, Control, Own, Start, Seen);
        {Round, Verify, _, Origin, Sum, Binary} ->
            check(Config, Verify, Sum, Binary, {Origin, Number, Round}),
            {worker_name(Number), name(Config, Origin)} ! {ack, Round},
            work(Config, Number, Control, Own, Start, arrived(Origin, Round, Seen));
        {ack, Round} ->
            Control ! {acknowledged, Number, Round, erlang:monotonic_time() - Start},
            work(Config, Number, Control, Own, undefined, Seen);
        {tally, From} ->
            From ! {tally, Number, maps:get(tally, Seen, {0, 0, 0})},
            work(Config, Number, Control, Own, Start, Seen)
    end.

pass_on(Config, Number, Message) ->
    Way = way(element(4, Message)),
    {worker_name(Number), neighbour_name(Config, Way)} ! Message.

check(#config{size = Size}, true, Sum, Binary, From) ->
    byte_size(Binary) =:= Size andalso erlang:crc32(Binary) =:= Sum orelse exit({damaged_payload, From});
check(#config{size = Size}, false, _, Binary, From) ->
    byte_size(Binary) =:= Size orelse exit({damaged_payload, From}).

arrived(Origin, Round, Seen) ->
    Rounds = maps:get(Origin, Seen, []),
    {Messages, Doubled, Reordered} = maps:get(tally, Seen, {0, 0, 0}),
    case {lists:member(Round, Rounds), Rounds} of
        {true, _} ->
            Seen#{tally => {Messages, Doubled + 1, Reordered}};
        {false, [Last | _]} when Last > Round ->
            Late = lists:reverse(lists:sort([Round | Rounds])),
            Seen#{Origin => Late, tally => {Messages + 1, Doubled, Reordered + 1}};
        {false, _} ->
            Seen#{Origin => [Round | Rounds], tally => {Messages + 1, Doubled, Reordered}}
    end.

%% From the system, since OTP's crypto may not be installed and rand:bytes/1 is slow.
random_bytes(Size) ->
    {ok, File} = file:open("/dev/urandom", [read, raw, binary]),
    {ok, Bytes} = file:read(File, Size),
    Size = byte_size(Bytes),
    ok = file:close(File),
    Bytes.

%% --- Probes: round trips from the time they were due ---

prober(Config) ->
    receive
        {start, Now} ->
            Due = [schedule(Kind, Now + offset(Config, Kind)) || Kind <- [tick, echo]],
            probe(Config, make_ref(), Due, 0, []);
        {stop, From} ->
            From ! {probes, {[], [], 0}},
            prober(Config);
        {sample, _GivenUp, _, _} ->
            prober(Config)
    end.

%% The flood tells one round's samples from another's that came too late.
probe(Config, Flood, Due, Sent, Samples) ->
    receive
        {timeout, _, {Kind, Time}} ->
            Fired = fire(Config, Flood, Kind, Time),
            Next = lists:keyreplace(Kind, 1, Due, schedule(Kind, Time + ?INTERVAL)),
            probe(Config, Flood, Next, Sent + Fired, Samples);
        {sample, Flood, Kind, Sample} ->
            probe(Config, Flood, Due, Sent, [{Kind, Sample} | Samples]);
        {sample, _GivenUp, _, _} ->
            probe(Config, Flood, Due, Sent, Samples);
        {stop, From} ->
            Now = erlang:monotonic_time(millisecond),
            Late = lists:sum([fire_overdue(Config, Flood, Entry, Now) || Entry <- Due]),
            Timer = erlang:start_timer(?ANSWER_DEADLINE, self(), give_up),
            {All, Missing} = collect(Flood, Timer, Sent + Late - length(Samples), Samples),
            Ticks = [Sample || {tick, Sample} <- All],
            Echoes = [Sample || {echo, Sample} <- All],
            From ! {probes, {Ticks, Echoes, Missing}},
            prober(Config)
    end.

%% What was due before the end counts, even if this process comes late.
fire_overdue(Config, Flood, {Kind, Time, Timer}, Now) ->
    cancel_timer(Timer),
    lists:sum([fire(Config, Flood, Kind, Overdue) || Overdue <- lists:seq(Time, Now, ?INTERVAL)]).

collect(_Flood, Timer, 0, Samples) ->
    cancel_timer(Timer),
    {Samples, 0};
collect(Flood, Timer, Missing, Samples) ->
    receive
        {sample, Flood, Kind, Sample} -> collect(Flood, Timer, Missing - 1, [{Kind, Sample} | Samples]);
        {timeout, Timer, give_up} -> {Samples, Missing}
    end.

%% Also takes back what the timer may have sent already.
cancel_timer(Timer) ->
    _ = erlang:cancel_timer(Timer),
    receive
        {timeout, Timer, _} -> ok
    after 0 -> ok
    end.

schedule(Kind, Time) ->
    {Kind, Time, erlang:start_timer(Time, self(), {Kind, Time}, [{abs, true}])}.

%% Nodes and kinds take turns within the interval, lest probes mostly wait for one another.
offset(#config{index = Index, nodes = Nodes}, tick) -> ?INTERVAL * 2 * Index div (2 * Nodes);
offset(#config{index = Index, nodes = Nodes}, echo) -> ?INTERVAL * (2 * Index + 1) div (2 * Nodes).

%% A process per probe: one that is held up does not hold up the next.
-spec fire(#config{}, reference(), kind(), integer()) -> pos_integer().
fire(Config, Flood, Kind, Time) ->
    Prober = self(),
    Due = erlang:convert_time_unit(Time, millisecond, native),
    Neighbours = [neighbour_name(Config, Way) || Way <- [forwards, backwards]],
    Report = fun(Sample) -> Prober ! {sample, Flood, Kind, Sample} end,
    [spawn_link(fun() -> round_trip(Kind, Name, Due, Report) end) || Name <- Neighbours],
    length(Neighbours).

round_trip(Kind, Name, Due, Report) ->
    Ref = make_ref(),
    {server_name(Kind), Name} ! {self(), Ref, content(Kind)},
    receive
        {Ref, _} ->
            Late = erlang:monotonic_time() - Due,
            Report(erlang:convert_time_unit(Late, native, microsecond))
    end.

content(tick) -> <<>>;
content(echo) -> binary:copy(<<16#5a>>, ?ECHO_SIZE).

answer() ->
    receive
        {From, Ref, Content} -> From ! {Ref, Content}
    end,
    answer().

%% --- The ring ---

way(Origin) when Origin rem 2 =:= 0 -> forwards;
way(_) -> backwards.

neighbour_name(#config{index = Index, nodes = Nodes} = Config, forwards) ->
    name(Config, (Index + 1) rem Nodes);
neighbour_name(#config{index = Index, nodes = Nodes} = Config, backwards) ->
    name(Config, (Index + Nodes - 1) rem Nodes).

name(#config{names = Names}, Index) -> element(Index + 1, Names).

numbers(#config{workers = Workers}) -> lists:seq(1, Workers).

worker_name(Number) -> list_to_atom("ring_worker_" ++ integer_to_list(Number)).

-spec server_name(kind()) -> atom().
server_name(tick) -> ring_tick;
server_name(echo) -> ring_echo.
