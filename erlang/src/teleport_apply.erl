%% @private
%% Applies functions for other nodes, each in a process of its own, which answers over the pool; should it be killed, this
%% process answers for it. Who called may have ended meanwhile, or not want to know any more: the function goes on.
-module(teleport_apply).
-behaviour(gen_server).

-export([start_link/0, call/5, work/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% How an application ended.
-type outcome() :: {return | throw | exit | error, term()}.

%% By the monitors of the processes at work.
-type state() :: #{reference() => gen_server:from()}.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% As `teleport:apply/5'.
-spec call(node(), module(), atom(), [term()], teleport_timeout:response_timeout()) -> term().
call(Node, Module, Function, Args, Timeout) when Node =:= node() ->
    erpc:call(Node, Module, Function, Args, Timeout);
call(Node, Module, Function, Args, Timeout)
  when is_atom(Node), is_atom(Module), is_atom(Function), is_list(Args) ->
    case teleport_timeout:left(Timeout) of
        badarg ->
            error({erpc, badarg});
        Milliseconds ->
            case teleport_ref:where({?MODULE, Node}) of
                {remote, To} ->
                    call_remote(To, Module, Function, Args, Milliseconds);
                {local, _ByDistributedErlang} ->
                    erpc:call(Node, Module, Function, Args, Milliseconds)
            end
    end;
call(_Node, _Module, _Function, _Args, _Timeout) ->
    error({erpc, badarg}).

-spec call_remote(teleport_nif:destination(), module(), atom(), [term()], timeout()) -> term().
call_remote(To, Module, Function, Args, Milliseconds) ->
    Request = {apply, group_leader(), Module, Function, Args},
    case teleport_request:call(To, '$gen_call', Request, Milliseconds) of
        {reply, {return, Value}} -> Value;
        {reply, {throw, Value}} -> throw(Value);
        {reply, {exit, Reason}} -> exit(Reason);
        {reply, {error, Reason}} -> error(Reason);
        {exit, Reason} -> error({erpc, erpc_reason(Reason)})
    end.

-spec init([]) -> {ok, state()}.
init([]) ->
    {ok, #{}}.

-spec handle_call(term(), gen_server:from(), state()) -> {noreply, state()} | {reply, outcome(), state()}.
handle_call({apply, Leader, Module, Function, Args}, From, Working) when is_pid(Leader) ->
    try spawn_monitor(?MODULE, work, [From, Leader, {Module, Function, Args}]) of
        {_Pid, Monitor} -> {noreply, Working#{Monitor => From}}
    catch
        error:system_limit -> {reply, {error, {erpc, system_limit}}, Working}
    end;
handle_call(_Request, _From, Working) ->
    {reply, {error, {erpc, notsup}}, Working}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(_Request, Working) ->
    {noreply, Working}.

-spec handle_info(term(), state()) -> {noreply, state()}.
handle_info({'DOWN', Monitor, process, _Pid, Reason}, Working) ->
    case maps:take(Monitor, Working) of
        {_From, Rest} when Reason =:= {?MODULE, answered} ->
            {noreply, Rest};
        {From, Rest} ->
            ok = gen_server:reply(From, {exit, {signal, Reason}}),
            {noreply, Rest};
        error ->
            {noreply, Working}
    end;
handle_info(_Other, Working) ->
    {noreply, Working}.

%% What erpc has to say about a function that is applied here is what the caller is to know. Output goes where the caller's
%% goes.
-spec work(gen_server:from(), pid(), {module(), atom(), [term()]}) -> no_return().
work(From, Leader, {Module, Function, Args}) ->
    true = group_leader(Leader, self()),
    Outcome = try
        {return, erpc:call(node(), Module, Function, Args)}
    catch
        Class:Reason -> {Class, Reason}
    end,
    ok = gen_server:reply(From, Outcome),
    exit({?MODULE, answered}).

-spec erpc_reason(term()) -> term().
erpc_reason(timeout) -> timeout;
erpc_reason(noproc) -> notsup;
erpc_reason({too_large, _Size, _Limit} = Reason) -> Reason;
erpc_reason({rejected, _Text} = Reason) -> Reason;
%% It is not known whether the function is at work.
erpc_reason(_NodeDown) -> noconnection.
