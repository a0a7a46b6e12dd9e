%% @private
%% What a reference to a process means.
-module(teleport_ref).

-export([where/1, node_of/1]).

-export_type([ref/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.

%% What to do with a reference to a process. `undefined': nobody has that name. `invalid': it is no reference.
-spec where(ref()) ->
    {local, pid() | atom() | {atom(), node()}} | {remote, teleport_nif:destination()} | undefined | invalid.
where(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    {local, Pid};
where(Pid) when is_pid(Pid) ->
    {remote, Pid};
where({global, Name}) ->
    found(global:whereis_name(Name));
where({via, Module, Name}) ->
    try Module:whereis_name(Name) of
        Found -> found(Found)
    catch
        _:_ -> invalid
    end;
where({Name, Node}) when is_atom(Name), Node =:= node() ->
    {local, {Name, Node}};
where({Name, Node}) when is_atom(Name), is_atom(Node) ->
    {remote, {Name, Node}};
where(Name) when is_atom(Name) ->
    {local, Name};
where(_Other) ->
    invalid.

-spec node_of(teleport_nif:destination()) -> node().
node_of({_Name, Node}) -> Node;
node_of(Pid) -> node(Pid).

-spec found(term()) -> {local, pid()} | {remote, pid()} | undefined | invalid.
found(undefined) -> undefined;
found(Pid) when is_pid(Pid), node(Pid) =:= node() -> {local, Pid};
found(Pid) when is_pid(Pid) -> {remote, Pid};
found(_Other) -> invalid.
