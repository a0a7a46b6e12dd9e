%% Nodes that carry distributed Erlang over teleport, and others, for the suites about them.
-module(teleport_test_carrier).

-export([carrier/0, plain/0, start/1, start_as/2, start_at/2, start_in/2, anonymous/1, stop/1, with/2, cookie/0]).
-export([name/1, at/2, at/4, is_up/2, is_carried/2, watcher/2, told/1, told/2, nothing_told/1, told_of/2]).
%% Run at nodes.
-export([echo/0, numbers/2, large/0, next/0, stood_still/1]).

-define(PATIENCE, 30000).
-define(LARGE, 4194304).

%% Nodes, each with its process here and its name.

carrier() ->
    start(["-proto_dist", "teleport"]).

plain() ->
    start([]).

start(Flags) ->
    start_as(peer:random_name(), Flags).

start_as(Name, Flags) ->
    started(#{args => ["-sname", Name | flags(Flags)]}).

start_at(Host, Flags) ->
    started(#{args => ["-name", peer:random_name() ++ "@" ++ Host | flags(Flags)]}).

%% With variables of the environment.
start_in(Env, Flags) ->
    started(#{env => Env, args => ["-sname", peer:random_name() | flags(Flags)]}).

anonymous(Flags) ->
    started(#{args => flags(Flags)}).

flags(Flags) ->
    Cookie = case lists:member("-setcookie", Flags) of
        true -> [];
        false -> ["-setcookie", cookie()]
    end,
    Cookie ++ ["-kernel", "prevent_overlapping_partitions", "false" | teleport_test:code_path()] ++ Flags.

started(Options) ->
    {ok, Peer, _} = peer:start(Options#{connection => standard_io}),
    {Peer, peer:call(Peer, erlang, node, [])}.

stop({Peer, _Node}) ->
    teleport_test:stop_peer(Peer).

with(Nodes, Do) ->
    try Do(Nodes)
    after
        [stop(Node) || Node <- Nodes]
    end.

name({_Peer, Node}) -> Node.

at({Peer, _Node}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, 2 * ?PATIENCE).

at(Node, Fun) ->
    at(Node, erlang, apply, [Fun, []]).

is_up(Node, Other) ->
    lists:member(name(Other), at(Node, erlang, nodes, [connected])).

is_carried(Node, Other) ->
    {_, Controller} = lists:keyfind(name(Other), 1, at(Node, erlang, system_info, [dist_ctrl])),
    is_pid(Controller).

%% A process at a node that is told of another one.
watcher(Node, Other) ->
    Of = name(Other),
    Pid = at(Node, fun() ->
        Self = self(),
        Watcher = spawn(fun() -> ok = net_kernel:monitor_nodes(true), Self ! {self(), ready}, receive after infinity -> ok end end),
        receive {Watcher, ready} -> Watcher end
    end),
    {Node, Pid, Of}.

%% What it is told first of the other one, or then.
told(Watcher) ->
    told(Watcher, 1).

told({Node, Pid, Of}, Which) ->
    at(Node, fun() ->
        teleport_test:eventually(fun() -> length(told_of(Pid, Of)) >= Which end),
        lists:nth(Which, told_of(Pid, Of))
    end).

nothing_told({Node, Pid, Of}) ->
    case at(Node, fun() -> told_of(Pid, Of) end) of
        [] -> nothing;
        Told -> Told
    end.

told_of(Pid, Of) ->
    {messages, Messages} = process_info(Pid, messages),
    [What || {What, Node} <- Messages, Node =:= Of].

%% The cookie of the nodes, unless they have another one.
cookie() ->
    "kT7pQ2mVx9LrD4wZsB6n".

%% At nodes.

echo() ->
    receive {From, Message} -> From ! {self(), Message} end,
    echo().

%% Numbered messages of all sizes to a process there: what was wrong with them.
numbers(Node, Count) ->
    Sink = teleport_test:sink(Node),
    Sizes = {10, 1000, 100000, 10, 1000000, 64},
    [Sink ! teleport_test:number(self(), Number, element(1 + Number rem tuple_size(Sizes), Sizes)) || Number <- lists:seq(1, Count)],
    Wrong = teleport_test:arrived([Sink], Count),
    exit(Sink, kill),
    Wrong.

large() ->
    binary:copy(<<7>>, ?LARGE).

%% By how many milliseconds a process that looks 20 times a second was late at most, in that time.
stood_still(Time) ->
    stood_still(Time, erlang:monotonic_time(millisecond), 0).

stood_still(Left, _Since, Longest) when Left =< 0 ->
    Longest;
stood_still(Left, Since, Longest) ->
    receive after 50 -> ok end,
    Now = erlang:monotonic_time(millisecond),
    stood_still(Left - (Now - Since), Now, max(Longest, Now - Since - 50)).

next() ->
    receive Message -> Message after ?PATIENCE -> error({nothing_came, process_info(self(), messages)}) end.
