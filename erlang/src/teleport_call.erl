%% @private
%% Requests of all kinds: how they begin, what answers them, and how they end.
-module(teleport_call).

-export([server/5, remote/4, request/3, begin_request/3]).
-export([receive_response/2, wait_response/2, check_response/2]).
-export([ended/3, accepted/3, down_reason/1, deadline/1]).

-export_type([request_id/0, response_timeout/0]).

-type request_id() :: reference().
-type response_timeout() :: timeout() | {abs, integer()}.

%% `[alias|Tag]' is what `gen:reply/2' takes for the alias of a caller.
-dialyzer({no_improper_lists, [begin_remote/4, request_local/3]}).

%% Calls a server. Function is the one of OTP, with its arguments.
-spec server(teleport_ref:ref(), term(), term(), timeout(), {gen_server | gen_event, call, [term()]}) -> term().
server(Ref, Kind, Request, Timeout, {Module, Name, Args} = Function) ->
    case teleport_ref:where(Ref) of
        {local, _Process} ->
            %% With the exits that it has anyway.
            erlang:apply(Module, Name, Args);
        {remote, To} ->
            case remote(To, Kind, Request, Timeout) of
                {reply, Reply} -> Reply;
                {exit, Reason} -> exit({Reason, Function})
            end;
        undefined ->
            exit({noproc, Function})
    end.

%% The same with a server of another node.
-spec remote(teleport_nif:destination(), term(), term(), timeout()) -> {reply, term()} | {exit, term()}.
remote(To, Kind, Request, Timeout) ->
    Id = make_ref(),
    case begin_remote(To, Kind, Id, {Request, undefined}) of
        {error, Reason} ->
            {exit, call_reason(Reason, To)};
        _Begun ->
            case receive_response(Id, Timeout) of
                {reply, Reply} -> {reply, Reply};
                {error, {Reason, _Object}} -> {exit, call_reason(Reason, To)};
                timeout -> {exit, timeout}
            end
    end.

%% Begins a request, and returns when it waits no longer: what is sent next must not overtake it. Kind is what the server knows
%% it by.
-spec request(teleport_ref:ref(), term(), term()) -> request_id().
request(Ref, Kind, Request) ->
    case teleport_ref:where(Ref) of
        {local, Process} ->
            request_local(Process, Kind, Request);
        {remote, To} ->
            {Id, Tag} = {make_ref(), make_ref()},
            case begin_remote(To, Kind, Id, {Request, Tag}) of
                ok -> Id;
                waiting -> accepted(Tag, Id, To);
                {error, Reason} -> ended(Id, To, down_reason(Reason))
            end;
        undefined ->
            ended(make_ref(), Ref, noproc)
    end.

%% One of several at the same time. It may still be waiting: the answer is awaited before anything else is sent.
-spec begin_request({atom(), node()}, term(), term()) -> request_id().
begin_request(Ref, Kind, Request) ->
    case teleport_ref:where(Ref) of
        {local, Process} ->
            request_local(Process, Kind, Request);
        {remote, To} ->
            Id = make_ref(),
            case begin_remote(To, Kind, Id, {Request, undefined}) of
                {error, Reason} -> ended(Id, To, down_reason(Reason));
                _Begun -> Id
            end
    end.

-spec receive_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
receive_response(Id, Timeout) when is_reference(Id) ->
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after milliseconds(Timeout) ->
        case teleport_nif:cancel(Id) of
            true -> timeout;
            false -> last_response(Id)
        end
    end.

-spec wait_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
wait_response(Id, Timeout) when is_reference(Id) ->
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after milliseconds(Timeout) ->
        timeout
    end.

-spec check_response(Message :: term(), request_id()) -> {reply, term()} | no_reply | {error, {term(), term()}}.
check_response({[alias | Id], Reply}, Id) -> replied(Id, Reply);
check_response({'DOWN', Id, process, Object, Reason}, Id) -> {error, {Reason, Object}};
check_response(_Message, Id) when is_reference(Id) -> no_reply.

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

%% What was not sent since there is no connection has no connection, whatever the cause.
-spec down_reason(term()) -> term().
down_reason(not_running) -> noconnection;
down_reason({not_running, _Node}) -> noconnection;
down_reason({connect, _Why}) -> noconnection;
down_reason(nodedown) -> noconnection;
down_reason(Reason) -> Reason.

-spec deadline(timeout()) -> infinity | {abs, integer()}.
deadline(infinity) -> infinity;
deadline(Timeout) -> {abs, erlang:monotonic_time(millisecond) + Timeout}.

%% `{teleport_sent, Tag, _}' comes if Tag is a reference and this returns `waiting'.
-spec begin_remote(teleport_nif:destination(), term(), reference(), {term(), reference() | undefined}) ->
    ok | waiting | {error, teleport_nif:error()}.
begin_remote(To, Kind, Id, {Request, Tag}) ->
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

-spec milliseconds(response_timeout()) -> timeout().
milliseconds({abs, Time}) -> max(0, Time - erlang:monotonic_time(millisecond));
milliseconds(Timeout) -> Timeout.

%% Why a call has no reply, in the words of `gen'.
-spec call_reason(term(), teleport_nif:destination()) -> term().
call_reason(Reason, To) ->
    case down_reason(Reason) of
        noconnection -> {nodedown, teleport_ref:node_of(To)};
        Other -> Other
    end.
