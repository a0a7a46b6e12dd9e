%% The soak: nodes that are stopped, killed and restarted in all ways while they send, call and monitor, with a ledger at both ends.
%%
%% A round has a seed, which says what traffic there is and what goes wrong. At its end everybody tells what has become of their
%% messages, calls and monitors; what does not agree with the promises is a violation. Run by `make soak-erlang'.
-module(teleport_soak).

-export([main/1, run/1]).

-export_type([options/0, result/0]).

-type options() :: #{minutes => number(), rounds => pos_integer(), seed => integer(), nodes => pos_integer(),
                     faults => [atom()], seconds => pos_integer(), json => file:filename()}.
-type result() :: #{violations := [term()], rounds := [map()]}.

-record(vm, {name, peer, node, os_pid, schedulers}).

%% All that can go wrong on purpose.
-define(FAULTS, [stop, long_stop, kill_vm, kill_manager, kill_relay, kill_builder, reload, restart, disconnect, ends]).

%% Seconds. A virtual machine that is stopped for longer loses its sessions.
-define(TICKTIME, 4).

%% How long everybody may take to tell at the end of a round, in milliseconds: senders wait for acknowledgements meanwhile.
-define(PATIENCE, 150000).

%% A session's end is told to processes in some other order than messages of others.
-define(SLACK, 15000).

-spec main([string()]) -> no_return().
main(Args) ->
    Options = maps:from_list([option(string:split(Arg, "=")) || Arg <- Args]),
    ok = teleport_test:epmd(),
    {ok, _} = net_kernel:start([list_to_atom("teleport_soak_" ++ os:getpid()), shortnames]),
    #{violations := Violations} = run(Options),
    halt(case Violations of [] -> 0; _ -> 1 end).

option(["minutes", Value]) -> {minutes, list_to_integer(Value)};
option(["rounds", Value]) -> {rounds, list_to_integer(Value)};
option(["seed", Value]) -> {seed, list_to_integer(Value)};
option(["nodes", Value]) -> {nodes, list_to_integer(Value)};
option(["seconds", Value]) -> {seconds, list_to_integer(Value)};
option(["json", Value]) -> {json, Value};
option(["faults", Value]) -> {faults, [list_to_existing_atom(Fault) || Fault <- string:lexemes(Value, ",")]}.

%% On a distributed node.
-spec run(options()) -> result().
run(Options) ->
    Defaults = #{minutes => 10, rounds => 1000000, seed => erlang:phash2(make_ref()), nodes => 3, faults => ?FAULTS,
                 seconds => 8},
    #{minutes := Minutes, seed := Seed, nodes := Count} = All = maps:merge(Defaults, Options),
    io:format("soak: seed ~b, ~b nodes, faults ~p~n", [Seed, Count, maps:get(faults, All)]),
    io:format("~5s ~11s ~9s ~9s ~7s ~7s ~9s ~8s ~7s ~7s ~4s  ~s~n",
              ["round", "seed", "sent", "taken", "unconf", "refused", "calls", "monitors", "MB", "s", "bad", "faults"]),
    Names = ["soak" ++ integer_to_list(I) ++ "_" ++ os:getpid() || I <- lists:seq(1, Count)],
    _ = rand:seed(exsss, Seed),
    Vms = prepare([start(Name) || Name <- Names]),
    End = now_ms() + round(Minutes * 60000),
    {Rounds, Last} = rounds(1, Vms, All#{until => End}, []),
    [stop(Vm) || Vm <- Last],
    Violations = lists:append([maps:get(violations, Round) || Round <- Rounds]),
    Total = fun(Key) -> lists:sum([maps:get(Key, Round) || Round <- Rounds]) end,
    io:format("~b rounds: ~b sent, ~b taken, ~b calls, ~b monitors; ~b violations~n",
              [length(Rounds), Total(sent), Total(taken), Total(calls), Total(monitors), length(Violations)]),
    case All of
        #{json := File} -> ok = file:write_file(File, [json(Round) || Round <- Rounds]);
        #{} -> ok
    end,
    #{violations => Violations, rounds => Rounds}.

rounds(Number, Vms, #{rounds := Most, until := End} = Options, Done) ->
    case Number =< Most andalso now_ms() < End of
        false -> {lists:reverse(Done), Vms};
        true ->
            Seed = erlang:phash2({maps:get(seed, Options), Number}),
            {Round, Next} = round(Number, Seed, Vms, Options),
            rounds(Number + 1, Next, Options, [Round | Done])
    end.

now_ms() -> erlang:system_time(millisecond).

%% Virtual machines.

start(Name) ->
    Schedulers = lists:nth(rand:uniform(4), [1, 2, 2, 8]),
    Args = ["-kernel", "prevent_overlapping_partitions", "false", "-kernel", "logger_level", "critical", "-teleport", "net_ticktime",
            integer_to_list(?TICKTIME), "-teleport", "log_level", "none",
            "+S", integer_to_list(Schedulers), "+SDcpu", integer_to_list(Schedulers) | teleport_test:code_path()],
    {ok, Peer, Node} = peer:start(#{name => Name, connection => standard_io, args => Args}),
    true = net_kernel:connect_node(Node),
    ok = erpc:call(Node, teleport, start, [], 30000),
    OsPid = erpc:call(Node, os, getpid, []),
    #vm{name = Name, peer = Peer, node = Node, os_pid = OsPid, schedulers = Schedulers}.

%% Every node knows every other one.
prepare(Vms) ->
    Nodes = [Vm#vm.node || Vm <- Vms],
    [prepare(Vm, Nodes) || Vm <- Vms],
    Vms.

prepare(#vm{node = Node}, Nodes) ->
    Others = lists:delete(Node, Nodes),
    ok = erpc:call(Node, fun() -> [true = net_kernel:connect_node(Other) || Other <- Others], ok end, 30000),
    ok = erpc:call(Node, teleport_soak_node, prepare, [Others], 30000).

stop(#vm{peer = Peer, os_pid = OsPid}) ->
    ok = teleport_test:signal(kill, OsPid),
    teleport_test:stop_peer(Peer).

%% One that does not is killed: a virtual machine that hangs does not end by itself.
answers(#vm{peer = Peer, node = Node, os_pid = OsPid}) ->
    case teleport_test:outcome(peer, call, [Peer, erlang, node, [], 30000]) of
        {returned, Node} -> true;
        _ -> ok = teleport_test:signal(kill, OsPid), false
    end.

%% As it has to be before the next round: what was killed is started anew, what does not answer is killed.
mend(Vms, Killed) ->
    {Mended, Hanging} = lists:unzip([case is_map_key(Vm#vm.node, Killed) of
        true -> teleport_test:stop_peer(Vm#vm.peer), {start(Vm#vm.name), []};
        false -> mended(Vm)
    end || Vm <- Vms]),
    Nodes = [Vm#vm.node || Vm <- Mended],
    [prepare(Vm, Nodes) || Vm <- Mended -- Vms],
    {Mended, Hanging}.

mended(#vm{name = Name, node = Node} = Vm) ->
    Works = fun() ->
        ok = erpc:call(Node, teleport, start, [], 60000),
        true = is_pid(erpc:call(Node, erlang, whereis, [teleport_soak_anchor], 60000)),
        #{} = erpc:call(Node, teleport, info, [], 60000)
    end,
    case teleport_test:outcome(erlang, apply, [Works, []]) of
        {returned, _} ->
            {Vm, []};
        {_, Why} ->
            stop(Vm),
            {start(Name), [{hangs, Node, Why}]}
    end.

%% A round.

round(Number, Seed, Vms, #{faults := Faults, seconds := Seconds}) ->
    Began = now_ms(),
    _ = rand:seed(exsss, Seed),
    Pairs = [{A, B} || #vm{node = A} <- Vms, #vm{node = B} <- Vms, A =/= B],
    Workers = lists:append([begin_pair(A, B) || {A, B} <- Pairs]),
    Plan = plan(Vms, Faults, Seconds * 1000),
    KilledByPlan = inject(Plan, now_ms()),
    timer:sleep(max(0, Began + Seconds * 1000 - now_ms())),
    Hung = [Vm || #vm{node = Node} = Vm <- Vms, not is_map_key(Node, KilledByPlan), not answers(Vm)],
    Killed = maps:merge(KilledByPlan, maps:from_list([{Node, true} || #vm{node = Node} <- Hung])),
    [Worker ! stop || {_, _, Worker, _} <- Workers],
    Reports = collect(Workers),
    {Mended, Hanging} = mend(Vms, Killed),
    Sinks = [{Sink, Sender} || {sender, _, Sender, Sink} <- Workers],
    Taken = maps:from_list([{Sender, taken(Sink, Killed)} || {Sink, Sender} <- Sinks]),
    Downs = maps:from_list([{Node, downs(Node)} || #vm{node = Node} <- Mended]),
    Wrong = lists:append([check(Worker, Reports, Taken, Downs, Killed) || Worker <- Workers])
        ++ lists:append(Hanging) ++ [{hangs, Node, {schedulers, Schedulers}} || #vm{node = Node, schedulers = Schedulers} <- Hung]
        ++ [{executed_twice, Id} || #vm{node = Node} <- Mended, Id <- erpc:call(Node, teleport_soak_node, executed_twice, [], 60000)],
    [exit(Sink, kill) || {Sink, _} <- Sinks],
    Count = fun(Key) -> lists:sum([length(Numbers) || #{Key := Numbers} <- maps:values(Reports)]) end,
    Ends = fun(Kind) -> lists:sum(lists:append([maps:values(maps:get(ended, maps:get(Worker, Reports, #{}), #{}))
                                                || {K, _, Worker, _} <- Workers, K =:= Kind])) end,
    Round = #{round => Number, seed => Seed, faults => [describe(Fault) || {_, Fault} <- Plan],
              sent => lists:sum([Last || #{last := Last} <- maps:values(Reports)]),
              taken => lists:sum([N || #{count := N} <- maps:values(Taken)]),
              unconfirmed => Count(unconfirmed), refused => Count(refused),
              calls => Ends(caller), monitors => Ends(watcher),
              mb => lists:max([memory(Vm) || Vm <- Mended]), seconds => (now_ms() - Began) div 1000, violations => Wrong},
    show(Round),
    {Round, Mended}.

show(#{round := Number, seed := Seed, sent := Sent, taken := Taken, unconfirmed := Unconfirmed, refused := Refused, calls := Calls,
       monitors := Monitors, mb := Mb, seconds := Seconds, violations := Wrong, faults := Faults}) ->
    io:format("~5b ~11b ~9b ~9b ~7b ~7b ~9b ~8b ~7b ~7b ~4b  ~s~n",
              [Number, Seed, Sent, Taken, Unconfirmed, Refused, Calls, Monitors, Mb, Seconds, length(Wrong),
               lists:join(", ", Faults)]),
    [io:format("      ~0P~n", [Violation, 40]) || Violation <- lists:sublist(Wrong, 20)].

%% Of a node, at most since it started.
memory(#vm{os_pid = OsPid}) ->
    {ok, Status} = file:read_file("/proc/" ++ OsPid ++ "/status"),
    {match, [Kb]} = re:run(Status, "VmHWM:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb) div 1024.

begin_pair(A, B) ->
    Senders = [begin
        Sink = spawn(B, teleport_soak_node, sink, []),
        {sender, {A, B}, begin_worker(A, sender, [Sink]), Sink}
    end || _ <- [1, 2]],
    Senders ++ [{Kind, {A, B}, begin_worker(A, Kind, [B]), none} || Kind <- [crowd, caller, caller, caller, watcher]].

begin_worker(Node, Kind, Args) ->
    spawn(Node, teleport_soak_node, Kind, Args ++ [rand:uniform(1 bsl 32), self()]).

%% What everybody has seen. Those of a virtual machine that was killed have nothing to say.
collect(Workers) ->
    Monitors = maps:from_list([{erlang:monitor(process, Worker), Worker} || {_, _, Worker, _} <- Workers]),
    collect(Monitors, #{}, now_ms() + ?PATIENCE).

collect(Monitors, Reports, _End) when map_size(Monitors) =:= 0 ->
    Reports;
collect(Monitors, Reports, End) ->
    receive
        {report, Worker, Report} -> collect(Monitors, Reports#{Worker => Report}, End);
        {'DOWN', Monitor, process, _, _} when is_map_key(Monitor, Monitors) -> collect(maps:remove(Monitor, Monitors), Reports, End)
    after max(0, End - now_ms()) ->
        %% A report may have come, and the process be gone, without that having been told yet.
        maps:fold(fun(Monitor, Worker, Known) ->
            true = erlang:demonitor(Monitor, [flush]),
            maps:merge(#{Worker => where_it_waits(Worker)}, Known)
        end, Reports, Monitors)
    end.

where_it_waits(Worker) ->
    {hangs, teleport_test:caught(fun() ->
        erpc:call(node(Worker), erlang, process_info, [Worker, current_stacktrace], 5000)
    end)}.

taken(Sink, Killed) ->
    case is_map_key(node(Sink), Killed) of
        true -> none;
        false ->
            Sink ! {report, self()},
            receive {report, Sink, Taken} -> Taken after 60000 -> {hangs, Sink} end
    end.

downs(Node) -> erpc:call(Node, teleport_soak_node, downs, [], 60000).

%% What goes wrong.

plan(Vms, Faults, Length) ->
    Count = rand:uniform(4),
    lists:sort([{500 + rand:uniform(max(1, Length - 2000)), fault(lists:nth(rand:uniform(length(Faults)), Faults), Vms)}
                || _ <- lists:seq(1, Count)]).

fault(disconnect, Vms) ->
    A = pick(Vms),
    {disconnect, A, pick(lists:delete(A, Vms))};
fault(ends, Vms) -> {ends, pick(Vms), rand:uniform(30)};
fault(stop, Vms) -> {stop, pick(Vms), rand:uniform(1500)};
fault(long_stop, Vms) -> {stop, pick(Vms), 1000 * ?TICKTIME + 500 + rand:uniform(2000)};
fault(Kind, Vms) -> {Kind, pick(Vms)}.

pick([]) -> undefined;
pick(List) -> lists:nth(rand:uniform(length(List)), List).

%% Returns the nodes that were killed.
inject(Plan, Began) ->
    lists:foldl(fun({At, Fault}, Killed) ->
        timer:sleep(max(0, Began + At - now_ms())),
        Node = (element(2, Fault))#vm.node,
        case is_map_key(Node, Killed) of
            true -> Killed;
            false -> maps:merge(Killed, do(Fault))
        end
    end, #{}, Plan).

do({stop, #vm{os_pid = OsPid}, Milliseconds}) ->
    ok = teleport_test:signal(stop, OsPid),
    timer:sleep(Milliseconds),
    ok = teleport_test:signal(cont, OsPid),
    #{};
do({kill_vm, #vm{node = Node, os_pid = OsPid}}) ->
    ok = teleport_test:signal(kill, OsPid),
    #{Node => true};
do({disconnect, #vm{node = A}, #vm{node = B}}) ->
    there(A, fun() -> teleport_nif:disconnect(B) end);
do({ends, #vm{node = Node}, Count}) ->
    there(Node, fun() -> [begin
        [teleport_nif:disconnect(Other) || Other <- nodes()],
        timer:sleep(100)
    end || _ <- lists:seq(1, Count)] end);
do({kill_manager, #vm{node = Node}}) ->
    there(Node, fun() -> kill(whereis(teleport_manager)) end);
do({kill_relay, #vm{node = Node}}) ->
    there(Node, fun() -> kill(pick(relays())) end);
do({kill_builder, #vm{node = Node}}) ->
    there(Node, fun() -> kill(pick(children(teleport_builder_sup))) end);
do({reload, #vm{node = Node}}) ->
    %% Twice, one at once after the other.
    there(Node, fun() -> [load_anew() || _ <- [1, 2]] end);
do({restart, #vm{node = Node}}) ->
    there(Node, fun() -> _ = application:stop(teleport), teleport:start() end).

%% In a process of its own: the node may hang.
there(Node, Fun) ->
    _ = spawn(Node, Fun),
    #{}.

%% As the installation of a release does it: a process that is in a function of the library is not killed.
load_anew() ->
    teleport_test:eventually(fun() -> code:soft_purge(teleport_nif) end),
    {module, teleport_nif} = code:load_file(teleport_nif).

kill(Process) -> is_pid(Process) andalso exit(Process, kill).

children(Supervisor) ->
    [Child || is_pid(whereis(Supervisor)), {_, Child, _, _} <- supervisor:which_children(Supervisor)].

%% Those that start relays, and the relays themselves, which are linked to them.
relays() ->
    Starters = children(teleport_relay_sup),
    Supervisor = whereis(teleport_relay_sup),
    Starters ++ [Relay || Starter <- Starters, {links, Links} <- [process_info(Starter, links)], Relay <- Links, Relay =/= Supervisor].

describe({stop, #vm{name = Name}, Milliseconds}) -> io_lib:format("stop ~s ~b ms", [short(Name), Milliseconds]);
describe({ends, #vm{name = Name, schedulers = Schedulers}, Count}) ->
    io_lib:format("end all of ~s/~b ~b times", [short(Name), Schedulers, Count]);
describe({disconnect, #vm{name = A}, #vm{name = B}}) -> io_lib:format("disconnect ~s ~s", [short(A), short(B)]);
describe({Kind, #vm{name = Name, schedulers = Schedulers}}) -> io_lib:format("~s ~s/~b", [Kind, short(Name), Schedulers]).

short(Name) -> hd(string:lexemes(Name, "_")).

%% What is promised.

check({Kind, Pair, Worker, Sink}, Reports, Taken, Downs, Killed) ->
    case {is_map_key(node(Worker), Killed), Reports} of
        {true, _} -> check_sink(Pair, maps:get(Worker, Taken, none));
        {false, #{Worker := {hangs, Where}}} -> [{hangs, Kind, Pair, Where}];
        {false, #{Worker := Report}} -> check_report(Kind, Pair, Report, Sink, maps:get(Worker, Taken, none), Downs, Killed);
        {false, _} -> [{no_report, Kind, Pair}]
    end.

check_sink(_Pair, none) -> [];
check_sink(Pair, {hangs, _}) -> [{hangs, sink, Pair}];
check_sink(Pair, #{wrong := Wrong}) -> [{What, Pair} || What <- Wrong].

check_report(sender, {A, B} = Pair, #{pending := Pending, wrong := Wrong} = Sent, _Sink, Taken, Downs, Killed) ->
    Known = case is_map_key(B, Killed) of
        true -> [What || What <- Wrong, element(1, What) =/= noproc];
        false -> Wrong
    end,
    [{What, Pair} || What <- Known] ++ [{unended_send, Number, Pair} || Number <- Pending]
        ++ check_sink(Pair, Taken)
        ++ case Taken of
               #{count := _} -> check_ledger(Pair, Sent, Taken, [At || {Node, At} <- maps:get(B, Downs), Node =:= A]);
               _ -> []
           end;
check_report(_Kind, Pair, #{wrong := Wrong}, _Sink, _Taken, _Downs, _Killed) ->
    [{What, Pair} || What <- Wrong].

%% The two ends agree.
check_ledger(Pair, #{last := Last, refused := Refused, delivered := Delivered}, #{last := End, at := At, gaps := Gaps}, Downs) ->
    All = [{End + 1, Last, At, now_ms()} || End < Last] ++ Gaps,
    IsMissing = fun(Number) -> lists:any(fun({First, To, _, _}) -> First =< Number andalso Number =< To end, All) end,
    Ignored = sets:from_list(Refused),
    Lost = [{lost_unreported, Number, Pair, {between, After, Before, downs, lists:sort(Downs)}}
            || {First, To, After, Before} <- All,
               not lists:any(fun(Down) -> After - ?SLACK =< Down andalso Down =< Before + ?SLACK end, Downs),
               Number <- lists:seq(First, To), not sets:is_element(Number, Ignored)],
    Lost ++ [{delivered_though_refused, Number, Pair} || Number <- Refused, not IsMissing(Number)]
         ++ [{lost_though_confirmed, Number, Pair} || Number <- Delivered, IsMissing(Number)].

%% One round a line.
json(#{violations := Wrong, faults := Faults} = Round) ->
    Numbers = [io_lib:format("\"~s\":~b,", [Key, Value]) || {Key, Value} <- maps:to_list(Round), is_integer(Value)],
    Texts = fun(List) -> lists:join($,, [io_lib:format("~p", [text(Item)]) || Item <- List]) end,
    ["{", Numbers, "\"faults\":[", Texts(Faults), "],\"violations\":[",
     Texts([io_lib:format("~0P", [Violation, 60]) || Violation <- Wrong]), "]}\n"].

%% Without what would end a string.
text(Item) -> [Char || Char <- lists:flatten(Item), Char =/= $", Char =/= $\\].
