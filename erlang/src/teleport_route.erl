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

-export([of_node/1, start/1, stop/0, known/1, set/2, forget/1]).

-export_type([route/0]).

-type route() :: pool | disterl.

%% The whole table is one term: it seldom changes, and is looked at for each message. Without it everything goes over pools.
-define(TABLE, teleport_route).

%% In a process's dictionary: it has sent to a node over distributed Erlang.
-define(MARK(Node), {teleport_route, Node}).

%% The way for the calling process.
-spec of_node(node()) -> route().
of_node(Node) ->
    case persistent_term:get(?TABLE, off) of
        off -> pool;
        #{Node := Route} -> take(Route, Node);
        #{} -> take(teleport_manager:route(Node), Node)
    end.

-spec take(route(), node()) -> route().
take(disterl, Node) ->
    _ = put(?MARK(Node), true),
    disterl;
take(pool, Node) ->
    case get(?MARK(Node)) of
        undefined ->
            ok;
        true ->
            %% If that fails the connection is gone, and with it what was under way.
            try erpc:call(Node, erlang, node, []) of _ -> ok catch _:_ -> ok end,
            erase(?MARK(Node))
    end,
    pool.

%% The rest is the manager's.

-spec start(error | disterl) -> ok.
start(disterl) -> persistent_term:put(?TABLE, #{});
start(error) -> stop().

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?TABLE),
    ok.

-spec known(node()) -> {ok, route()} | error.
known(Node) ->
    maps:find(Node, persistent_term:get(?TABLE, #{})).

-spec set(node(), route()) -> ok.
set(Node, Route) ->
    update(fun(Table) -> Table#{Node => Route} end).

-spec forget(node()) -> ok.
forget(Node) ->
    update(fun(Table) -> maps:remove(Node, Table) end).

-spec update(fun((#{node() => route()}) -> #{node() => route()})) -> ok.
update(Change) ->
    case persistent_term:get(?TABLE, off) of
        off -> ok;
        Table -> persistent_term:put(?TABLE, Change(Table))
    end.
