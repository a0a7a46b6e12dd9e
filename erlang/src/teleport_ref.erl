%% @private
%% References to processes: resolves pids, names and registries to a destination and the route to it.
-module(teleport_ref).

-export([resolve/1, resolve/2, node_of/1]).
-export([new/0, monitor/2, alias/1]).

-compile({no_auto_import, [monitor/2, alias/1]}).

-export_type([ref/0, resolved/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.

-type resolved() :: {otp, pid() | atom() | {atom(), node()}} | {pool, teleport_nif:destination()} | undefined | invalid.

%% Resolves a reference to a process. `otp': OTP's own functions reach it. `pool': teleport sends to it.
%% `undefined': the name is not registered. `invalid': it is no reference.
-spec resolve(ref()) -> resolved().
resolve(Ref) ->
    case resolve(Ref, infinity) of
        Where when Where =/= late, Where =/= noconnect -> Where
    end.

%% Like resolve/1, with a limit for the time to find the route. `late', `noconnect': the route to the node is
%% not known.
-spec resolve(ref(), teleport_route:patience()) -> resolved() | late | noconnect.
resolve(Pid, _Patience) when is_pid(Pid), node(Pid) =:= node() ->
    {otp, Pid};
resolve(Pid, Patience) when is_pid(Pid) ->
    remote(Pid, node(Pid), Patience);
resolve({global, Name}, Patience) ->
    found(global:whereis_name(Name), Patience);
resolve({via, Module, Name}, Patience) ->
    try Module:whereis_name(Name) of
        Found -> found(Found, Patience)
    catch
        _:_ -> invalid
    end;
resolve({Name, Node}, _Patience) when is_atom(Name), Node =:= node() ->
    {otp, {Name, Node}};
resolve({Name, Node}, Patience) when is_atom(Name), is_atom(Node) ->
    remote({Name, Node}, Node, Patience);
resolve(Name, _Patience) when is_atom(Name) ->
    {otp, Name};
resolve(_Other, _Patience) ->
    invalid.

%% The node of a destination.
-spec node_of(teleport_nif:destination()) -> node().
node_of({_Name, Node}) -> Node;
node_of(Pid) -> node(Pid).

%% References without a receive marker, since the compiler does not follow them across modules (see
%% teleport_request).

-spec new() -> reference().
new() ->
    make_ref().

-spec monitor(pid() | {atom(), node()}, [{alias, explicit_unalias | demonitor} | {tag, term()} | priority]) -> reference().
monitor(Process, Options) ->
    erlang:monitor(process, Process, Options).

-spec alias([explicit_unalias | priority]) -> reference().
alias(Options) ->
    erlang:alias(Options).

-spec found(term(), teleport_route:patience()) -> resolved() | late | noconnect.
found(undefined, _Patience) -> undefined;
found(Pid, _Patience) when is_pid(Pid), node(Pid) =:= node() -> {otp, Pid};
found(Pid, Patience) when is_pid(Pid) -> remote(Pid, node(Pid), Patience);
found(_Other, _Patience) -> invalid.

%% A node without teleport is reached by OTP's own functions, if `fallback' says so. They also give the error
%% if this node is not distributed.
-spec remote(teleport_nif:destination(), node(), teleport_route:patience()) -> resolved() | late | noconnect.
remote(To, _Node, _Patience) when node() =:= nonode@nohost ->
    {otp, To};
remote(To, Node, Patience) ->
    case teleport_route:of_node(Node, Patience) of
        pool -> {pool, To};
        disterl -> {otp, To};
        Unknown -> Unknown
    end.
