%% @private
%% Requests and monitors of the calling process: begins them, receives their responses, and ends them.
%%
%% Waiting does not scan the mailbox, thanks to receive markers: a `receive' begins at the messages that
%% arrived after its reference was made. The compiler places a marker if it can follow the reference to each
%% `receive' of this module, and each clause matches it. From OTP 26 on it can follow a reference from send/3
%% to receive_response/2; before that, receive_response/2 scans the mailbox, as that of `gen_server' does.
%%
%% A process has eight markers. OTP 25 loses messages, or crashes, if markers are made and removed unused
%% while there is another one, which may be a caller's. So a reference that hardly profits from a marker gets
%% none: it is made by teleport_ref:new/0, since the compiler follows none across modules.
-module(teleport_request).

-export([each/3, begin_marked/4]).
-export([call/4, send/3, fail/2, multi/4]).
-export([receive_response/2, wait_response/2, check_response/2, check_response/3, give_up/1]).
-export([monitor/3, monitor/4, watcher/1, demonitor/1, ended/4]).
%% Never called, see there.
-export(['@markers'/3]).

-compile({no_auto_import, [monitor/3, demonitor/1]}).

-export_type([begun/0, request_id/0, response/0, alias/0]).

-type request_id() :: reference().
%% The options of a monitor that OTP takes too: whether it is an alias, and until when; and its priority.
-type alias() :: [{alias, explicit_unalias | demonitor} | priority].
%% The message that has ended a request.
-type came() :: {reply, term()} | {by_hand, term()} | {down, Object :: term(), Reason :: term()}.
-type begun() :: {here | there, request_id()}.
-type response() :: {reply, term()} | {error, {Reason :: term(), Object :: term()}}.

%% `[alias|Id]' is what `gen:reply/2' takes for the alias of a caller; so is `[[alias|Id]|Mark]'.
-dialyzer({no_improper_lists, [tag/2, tag/3]}).

%% How long a reply that a server sent without `gen:reply/2' may arrive after its DOWN, in milliseconds.
-define(BEHIND, 1000).

%% A reference that is returned with its marker, where the compiler can follow it.
-if(?OTP_RELEASE >= 26).
-define(NEW_MARKED, make_ref()).
-define(MONITOR_MARKED(Process, Options), erlang:monitor(process, Process, Options)).
-else.
-define(NEW_MARKED, teleport_ref:new()).
-define(MONITOR_MARKED(Process, Options), teleport_ref:monitor(Process, Options)).
-endif.

%% A name that is not registered on any node.
-define(NOBODY, 'teleport nobody').

%% Calls a server of another node.
-spec call(teleport_nif:destination(), term(), term(), teleport_timeout:response_timeout()) ->
    {reply, term()} | {exit, term()}.
call(To, Kind, Request, Timeout) ->
    Id = make_ref(),
    case offer(To, Id, 'DOWN', Kind, Request, undefined) of
        {error, Reason} ->
            {exit, call_reason(down_reason(Reason), To)};
        _Begun ->
            case receive_within(there, Id, teleport_timeout:left(Timeout)) of
                {reply, Reply} -> {reply, Reply};
                {error, {Reason, _Object}} -> {exit, call_reason(Reason, To)};
                timeout -> {exit, timeout}
            end
    end.

%% Begins a request, and returns when it is accepted, since the next message must not overtake it. Kind is the
%% first element of the message to the server.
-spec send(teleport_ref:ref(), term(), term()) -> request_id() | badarg.
send(Ref, Kind, Request) ->
    case teleport_ref:resolve(Ref) of
        {otp, Process} -> request_local(Process, Kind, Request);
        {pool, To} -> request_remote(To, Kind, Request);
        undefined -> fail(Ref, noproc);
        invalid -> badarg
    end.

%% Shows the compiler that the result of send/3 gets to a `receive', so that it makes a marker.
-spec '@markers'(teleport_ref:ref(), term(), term()) -> no_return().
'@markers'(Ref, Kind, Request) ->
    _ = receive_response(send(Ref, Kind, Request), infinity),
    _ = wait_response(send(Ref, Kind, Request), infinity),
    error(undef).

-spec request_remote(teleport_nif:destination(), term(), term()) -> request_id().
request_remote(To, Kind, Request) ->
    Id = ?NEW_MARKED,
    case offer(To, Id, 'DOWN', Kind, Request, nosuspend) of
        ok -> ok;
        {error, busy} -> send_and_wait(To, Id, Kind, Request);
        {error, Reason} -> ended(Id, 'DOWN', To, down_reason(Reason))
    end,
    Id.

%% Begins a request for which there was no room, or no session.
-spec send_and_wait(teleport_nif:destination(), request_id(), term(), term()) -> ok.
send_and_wait(To, Id, Kind, Request) ->
    Notice = make_ref(),
    Begun = offer(To, Id, 'DOWN', Kind, Request, Notice),
    ok = accepted(Begun, Notice, Id, 'DOWN', To, infinity).

%% Begins a request to a process of this node or over distributed Erlang, as `gen' does.
-spec request_local(pid() | atom() | {atom(), node()}, term(), term()) -> request_id().
request_local(Name, Kind, Request) when is_atom(Name) ->
    case whereis(Name) of
        undefined -> fail(Name, noproc);
        Pid -> request_local(Pid, Kind, Request)
    end;
request_local({Name, Node} = Process, Kind, Request) when Node =:= node() ->
    case whereis(Name) of
        undefined -> fail(Process, noproc);
        Pid -> request_local(Pid, Kind, Request)
    end;
request_local({_Name, Node} = Process, _Kind, _Request) when node() =:= nonode@nohost, Node =/= node() ->
    fail(Process, {nodedown, Node});
request_local(Process, Kind, Request) ->
    Id = ?MONITOR_MARKED(Process, [{alias, demonitor}]),
    %% As `gen' does: a request must not go out by a connection that its monitor has not noticed.
    _ = erlang:send(Process, {Kind, {self(), tag(Id, 'DOWN')}, Request}, [noconnect]),
    Id.

%% A request that has failed before it was sent.
-spec fail(term(), term()) -> request_id().
fail(Object, Reason) ->
    Id = ?NEW_MARKED,
    ok = ended(Id, 'DOWN', Object, Reason),
    Id.

%% Calls the servers with a name on several nodes at the same time. Both the replies and the nodes without one
%% are in the order of the nodes.
-spec multi([node()], atom(), term(), teleport_timeout:response_timeout()) -> {[{node(), term()}], [node()]}.
multi(Nodes, Name, Request, Timeout) ->
    Begin = fun(Node, Mark, Milliseconds) ->
        Ref = {Name, Node},
        begin_marked(teleport_ref:resolve(Ref, Milliseconds), Ref, Mark, Request)
    end,
    Responses = each(Nodes, Begin, Timeout),
    {[{Node, Reply} || {Node, {reply, Reply}} <- Responses],
     [Node || {Node, Response} <- Responses, Response =:= timeout orelse element(1, Response) =:= error]}.

%% Begins a request for each node with begin_marked/4, and waits for the responses. They are in the order of
%% the nodes.
-spec each([node()], fun((node(), reference(), timeout()) -> begun()), teleport_timeout:response_timeout()) ->
    [{node(), response() | timeout}].
each(Nodes, Begin, Timeout) ->
    Mark = make_ref(),
    Left = fun() -> teleport_timeout:left(Timeout) end,
    Begun = teleport_route:known_first(Nodes, fun(Node) -> Begin(Node, Mark, Left()) end),
    [{Node, finished(Where, Id, receive_marked(Id, Mark, Left()), Left())} || {Node, {Where, Id}} <- Begun].

%% Whether that is a name of the calling process, which cannot answer itself.
-spec is_self(teleport_ref:ref()) -> boolean().
is_self({Name, Node}) when Node =:= node() -> whereis(Name) =:= self();
is_self(_Ref) -> false.

%% Begins a request of each/3. It may still wait for room when this returns: each/3 sends nothing else before
%% it has ended.
-spec begin_marked(teleport_ref:resolved() | late, teleport_ref:ref(), reference(), term()) -> begun().
begin_marked({otp, {_Name, Node} = Process}, _Ref, Mark, _Request) when node() =:= nonode@nohost, Node =/= node() ->
    Id = teleport_ref:new(),
    ok = ended(Id, Mark, Process, {nodedown, Node}),
    {there, Id};
begin_marked({otp, Process}, Ref, Mark, Request) ->
    case is_self(Ref) of
        true ->
            Id = teleport_ref:new(),
            ok = ended(Id, Mark, Process, calling_self),
            {there, Id};
        false ->
            Id = teleport_ref:monitor(Process, [{alias, demonitor}, {tag, Mark}]),
            _ = erlang:send(Process, {'$gen_call', {self(), tag(Id, Mark)}, Request}, [noconnect]),
            {here, Id}
    end;
begin_marked({pool, To}, _Ref, Mark, Request) ->
    Id = teleport_ref:new(),
    case offer(To, Id, Mark, '$gen_call', Request, undefined) of
        {error, Reason} -> ok = ended(Id, Mark, To, down_reason(Reason));
        _Begun -> ok
    end,
    {there, Id};
begin_marked(late, Ref, Mark, _Request) ->
    Id = teleport_ref:new(),
    ok = ended(Id, Mark, Ref, timeout),
    {there, Id}.

%% `badarg': the id or the timeout is invalid.
-spec receive_response(request_id(), teleport_timeout:response_timeout()) -> response() | timeout | badarg.
receive_response(Id, Timeout) ->
    case teleport_timeout:left(Timeout) of
        Milliseconds when is_reference(Id), Milliseconds =/= badarg -> receive_within(anywhere, Id, Milliseconds);
        _ -> badarg
    end.

-spec wait_response(request_id(), teleport_timeout:response_timeout()) -> response() | timeout | badarg.
wait_response(Id, Timeout) ->
    case teleport_timeout:left(Timeout) of
        Milliseconds when is_reference(Id), Milliseconds =/= badarg ->
            Deadline = teleport_timeout:deadline(Milliseconds),
            Came = wait(Id, Milliseconds),
            finished(anywhere, Id, Came, teleport_timeout:left(Deadline));
        _ ->
            badarg
    end.

-spec check_response(Message :: term(), request_id()) -> response() | no_reply | badarg.
check_response(Message, Id) ->
    check_response(Message, Id, 0).

%% Like check_response/2. A reply that was sent before the end that the message tells of may come for at most `Milliseconds' more.
-spec check_response(Message :: term(), request_id(), timeout()) -> response() | no_reply | badarg.
check_response(_Message, Id, _Milliseconds) when not is_reference(Id) ->
    badarg;
check_response({[alias | Id], Reply}, Id, Milliseconds) ->
    finished(anywhere, Id, {reply, Reply}, Milliseconds);
check_response({[_Alias, _Number, [alias | Id], _Secret | _Mark], Reply}, Id, Milliseconds) ->
    finished(anywhere, Id, {by_hand, Reply}, Milliseconds);
check_response({'DOWN', Id, process, Object, Reason}, Id, Milliseconds) ->
    finished(anywhere, Id, {down, Object, Reason}, Milliseconds);
check_response(_Message, _Id, _Milliseconds) ->
    no_reply.

%% Monitors a process of another node. Mark is the first element of the message that ends the monitor, usually
%% 'DOWN'.
-spec monitor(teleport_nif:destination(), Mark :: term(), alias()) -> reference().
monitor(To, Mark, Alias) ->
    case monitor(To, Mark, Alias, infinity) of
        Monitor when is_reference(Monitor) -> Monitor
    end.

%% Like monitor/3, but waits no longer than that for a session. After `timeout' there is no monitor.
-spec monitor(teleport_nif:destination(), Mark :: term(), alias(), teleport_timeout:response_timeout()) -> reference() | timeout.
monitor(To, Mark, Alias, Deadline) ->
    Monitor = watcher(Alias),
    Begun = case teleport_nif:monitor(To, Monitor, Mark, nosuspend) of
        ok -> ok;
        {error, busy} -> monitor_and_wait(To, Monitor, Mark, teleport_timeout:left(Deadline));
        {error, Reason} -> ended(Monitor, Mark, To, down_reason(Reason))
    end,
    case Begun of
        ok -> Monitor;
        timeout -> timeout
    end.

%% Begins a monitor for which there was no room, or no session.
-spec monitor_and_wait(teleport_nif:destination(), reference(), term(), timeout()) -> ok | timeout.
monitor_and_wait(To, Monitor, Mark, Milliseconds) ->
    Notice = make_ref(),
    Begun = teleport_nif:monitor(To, Monitor, Mark, Notice),
    accepted(Begun, Notice, Monitor, Mark, To, Milliseconds).

%% The reference of a monitor. An alias that ends with demonitor/1 has to belong to a monitor of this node: of
%% `init', which never ends.
-spec watcher(alias()) -> reference().
watcher(Alias) ->
    case lists:keyfind(alias, 1, Alias) of
        false -> teleport_ref:new();
        {alias, explicit_unalias} -> teleport_ref:alias([explicit_unalias]);
        {alias, demonitor} -> teleport_ref:monitor(whereis(init), [{alias, demonitor}])
    end.

-spec demonitor(reference()) -> true.
demonitor(Monitor) ->
    case teleport_nif:cancel(Monitor) of
        true -> erlang:demonitor(Monitor); % which ends its alias, if it has one
        false -> erlang:demonitor(Monitor, [flush]) % it is of a process of this node, or has ended
    end.

%% Ends a request or a monitor by the usual message to the calling process.
-spec ended(reference(), Mark :: term(), term(), term()) -> ok.
ended(Id, Mark, Object, Reason) ->
    self() ! {Mark, Id, process, Object, Reason},
    ok.

%% Abandons a request to any node. No message of it comes after this, except a reply that a server sends
%% without `gen:reply/2'.
-spec give_up(request_id()) -> ok.
give_up(Id) ->
    case stop_waiting(Id) of
        true -> ok;
        false -> flush(Id)
    end.

%% Waits until a request or a monitor is accepted, since the next message must not overtake it. After `timeout'
%% there is none.
-spec accepted(ok | waiting | {error, teleport_nif:error()}, Notice :: reference(), reference(), Mark :: term(),
               teleport_nif:destination(), timeout()) -> ok | timeout.
accepted(waiting, Notice, Id, Mark, To, Milliseconds) ->
    receive
        {teleport_sent, Notice, ok} ->
            ok;
        {teleport_sent, Notice, {error, Reason}} ->
            refused(Id, Mark, To, Reason)
    after Milliseconds ->
        ok = forget(Id),
        %% It comes in any case, now that nothing is waited for.
        receive {teleport_sent, Notice, _Result} -> timeout end
    end;
accepted(Begun, Notice, Id, Mark, To, _Milliseconds) ->
    %% On OTP 25 a receive marker has to be used.
    receive {teleport_sent, Notice, _Result} -> ok after 0 -> ok end,
    case Begun of
        ok -> ok;
        {error, Reason} -> ended(Id, Mark, To, down_reason(Reason))
    end.

%% Ends a monitor that may not have been accepted. No message of it comes after this.
-spec forget(reference()) -> ok.
forget(Monitor) ->
    IsTakenBack = teleport_nif:cancel(Monitor),
    true = erlang:demonitor(Monitor), % which ends its alias, if it has one
    case IsTakenBack of
        true -> ok;
        false -> flush(Monitor)
    end.

%% The engine has stopped, and may or may not have ended the request too.
-spec refused(reference(), term(), teleport_nif:destination(), term()) -> ok.
refused(Id, Mark, To, Reason) ->
    _ = teleport_nif:cancel(Id),
    ok = flush(Id),
    ended(Id, Mark, To, down_reason(Reason)).

%% The reason of a DOWN for a request or monitor that could not be sent.
-spec down_reason(term()) -> term().
down_reason(not_running) -> noconnection;
down_reason({not_running, _Node}) -> noconnection;
down_reason({connect, _Why}) -> noconnection;
down_reason(nodedown) -> noconnection;
down_reason(Reason) -> Reason.

%% Begins a request to another node; `{teleport_sent, Notice, _}' comes if Notice is a reference and this
%% returns `waiting'.
-spec offer(teleport_nif:destination(), reference(), term(), term(), term(), reference() | nosuspend | undefined) ->
    ok | waiting | {error, teleport_nif:error()}.
offer(To, Id, Mark, Kind, Request, Notice) ->
    Secret = teleport_nif:secret(),
    offer_body(To, {Id, Secret}, Mark, {term, {Kind, {self(), tag(Id, Secret, Mark)}, Request}}, Notice).

%% Calls the NIF itself, since a receive marker does not outlive a tail call to another module.
-spec offer_body(teleport_nif:destination(), {reference(), non_neg_integer()}, term(), teleport_nif:body(),
                 reference() | nosuspend | undefined) ->
    ok | waiting | {error, teleport_nif:error()}.
offer_body(To, Id, Mark, Body, Notice) ->
    case teleport_nif:request(To, Id, Mark, Body, Notice) of
        not_small ->
            {term, Message} = Body,
            case teleport_encode:encode(Message) of
                {ok, Encoded} -> offer_body(To, Id, Mark, {encoded, Encoded}, Notice);
                {error, Reason} -> {error, Reason}
            end;
        Begun ->
            Begun
    end.

%% The tag in the From of a request to this node, or over distributed Erlang.
-spec tag(reference(), term()) -> nonempty_improper_list(term(), term()).
tag(Id, 'DOWN') -> [alias | Id];
tag(Id, Mark) -> [[alias | Id] | Mark].

%% The tag in a request that goes over the pool. For a server in Erlang the engine replaces it by `[Alias, Number | Tag]'.
-spec tag(reference(), non_neg_integer(), term()) -> nonempty_maybe_improper_list().
tag(Id, Secret, 'DOWN') -> [[alias | Id], Secret];
tag(Id, Secret, Mark) -> [[alias | Id], Secret | Mark].

%% Waits for the response. After `timeout' no response comes any more.
-spec receive_within(here | there | anywhere, request_id(), timeout()) -> response() | timeout.
receive_within(Where, Id, Milliseconds) ->
    Deadline = teleport_timeout:deadline(Milliseconds),
    case wait(Id, Milliseconds) of
        timeout ->
            case stop_waiting(Id) of
                true -> timeout;
                false -> finished(Where, Id, wait(Id, 0), 0) % it may have come just now
            end;
        Came ->
            finished(Where, Id, Came, teleport_timeout:left(Deadline))
    end.

%% Like receive_within/3 for a request with a mark. Returns the message as it came, without further work:
%% other calls would drop the receive marker, which the next request needs.
-spec receive_marked(request_id(), reference(), timeout()) -> came() | timeout.
receive_marked(Id, Mark, Milliseconds) ->
    case wait_marked(Id, Mark, Milliseconds) of
        timeout ->
            case stop_waiting(Id) of
                true -> timeout;
                false -> wait_marked(Id, Mark, 0)
            end;
        Came ->
            Came
    end.

%% Ends a request. `false': its end is in the mailbox, or it went to a process of this node. No message of it
%% comes after this.
-spec stop_waiting(request_id()) -> boolean().
stop_waiting(Id) ->
    case teleport_nif:cancel(Id) of
        true ->
            true;
        false ->
            true = erlang:demonitor(Id), % without flush, which would remove the DOWN of a remote request
            false
    end.

-spec wait(request_id(), timeout()) -> came() | timeout.
wait(Id, Milliseconds) ->
    receive
        {[alias | Id], Reply} -> {reply, Reply};
        {[_Alias, _Number, [alias | Id], _Secret | _], Reply} -> {by_hand, Reply};
        {'DOWN', Id, process, Object, Reason} -> {down, Object, Reason}
    after Milliseconds ->
        timeout
    end.

-spec wait_marked(request_id(), reference(), timeout()) -> came() | timeout.
wait_marked(Id, Mark, Milliseconds) ->
    receive
        {[[alias | Id] | Mark], Reply} -> {reply, Reply};
        {[_Alias, _Number, [alias | Id], _Secret | Mark], Reply} -> {by_hand, Reply};
        {Mark, Id, process, Object, Reason} -> {down, Object, Reason}
    after Milliseconds ->
        timeout
    end.

%% The response to a request that has ended. No further message of it comes after this, or is in the mailbox.
-spec finished(here | there | anywhere, request_id(), came() | timeout, timeout()) -> response() | timeout.
finished(_Where, _Id, timeout, _Milliseconds) ->
    timeout;
finished(there, _Id, {reply, Reply}, _Milliseconds) ->
    {reply, Reply};
finished(_Here, Id, {reply, Reply}, _Milliseconds) ->
    %% A flush scans the mailbox, so it is avoided where nothing can follow the reply: for a remote request.
    _ = erlang:demonitor(Id, [info]) orelse teleport_nif:is_answered(Id) orelse erlang:demonitor(Id, [flush]),
    {reply, Reply};
finished(_Where, Id, {by_hand, Reply}, _Milliseconds) ->
    ok = give_up(Id), % the engine has not seen this reply
    {reply, Reply};
finished(_Where, Id, {down, Object, Reason}, Milliseconds) ->
    answer_before(Id, Object, Reason, Milliseconds).

%% Removes the messages of a request that has ended from the mailbox.
-spec flush(request_id()) -> ok.
flush(Id) ->
    receive
        {_Mark, Id, process, _Object, _Reason} -> flush(Id);
        {[alias | Id], _Reply} -> flush(Id);
        {[[alias | Id] | _Mark], _Reply} -> flush(Id);
        {[_Alias, _Number, [alias | Id], _Secret | _Mark], _Reply} -> flush(Id)
    after 0 ->
        ok
    end.

%% A reply that a server sends without `gen:reply/2' comes over distributed Erlang, and its DOWN, over the
%% pool, may have overtaken it. This is likely only for a server that ended normally. So wait for an answer of
%% its node over distributed Erlang, which arrives after the reply.
-spec answer_before(request_id(), term(), term(), timeout()) -> response().
answer_before(Id, Object, Reason, Milliseconds) ->
    case is_in_order(Reason) andalso catch_up(Object, min(Milliseconds, ?BEHIND)) of
        true ->
            receive
                {[_, _, [alias | Id], _Secret | _Mark], Reply} -> {reply, Reply}
            after 0 ->
                {error, {Reason, Object}}
            end;
        false ->
            {error, {Reason, Object}}
    end.

%% Waits until everything that the node of a process has sent over distributed Erlang has arrived. `false': it
%% is not connected.
-spec catch_up(term(), non_neg_integer()) -> boolean().
catch_up({_Name, Node}, Milliseconds) when is_atom(Node) -> catch_up_with(Node, Milliseconds);
catch_up(Pid, Milliseconds) when is_pid(Pid) -> catch_up_with(node(Pid), Milliseconds);
catch_up(_Object, _Milliseconds) -> false.

-spec catch_up_with(node(), non_neg_integer()) -> boolean().
catch_up_with(Node, Milliseconds) ->
    lists:member(Node, nodes(connected)) andalso begin
        Monitor = erlang:monitor(process, {?NOBODY, Node}),
        receive
            {'DOWN', Monitor, process, _Nobody, _Reason} -> true
        after Milliseconds ->
            erlang:demonitor(Monitor, [flush])
        end
    end.

-spec is_in_order(term()) -> boolean().
is_in_order(normal) -> true;
is_in_order(shutdown) -> true;
is_in_order({shutdown, _}) -> true;
is_in_order(_Other) -> false.

%% Why a call has failed, as `gen' would exit, by the reason of its DOWN.
-spec call_reason(term(), teleport_nif:destination()) -> term().
call_reason(noconnection, To) -> {nodedown, teleport_ref:node_of(To)};
call_reason(Reason, _To) -> Reason.
