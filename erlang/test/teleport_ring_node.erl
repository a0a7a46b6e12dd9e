%% A node of the ring: what `teleport_ring' calls on it, and the processes that send, pass on and answer.
%%
%% Each worker sends to the worker of the same number on the next node, even nodes forwards, odd ones backwards, and so
%% on until the message has made one hop less than there are nodes. The last node acknowledges it to its sender.
%% Large messages and acknowledgements from one worker to another are numbered together, and checked to be in order.
-module(teleport_ring_node).

-export([start/1, connect/1, go/2, stop_pings/0, tally/0, rate/3, calls/3]).

-export_type([config/0, transport/0]).

%% `carrier': as distributed Erlang, on nodes whose distribution teleport carries.
-type transport() :: disterl | teleport | carrier.

-type config() :: #{transport := transport(), index := non_neg_integer(), names := tuple(),
                    workers := pos_integer(), size := pos_integer()}.
%% `names': all nodes by index.

-record(state, {config :: config(),
                number :: pos_integer(),
                message :: {non_neg_integer(), binary()},
                %% Whom to tell of the acknowledgement of which round, and since when it is under way.
                waiting = none :: none | {pid(), pos_integer(), integer()},
                seen = #{} :: #{{non_neg_integer(), pos_integer()} => true},
                doubled = 0 :: non_neg_integer(),
                %% The last number to and from each neighbour's worker.
                sent = #{} :: #{node() => pos_integer()},
                received = #{} :: #{node() => pos_integer()},
                out_of_order = 0 :: non_neg_integer()}).

-define(PING_INTERVAL, 10).
-define(PING_DEADLINE, 10000).
-define(SMALL, 64).
%% Small messages between two looks at the clock.
-define(BURST, 100).

%% @doc Starts the node's processes; answers the process id of its virtual machine.
-spec start(config()) -> string().
start(#{transport := Transport, workers := Workers} = Config) ->
    case Transport of
        teleport -> ok = teleport:start();
        _ -> ok
    end,
    persistent_term:put(?MODULE, Config),
    [true = register(worker_name(Number), spawn(fun() -> worker(Config, Number) end))
     || Number <- lists:seq(1, Workers)],
    true = register(ring_answer, spawn(fun answer/0)),
    true = register(ring_pings, spawn(fun() -> pings_idle(Config) end)),
    true = register(ring_sink, spawn(fun() -> sink(0) end)),
    {ok, _} = teleport_test_server:start(ring_server),
    os:getpid().

%% @doc Connects with the neighbours, by distributed Erlang.
-spec connect(config()) -> ok.
connect(Config) ->
    [true = net_kernel:connect_node(Node) || Node <- neighbours(Config)],
    ok.

%% @doc One message per worker, with pings meanwhile; each sender's microseconds until it was acknowledged.
-spec go(pos_integer(), boolean()) -> [non_neg_integer()].
go(Round, Verify) ->
    #{workers := Workers} = persistent_term:get(?MODULE),
    ring_pings ! start,
    Names = [worker_name(Number) || Number <- lists:seq(1, Workers)],
    Monitors = [erlang:monitor(process, Name) || Name <- Names],
    [Name ! {go, Round, Verify, self()} || Name <- Names],
    Times = [receive
                 {acknowledged, Name, Round, Microseconds} -> Microseconds;
                 {'DOWN', _, process, Ended, Reason} -> error({Ended, Reason})
             end || Name <- Names],
    [erlang:demonitor(Monitor, [flush]) || Monitor <- Monitors],
    Times.

%% @doc Ends the pings; the microseconds of each from when it was due, and how many had no answer.
-spec stop_pings() -> {[non_neg_integer()], non_neg_integer()}.
stop_pings() ->
    ask(ring_pings, stop).

%% @doc How many messages ended here, how many did once more, and how many came behind a later one of their pair.
-spec tally() -> {Messages :: non_neg_integer(), Doubled :: non_neg_integer(), OutOfOrder :: non_neg_integer()}.
tally() ->
    #{workers := Workers} = persistent_term:get(?MODULE),
    Tallies = [ask(worker_name(Number), tally) || Number <- lists:seq(1, Workers)],
    {Messages, Doubled, OutOfOrder} = lists:unzip3(Tallies),
    {lists:sum(Messages), lists:sum(Doubled), lists:sum(OutOfOrder)}.

%% @doc Small messages per second to another node, until the last one is there.
-spec rate(transport(), node(), pos_integer()) -> float().
rate(Transport, Node, Milliseconds) ->
    Start = erlang:monotonic_time(),
    End = Start + erlang:convert_time_unit(Milliseconds, millisecond, native),
    To = {ring_sink, Node},
    Sent = flood(Transport, To, binary:copy(<<1>>, ?SMALL), End, 0),
    Tag = make_ref(),
    send(Transport, To, {count, self(), Tag}),
    receive
        {Tag, Sent} -> Sent * 1.0e6 / microseconds_since(Start);
        {Tag, Arrived} -> error({lost, Sent - Arrived})
    end.

%% @doc The microseconds of this many calls in turn, with small requests and replies.
-spec calls(transport(), node(), pos_integer()) -> [float()].
calls(Transport, Node, Count) ->
    Request = {echo, binary:copy(<<1>>, ?SMALL)},
    Call = case Transport of
        teleport -> fun teleport:gs_call/2;
        _ -> fun gen_server:call/2
    end,
    [begin
         Start = erlang:monotonic_time(),
         {ok, _} = Call({ring_server, Node}, Request),
         nanoseconds_since(Start) / 1000
     end || _ <- lists:seq(1, Count)].

%% Workers.

worker(#{size := Size} = Config, Number) ->
    Payload = random_bytes(Size),
    work(#state{config = Config, number = Number, message = {erlang:crc32(Payload), Payload}}).

work(#state{config = #{index := Index}} = State) ->
    receive
        {go, Round, Verify, From} ->
            Start = erlang:monotonic_time(),
            {Sum, Payload} = State#state.message,
            Passed = pass_on({hop, 1, Round, Verify, Index, Sum, Payload}, State),
            work(Passed#state{waiting = {From, Round, Start}});
        {numbered, From, Number, Message} ->
            work(take(Message, in_order(From, Number, State)));
        {tally, From, Tag} ->
            From ! {Tag, {map_size(State#state.seen), State#state.doubled, State#state.out_of_order}},
            work(State)
    end.

take({hop, Hop, Round, Verify, Origin, Sum, Payload}, #state{config = #{names := Names} = Config} = State) ->
    case Hop < tuple_size(Names) - 1 of
        true ->
            pass_on({hop, Hop + 1, Round, Verify, Origin, Sum, Payload}, State);
        false ->
            check(Config, Verify, Sum, Payload),
            arrived({Origin, Round}, numbered(element(Origin + 1, Names), {ack, Round}, State))
    end;
take({ack, Round}, State) ->
    acknowledged(Round, State).

pass_on(Message, #state{config = Config} = State) ->
    numbered(next(Config, element(5, Message)), Message, State).

%% To the worker of the same number there.
numbered(Node, Message, #state{config = #{transport := Transport}, number = Number, sent = Sent} = State) ->
    Next = maps:get(Node, Sent, 0) + 1,
    send(Transport, {worker_name(Number), Node}, {numbered, node(), Next, Message}),
    State#state{sent = Sent#{Node => Next}}.

in_order(From, Number, #state{received = Received, out_of_order = OutOfOrder} = State) ->
    case maps:get(From, Received, 0) < Number of
        true -> State#state{received = Received#{From => Number}};
        false -> State#state{out_of_order = OutOfOrder + 1}
    end.

acknowledged(Round, #state{waiting = {From, Round, Start}, number = Number} = State) ->
    From ! {acknowledged, worker_name(Number), Round, microseconds_since(Start)},
    State#state{waiting = none};
acknowledged(_Again, #state{doubled = Doubled} = State) ->
    State#state{doubled = Doubled + 1}.

arrived(Key, #state{seen = Seen, doubled = Doubled} = State) ->
    case Seen of
        #{Key := true} -> State#state{doubled = Doubled + 1};
        #{} -> State#state{seen = Seen#{Key => true}}
    end.

check(#{size := Size}, Verify, Sum, Payload) ->
    byte_size(Payload) =:= Size orelse error({damaged, size}),
    Verify andalso erlang:crc32(Payload) =/= Sum andalso error({damaged, contents}),
    ok.

send(teleport, To, Message) -> ok = teleport:send(To, Message);
send(_Transport, To, Message) -> _ = erlang:send(To, Message), ok.

%% From the system: rand:bytes/1 takes long.
random_bytes(Size) ->
    {ok, File} = file:open("/dev/urandom", [read, raw, binary]),
    {ok, <<Bytes:Size/binary>>} = file:read(File, Size),
    ok = file:close(File),
    Bytes.

%% Pings: by distributed Erlang whatever the transport, since that is who must not be held up.

pings_idle(Config) ->
    receive
        start -> pings(Config, make_ref(), erlang:monotonic_time(millisecond), 0, []);
        {stop, From, Tag} -> From ! {Tag, {[], 0}}, pings_idle(Config);
        {pong, _GivenUp, _} -> pings_idle(Config)
    end.

%% Flood tells pings of this round from earlier ones that come too late.
pings(Config, Flood, Due, Sent, Samples) ->
    Wait = max(0, Due - erlang:monotonic_time(millisecond)),
    receive
        {pong, Flood, Sample} ->
            pings(Config, Flood, Due, Sent, [Sample | Samples]);
        {stop, From, Tag} ->
            %% What was due before the end counts, even if this process comes late.
            Overdue = lists:seq(Due, erlang:monotonic_time(millisecond), ?PING_INTERVAL),
            Late = lists:sum([ping(Config, Flood, Time) || Time <- Overdue]),
            End = erlang:monotonic_time(millisecond) + ?PING_DEADLINE,
            From ! {Tag, collect(Flood, Sent + Late - length(Samples), Samples, End)},
            pings_idle(Config)
    after Wait ->
        pings(Config, Flood, Due + ?PING_INTERVAL, Sent + ping(Config, Flood, Due), Samples)
    end.

collect(_Flood, 0, Samples, _End) ->
    {Samples, 0};
collect(Flood, Missing, Samples, End) ->
    receive
        {pong, Flood, Sample} -> collect(Flood, Missing - 1, [Sample | Samples], End)
    after max(0, End - erlang:monotonic_time(millisecond)) ->
        {Samples, Missing}
    end.

%% A process for each: one that is held up holds up no other.
ping(Config, Flood, Due) ->
    Pings = self(),
    Start = erlang:convert_time_unit(Due, millisecond, native),
    Neighbours = neighbours(Config),
    [spawn(fun() ->
         _ = ask({ring_answer, Node}, ping),
         Pings ! {pong, Flood, microseconds_since(Start)}
     end) || Node <- Neighbours],
    length(Neighbours).

answer() ->
    receive {ping, From, Tag} -> From ! {Tag, pong} end,
    answer().

%% Small messages.

flood(Transport, To, Message, End, Sent) ->
    [send(Transport, To, Message) || _ <- lists:seq(1, ?BURST)],
    case erlang:monotonic_time() < End of
        true -> flood(Transport, To, Message, End, Sent + ?BURST);
        false -> Sent + ?BURST
    end.

sink(Count) ->
    receive
        {count, From, Tag} -> From ! {Tag, Count}, sink(0);
        _Small -> sink(Count + 1)
    end.

%% The ring.

next(#{index := Index, names := Names}, Origin) ->
    Step = case Origin rem 2 of 0 -> 1; 1 -> tuple_size(Names) - 1 end,
    element((Index + Step) rem tuple_size(Names) + 1, Names).

neighbours(Config) ->
    lists:usort([next(Config, 0), next(Config, 1)]).

worker_name(Number) ->
    list_to_atom("ring_worker_" ++ integer_to_list(Number)).

ask(Process, Question) ->
    Tag = make_ref(),
    Process ! {Question, self(), Tag},
    receive {Tag, Answer} -> Answer end.

microseconds_since(Start) ->
    nanoseconds_since(Start) div 1000.

nanoseconds_since(Start) ->
    erlang:convert_time_unit(erlang:monotonic_time() - Start, native, nanosecond).
