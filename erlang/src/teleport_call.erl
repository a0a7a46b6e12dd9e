%% @private
%% Requests of all kinds: how they begin, what answers them, and how they end.
-module(teleport_call).

-export([server/5, manager/3, tell/3, stop/4, remote/4, request/3, begin_request/3]).
-export([receive_response/2, wait_response/2, check_response/2]).
-export([monitor/1, demonitor/1, ended/3, deadline/1, milliseconds/1]).

-compile({no_auto_import, [monitor/1, demonitor/1]}).

-export_type([request_id/0, response_timeout/0]).

-type request_id() :: reference().
-type response_timeout() :: timeout() | {abs, integer()}.

%% A function of OTP, with its arguments. It does what there is to do on this node; and for bad input it has the errors that it
%% has anyway.
-type otp() :: {module(), atom(), [term()]}.

%% `[alias|Tag]' is what `gen:reply/2' takes for the alias of a caller.
-dialyzer({no_improper_lists, [begin_remote/5, request_local/3]}).

%% The longest time that one can wait.
-define(MOST_MILLISECONDS, 16#ffffffff).

-define(IS_TIMEOUT(Timeout),
        (Timeout =:= infinity orelse is_integer(Timeout) andalso Timeout >= 0 andalso Timeout =< ?MOST_MILLISECONDS)).

%% Calls a server.
-spec server(teleport_ref:ref(), term(), term(), timeout(), otp()) -> term().
server(Ref, Kind, Request, Timeout, {Module, Name, Args} = Otp) ->
    case teleport_ref:where(Ref) of
        {remote, To} when ?IS_TIMEOUT(Timeout) ->
            case remote(To, Kind, Request, Timeout) of
                {reply, Reply} -> Reply;
                {exit, Reason} -> exit({exit_reason(Ref, Reason), Otp})
            end;
        _Otherwise ->
            erlang:apply(Module, Name, Args)
    end.

%% Calls an event manager, for as long as it takes. The exit has nothing but the reason.
-spec manager(teleport_ref:ref(), term(), otp()) -> term().
manager(Ref, Request, {Module, Name, Args}) ->
    case teleport_ref:where(Ref) of
        {remote, To} ->
            case remote(To, self(), Request, infinity) of
                {reply, Reply} -> Reply;
                {exit, Reason} -> exit(exit_reason(Ref, Reason))
            end;
        _Otherwise ->
            erlang:apply(Module, Name, Args)
    end.

%% Sends a message, whatever becomes of it.
-spec tell(teleport_ref:ref(), term(), otp()) -> ok.
tell(Ref, Message, {Module, Name, Args}) ->
    case teleport_ref:where(Ref) of
        {remote, To} ->
            _ = teleport_send:message(To, Message, 0),
            ok;
        _Otherwise ->
            erlang:apply(Module, Name, Args)
    end.

%% Orders a process to end for that reason, and waits until it has.
-spec stop(teleport_ref:ref(), term(), timeout(), otp()) -> ok.
stop(Ref, Reason, Timeout, {Module, Name, Args}) ->
    case teleport_ref:where(Ref) of
        {remote, To} when ?IS_TIMEOUT(Timeout) -> stop_remote(To, Reason, Timeout);
        _Otherwise -> erlang:apply(Module, Name, Args)
    end.

%% Calls a server of another node.
-spec remote(teleport_nif:destination(), term(), term(), response_timeout()) -> {reply, term()} | {exit, term()}.
remote(To, Kind, Request, Timeout) ->
    Id = make_ref(),
    case begin_remote(To, Kind, Id, Request, undefined) of
        {error, Reason} ->
            {exit, call_reason(Reason, To)};
        _Begun ->
            case receive_within(Id, milliseconds(Timeout)) of
                {reply, Reply} -> {reply, Reply};
                {error, {Reason, _Object}} -> {exit, call_reason(Reason, To)};
                timeout -> {exit, timeout}
            end
    end.

%% Begins a request, and returns when it waits no longer: what is sent next must not overtake it. Kind is what the server knows
%% it by.
-spec request(teleport_ref:ref(), term(), term()) -> request_id() | badarg.
request(Ref, Kind, Request) ->
    request(Ref, Kind, Request, make_ref()).

%% One of several at the same time. It may still be waiting: the answer is awaited before anything else is sent.
-spec begin_request({atom(), node()}, term(), term()) -> request_id().
begin_request(Ref, Kind, Request) ->
    Id = request(Ref, Kind, Request, undefined),
    true = is_reference(Id), % such a reference is always one
    Id.

%% Without a tag nobody waits for it to be accepted.
-spec request(teleport_ref:ref(), term(), term(), reference() | undefined) -> request_id() | badarg.
request(Ref, Kind, Request, Tag) ->
    case teleport_ref:where(Ref) of
        {local, Process} ->
            request_local(Process, Kind, Request);
        {remote, To} ->
            Id = make_ref(),
            case begin_remote(To, Kind, Id, Request, Tag) of
                {error, Reason} -> ended(Id, To, down_reason(Reason));
                waiting when Tag =/= undefined -> accepted(Tag, Id, To);
                _Begun -> Id
            end;
        undefined ->
            ended(make_ref(), Ref, noproc);
        invalid ->
            badarg
    end.

%% `badarg': it is no request, or no time.
-spec receive_response(request_id(), response_timeout()) ->
    {reply, term()} | timeout | {error, {term(), term()}} | badarg.
receive_response(Id, Timeout) ->
    case milliseconds(Timeout) of
        Milliseconds when is_reference(Id), Milliseconds =/= badarg -> receive_within(Id, Milliseconds);
        _ -> badarg
    end.

-spec wait_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}} | badarg.
wait_response(Id, Timeout) ->
    case milliseconds(Timeout) of
        Milliseconds when is_reference(Id), Milliseconds =/= badarg ->
            receive
                {[alias | Id], Reply} -> replied(Id, Reply);
                {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
            after Milliseconds ->
                timeout
            end;
        _ ->
            badarg
    end.

-spec check_response(Message :: term(), request_id()) -> {reply, term()} | no_reply | {error, {term(), term()}} | badarg.
check_response(_Message, Id) when not is_reference(Id) -> badarg;
check_response({[alias | Id], Reply}, Id) -> replied(Id, Reply);
check_response({'DOWN', Id, process, Object, Reason}, Id) -> {error, {Reason, Object}};
check_response(_Message, _Id) -> no_reply.

%% Monitors a process of another node.
-spec monitor(teleport_nif:destination()) -> reference().
monitor(To) ->
    {Monitor, Tag} = {make_ref(), make_ref()},
    case teleport_nif:monitor(To, Monitor, Tag) of
        ok -> Monitor;
        waiting -> accepted(Tag, Monitor, To);
        {error, Reason} -> ended(Monitor, To, down_reason(Reason))
    end.

-spec demonitor(reference()) -> true.
demonitor(Monitor) ->
    case teleport_nif:cancel(Monitor) of
        true -> true;
        false -> erlang:demonitor(Monitor, [flush]) % one of this node's own, or it has ended
    end.

%% It is told that it has ended, by a message like any other of its kind.
-spec ended(reference(), term(), term()) -> reference().
ended(Id, Object, Reason) ->
    self() ! {'DOWN', Id, process, Object, Reason},
    Id.

%% Waits until a request or a monitor waits no longer: what is sent next must not overtake it.
-spec accepted(reference(), reference(), teleport_nif:destination()) -> reference().
accepted(Tag, Id, To) ->
    receive
        {teleport_sent, Tag, ok} ->
            Id;
        {teleport_sent, Tag, {error, Reason}} ->
            %% The engine has stopped. It may have told this process so, or not.
            _ = teleport_nif:cancel(Id),
            receive {'DOWN', Id, process, _Object, _Reason} -> ok after 0 -> ok end,
            ended(Id, To, down_reason(Reason))
    end.

%% A node that is down and that the registry has not noticed yet: as `gen' has it.
-spec exit_reason(teleport_ref:ref(), term()) -> term().
exit_reason({global, _Name}, {nodedown, _Node}) -> noproc;
exit_reason({via, _Module, _Name}, {nodedown, _Node}) -> noproc;
exit_reason(_Ref, Reason) -> Reason.

%% What was not sent since there is no connection has no connection, whatever the cause.
-spec down_reason(term()) -> term().
down_reason(not_running) -> noconnection;
down_reason({not_running, _Node}) -> noconnection;
down_reason({connect, _Why}) -> noconnection;
down_reason(nodedown) -> noconnection;
down_reason(Reason) -> Reason.

%% For those who take longer times than one can wait, as `gen_server:multi_call/4' does, the longest that one can.
-spec deadline(timeout()) -> infinity | {abs, integer()}.
deadline(infinity) -> infinity;
deadline(Timeout) -> {abs, erlang:monotonic_time(millisecond) + min(Timeout, ?MOST_MILLISECONDS)}.

%% How long to wait; `badarg' if it is no time.
-spec milliseconds(response_timeout()) -> timeout() | badarg.
milliseconds(Timeout) when ?IS_TIMEOUT(Timeout) ->
    Timeout;
milliseconds({abs, Time}) when is_integer(Time) ->
    case Time - erlang:monotonic_time(millisecond) of
        Left when Left > ?MOST_MILLISECONDS -> badarg;
        Left -> max(0, Left)
    end;
milliseconds(_Other) ->
    badarg.

%% In the words of `proc_lib:stop/3'.
-spec stop_remote(teleport_nif:destination(), term(), timeout()) -> ok.
stop_remote(To, Reason, Timeout) ->
    Deadline = deadline(Timeout),
    Monitor = monitor(To),
    case remote(To, system, {terminate, Reason}, Deadline) of
        {reply, ok} ->
            receive
                {'DOWN', Monitor, process, _Object, Reason} -> ok;
                {'DOWN', Monitor, process, _Object, Other} -> exit(Other)
            after milliseconds(Deadline) ->
                true = demonitor(Monitor),
                exit(timeout)
            end;
        {exit, Why} ->
            true = demonitor(Monitor),
            exit(case Why of
                noproc -> noproc;
                timeout -> timeout;
                _ -> {Why, {sys, terminate, [To, Reason, Timeout]}}
            end)
    end.

-spec receive_within(request_id(), timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
receive_within(Id, Milliseconds) ->
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after Milliseconds ->
        case teleport_nif:cancel(Id) of
            true -> timeout;
            false -> last_response(Id)
        end
    end.

%% `{teleport_sent, Tag, _}' comes if Tag is a reference and this returns `waiting'.
-spec begin_remote(teleport_nif:destination(), term(), reference(), term(), reference() | undefined) ->
    ok | waiting | {error, teleport_nif:error()}.
begin_remote(To, Kind, Id, Request, Tag) ->
    Message = {Kind, {self(), [alias | Id]}, Request},
    case teleport_nif:request(To, Id, {term, Message}, Tag) of
        not_small -> teleport_nif:request(To, Id, {encoded, teleport_send:encode(Message)}, Tag);
        Begun -> Begun
    end.

%% As `gen' does it.
-spec request_local(pid() | atom() | {atom(), node()}, term(), term()) -> request_id().
request_local(Name, Kind, Request) when is_atom(Name) ->
    case whereis(Name) of
        undefined -> ended(make_ref(), Name, noproc);
        Pid -> request_local(Pid, Kind, Request)
    end;
request_local(Process, Kind, Request) ->
    Id = erlang:monitor(process, Process, [{alias, demonitor}]),
    _ = erlang:send(Process, {Kind, {self(), [alias | Id]}, Request}),
    Id.

-spec replied(request_id(), term()) -> {reply, term()}.
replied(Id, Reply) ->
    true = erlang:demonitor(Id, [flush]), % if it is one of this node's own
    {reply, Reply}.

%% What came just now, if anything did.
-spec last_response(request_id()) -> {reply, term()} | timeout | {error, {term(), term()}}.
last_response(Id) ->
    %% No message of this node's own comes after this. One of a peer is kept: flush would take its DOWN.
    true = erlang:demonitor(Id),
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after 0 ->
        timeout
    end.

%% Why a call has no reply, in the words of `gen'.
-spec call_reason(term(), teleport_nif:destination()) -> term().
call_reason(Reason, To) ->
    case down_reason(Reason) of
        noconnection -> {nodedown, teleport_ref:node_of(To)};
        Other -> Other
    end.
