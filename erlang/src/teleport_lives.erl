%% @private
%% Which life of a node has ended, when distributed Erlang says that the node is down: a session with a later one goes on.
%%
%% Each life has a number, the node's creation, which is asked for at nodeup. If the node was down before it could say so, the
%% session ends, unless the node is up again: then it ends if it is not with the life that is up.
-module(teleport_lives).

-export([new/0, up/2, down/2, answered/3]).
-export([asking/1]).

-export_type([lives/0]).

-record(life, {
    %% Monitors the process that asks, while it does.
    asking :: reference() | undefined,
    creation = unknown :: pos_integer() | unknown,
    %% There may be a session with an earlier life, of which nobody knew the creation.
    is_doubted = false :: boolean()
}).

-type lives() :: #{node() => #life{} | doubted}.

%% Milliseconds.
-define(TIMEOUT, 5000).

-spec new() -> lives().
new() ->
    #{}.

%% A node is up.
-spec up(node(), lives()) -> lives().
up(Node, Lives) ->
    IsDoubted = maps:get(Node, Lives, undefined) =:= doubted,
    {_Pid, Asking} = spawn_monitor(?MODULE, asking, [Node]),
    Lives#{Node => #life{asking = Asking, is_doubted = IsDoubted}}.

%% A node is down. Ends the session with that life.
-spec down(node(), lives()) -> lives().
down(Node, Lives) ->
    case Lives of
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

%% One that was asked has answered, or has not.
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

%% A process that ends with the answer.
-spec asking(node()) -> no_return().
asking(Node) ->
    exit({creation, Node, ask(Node)}).

-spec ask(node()) -> pos_integer() | unknown.
ask(Node) ->
    try erpc:call(Node, erlang, system_info, [creation], ?TIMEOUT)
    catch _:_ -> unknown
    end.
