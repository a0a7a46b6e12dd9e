%% The soak on one node: who sends, takes, calls, answers and monitors, and what each has seen.
-module(teleport_soak_node).
-behaviour(gen_server).

-export([prepare/1, downs/0, executed_twice/0, sink/0, sender/3, crowd/3, caller/3, watcher/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([sent/0, taken/0]).

%% What a sender knows at the end: its last number, those that were refused, and what it was told of others.
-type sent() :: #{last := non_neg_integer(), refused := [pos_integer()], delivered := [pos_integer()],
                  unconfirmed := [pos_integer()], pending := [pos_integer()], wrong := [term()]}.
%% What a sink knows: the last number and when it came, the numbers that it has not seen and between which times.
-type taken() :: #{last := non_neg_integer(), at := integer(), count := non_neg_integer(), wrong := [term()],
                   gaps := [{First :: pos_integer(), Last :: pos_integer(), After :: integer(), Before :: integer()}]}.

-define(DOWNS, teleport_soak_downs).
-define(EXECUTED, teleport_soak_executed).

%% What is to be told is told within this time, in milliseconds: a session may have to end first, or a virtual machine to go on.
-define(PATIENCE, 90000).

%% Once for each life of a node.
-spec prepare([node()]) -> ok.
prepare(Others) ->
    Self = self(),
    _ = spawn(fun() ->
        true = register(teleport_soak_anchor, self()),
        _ = ets:new(?DOWNS, [named_table, public, bag]),
        _ = ets:new(?EXECUTED, [named_table, public]),
        {ok, _} = gen_server:start({local, teleport_soak_server}, ?MODULE, [], []),
        [spawn(fun() -> see_downs(Other) end) || Other <- Others],
        Self ! prepared,
        take_anything()
    end),
    receive prepared -> ok end.

take_anything() ->
    receive _ -> take_anything() end.

%% When sessions with a peer ended, as this node's processes are told.
see_downs(Node) ->
    Monitor = teleport:monitor({teleport_soak_anchor, Node}),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    true = ets:insert(?DOWNS, {Node, now_ms()}),
    timer:sleep(20),
    see_downs(Node).

-spec downs() -> [{node(), integer()}].
downs() -> ets:tab2list(?DOWNS).

%% Calls that their server has got more than once.
-spec executed_twice() -> [term()].
executed_twice() -> [Id || {Id, Count} <- ets:tab2list(?EXECUTED), Count > 1].

now_ms() -> erlang:system_time(millisecond).

%% Messages.

-spec sink() -> no_return().
sink() ->
    %% What it notes as the time is when it takes a message.
    _ = process_flag(priority, high),
    sink(#{last => 0, at => now_ms(), count => 0, gaps => [], wrong => []}).

sink(#{last := Last, at := At, count := Count, gaps := Gaps, wrong := Wrong} = Taken) ->
    receive
        {soak, Number, Kind, Payload} ->
            Now = now_ms(),
            Wrong1 = [{damaged, Number, Kind} || Payload =/= payload(Kind, Number)] ++ Wrong,
            case Number > Last of
                true when Number =:= Last + 1 ->
                    sink(Taken#{last := Number, at := Now, count := Count + 1, wrong := Wrong1});
                true ->
                    Gap = {Last + 1, Number - 1, At, Now},
                    sink(Taken#{last := Number, at := Now, count := Count + 1, wrong := Wrong1, gaps := [Gap | Gaps]});
                false ->
                    Missed = lists:any(fun({A, B, _, _}) -> A =< Number andalso Number =< B end, Gaps),
                    What = if Missed -> reordered; true -> doubled end,
                    sink(Taken#{wrong := [{What, Number, {behind, Last}, Kind} | Wrong1]})
            end;
        {report, To} ->
            To ! {report, self(), Taken},
            sink(Taken)
    end.

%% Sends until it is told to stop, and then waits for what it has to be told.
-spec sender(pid(), integer(), pid()) -> ok.
sender(Sink, Seed, Controller) ->
    _ = rand:seed(exsss, Seed),
    Sent = #{last => 0, refused => [], delivered => [], unconfirmed => [], pending => [], wrong => []},
    Controller ! {report, self(), send(Sink, Sent)},
    ok.

send(Sink, #{refused := Refused} = Before) ->
    Sent = take_acks(Before, 0),
    receive
        stop ->
            %% Behind all that was sent: what has become of it then is known.
            await_acks(send_one(Sink, {small, 1}, true, [], Sent), now_ms() + ?PATIENCE)
    after 0 ->
        Options = [nosuspend || rand:uniform(10) =:= 1],
        Next = send_one(Sink, kind(), rand:uniform(4) =:= 1, Options, Sent),
        length(maps:get(refused, Next)) > length(Refused) andalso timer:sleep(10),
        send(Sink, Next)
    end.

send_one(Sink, Kind, IsAcked, Options, #{last := Last, refused := Refused, pending := Pending} = Sent) ->
    Number = Last + 1,
    Message = {soak, Number, Kind, payload(Kind, Number)},
    case teleport:send(Sink, Message, [{ack, {soak, Number}} || IsAcked] ++ Options) of
        ok when IsAcked -> Sent#{last := Number, pending := [Number | Pending]};
        ok -> Sent#{last := Number};
        {error, _} -> Sent#{last := Number, refused := [Number | Refused]}
    end.

take_acks(#{pending := Pending, wrong := Wrong} = Sent, Wait) ->
    receive
        {teleport, {soak, Number}, Outcome} ->
            Told = case {lists:member(Number, Pending), Outcome} of
                {false, _} -> Sent#{wrong := [{told_twice, Number, Outcome} | Wrong]};
                {true, delivered} -> add(delivered, Number, Sent);
                {true, {unconfirmed, noproc}} -> (add(unconfirmed, Number, Sent))#{wrong := [{noproc, Number} | Wrong]};
                {true, {unconfirmed, _}} -> add(unconfirmed, Number, Sent)
            end,
            take_acks(Told, 0)
    after Wait ->
        Sent
    end.

add(Where, Number, #{pending := Pending} = Sent) ->
    #{Where := Numbers} = Sent,
    Sent#{Where := [Number | Numbers], pending := lists:delete(Number, Pending)}.

await_acks(#{pending := []} = Sent, _End) ->
    take_acks(Sent, 200);
await_acks(Sent, End) ->
    case now_ms() < End of
        true -> await_acks(take_acks(Sent, 100), End);
        false -> Sent
    end.

%% Small ones mostly; maps that only a scheduler can build, in small messages and large ones; terms that take long.
kind() ->
    case rand:uniform(100) of
        I when I =< 45 -> {small, rand:uniform(200)};
        I when I =< 55 -> {binary, rand:uniform(60000)};
        I when I =< 75 -> {map, 129 + rand:uniform(300)};
        I when I =< 80 -> {map, 8000 + rand:uniform(4000)};
        I when I =< 88 -> {list, rand:uniform(20000)};
        I when I =< 90 -> {list, 200000};
        I when I =< 98 -> {binary, 65536 + rand:uniform(500000)};
        _ -> {binary, 3000000 + rand:uniform(3000000)}
    end.

payload({small, Size}, Number) -> lists:seq(Number, Number + Size);
payload({binary, Size}, Number) -> binary:part(binary:copy(<<Number:32>>, Size div 4 + 1), 0, Size);
payload({map, Size}, Number) -> maps:from_keys(lists:seq(Number, Number + Size), Number);
payload({list, Size}, Number) -> [{Number, I} || I <- lists:seq(1, Size)].

%% Many that send all the time, the one small messages, the other maps that only schedulers build: so that there are some on every
%% way when a session ends.
-spec crowd(node(), integer(), pid()) -> ok.
crowd(Node, _Seed, Controller) ->
    To = {teleport_soak_anchor, Node},
    Map = maps:from_keys(lists:seq(1, 1000), x),
    Crowd = [spawn_link(fun() -> send_for_ever(To, Message) end) || Message <- [Map, Map | lists:duplicate(8, hello)]],
    receive stop -> ok end,
    [begin unlink(Process), exit(Process, kill) end || Process <- Crowd],
    Controller ! {report, self(), #{ended => #{}, wrong => []}},
    ok.

send_for_ever(To, Message) ->
    _ = teleport:send(To, Message),
    timer:sleep(1),
    send_for_ever(To, Message).

%% Calls.

-spec caller(node(), integer(), pid()) -> ok.
caller(Node, Seed, Controller) ->
    _ = rand:seed(exsss, Seed),
    Controller ! {report, self(), call(Node, 0, #{ended => #{}, wrong => []})},
    ok.

call(Node, Count, #{ended := Ended, wrong := Wrong} = Calls) ->
    receive
        stop ->
            %% What comes late would be here soon.
            timer:sleep(1000),
            Calls#{wrong := [{stray, Message} || Message <- mailbox()] ++ Wrong}
    after 0 ->
        Id = {self(), Count},
        Kind = case kind() of {binary, Size} when Size > 1000000 -> {binary, 1000000}; Other -> Other end,
        Timeout = element(rand:uniform(4), {1, 20, 300, 10000}),
        Began = now_ms(),
        {What, Wrongs} = try teleport:gs_call({teleport_soak_server, Node}, {soak, Id, rand:uniform(30) - 10, Kind, Count}, Timeout) of
            {Id, Payload} -> {reply, [{damaged_reply, Id, Kind} || Payload =/= payload(Kind, Count)]};
            Reply -> {reply, [{reply_of_another, Id, Reply}]}
        catch
            exit:{{Reason, _}, {gen_server, call, _}} -> {Reason, []};
            exit:{Reason, {gen_server, call, _}} -> {Reason, []}
        end,
        Took = now_ms() - Began,
        Late = [{took, Took, Timeout, What} || Took > Timeout + 30000],
        What =/= reply andalso What =/= timeout andalso timer:sleep(10),
        call(Node, Count + 1, Calls#{ended := maps:update_with(What, fun(N) -> N + 1 end, 1, Ended),
                                     wrong := Late ++ Wrongs ++ Wrong})
    end.

mailbox() ->
    {messages, Messages} = process_info(self(), messages),
    Messages.

%% Monitors: of processes that send some messages, and end.

-spec watcher(node(), integer(), pid()) -> ok.
watcher(Node, Seed, Controller) ->
    _ = rand:seed(exsss, Seed),
    Controller ! {report, self(), watch(Node, 0, #{ended => #{}, wrong => []})},
    ok.

watch(Node, Count, #{ended := Ended, wrong := Wrong} = Watches) ->
    receive
        stop ->
            timer:sleep(1000),
            Watches#{wrong := [{stray, Down} || {'DOWN', _, _, _, _} = Down <- mailbox()] ++ Wrong}
    after 0 ->
        {What, Wrongs} = try teleport:gs_call({teleport_soak_server, Node}, target, 5000) of
            Target -> watch_target(Target, {soak, Count})
        catch
            exit:_ -> timer:sleep(20), {no_target, []}
        end,
        _ = forget_notes(),
        watch(Node, Count + 1, Watches#{ended := maps:update_with(What, fun(N) -> N + 1 end, 1, Ended),
                                        wrong := Wrongs ++ Wrong})
    end.

watch_target(Target, Reason) ->
    Monitor = teleport:monitor(Target),
    Notes = rand:uniform(5),
    case rand:uniform(5) =:= 1 orelse teleport:send(Target, {die, self(), Notes, Reason}) of
        ok ->
            receive
                {'DOWN', Monitor, process, _, {Reason, Accepted}} ->
                    Came = notes(Target, 1),
                    {down, [{notes, Reason, Came, 'of', Accepted} || Came =/= Accepted]};
                {'DOWN', Monitor, process, _, noconnection} -> {noconnection, []};
                {'DOWN', Monitor, process, _, noproc} -> {noproc, []};
                {'DOWN', Monitor, process, _, Other} -> {down, [{reason, Other, instead_of, Reason}]}
            after ?PATIENCE ->
                {unended, [{unended_monitor, Target}]}
            end;
        _TrueOrError ->
            true = teleport:demonitor(Monitor),
            _ = teleport:send(Target, {die, self(), 0, Reason}),
            {demonitored, []}
    end.

%% How many are there, in order, in front of DOWN.
notes(Target, Number) ->
    receive {note, Target, Number} -> notes(Target, Number + 1) after 0 -> Number - 1 end.

forget_notes() ->
    receive {note, _, _} -> forget_notes() after 0 -> ok end.

target() ->
    receive
        {die, To, Notes, Reason} ->
            exit({Reason, send_notes(To, 1, Notes)})
    after 2 * ?PATIENCE ->
        ok
    end.

%% Up to the first one that is refused. Returns how many were accepted.
send_notes(To, Number, Last) when Number =< Last ->
    case teleport:send(To, {note, self(), Number}) of
        ok -> send_notes(To, Number + 1, Last);
        {error, _} -> Number - 1
    end;
send_notes(_To, Number, _Last) ->
    Number - 1.

%% The server that is called.

init([]) -> {ok, []}.

handle_call(target, _From, State) ->
    {reply, spawn(fun target/0), State};
handle_call({soak, Id, Wait, Kind, Number}, From, State) ->
    _ = ets:update_counter(?EXECUTED, Id, 1, {Id, 0}),
    case Wait > 0 of
        true -> _ = erlang:send_after(Wait, self(), {answer, From, Id, Kind, Number}), {noreply, State};
        false -> {reply, {Id, payload(Kind, Number)}, State}
    end.

handle_cast(_Request, State) -> {noreply, State}.

handle_info({answer, From, Id, Kind, Number}, State) ->
    gen_server:reply(From, {Id, payload(Kind, Number)}),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.
