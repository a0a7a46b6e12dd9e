%% @private
%% What a reference to a process means.
-module(teleport_ref).

-export([where/1, where/2, node_of/1]).
-export([new/0, monitor/2, alias/1]).

-compile({no_auto_import, [monitor/2, alias/1]}).

-export_type([ref/0, where/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.

-type where() :: {local, pid() | atom() | {atom(), node()}} | {remote, teleport_nif:destination()} | undefined | invalid.

%% What to do with a reference to a process. `local': what OTP's own functions would do. `undefined': nobody has that name.
%% `invalid': it is no reference.
-spec where(ref()) -> where().
where(Ref) ->
    case where(Ref, infinity) of
        Where when Where =/= late, Where =/= noconnect -> Where
    end.

%% The same. `late', `noconnect': in that time it is not known which way to its node there is.
-spec where(ref(), teleport_route:patience()) -> where() | late | noconnect.
where(Pid, _Patience) when is_pid(Pid), node(Pid) =:= node() ->
    {local, Pid};
where(Pid, Patience) when is_pid(Pid) ->
    remote(Pid, node(Pid), Patience);
where({global, Name}, Patience) ->
    found(global:whereis_name(Name), Patience);
where({via, Module, Name}, Patience) ->
    try Module:whereis_name(Name) of
        Found -> found(Found, Patience)
    catch
        _:_ -> invalid
    end;
where({Name, Node}, _Patience) when is_atom(Name), Node =:= node() ->
    {local, {Name, Node}};
where({Name, Node}, Patience) when is_atom(Name), is_atom(Node) ->
    remote({Name, Node}, Node, Patience);
where(Name, _Patience) when is_atom(Name) ->
    {local, Name};
where(_Other, _Patience) ->
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

-spec found(term(), teleport_route:patience()) -> where() | late | noconnect.
found(undefined, _Patience) -> undefined;
found(Pid, _Patience) when is_pid(Pid), node(Pid) =:= node() -> {local, Pid};
found(Pid, Patience) when is_pid(Pid) -> remote(Pid, node(Pid), Patience);
found(_Other, _Patience) -> invalid.

%% Where teleport does not run OTP's own functions do it, if that is configured.
-spec remote(teleport_nif:destination(), node(), teleport_route:patience()) -> where() | late | noconnect.
remote(To, Node, Patience) ->
    case teleport_route:of_node(Node, Patience) of
        pool -> {remote, To};
        disterl -> {local, To};
        Unknown -> Unknown
    end.
