%% @private
%% What a reference to a process means.
-module(teleport_ref).

-export([where/1, node_of/1]).
-export([new/0, monitor/2, alias/1]).

-compile({no_auto_import, [monitor/2, alias/1]}).

-export_type([ref/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.

%% What to do with a reference to a process. `local': what OTP's own functions would do. `undefined': nobody has that name.
%% `invalid': it is no reference.
-spec where(ref()) ->
    {local, pid() | atom() | {atom(), node()}} | {remote, teleport_nif:destination()} | undefined | invalid.
where(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    {local, Pid};
where(Pid) when is_pid(Pid) ->
    remote(Pid, node(Pid));
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
    remote({Name, Node}, Node);
where(Name) when is_atom(Name) ->
    {local, Name};
where(_Other) ->
    invalid.

-spec node_of(teleport_nif:destination()) -> node().
node_of({_Name, Node}) -> Node;
node_of(Pid) -> node(Pid).

%% References without a receive marker: the compiler follows none to another module (see teleport_request).

-spec new() -> reference().
new() ->
    make_ref().

-spec monitor(pid() | {atom(), node()}, [{alias, explicit_unalias | demonitor} | {tag, term()} | priority]) -> reference().
monitor(Process, Options) ->
    erlang:monitor(process, Process, Options).

-spec alias([explicit_unalias | priority]) -> reference().
alias(Options) ->
    erlang:alias(Options).

-spec found(term()) -> {local | remote, pid()} | undefined | invalid.
found(undefined) -> undefined;
found(Pid) when is_pid(Pid), node(Pid) =:= node() -> {local, Pid};
found(Pid) when is_pid(Pid) -> remote(Pid, node(Pid));
found(_Other) -> invalid.

%% Where teleport does not run OTP's own functions do it, if that is configured.
-spec remote(teleport_nif:destination(), node()) -> {local | remote, teleport_nif:destination()}.
remote(To, Node) ->
    case teleport_route:of_node(Node) of
        pool -> {remote, To};
        disterl -> {local, To}
    end.
