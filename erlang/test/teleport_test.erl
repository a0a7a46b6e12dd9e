%% What the suites have in common.
-module(teleport_test).

-export([init_pair/1, end_pair/1]).
-export([epmd/0, distribute/0, start_here/1, stop_here/0]).
-export([start_peer/0, start_peer/1, start_peer/2, start_peer/3, stop_peer/1, at/4, code_path/0, free_port/0]).
-export([echo/2, spawn_sender/2, watched/0, has_session/2, signal/2]).
-export([sink/1, number/3, numbered/4, arrived/2, report/1]).
-export([receive_one/0, mailbox/0, eventually/1, caught/1, outcome/3, ended/1, nothing_waits/0, nothing_is_left/0]).

%% Far above what anything takes on a busy machine.
-define(PATIENCE, 30000).

%% Makes this a node of distributed Erlang, with a name that no other run has.
-spec distribute() -> ok.
distribute() ->
    case is_alive() of
        true ->
            ok;
        false ->
            ok = epmd(),
            Name = list_to_atom("teleport_ct_" ++ os:getpid()),
            {ok, _} = net_kernel:start([Name, shortnames]),
            ok
    end.

%% Runs epmd. It returns before it listens.
-spec epmd() -> ok.
epmd() ->
    _ = os:cmd("epmd -daemon"),
    eventually(fun() -> element(1, erl_epmd:names({127, 0, 0, 1})) =:= ok end).

%% For a suite: teleport on this node, and on another one, `node', whose process is `peer'.
-spec init_pair([{atom(), term()}]) -> [{atom(), term()}].
init_pair(Config) ->
    ok = distribute(),
    ok = teleport:start(),
    {Peer, Node} = start_peer(),
    [{peer, Peer}, {node, Node} | Config].

-spec end_pair([{atom(), term()}]) -> ok.
end_pair(Config) ->
    stop_peer(proplists:get_value(peer, Config)),
    ok = application:stop(teleport).

%% Starts teleport on this node, configured like that.
-spec start_here([{atom(), term()}]) -> ok.
start_here(Configuration) ->
    ok = distribute(),
    ok = configure(Configuration),
    teleport:start().

%% Nothing is left of the configuration.
-spec stop_here() -> ok.
stop_here() ->
    ok = application:stop(teleport),
    application:unload(teleport).

%% A node with teleport running.
-spec start_peer() -> {pid(), node()}.
start_peer() ->
    start_peer(peer:random_name()).

-spec start_peer(string()) -> {pid(), node()}.
start_peer(Name) ->
    start_peer(Name, []).

-spec start_peer(string(), [{atom(), term()}]) -> {pid(), node()}.
start_peer(Name, Configuration) ->
    start_peer(Name, Configuration, []).

%% With more arguments for `erl'.
-spec start_peer(string(), [{atom(), term()}], [string()]) -> {pid(), node()}.
start_peer(Name, Configuration, More) ->
    %% One that is disconnected from another is to stay connected with the rest.
    Args = ["-kernel", "prevent_overlapping_partitions", "false" | code_path()] ++ More,
    %% With a long name, if this node has one.
    [_, Host] = string:split(atom_to_list(node()), "@"),
    {ok, Peer, Node} = peer:start(of_release(#{name => Name, host => Host, connection => standard_io, args => Args})),
    true = net_kernel:connect_node(Node),
    ok = erpc:call(Node, fun() -> ok = configure(Configuration), teleport:start() end),
    {Peer, Node}.

%% Peers may be of another release: TELEPORT_TEST_PEER is a command that runs its `erl'. There the home may be another, too.
of_release(#{args := Args} = Options) ->
    case string:lexemes(os:getenv("TELEPORT_TEST_PEER", ""), " ") of
        [] -> Options;
        [Program | First] ->
            Cookie = ["-setcookie", atom_to_list(erlang:get_cookie())],
            Options#{exec => {Program, First}, args := Cookie ++ Args}
    end.

configure(Configuration) ->
    case application:load(teleport) of
        ok -> ok;
        {error, {already_loaded, teleport}} -> ok
    end,
    application:set_env([{teleport, Configuration}]).

%% Whether it has stopped already or not.
-spec stop_peer(pid()) -> ok.
stop_peer(Peer) ->
    try peer:stop(Peer) catch exit:_ -> ok end.

%% Like `peer:call/4', which has 5 s.
-spec at(pid(), module(), atom(), [term()]) -> term().
at(Peer, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, ?PATIENCE).

-spec code_path() -> [string()].
code_path() ->
    lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [teleport, ?MODULE]]).

%% A port at which nothing listens, and that no connection has either: the kernel gives those from 32768 on.
-spec free_port() -> inet:port_number().
free_port() ->
    Port = 10000 + rand:uniform(9000),
    case gen_tcp:listen(Port, [{reuseaddr, true}]) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), Port;
        {error, eaddrinuse} -> free_port()
    end.

%% A process there that answers `{Pid, Message}' with `{echo, Message}', by teleport.
-spec echo(node(), atom()) -> ok.
echo(Node, Name) ->
    Self = self(),
    _ = spawn(Node, fun() -> true = register(Name, self()), Self ! {registered, Name}, echo_loop() end),
    receive {registered, Name} -> ok end.

echo_loop() ->
    receive {From, Message} -> ok = teleport:send(From, {echo, Message}) end,
    echo_loop().

%% A process here that waits to be told to send, and then ends.
-spec spawn_sender(pid(), [term()]) -> pid().
spawn_sender(To, Messages) ->
    spawn(fun() ->
        receive go -> ok end,
        [ok = teleport:send(To, Message) || Message <- Messages],
        exit(done)
    end).

%% How many watches peers have on processes of this node.
-spec watched() -> non_neg_integer().
watched() ->
    #{peers := Peers} = teleport:info(),
    lists:sum([Watched || #{watched := Watched} <- maps:values(Peers)]).

%% Whether the one has a session with the other, as it sees it.
-spec has_session(node(), node()) -> boolean().
has_session(Node, Peer) ->
    lists:member(Peer, erpc:call(Node, teleport, nodes, [])).

%% To the virtual machine of a node, by the number of its process.
-spec signal(stop | cont | kill, string()) -> ok.
signal(Signal, OsPid) ->
    "" = os:cmd("kill -" ++ string:uppercase(atom_to_list(Signal)) ++ " " ++ OsPid),
    %% Its threads stop one by one.
    Signal =:= stop andalso eventually(fun() -> os:cmd("grep -L '^State:.T' /proc/" ++ OsPid ++ "/task/*/status") =:= "" end),
    ok.

%% Numbered messages.

%% A process there that takes the messages of number/3, each sender's in order, and remembers what was wrong. Ends with the
%% calling process.
-spec sink(node()) -> pid().
sink(Node) ->
    Caller = self(),
    spawn(Node, fun() -> _ = erlang:monitor(process, Caller), sink(#{}, 0, []) end).

sink(Numbers, Count, Wrong) ->
    receive
        {numbered, From, Number, Payload} ->
            Expected = maps:get(From, Numbers, 0) + 1,
            Known = Numbers#{From => Number},
            case Number =:= Expected andalso Payload =:= payload(Number, byte_size(Payload)) of
                true -> sink(Known, Count + 1, Wrong);
                false -> sink(Known, Count + 1, [{From, Number, {expected, Expected}, byte_size(Payload)} | Wrong])
            end;
        {report, From, Tag} ->
            From ! {Tag, {Count, lists:reverse(Wrong)}},
            sink(Numbers, Count, Wrong);
        {'DOWN', _, process, _Caller, _} ->
            ok
    end.

%% A message for a sink: of this process, with this many bytes that tell the number.
-spec number(pid(), pos_integer(), non_neg_integer()) -> tuple().
number(From, Number, Size) ->
    {numbered, From, Number, payload(Number, Size)}.

payload(Number, Size) ->
    binary:part(binary:copy(<<Number:32>>, Size div 4 + 1), 0, Size).

%% Sends the messages of these numbers, the sizes in turn.
-spec numbered(teleport:ref(), pos_integer(), pos_integer(), tuple()) -> ok.
numbered(To, First, Last, Sizes) ->
    lists:foreach(fun(Number) ->
        Size = element(1 + Number rem tuple_size(Sizes), Sizes),
        ok = teleport:send(To, number(self(), Number, Size))
    end, lists:seq(First, Last)).

%% Waits until this many messages are with these sinks: what was wrong with them.
-spec arrived([pid()], non_neg_integer()) -> [tuple()].
arrived(Sinks, Total) ->
    Reports = fun() -> lists:unzip([report(Sink) || Sink <- Sinks]) end,
    eventually(fun() -> {Counts, _} = Reports(), lists:sum(Counts) >= Total end),
    {Counts, Wrong} = Reports(),
    case lists:sum(Counts) of
        Total -> lists:append(Wrong);
        More -> [{expected, Total, arrived, More} | lists:append(Wrong)]
    end.

%% How many messages came, and what was wrong with them.
-spec report(pid()) -> {non_neg_integer(), [tuple()]}.
report(Sink) ->
    Tag = make_ref(),
    Sink ! {report, self(), Tag},
    receive {Tag, Report} -> Report after ?PATIENCE -> error({no_report, Sink}) end.

-spec receive_one() -> term().
receive_one() ->
    receive Message -> Message after ?PATIENCE -> error(nothing_came) end.

-spec mailbox() -> [term()].
mailbox() ->
    {messages, Messages} = process_info(self(), messages),
    Messages.

%% For `end_per_testcase', where an exception would only be a warning.
-spec ended(fun(() -> term())) -> ok | {fail, term()}.
ended(Check) ->
    try Check() of
        _ -> ok
    catch
        Class:Reason:Stack -> {fail, {Class, Reason, Stack}}
    end.

%% No call of this node waits for an answer any more.
-spec nothing_waits() -> ok.
nothing_waits() ->
    eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 0 end).

%% Nor has this process got anything that it did not take.
-spec nothing_is_left() -> ok.
nothing_is_left() ->
    ok = nothing_waits(),
    [] = mailbox(),
    ok.

%% Returns when that is so, which it has to be.
-spec eventually(fun(() -> boolean())) -> ok.
eventually(Condition) ->
    eventually(Condition, erlang:monotonic_time(millisecond) + ?PATIENCE).

eventually(Condition, End) ->
    case Condition() of
        true -> ok;
        false ->
            case erlang:monotonic_time(millisecond) < End of
                true -> receive after 5 -> eventually(Condition, End) end;
                false -> error({never, Condition})
            end
    end.

%% What `catch' makes of it, which OTP 29 has deprecated.
-spec caught(fun(() -> term())) -> term().
caught(Fun) ->
    try Fun()
    catch
        throw:Value -> Value;
        exit:Reason -> {'EXIT', Reason};
        error:Reason:Stack -> {'EXIT', {Reason, Stack}}
    end.

%% What comes of a call, to be compared with what comes of another.
-spec outcome(module(), atom(), [term()]) -> {returned | throw | exit | error, term()}.
outcome(Module, Function, Args) ->
    try {returned, erlang:apply(Module, Function, Args)}
    catch Class:Reason -> {Class, Reason}
    end.
