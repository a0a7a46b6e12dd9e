%% @private
%% What a reference to a process means.
-module(teleport_ref).

-export([where/1, node_of/1]).

-export_type([ref/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.

%% What to do with a reference to a process.
-spec where(ref()) -> {local, pid() | atom() | {atom(), node()}} | {remote, teleport_nif:destination()} | undefined.
where(Pid) when is_pid(Pid) ->
    if
        node(Pid) =:= node() -> {local, Pid};
        true -> {remote, Pid}
    end;
where({global, Name}) ->
    registered(global:whereis_name(Name));
where({via, Module, Name}) ->
    registered(Module:whereis_name(Name));
where({Name, Node}) when is_atom(Name), Node =:= node() ->
    {local, {Name, Node}};
where({Name, Node}) when is_atom(Name), is_atom(Node) ->
    {remote, {Name, Node}};
where(Name) when is_atom(Name) ->
    {local, Name};
where(Other) ->
    erlang:error(badarg, [Other]).

-spec node_of(teleport_nif:destination()) -> node().
node_of({_Name, Node}) -> Node;
node_of(Pid) -> node(Pid).

-spec registered(pid() | undefined) -> {local, pid()} | {remote, pid()} | undefined.
registered(undefined) -> undefined;
registered(Pid) when node(Pid) =:= node() -> {local, Pid};
registered(Pid) -> {remote, Pid}.
