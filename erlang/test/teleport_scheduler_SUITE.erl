%% No scheduler is held up, whatever the term: not by who sends, not by who receives, not by a relay.
%%
%% Every call of a function of the NIF is timed, on both nodes, by tracing. A busy machine takes the processor away from threads
%% at any time, so the least of several times counts.
-module(teleport_scheduler_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([sends_hold_no_scheduler/1, calls_hold_no_scheduler/1, a_long_call_is_noticed/1, parts_stay_few/1,
         a_large_term_does_not_hold_up_others/1]).
-export([small_messages_need_no_dirty_scheduler/1, maps_have_their_share_of_a_scheduler/1]).
-export([who_waits_for_a_connection_takes_no_thread/1]).

%% Run on both nodes.
-export([observe/0, observer/1, sink/0]).

%% Microseconds. The rule for a NIF is one millisecond.
-define(LIMIT, 1000).
%% Milliseconds for which nothing of ours may run: far above what tracing and a NIF without optimization need.
-define(LONG_SCHEDULE, 200).
-define(ROUNDS, 30).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [sends_hold_no_scheduler, calls_hold_no_scheduler, a_long_call_is_noticed, parts_stay_few,
     a_large_term_does_not_hold_up_others, small_messages_need_no_dirty_scheduler, maps_have_their_share_of_a_scheduler,
     who_waits_for_a_connection_takes_no_thread].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

%% To a process of the peer, which sends it back.
sends_hold_no_scheduler(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, echo),
    %% What happens only once is not measured.
    ok = teleport:send({echo, Node}, {self(), first}),
    receive {echo, first} -> ok end,
    [within_limits(Node, Name, fun() ->
         ok = teleport:send({echo, Node}, {self(), Term}),
         receive {echo, _} -> ok end
     end) || {Name, Term} <- terms()].

%% The request and the reply, which goes by a relay.
calls_hold_no_scheduler(Config) ->
    Node = ?config(node, Config),
    _ = teleport_test_server:start_at(Node, server),
    {ok, first} = teleport:gs_call({server, Node}, {echo, first}),
    [within_limits(Node, Name, fun() -> {ok, _} = teleport:gs_call({server, Node}, {echo, Term}, infinity) end)
     || {Name, Term} <- terms()].

%% What is measured here would show.
a_long_call_is_noticed(Config) ->
    Node = ?config(node, Config),
    Parts = erlang:term_to_iovec([binary:copy(<<I:32>>, 512) || I <- lists:seq(1, 80000)]),
    Send = fun() -> teleport_nif:send({nobody, Node}, {encoded, Parts}, 2, undefined) end,
    #{{teleport_nif, send, 4} := Least} = least(Node, Send),
    ct:log("~p parts: ~p us", [length(Parts), Least]),
    ?assert(Least > ?LIMIT, Least).

%% Containers limit threads: nothing could be started any more.
who_waits_for_a_connection_takes_no_thread(_Config) ->
    {ok, Mute} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {backlog, 100}]),
    {ok, Port} = inet:port(Mute),
    Node = mute@nowhere,
    ok = application:set_env(teleport, peers, #{Node => {{127, 0, 0, 1}, Port}}),
    Threads = fun() -> length(filelib:wildcard("/proc/self/task/*")) end,
    Before = Threads(),
    Waiting = [spawn_monitor(teleport, Function, [Node]) || Function <- [prime, check], _ <- lists:seq(1, 100)],
    {ok, First} = gen_tcp:accept(Mute), % one of them is at it
    teleport_test:eventually(fun() ->
        lists:all(fun({Process, _}) -> process_info(Process, status) =:= {status, waiting} end, Waiting)
    end),
    ?assert(Threads() < Before + 20, {Before, Threads()}),
    ok = application:unset_env(teleport, peers),
    ok = gen_tcp:close(First),
    ok = gen_tcp:close(Mute),
    [receive {'DOWN', Monitor, process, Process, _Reason} -> ok end || {Process, Monitor} <- Waiting],
    ok.

%% Whatever the term, there are no more than the engine takes on a scheduler, or the list goes by a dirty one.
parts_stay_few(_Config) ->
    Few = fun(Term) ->
        case teleport_encode:encode(Term) of
            {ok, Parts} when is_list(Parts) -> length(Parts) =< 512;
            {ok, _Gathered} -> dirty
        end
    end,
    ?assert(Few([binary:copy(<<I:32>>, 512) || I <- lists:seq(1, 80000)])),
    ?assert(Few([binary:copy(<<I:32>>, 32) || I <- lists:seq(1, 80000)])),
    ?assertEqual(dirty, Few(lists:duplicate(600, binary:copy(<<1>>, 70000)))),
    Term = [{I, binary:copy(<<I>>, I)} || I <- lists:seq(1, 3000)],
    ?assertEqual(Term, binary_to_term(iolist_to_binary(teleport:term_to_iolist(Term)))).

%% Others pass a term that takes long to build, and leaves room for them. On a busy machine that may fail at times; if they
%% do not, it always does.
a_large_term_does_not_hold_up_others(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, others),
    ?assert(lists:any(fun(_) -> passes(Node, deep(1500000)) end, lists:seq(1, 10))).

passes(Node, Deep) ->
    Sink = spawn(Node, ?MODULE, sink, []),
    Received = fun() ->
        #{peers := #{} = Peers} = erpc:call(Node, teleport, info, []),
        #{bytes_received := Bytes} = maps:get(node(), Peers),
        Bytes
    end,
    Before = Received(),
    ok = teleport:send(Sink, {self(), Deep}),
    teleport_test:eventually(fun() -> Received() > Before + 10000000 end),
    ok = teleport:send({others, Node}, {self(), binary:copy(<<1>>, 1 bsl 20)}),
    First = teleport_test:receive_one(),
    _Second = teleport_test:receive_one(),
    element(1, First) =:= echo.

sink() ->
    receive {From, _} -> From ! {self(), got} end.

%% What broke others.
terms() ->
    [{deep, deep(4300000)},
     {integers, lists:seq(1, 1000000)},
     {small_binaries, [binary:copy(<<I:32>>, 32) || I <- lists:seq(1, 80000)]},
     {medium_binaries, [binary:copy(<<I:32>>, 512) || I <- lists:seq(1, 80000)]},
     {many_large_binaries, [binary:copy(<<I:32>>, 17500) || I <- lists:seq(1, 700)]},
     {large_binary, binary:copy(<<"0123456789">>, 10 bsl 20)},
     {map, maps:from_list([{I, {I}} || I <- lists:seq(1, 100000)])}].

%% Seven bytes for each level.
deep(Levels) ->
    lists:foldl(fun(I, Nested) -> {I, Nested} end, [], lists:seq(1, Levels)).

%% No function of the NIF takes too long, and no process of ours runs for too long.
within_limits(Node, Name, Fun) ->
    Least = least(Node, Fun),
    ct:log("~p: ~p", [Name, Least]),
    ?assertEqual(#{}, exceeding(Least), Name).

%% How long each function of the NIF took on either node, and processes of ours that ran for too long: the least of the longest
%% times of several rounds, as many as it takes to be within the limit.
least(Node, Fun) ->
    least(Node, Fun, ?ROUNDS, round_of(Node, Fun)).

least(_Node, _Fun, 0, Least) ->
    Least;
least(Node, Fun, Rounds, Least) ->
    case exceeding(Least) of
        None when map_size(None) =:= 0 -> Least;
        _ -> least(Node, Fun, Rounds - 1, maps:merge_with(fun(_, A, B) -> min(A, B) end, Least, round_of(Node, Fun)))
    end.

exceeding(Times) ->
    maps:filter(fun(_, Time) -> Time > ?LIMIT end, Times).

round_of(Node, Fun) ->
    Observers = [erpc:call(On, ?MODULE, observe, []) || On <- [node(), Node]],
    Fun(),
    [Here, There] = [begin
                         Observer ! {stop, self()},
                         receive
                             {Observer, Times, LongSchedules} ->
                                 LongSchedules =:= [] orelse ct:log("~p", [LongSchedules]),
                                 %% As with the times: what holds a scheduler up does so in each round.
                                 Times#{long_schedule => length(LongSchedules) * 1000 * ?LONG_SCHEDULE}
                         end
                     end || Observer <- Observers],
    maps:merge_with(fun(_, A, B) -> max(A, B) end, Here, There).

%% Small messages do not wait for dirty schedulers, whatever is in them.
small_messages_need_no_dirty_scheduler(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, busy),
    Self = self(),
    Count = erpc:call(Node, erlang, system_info, [dirty_cpu_schedulers]),
    %% For longer than the messages take by far.
    Busy = [spawn(Node, fun() -> Self ! busy, erts_debug:dirty_cpu(wait, 10000), Self ! ready end)
            || _ <- lists:seq(1, Count)],
    [receive busy -> ok end || _ <- Busy],
    Map = maps:from_list([{I, I} || I <- lists:seq(1, 500)]),
    [begin
         ok = teleport:send({busy, Node}, {self(), {I, Map}}),
         receive
             {echo, {I, Map}} -> ok;
             ready -> error(waited_for_a_dirty_scheduler)
         end
     end || I <- lists:seq(1, 20)],
    [receive ready -> ok end || _ <- Busy],
    ?assertEqual([], teleport_test:mailbox()).

%% A process that builds maps has no more of its scheduler than any other: what is not small goes to a dirty one, and the rest
%% counts for what it takes. Elsewhere any thread makes them.
maps_have_their_share_of_a_scheduler(Config) ->
    case teleport_nif:makes_maps_anywhere(erlang:system_info(version)) of
        true -> {skip, "this release needs no builders"};
        false -> maps_have_their_share(?config(node, Config))
    end.

maps_have_their_share(Node) ->
    ok = teleport_test:echo(Node, builders),
    [Small] = [Pid || {{teleport_builder, 0}, Pid, worker, _} <- supervisor:which_children({teleport_builder_sup, Node})],
    ?assertEqual({priority, normal}, erpc:call(Node, erlang, process_info, [Small, priority])),
    Took = fun(Pairs) ->
        Map = maps:from_list([{I, []} || I <- lists:seq(1, Pairs)]),
        {reductions, Before} = erpc:call(Node, erlang, process_info, [Small, reductions]),
        [begin
             ok = teleport:send({builders, Node}, {self(), {I, Map}}),
             receive {echo, {I, Map}} -> ok end
         end || I <- lists:seq(1, 10)],
        {reductions, After} = erpc:call(Node, erlang, process_info, [Small, reductions]),
        After - Before
    end,
    %% Of 6 bytes each.
    ?assert(Took(2500) > 10 * 3000),
    ?assert(Took(5000) < 1000).

%% Starts to time this node's calls. Those that run on dirty schedulers are left out.
observe() ->
    Self = self(),
    Observer = spawn(?MODULE, observer, [Self]),
    receive {Observer, ready} -> Observer end.

observer(Starter) ->
    _ = erlang:system_monitor(self(), [{long_schedule, ?LONG_SCHEDULE}]),
    Others = [start, build, body, init, module_info],
    _ = [erlang:trace_pattern({teleport_nif, Name, Arity}, [{'_', [], [{return_trace}]}], [global])
         || {Name, Arity} <- teleport_nif:module_info(exports), not lists:member(Name, Others)],
    _ = erlang:trace(processes, true, [call, arity, monotonic_timestamp, {tracer, self()}]),
    Starter ! {self(), ready},
    observer(#{}, #{}, []).

observer(Begun, Longest, LongSchedules) ->
    receive
        {trace_ts, Pid, call, Function, Time} ->
            observer(Begun#{{Pid, Function} => Time}, Longest, LongSchedules);
        {trace_ts, Pid, return_from, Function, _Result, Time} ->
            {Start, Rest} = maps:take({Pid, Function}, Begun),
            Took = erlang:convert_time_unit(Time - Start, native, microsecond),
            observer(Rest, maps:update_with(Function, fun(Other) -> max(Other, Took) end, Took, Longest), LongSchedules);
        {monitor, Process, long_schedule, Info} when is_pid(Process) ->
            Ours = lists:any(fun({_, {Module, _, _}}) -> is_ours(Module); (_) -> false end, Info),
            observer(Begun, Longest, [{Process, Info} || Ours] ++ LongSchedules);
        {monitor, _Port, long_schedule, _Info} ->
            observer(Begun, Longest, LongSchedules); % none of ours
        {stop, From} ->
            %% What is on its way comes before this.
            Delivered = erlang:trace_delivered(all),
            observer(Begun#{Delivered => From}, Longest, LongSchedules);
        {trace_delivered, all, Delivered} ->
            maps:get(Delivered, Begun) ! {self(), Longest, LongSchedules}
    end.

is_ours(Module) ->
    lists:prefix("teleport", atom_to_list(Module)) andalso not lists:suffix("SUITE", atom_to_list(Module)).
