%% What the suites have in common.
-module(teleport_test).

-export([distribute/0, start_peer/0, start_peer/1, stop_peer/1, code_path/0, echo/2, spawn_sender/2, watched/0]).
-export([receive_one/0, mailbox/0, eventually/1]).

%% Far above what anything takes on a busy machine.
-define(PATIENCE, 30000).

%% Makes this a node of distributed Erlang, with a name that no other run has.
-spec distribute() -> ok.
distribute() ->
    case is_alive() of
        true ->
            ok;
        false ->
            _ = os:cmd("epmd -daemon"),
            Name = list_to_atom("teleport_ct_" ++ os:getpid()),
            {ok, _} = net_kernel:start([Name, shortnames]),
            ok
    end.

%% A node with teleport running.
-spec start_peer() -> {pid(), node()}.
start_peer() ->
    start_peer(peer:random_name()).

-spec start_peer(string()) -> {pid(), node()}.
start_peer(Name) ->
    {ok, Peer, Node} = peer:start(#{name => Name, connection => standard_io, args => code_path()}),
    true = net_kernel:connect_node(Node),
    ok = erpc:call(Node, teleport, start, []),
    {Peer, Node}.

%% Whether it has stopped already or not.
-spec stop_peer(pid()) -> ok.
stop_peer(Peer) ->
    try peer:stop(Peer) catch exit:_ -> ok end.

-spec code_path() -> [string()].
code_path() ->
    lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [teleport, ?MODULE]]).

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

-spec receive_one() -> term().
receive_one() ->
    receive Message -> Message after ?PATIENCE -> error(nothing_came) end.

-spec mailbox() -> [term()].
mailbox() ->
    {messages, Messages} = process_info(self(), messages),
    Messages.

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
