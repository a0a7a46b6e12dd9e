%% @private
%% Which way messages to a node go, if nodes without teleport are reached over distributed Erlang (`fallback').
%%
%% The manager decides, once for a node: over the pool if teleport runs there. That holds until the node goes down, or until
%% teleport is started or stopped there, which it announces.
%%
%% When teleport is started at a node the way changes, and nothing must be overtaken: so a process that has sent over
%% distributed Erlang first waits for a process that it spawns there. Signals of one process to one node arrive in the
%% order in which they were sent; when that process answers, all messages of this one are in their mailboxes. When teleport is
%% stopped, its sessions have ended before the change.
-module(teleport_route).

-export([of_node/2, known_first/2]).
-export([start/1, stop/0, new/0, known/1, ask/3, changed/3, answered/3, forget/1]).
-export([asking/1]).

-export_type([route/0, patience/0, questions/0]).

-type route() :: pool | disterl.

%% How long a process waits until the way is known. `connected': no longer than that, and not at all for a node that distributed
%% Erlang has no connection to.
-type patience() :: timeout() | {connected, timeout()}.

%% Nodes that are asked which way messages to them go, by which process, and who waits for that.
-type questions() :: #{node() => {Monitor :: reference(), [gen_server:from()], IsOutdated :: boolean()}}.

%% How long a node may take to answer, in milliseconds.
-define(TIMEOUT, 5000).

%% The whole table is one term: it seldom changes, and is looked at for each message. Without it everything goes over pools.
-define(TABLE, teleport_route).

%% In a process's dictionary: it has sent to a node over distributed Erlang.
-define(MARK(Node), {teleport_route, Node}).

%% The way for the calling process. `late': it is not known in time.
-spec of_node(node(), patience()) -> route() | late | noconnect.
of_node(Node, Patience) ->
    case persistent_term:get(?TABLE, off) of
        off -> pool;
        #{Node := Route} -> take(Route, Node, Patience);
        #{} -> find_out(Node, Patience)
    end.

-spec find_out(node(), patience()) -> route() | late | noconnect.
find_out(Node, {connected, Timeout}) ->
    case lists:member(Node, nodes(connected)) orelse is_configured(Node) of
        true -> find_out(Node, Timeout);
        false -> noconnect
    end;
find_out(Node, Timeout) ->
    Deadline = teleport_timeout:deadline(Timeout),
    case teleport_manager:route(Node, Timeout) of
        late -> late;
        Route -> take(Route, Node, teleport_timeout:left(Deadline))
    end.

-spec take(route(), node(), patience()) -> route() | late.
take(disterl, Node, _Patience) ->
    _ = put(?MARK(Node), true),
    disterl;
take(pool, Node, Patience) ->
    case {get(?MARK(Node)), Patience} of
        {undefined, _} -> pool;
        {true, {connected, Timeout}} -> change_over(Node, Timeout);
        {true, Timeout} -> change_over(Node, Timeout)
    end.

%% What has no time for that goes the way that it went before.
-spec change_over(node(), timeout()) -> route() | late.
change_over(_Node, 0) ->
    disterl;
change_over(Node, Timeout) ->
    try erpc:call(Node, erlang, node, [], Timeout) of
        _ -> changed_over(Node)
    catch
        error:{erpc, timeout} -> late;
        %% The connection is gone, and with it what was under way.
        _:_ -> changed_over(Node)
    end.

-spec changed_over(node()) -> pool.
changed_over(Node) ->
    _ = erase(?MARK(Node)),
    pool.

%% Does something for each of the nodes: first for those to which the way is known. All others are asked at the same time meanwhile.
-spec known_first([node()], fun((node()) -> Result)) -> [{node(), Result}].
known_first(Nodes, Do) ->
    case persistent_term:get(?TABLE, off) of
        off ->
            [{Node, Do(Node)} || Node <- Nodes];
        Table ->
            IsKnown = fun(Node) -> Node =:= node() orelse is_map_key(Node, Table) andalso get(?MARK(Node)) =:= undefined end,
            lists:foreach(fun teleport_manager:find_route/1, [Node || Node <- Nodes, not is_map_key(Node, Table), Node =/= node()]),
            Done = [{Node, IsKnown(Node) andalso {done, Do(Node)}} || Node <- Nodes],
            [case Result of
                 {done, Known} -> {Node, Known};
                 false -> {Node, Do(Node)}
             end || {Node, Result} <- Done]
    end.

%% The rest is the manager's.

-spec start(error | disterl) -> ok.
start(disterl) -> persistent_term:put(?TABLE, #{});
start(error) -> stop().

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?TABLE),
    ok.

-spec new() -> questions().
new() ->
    #{}.

-spec known(node()) -> {ok, route()} | error.
known(Node) ->
    maps:find(Node, persistent_term:get(?TABLE, #{})).

%% Some want to know which way messages to a node go. Unless that is known, the node is asked.
-spec ask(node(), [gen_server:from()], questions()) -> {known, route()} | {asked, questions()}.
ask(Node, Who, Questions) ->
    case {known(Node), Questions} of
        {{ok, Route}, _} ->
            {known, Route};
        {error, #{Node := {Monitor, Others, IsOutdated}}} ->
            {asked, Questions#{Node := {Monitor, Who ++ Others, IsOutdated}}};
        {error, #{}} ->
            {asked, Questions#{Node => {begin_asking(Node), Who, false}}}
    end.

%% Teleport is started at a node, or stopped, or the node is down. What it is just saying may not be true any more.
-spec changed(teleport_up | teleport_down, node(), questions()) -> questions().
changed(What, Node, Questions) ->
    ok = update(What, Node),
    case Questions of
        #{Node := {Monitor, Waiting, _}} -> Questions#{Node := {Monitor, Waiting, true}};
        #{} -> Questions
    end.

%% A node that was asked has answered, or has not.
-spec answered(reference(), {route, node(), route() | unknown}, questions()) -> questions().
answered(Monitor, {route, Node, Route}, Questions) ->
    case Questions of
        #{Node := {Monitor, Waiting, true}} ->
            Questions#{Node := {begin_asking(Node), Waiting, false}};
        #{Node := {Monitor, Waiting, false}} ->
            Answer = case Route of
                unknown ->
                    %% Not everybody has to wait for a node that says nothing.
                    _ = erlang:send_after(?TIMEOUT, self(), {forget_route, Node}),
                    pool;
                _ ->
                    Route
            end,
            ok = set(Node, Answer),
            lists:foreach(fun(From) -> gen_server:reply(From, Answer) end, Waiting),
            maps:remove(Node, Questions);
        #{} ->
            Questions
    end.

-spec begin_asking(node()) -> reference().
begin_asking(Node) ->
    {_Pid, Monitor} = spawn_monitor(?MODULE, asking, [Node]),
    Monitor.

%% Who sends to a node asks again, since it was not found where it was, or has said nothing.
-spec forget(node()) -> ok.
forget(Node) ->
    change(fun(Table) -> maps:remove(Node, Table) end).

%% A process that ends with the answer.
-spec asking(node()) -> no_return().
asking(Node) ->
    exit({route, Node, find(Node)}).

%% `unknown': it cannot be reached; messages to it then fail as ever.
-spec find(node()) -> route() | unknown.
find(Node) ->
    case is_configured(Node) of
        true ->
            pool;
        false ->
            try erpc:call(Node, teleport_manager, address, [], ?TIMEOUT) of
                {ok, _Address} -> pool;
                {error, not_running} -> disterl
            catch
                error:{exception, undef, _Stack} -> disterl;
                _:_ -> unknown
            end
    end.

-spec is_configured(node()) -> boolean().
is_configured(Node) ->
    is_map_key(Node, teleport_config:get(peers)).

%% A node that was reached over distributed Erlang is reached over the pool from now on; one that ends is asked next time.
-spec update(teleport_up | teleport_down, node()) -> ok.
update(teleport_up, Node) ->
    case known(Node) of
        {ok, disterl} -> set(Node, pool);
        _ -> ok
    end;
update(teleport_down, Node) ->
    forget(Node).

-spec set(node(), route()) -> ok.
set(Node, Route) ->
    change(fun(Table) -> Table#{Node => Route} end).

-spec change(fun((#{node() => route()}) -> #{node() => route()})) -> ok.
change(Change) ->
    case persistent_term:get(?TABLE, off) of
        off -> ok;
        Table -> persistent_term:put(?TABLE, Change(Table))
    end.
