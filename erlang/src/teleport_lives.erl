%% @private
%% Incarnations of nodes: ends the session with the incarnation that distributed Erlang reports as down, and
%% keeps a later one's.
%%
%% An incarnation is known by its creation, which is asked for at nodeup. If the node goes down before it has
%% answered, its session ends, unless the node is up again: then the session ends only if it is not with the
%% incarnation that is up.
-module(teleport_lives).

-export([new/0, up/2, down/2, answered/3]).
-export([asking/1]).

-export_type([lives/0]).

-record(life, {
    %% The monitor of the process that asks the node, while it does.
    asking :: reference() | undefined,
    creation = unknown :: pos_integer() | unknown,
    %% There may be a session with an earlier incarnation, whose creation was not known.
    is_doubted = false :: boolean()
}).

-type lives() :: #{node() => #life{} | doubted | carried}.

%% How long a node may take to answer, in milliseconds.
-define(TIMEOUT, 5000).

-spec new() -> lives().
new() ->
    #{}.

%% A node is up. A session that carries the connection with it ends with that.
-spec up(node(), lives()) -> lives().
up(Node, Lives) ->
    case teleport_dist:connection(Node) of
        carried -> Lives#{Node => carried};
        _ -> ask(Node, Lives)
    end.

-spec ask(node(), lives()) -> lives().
ask(Node, Lives) ->
    IsDoubted = maps:get(Node, Lives, undefined) =:= doubted,
    Asking = try spawn_monitor(?MODULE, asking, [Node]) of
        {_Pid, Monitor} -> Monitor
    catch
        error:system_limit -> undefined % its creation stays unknown
    end,
    Lives#{Node => #life{asking = Asking, is_doubted = IsDoubted}}.

%% A node is down. Ends the session with that incarnation.
-spec down(node(), lives()) -> lives().
down(Node, Lives) ->
    case Lives of
        #{Node := carried} ->
            maps:remove(Node, Lives);
        #{Node := #life{creation = Creation}} when is_integer(Creation) ->
            _ = teleport_nif:disconnect(Node, {life, Creation}),
            maps:remove(Node, Lives);
        #{} ->
            case lists:member(Node, nodes(connected)) of
                true ->
                    Lives#{Node => doubted};
                false ->
                    _ = teleport_nif:disconnect(Node),
                    maps:remove(Node, Lives)
            end
    end.

%% A node has answered with its creation, or has failed to (`unknown').
-spec answered(reference(), {creation, node(), pos_integer() | unknown}, lives()) -> lives().
answered(Asking, {creation, Node, Creation}, Lives) ->
    case Lives of
        #{Node := #life{asking = Asking, is_doubted = IsDoubted}} ->
            _ = IsDoubted andalso Creation =/= unknown andalso
                teleport_nif:disconnect(Node, {other_than, Creation}),
            Lives#{Node => #life{creation = Creation}};
        #{} ->
            Lives
    end.

%% Asks a node in the calling process, which exits with the answer.
-spec asking(node()) -> no_return().
asking(Node) ->
    exit({creation, Node, ask(Node)}).

-spec ask(node()) -> pos_integer() | unknown.
ask(Node) ->
    try erpc:call(Node, erlang, system_info, [creation], ?TIMEOUT)
    catch _:_ -> unknown
    end.
