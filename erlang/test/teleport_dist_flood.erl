%% A flood over distributed Erlang whose connections are killed all the time: nodes send large and small messages, watch processes
%% of one another, and call one another. No signal may be lost, doubled or out of order, and no node may seem down.
%%
%% `scripts/dist-flood.sh' runs it. It kills connections by `ss', which needs root.
-module(teleport_dist_flood).

-export([main/1]).
-export([prepare/0, begin_flood/3, end_flood/1, sunk/1]).

%% Bytes of large messages.
-define(LARGE, 10485760).

%% How long the rest of the messages may take to arrive, in milliseconds.
-define(PATIENCE, 120000).

-record(options, {
    carrier = "teleport" :: string(),
    nodes = 2 :: pos_integer(),
    seconds = 60 :: pos_integer(),
    %% Connections killed in a second.
    kills = 4 :: non_neg_integer(),
    %% Processes of each node that send large messages to a peer.
    large = 2 :: non_neg_integer(),
    %% In seconds, as a string.
    ticktime = "8" :: string()
}).

%% Arguments like "nodes=6".
main(Arguments) ->
    Options = lists:foldl(fun option/2, #options{}, Arguments),
    _ = os:cmd("epmd -daemon"),
    Peers = [start(Number, Options) || Number <- lists:seq(1, Options#options.nodes)],
    Nodes = [Node || {_Peer, Node} <- Peers],
    [true = peer:call(Peer, net_kernel, connect_node, [Node]) || {Peer, Own} <- Peers, Node <- Nodes, Node =/= Own],
    Floods = [{Peer, Node, peer:call(Peer, ?MODULE, prepare, [])} || {Peer, Node} <- Peers],
    [ok = peer:call(Peer, ?MODULE, begin_flood, [Flood, lists:delete(Node, Nodes), Options#options.large])
     || {Peer, Node, Flood} <- Floods],
    Killed = kill(ports(Nodes), Options#options.kills, erlang:monotonic_time(millisecond) + Options#options.seconds * 1000, 0),
    Reports = [{Node, peer:call(Peer, ?MODULE, end_flood, [Flood], infinity)} || {Peer, Node, Flood} <- Floods],
    Lacking = [peer:call(Peer, ?MODULE, sunk, [sent_to(Node, Reports)], infinity) || {Peer, Node, _Flood} <- Floods],
    lists:foreach(fun show/1, Reports),
    Wrong = lists:append([maps:get(wrong, Report) || {_Node, Report} <- Reports] ++ Lacking),
    io:format("~b connections killed; ~b wrong~n", [Killed, length(Wrong)]),
    [io:format("  ~0tp~n", [One]) || One <- lists:sublist(Wrong, 20)],
    [peer:stop(Peer) || {Peer, _Node} <- Peers],
    erlang:halt(case Wrong of [] -> 0; _ -> 1 end).

option(Argument, Options) ->
    case string:split(Argument, "=") of
        ["carrier", Carrier] -> Options#options{carrier = Carrier};
        ["nodes", Value] -> Options#options{nodes = list_to_integer(Value)};
        ["seconds", Value] -> Options#options{seconds = list_to_integer(Value)};
        ["kills", Value] -> Options#options{kills = list_to_integer(Value)};
        ["large", Value] -> Options#options{large = list_to_integer(Value)};
        ["ticktime", Value] -> Options#options{ticktime = Value}
    end.

start(Number, #options{carrier = Carrier, ticktime = Ticktime}) ->
    Name = lists:concat(["flood_", os:getpid(), "_", Number]),
    Paths = lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [teleport, ?MODULE]]),
    {ok, Peer, Node} = peer:start(#{name => Name, connection => standard_io,
                                    args => ["-proto_dist", Carrier, "-kernel", "net_ticktime", Ticktime,
                                             "-kernel", "prevent_overlapping_partitions", "false" | Paths]}),
    {Peer, Node}.

%% Where the nodes listen.
ports(Nodes) ->
    {ok, Names} = erl_epmd:names(),
    [proplists:get_value(hd(string:split(atom_to_list(Node), "@")), Names) || Node <- Nodes].

%% Kills connections to these ports, of any kind, until then.
kill(Ports, PerSecond, Until, Killed) ->
    Left = Until - erlang:monotonic_time(millisecond),
    if
        Left =< 0 ->
            Killed;
        PerSecond =:= 0 ->
            receive after Left -> Killed end;
        true ->
            receive after min(Left, 1000 div PerSecond) -> ok end,
            kill(Ports, PerSecond, Until, Killed + kill_one(connections(Ports)))
    end.

kill_one([]) ->
    0;
kill_one(Connections) ->
    {Port, Other} = lists:nth(rand:uniform(length(Connections)), Connections),
    Killed = os:cmd(lists:concat(["ss -KHtn state established sport = :", Port, " and dport = :", Other])),
    case string:find(Killed, ":") of
        %% It was closed meanwhile.
        nomatch -> 0;
        _ -> 1
    end.

%% The ports of their ends.
connections(Ports) ->
    Ours = lists:join(" or ", ["sport = :" ++ integer_to_list(Port) || Port <- Ports]),
    Lines = string:lexemes(os:cmd(lists:append(["ss -Htn state established '( ", lists:append(Ours), " )'"])), "\n"),
    [{port(Local), port(Remote)} || Line <- Lines, [_, _, Local, Remote | _] <- [string:lexemes(Line, " ")]].

port(Address) ->
    lists:last(string:lexemes(Address, ":")).

sent_to(Node, Reports) ->
    lists:append([maps:get(Node, maps:get(sent, Report), []) || {_From, Report} <- Reports]).

show({Node, #{sent := Sent, rounds := Rounds, pings := Pings}}) ->
    Counts = [Count || {_Sender, Count, _Kind} <- lists:append(maps:values(Sent))],
    Large = lists:sum([Count || {_Sender, Count, large} <- lists:append(maps:values(Sent))]),
    io:format("~ts: ~b messages, ~b of 10 MiB; ~b processes watched; ~b pings, p50 ~.1f, p99 ~.1f, longest ~.1f ms~n",
              [Node, lists:sum(Counts), Large, Rounds, length(Pings) | [percentile(Pings, P) || P <- [50, 99, 100]]]).

percentile([], _Percent) -> 0.0;
percentile(Times, Percent) -> lists:nth(max(1, ceil(length(Times) * Percent / 100)), lists:sort(Times)) / 1000.

%% On a node.

%% What others send to.
prepare() ->
    Self = self(),
    Flood = spawn(fun() ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
        true = register(flood_sink, spawn_link(fun() -> sink(#{}, [], undefined) end)),
        true = register(flood_echo, spawn_link(fun echo/0)),
        Self ! {self(), ready},
        receive
            {begin_flood, Peers, Large} ->
                Helpers = [{Peer, Kind, spawn_link(fun() -> helper(Kind, Peer) end)}
                           || Peer <- Peers, Kind <- [small, mixed, watcher, pinger | lists:duplicate(Large, large)]],
                flood(Helpers, [])
        end
    end),
    receive {Flood, ready} -> Flood end.

%% Begins to send, to watch and to call.
begin_flood(Flood, Peers, Large) ->
    Flood ! {begin_flood, Peers, Large},
    ok.

flood(Helpers, Wrong) ->
    receive
        {nodedown, Node, Why} ->
            flood(Helpers, [{nodedown, node(), Node, Why} | Wrong]);
        {nodeup, _Node, _} ->
            flood(Helpers, Wrong);
        {stop, From} ->
            [Pid ! {stop, self()} || {_Peer, _Kind, Pid} <- Helpers],
            Results = [{Peer, Kind, Pid, receive {Pid, Result} -> Result end} || {Peer, Kind, Pid} <- Helpers],
            Nodedowns = nodedowns(Wrong),
            Sent = maps:groups_from_list(fun({Peer, _}) -> Peer end, fun({_, Sender}) -> Sender end,
                                         [{Peer, {Pid, Count, Kind}} || {Peer, Kind, Pid, Count} <- Results, is_integer(Count)]),
            From ! {self(), #{sent => Sent, wrong => Nodedowns ++ lists:append([Bad || {_, watcher, _, {_, Bad}} <- Results]),
                              rounds => lists:sum([Count || {_, watcher, _, {Count, _}} <- Results]),
                              pings => lists:append([Times || {_, pinger, _, Times} <- Results])}},
            %% What it is linked with has to live until all has arrived.
            receive never -> ok end
    end.

nodedowns(Wrong) ->
    receive
        {nodedown, Node, Why} -> nodedowns([{nodedown, node(), Node, Why} | Wrong])
    after 0 ->
        Wrong
    end.

end_flood(Flood) ->
    Flood ! {stop, self()},
    receive {Flood, Report} -> Report end.

%% Waits for all that was sent to this node, and returns what was wrong with it.
sunk(Sent) ->
    flood_sink ! {expect, self(), maps:from_list([{Sender, Count} || {Sender, Count, _Kind} <- Sent])},
    receive
        {sunk, Wrong} -> Wrong
    after ?PATIENCE ->
        flood_sink ! {give_up, self()},
        receive {sunk, Wrong} -> Wrong end
    end.

%% Takes numbered messages: each sender's have to come in order, by whatever name it calls us.
sink(Numbers, Wrong, Expected) ->
    case Expected of
        {Asking, Numbers} -> Asking ! {sunk, Wrong};
        _ -> ok
    end,
    receive
        {Sender, Number, Payload} when is_pid(Sender) ->
            Bad = case {maps:get(Sender, Numbers, 0) + 1, Payload} of
                {Number, <<Number:64, _/binary>>} -> [];
                {Number, _} -> [{damaged, Sender, Number}];
                {Awaited, _} -> [{awaited, Awaited, came, Number, from, Sender}]
            end,
            sink(Numbers#{Sender => Number}, Bad ++ Wrong, Expected);
        {expect, From, All} ->
            sink(Numbers, Wrong, {From, maps:filter(fun(_Sender, Count) -> Count > 0 end, All)});
        {give_up, From} ->
            {_, All} = Expected,
            Lacking = [{lost, Sender, Count, maps:get(Sender, Numbers, 0)}
                       || {Sender, Count} <- maps:to_list(All), maps:get(Sender, Numbers, 0) =/= Count],
            From ! {sunk, Lacking ++ Wrong}
    end.

echo() ->
    receive {From, Tag} -> From ! Tag end,
    echo().

helper(watcher, Peer) -> watcher(Peer, 0, []);
helper(pinger, Peer) -> pinger(Peer, []);
helper(Kind, Peer) ->
    Sink = erpc:call(Peer, erlang, whereis, [flood_sink]),
    sender(Kind, Peer, Sink, payload(Kind), 0).

payload(small) -> <<>>;
payload(_Kind) -> binary:copy(<<"0123456789abcdef">>, ?LARGE div 16).

sender(Kind, Peer, Sink, Payload, Count) ->
    receive
        {stop, From} -> From ! {self(), Count}
    after pause(Kind, Count) ->
        New = Count + 1,
        To = case New rem 3 of
            0 -> {flood_sink, Peer};
            _ -> Sink
        end,
        To ! {self(), New, numbered(Kind, New, Payload)},
        sender(Kind, Peer, Sink, Payload, New)
    end.

pause(small, Count) when Count rem 20 =:= 0 -> 5;
pause(_Kind, _Count) -> 0.

%% The number within a large message is all that is new of it.
numbered(mixed, Number, Payload) when Number rem 10 =:= 0 -> numbered(large, Number, Payload);
numbered(large, Number, Payload) -> <<Number:64, Payload/binary>>;
numbered(_Kind, Number, _Payload) -> <<Number:64>>.

%% Processes there send a message and end: that and the news of their end come once, in this order.
watcher(Peer, Count, Wrong) ->
    receive
        {stop, From} -> From ! {self(), {Count, Wrong}}
    after 0 ->
        _ = process_flag(trap_exit, true),
        Watcher = self(),
        Reason = make_ref(),
        Ending = fun() ->
            true = register(flood_watched, self()),
            Watcher ! {self(), Reason, registered},
            receive {go, Reason} -> Watcher ! {self(), Reason, last}, exit(Reason) end
        end,
        Pid = spawn_link(Peer, Ending),
        case told(Pid, Reason) of
            registered ->
                Monitors = [erlang:monitor(process, Pid), erlang:monitor(process, {flood_watched, Peer})],
                Pid ! {go, Reason},
                Told = [told(Pid, Reason) || _ <- [last, link | Monitors]],
                watcher(Peer, Count + 1, [{watched, Pid, Told} || not is_right(Told)] ++ again(Pid, Reason) ++ Wrong);
            %% Another's has the name.
            {exit, {{badmatch, _}, _}} ->
                watcher(Peer, Count, Wrong);
            {exit, {badarg, _}} ->
                watcher(Peer, Count, Wrong);
            Other ->
                watcher(Peer, Count, [{spawned, Pid, Other} | Wrong])
        end
    end.

told(Pid, Reason) ->
    receive
        {Pid, Reason, What} -> What;
        {'EXIT', Pid, Reason} -> exit;
        {'EXIT', Pid, Other} -> {exit, Other};
        {'DOWN', _, process, _, Reason} -> down;
        {'DOWN', _, process, _, Other} -> {down, Other}
    after 60000 ->
        nothing
    end.

is_right([last | Ends]) -> lists:sort(Ends) =:= [down, down, exit];
is_right(_Told) -> false.

%% None of it comes twice.
again(Pid, Reason) ->
    receive
        {Pid, Reason, What} -> [{twice, Pid, What}];
        {'EXIT', Pid, _} -> [{twice, Pid, exit}];
        {'DOWN', _, process, _, Reason} -> [{twice, Pid, down}]
    after 0 ->
        []
    end.

pinger(Peer, Times) ->
    receive
        {stop, From} -> From ! {self(), Times}
    after 20 ->
        Tag = make_ref(),
        Begin = erlang:monotonic_time(microsecond),
        {flood_echo, Peer} ! {self(), Tag},
        receive Tag -> pinger(Peer, [erlang:monotonic_time(microsecond) - Begin | Times]) end
    end.
