%% @private
%% Applies functions for other nodes: the server behind `teleport_erpc'. Each function runs in a process of
%% its own, which replies over the pool. If that process is killed, the server replies in its place. Either way the
%% reply comes behind what the process has sent to the caller. A function goes on if its caller ends or times out.
-module(teleport_apply).
-behaviour(gen_server).

-export([start_link/0, call/5, cast/4, send_request/4, multicall/5, result/1, work/3, work/2, work_here/1]).
-export([multicast/4]).
-export([timeout/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% How an application ended.
-type outcome() :: {return | throw | exit | error, term()}.

%% How long the server waits for a request before it hibernates: the arguments of the last ones are garbage. In milliseconds.
-define(IDLE, 1000).

%% The callers, by the monitors of the processes that work for them.
-type state() :: #{reference() => gen_server:from()}.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    %% Each request passes here on its way to its process, and may be large.
    Options = [{fullsweep_after, 0}, {message_queue_data, off_heap}],
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{spawn_opt, Options}]).

%% Like `teleport_erpc:call/5'.
-spec call(node(), module(), atom(), [term()], teleport_erpc:timeout_or_options()) -> term().
call(Node, Module, Function, Args, Timeout) when Node =:= node() ->
    erpc:call(Node, Module, Function, Args, Timeout);
call(Node, Module, Function, Args, Timeout)
  when is_atom(Node), is_atom(Module), is_atom(Function), is_list(Args) ->
    case teleport_timeout:left(timeout(Timeout)) of
        badarg ->
            error({erpc, badarg});
        Milliseconds ->
            Deadline = teleport_timeout:deadline(Milliseconds),
            case teleport_ref:resolve({?MODULE, Node}, Milliseconds) of
                {pool, To} ->
                    call_remote(To, Module, Function, Args, Deadline);
                {otp, _ByDistributedErlang} ->
                    erpc:call(Node, Module, Function, Args, teleport_timeout:left(Deadline));
                late ->
                    error({erpc, timeout})
            end
    end;
call(_Node, _Module, _Function, _Args, _Timeout) ->
    error({erpc, badarg}).

-spec call_remote(teleport_nif:destination(), module(), atom(), [term()], teleport_timeout:response_timeout()) -> term().
call_remote(To, Module, Function, Args, Deadline) ->
    case teleport_request:call(To, '$gen_call', request(Module, Function, Args), Deadline) of
        {reply, Outcome} -> result({reply, Outcome});
        {exit, Reason} -> error({erpc, erpc_reason(Reason)})
    end.

%% The timeout in the options of `erpc', of the release that runs here. What is neither is returned as it is.
-spec timeout(term()) -> term().
timeout(#{} = Options) ->
    case list_to_integer(erlang:system_info(otp_release)) >= 28 andalso is_boolean(maps:get(always_spawn, Options, false)) of
        true -> maps:get(timeout, Options, infinity);
        false -> Options
    end;
timeout(Timeout) ->
    Timeout.

%% Like `teleport_erpc:send_request/4', with checked arguments. For a node without a pool a process of this node calls OTP's function.
-spec send_request(node(), module(), atom(), [term()]) -> teleport_request:request_id().
send_request(Node, Module, Function, Args) ->
    case teleport_ref:resolve({?MODULE, Node}) of
        {pool, To} ->
            teleport_request:send(To, '$gen_call', request(Module, Function, Args));
        {otp, _ByDistributedErlang} ->
            teleport_request:send(start_here(), '$gen_call', {Node, Module, Function, Args})
    end.

%% Applies a function on several nodes. No node is waited for before the function is begun on the others.
-spec multicall([node()], module(), atom(), [term()], teleport_timeout:response_timeout()) ->
    [{node(), teleport_request:response() | timeout}].
multicall(Nodes, Module, Function, Args, Timeout) ->
    Begin = fun(Node, Mark, Milliseconds) ->
        Ref = {?MODULE, Node},
        case teleport_ref:resolve(Ref, Milliseconds) of
            {otp, _ByDistributedErlang} ->
                Here = start_here(),
                teleport_request:begin_marked({otp, Here}, Here, Mark, {Node, Module, Function, Args});
            Where ->
                teleport_request:begin_marked(Where, Ref, Mark, request(Module, Function, Args))
        end
    end,
    teleport_request:each(Nodes, Begin, Timeout).

-spec request(module(), atom(), [term()]) -> tuple().
request(Module, Function, Args) ->
    {apply, group_leader(), Module, Function, Args}.

%% A process that takes one request of the calling process, whether or not other nodes may apply functions here.
-spec start_here() -> pid().
start_here() ->
    spawn(?MODULE, work_here, [self()]).

-spec work_here(pid()) -> no_return().
work_here(Caller) ->
    Monitor = erlang:monitor(process, Caller),
    receive
        {'$gen_call', From, At} ->
            true = erlang:demonitor(Monitor, [flush]),
            %% Not in this process: the caller would not learn why it has ended.
            {noreply, Working, _Idle} = begin_work([From, group_leader(), At], From, #{}),
            _ = receive {'DOWN', _, process, _, _} = Down ->
                case ended(Down, Working) of
                    {[], _Rest} -> ok;
                    {Reply, _Rest} -> apply(teleport_relay, reply, Reply)
                end
            end,
            exit(normal);
        {'DOWN', Monitor, process, Caller, _Reason} ->
            exit(normal)
    end.

%% Returns the result of a function, or raises its exception.
-spec result(teleport_request:response() | badarg) -> term().
result({reply, {return, Value}}) -> Value;
result({reply, {throw, Value}}) -> throw(Value);
result({reply, {exit, Reason}}) -> exit(Reason);
result({reply, {error, Reason}}) -> error(Reason);
result({error, {Reason, _Server}}) -> error({erpc, erpc_reason(Reason)});
result(badarg) -> error({erpc, badarg}).

%% Like `teleport_erpc:cast/4', with checked arguments.
-spec cast(node(), module(), atom(), [term()]) -> ok.
cast(Node, Module, Function, Args) ->
    case teleport_ref:resolve({?MODULE, Node}) of
        {pool, _To} -> teleport:cast({?MODULE, Node}, request(Module, Function, Args));
        {otp, _ByDistributedErlang} -> erpc:cast(Node, Module, Function, Args)
    end.

%% Like `teleport_erpc:multicast/4', with checked arguments. No node is waited for before the others have theirs.
-spec multicast([node()], module(), atom(), [term()]) -> ok.
multicast(Nodes, Module, Function, Args) ->
    Found = teleport_route:known_first(Nodes, fun(Node) -> teleport_ref:resolve({?MODULE, Node}) end),
    [ok = erpc:cast(Node, Module, Function, Args) || {Node, {otp, _ByDistributedErlang}} <- Found],
    teleport_send:to_all([Node || {Node, {pool, _To}} <- Found], ?MODULE, {'$gen_cast', request(Module, Function, Args)}).

-spec init([]) -> {ok, state()}.
init([]) ->
    {ok, #{}}.

-spec handle_call(term(), gen_server:from(), state()) -> {noreply, state(), timeout()} | {reply, outcome(), state(), timeout()}.
handle_call({apply, Leader, Module, Function, Args}, From, Working) when is_pid(Leader) ->
    begin_work([From, Leader, {node(), Module, Function, Args}], From, Working);
handle_call(_Request, _From, Working) ->
    {reply, {error, {erpc, notsup}}, Working, ?IDLE}.

-spec begin_work([term()], gen_server:from(), state()) -> {noreply, state(), timeout()} | {reply, outcome(), state(), timeout()}.
begin_work(Args, From, Working) ->
    try spawn_monitor(?MODULE, work, Args) of
        {_Pid, Monitor} -> {noreply, Working#{Monitor => From}, ?IDLE}
    catch
        error:system_limit -> {reply, {error, {erpc, system_limit}}, Working, ?IDLE}
    end.

-spec handle_cast(term(), state()) -> {noreply, state(), timeout()}.
handle_cast({apply, Leader, Module, Function, Args}, Working) when is_pid(Leader) ->
    %% If no process can be started the cast is dropped: a cast has no response.
    _ = try spawn(?MODULE, work, [Leader, {Module, Function, Args}]) catch error:system_limit -> none end,
    {noreply, Working, ?IDLE};
handle_cast(_Request, Working) ->
    {noreply, Working, ?IDLE}.

-spec handle_info(term(), state()) -> {noreply, state(), timeout() | hibernate}.
handle_info({'DOWN', _Monitor, process, _Pid, _Reason} = Down, Working) ->
    Rest = case ended(Down, Working) of
        {[], Others} ->
            Others;
        {Reply, Others} ->
            %% A reason may take long to be encoded, for which this process has no time.
            _ = try spawn(teleport_relay, reply, Reply)
            catch error:system_limit -> apply(teleport_relay, reply, Reply)
            end,
            Others
    end,
    {noreply, Rest, ?IDLE};
handle_info(timeout, Working) ->
    {noreply, Working, hibernate};
handle_info(_Other, Working) ->
    {noreply, Working, ?IDLE}.

%% Applies a function by erpc, so that its outcome has erpc's form, and replies with that. The group leader is
%% the caller's.
-spec work(gen_server:from(), pid(), {node(), module(), atom(), [term()]}) -> no_return().
work(From, Leader, {Node, Module, Function, Args}) ->
    ok = lead(Leader),
    Outcome = try
        {return, erpc:call(Node, Module, Function, Args)}
    catch
        Class:Reason -> {Class, Reason}
    end,
    ok = teleport_relay:reply(From, Outcome, self()),
    exit({?MODULE, answered}).

%% A worker has ended. If it has not answered somebody has to, in its name: with these arguments of `teleport_relay:reply/3'.
-spec ended(tuple(), state()) -> {[term()], state()}.
ended({'DOWN', Monitor, process, Worker, Reason}, Working) ->
    case maps:take(Monitor, Working) of
        {_From, Rest} when Reason =:= {?MODULE, answered} -> {[], Rest};
        {From, Rest} -> {[From, {exit, {signal, Reason}}, Worker], Rest};
        error -> {[], Working}
    end.

%% Applies a function for a cast.
-spec work(pid(), {module(), atom(), [term()]}) -> term().
work(Leader, {Module, Function, Args}) ->
    ok = lead(Leader),
    erlang:apply(Module, Function, Args).

%% The caller's group leader may be a process of this node that has ended, such as that of a remote shell.
-spec lead(pid()) -> ok.
lead(Leader) ->
    try group_leader(Leader, self()) of
        true -> ok
    catch
        error:badarg -> ok
    end.

-spec erpc_reason(term()) -> term().
erpc_reason(timeout) -> timeout;
erpc_reason(noproc) -> notsup;
erpc_reason({too_large, _Size, _Limit} = Reason) -> Reason;
erpc_reason({rejected, _Text} = Reason) -> Reason;
erpc_reason({unreadable_reply, Text}) -> {rejected, Text};
erpc_reason(system_limit) -> system_limit;
%% The function may be running.
erpc_reason(_NodeDown) -> noconnection.
