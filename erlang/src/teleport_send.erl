%% @private
%% Sends messages: over the pool or by OTP, with or without waiting.
-module(teleport_send).

-export([send/4, to/4, until/1, resolve/2, message/3, by_otp/3, has_priority/1, to_each/4, to_all/3, prime/1]).

-include("teleport_nif.hrl").

-export_type([error/0, flags/0, how/0, until/0, resolved/0, ack/0]).

-type error() :: nodedown | busy | noconnect | timeout | not_running | {not_running, node()}
               | {too_large, Size :: non_neg_integer(), Limit :: non_neg_integer()} | {connect, binary()}
               | {badarg, binary()} | {unexpected, binary()}.

%% A sum of the flags in teleport_nif.hrl.
-type flags() :: 0..(?ALL_FLAGS bor ?PRIORITY).

%% The flags, and a limit in milliseconds for the waiting, if there is one.
-type how() :: flags() | {flags(), non_neg_integer()}.

%% Like how(), with a deadline in place of the limit.
-type until() :: flags() | {flags(), {abs, integer()}}.

%% Where a message goes.
-type resolved() :: teleport_ref:resolved() | {error, busy | timeout | noconnect | not_running}.

%% Whether the sender wants the outcome of the message.
-type ack() :: none | {ack, Tag :: term()}.

-define(MAY_WAIT(Flags), Flags band ?NOSUSPEND =:= 0).

-dialyzer({no_improper_lists, wait_for_all/4}).

%% How long to_all/3 waits for room, in milliseconds.
-define(MOMENT, 100).

%% Sends a message to a process or an alias. `badarg': it is no reference, or the name is not registered.
-spec send(teleport_ref:ref() | reference(), term(), how(), ack()) -> ok | {error, error()} | badarg.
send(Alias, Message, How, Ack) when is_reference(Alias) ->
    teleport_alias:send(Alias, Message, How, Ack);
send(Ref, Message, How, Ack) ->
    Until = until(How),
    to(resolve(Ref, How), Message, Until, Ack).

%% Sends a message to where resolve/2 has found a process.
-spec to(resolved(), term(), until(), ack()) -> ok | {error, error()} | badarg.
to(Resolved, Message, Until, Ack) ->
    case {Resolved, Ack} of
        {{pool, To}, _} ->
            message(To, Message, ordinary(Until), Ack);
        {{otp, Process}, none} ->
            by_otp(Process, Message, Until);
        {{otp, Process}, {ack, Tag}} ->
            case find(Process) of
                {away, To} ->
                    case by_otp(To, Message, Until) of
                        ok -> tell(Tag, {unconfirmed, disterl});
                        Error -> Error
                    end;
                Found ->
                    tell(Tag, send_local(Found, Message))
            end;
        {undefined, {ack, Tag}} ->
            tell(Tag, {unconfirmed, noproc});
        {{error, Reason}, _Ack} ->
            {error, Reason};
        {_Nobody, _Ack} ->
            badarg
    end.

%% Like `teleport_ref:resolve/2', but with the error of a send in place of `late' and `noconnect', and for other
%% nodes if this one is not distributed.
-spec resolve(teleport_ref:ref(), how()) -> resolved().
resolve(Ref, How) ->
    case teleport_ref:resolve(Ref, patience(How)) of
        noconnect -> {error, noconnect};
        late -> {error, case is_nosuspend(How) of true -> busy; false -> timeout end};
        {otp, {_Name, Node}} when node() =:= nonode@nohost, Node =/= node() -> {error, not_running};
        {otp, Pid} when node() =:= nonode@nohost, is_pid(Pid), node(Pid) =/= node() -> {error, not_running};
        Where -> Where
    end.

%% How long it may take to find the route to the node.
-spec patience(how()) -> teleport_route:patience().
patience(How) ->
    Timeout = case {How, is_nosuspend(How)} of
        {_, true} -> 0;
        {{_Flags, Milliseconds}, false} -> Milliseconds;
        {_Flags, false} -> infinity
    end,
    case flags(How) band ?NOCONNECT of
        0 -> Timeout;
        ?NOCONNECT -> {connected, Timeout}
    end.

%% The limit for the waiting as a deadline.
-spec until(how()) -> until().
until({Flags, Timeout}) -> {Flags, teleport_timeout:deadline(Timeout)};
until(Flags) -> Flags.

-spec left(until()) -> how().
left({Flags, Deadline}) -> {Flags, teleport_timeout:left(Deadline)};
left(Flags) -> Flags.

%% Sends a message to another node.
-spec message(teleport_nif:destination(), term(), until()) -> ok | {error, error()}.
message(To, Message, Until) ->
    message(To, Message, Until, none).

%% Nearly always the message is small, and there is room: so it is offered as it is, and the reference for the notice is made only when
%% it is needed (see teleport_request).
-spec message(teleport_nif:destination(), term(), until(), ack()) -> ok | {error, error()}.
message(To, Message, Until, Ack) ->
    Flags = flags(Until),
    case offer(To, {term, Message}, Flags, Ack) of
        not_small ->
            encoded(Message, fun(Encoded) -> body(To, {encoded, Encoded}, left(Until), Ack) end);
        {error, busy} when ?MAY_WAIT(Flags) ->
            encoded(Message, fun(Encoded) -> wait(To, {encoded, Encoded}, left(Until), Ack) end);
        Result ->
            result(Result)
    end.

-spec encoded(term(), fun((teleport_nif:encoded()) -> ok | {error, error()})) -> ok | {error, error()}.
encoded(Message, Send) ->
    case teleport_encode:encode(Message) of
        {ok, Encoded} -> Send(Encoded);
        {error, Reason} -> {error, Reason}
    end.

-spec body(teleport_nif:destination(), teleport_nif:body(), how(), ack()) -> ok | {error, error()}.
body(To, Body, How, Ack) ->
    Flags = flags(How),
    case offer(To, Body, Flags, Ack) of
        {error, busy} when ?MAY_WAIT(Flags) -> wait(To, Body, How, Ack);
        Result -> result(Result)
    end.

%% Waits for room, or for a session. An asynchronous sender does not, unless it has set a limit or wants the outcome.
-spec wait(teleport_nif:destination(), teleport_nif:body(), how(), ack()) -> ok | {error, error()}.
wait(To, Body, How, Ack) ->
    IsAsync = is_integer(How) andalso Ack =:= none andalso (How band ?ASYNC =/= 0 orelse is_async()),
    case IsAsync andalso teleport_nif:send(To, Body, How bor ?ASYNC, undefined) of
        Sent when Sent =:= false; Sent =:= {error, busy} ->
            notified(To, Body, without_async(How), Ack);
        Sent ->
            result(Sent)
    end.

%% Calls the NIF itself: the marker of the reference would not outlive a function that does (see teleport_request).
-spec notified(teleport_nif:destination(), teleport_nif:body(), how(), ack()) -> ok | {error, error()}.
notified(To, Body, How, none) ->
    Notice = make_ref(),
    accepted(Notice, teleport_nif:send(To, Body, How, Notice));
notified(To, Body, How, {ack, Tag}) ->
    Notice = make_ref(),
    accepted(Notice, teleport_nif:send_acknowledged(To, Body, How, Notice, Tag)).

%% Offers a message without waiting.
-spec offer(teleport_nif:destination(), teleport_nif:body(), flags(), ack()) -> ok | waiting | not_small | {error, teleport_nif:error()}.
offer(To, Body, Flags, none) -> teleport_nif:send(To, Body, at_once(Flags), undefined);
offer(To, Body, Flags, {ack, Tag}) -> teleport_nif:send_acknowledged(To, Body, at_once(Flags), undefined, Tag).

%% Sends a message to the processes with a name on several nodes. First it is offered to all of them without
%% waiting; then the caller waits for those that had no room, all at the same time.
-spec to_each([node()], atom(), term(), how()) -> [{node(), ok | {error, error()}}].
to_each(Nodes, Name, Message, How) ->
    to_each(Nodes, Name, Message, teleport_encode:encode(Message), How).

-spec to_each([node()], atom(), term(), {ok, teleport_nif:encoded()} | {error, error()}, how()) ->
    [{node(), ok | {error, error()}}].
to_each(Nodes, Name, Message, Encoded, How) ->
    Until = until(How),
    Sent = teleport_route:known_first(Nodes, fun(Node) -> hand_over({Name, Node}, Message, Encoded, left(Until)) end),
    case lists:keymember(waits, 2, Sent) of
        true -> wait_for_all(Sent, Name, Encoded, without_async(left(Until)));
        false -> Sent
    end.

%% Sends a message to the processes with a name on several nodes. For a node that takes nothing at present the
%% message is queued, behind what waits for it already. The caller waits a moment for such nodes, and so cannot
%% queue messages faster than that.
-spec to_all([node()], atom(), term()) -> ok.
to_all(Nodes, Name, Message) ->
    Encoded = teleport_encode:encode(Message),
    case [Node || {Node, {error, timeout}} <- to_each(Nodes, Name, Message, Encoded, {0, ?MOMENT})] of
        [] ->
            ok;
        Late ->
            Queued = [{Node, queue({Name, Node}, Message, Encoded)} || Node <- Late],
            _ = lists:keymember(waits, 2, Queued) andalso wait_for_all(Queued, Name, Encoded, 0),
            ok
    end.

%% `waits': there is no session to queue it for.
-spec queue({atom(), node()}, term(), {ok, teleport_nif:encoded()} | {error, error()}) -> ok | waits | {error, error()}.
queue(Ref, Message, Encoded) ->
    case {resolve(Ref, 0), Encoded} of
        {{pool, To}, {ok, Body}} ->
            case teleport_nif:send(To, {encoded, Body}, ?ASYNC, undefined) of
                {error, busy} -> waits;
                Result -> result(Result)
            end;
        _ ->
            hand_over(Ref, Message, Encoded, 0)
    end.

-spec hand_over({atom(), node()}, term(), {ok, teleport_nif:encoded()} | {error, error()}, how()) -> ok | waits | {error, error()}.
hand_over(Ref, Message, Encoded, How) ->
    case {resolve(Ref, How), Encoded} of
        {{otp, Process}, _} ->
            %% As in a cast, a name that is not registered is no error.
            case by_otp(Process, Message, How) of
                badarg -> ok;
                Result -> Result
            end;
        {{pool, To}, {ok, Body}} ->
            Flags = flags(How),
            case teleport_nif:send(To, {encoded, Body}, at_once(Flags), undefined) of
                {error, busy} when ?MAY_WAIT(Flags) -> waits;
                Result -> result(Result)
            end;
        {{pool, _To}, {error, Reason}} ->
            {error, Reason};
        {Error, _} ->
            Error
    end.

%% All notices have the same reference, so one receive marker serves for all.
-spec wait_for_all([{node(), ok | waits | {error, error()}}], atom(), {ok, teleport_nif:encoded()}, how()) ->
    [{node(), ok | {error, error()}}].
wait_for_all(Sent, Name, {ok, Body}, How) ->
    Notice = make_ref(),
    Offer = fun(Node) -> teleport_nif:send({Name, Node}, {encoded, Body}, How, [Notice | Node]) end,
    Offered = [{Node, case Result of waits -> {offered, Offer(Node)}; _ -> Result end} || {Node, Result} <- Sent],
    [{Node, all_accepted(Notice, Node, Result)} || {Node, Result} <- Offered].

-spec all_accepted(reference(), node(), {offered, ok | waiting | {error, teleport_nif:error()}} | ok | {error, error()}) ->
    ok | {error, error()}.
all_accepted(Notice, Node, {offered, waiting}) -> receive {teleport_sent, [Notice | Node], Result} -> result(Result) end;
all_accepted(_Notice, _Node, {offered, Result}) -> result(Result);
all_accepted(_Notice, _Node, Result) -> Result.

-spec flags(how() | until()) -> flags().
flags({Flags, _Timeout}) -> Flags;
flags(Flags) -> Flags.

-spec is_nosuspend(how() | until()) -> boolean().
is_nosuspend(How) -> flags(How) band ?NOSUSPEND =/= 0.

-spec has_priority(how()) -> boolean().
has_priority(How) -> flags(How) band ?PRIORITY =/= 0.

%% Only an alias takes priority messages.
-spec ordinary(until()) -> until().
ordinary({Flags, Deadline}) -> {Flags band ?ALL_FLAGS, Deadline};
ordinary(Flags) -> Flags band ?ALL_FLAGS.

%% Flags that let the engine answer `{error, busy}' in place of waiting.
-spec at_once(flags()) -> flags().
at_once(Flags) -> without_async(Flags) bor ?NOSUSPEND.

-spec without_async(how()) -> how().
without_async({Flags, Timeout}) -> {without_async(Flags), Timeout};
without_async(Flags) -> Flags band (?ALL_FLAGS bxor ?ASYNC).

%% Whether the calling process has set `process_flag(async_dist, true)', which exists from OTP 25.3 on.
-dialyzer({nowarn_function, is_async/0}).
-spec is_async() -> boolean().
is_async() ->
    try process_info(self(), async_dist) of
        {async_dist, IsAsync} -> IsAsync
    catch
        error:badarg -> false
    end.

%% Like `teleport:prime/1', for another node.
-spec prime(node()) -> ok | {error, error()}.
prime(Node) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:prime(Node, Tag)).

%% The result of a function of teleport_nif, with nodes as atoms.
-spec result(ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
result({error, {not_running, Node}}) -> {error, {not_running, binary_to_atom(Node)}};
result({error, Reason}) -> {error, Reason};
result(_Sent) -> ok.

%% Waits until a message is accepted.
-spec accepted(reference(), ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
accepted(Tag, waiting) ->
    receive
        {teleport_sent, Tag, Result} -> result(Result)
    end;
accepted(_Tag, Result) ->
    result(Result).

%% Sends a message by `erlang:send/3', on this node or over distributed Erlang.
-spec by_otp(pid() | reference() | atom() | {atom(), node()}, term(), how() | until()) -> ok | {error, busy | noconnect} | badarg.
by_otp(To, Message, How) ->
    Flags = flags(How),
    Options = [nosuspend || is_nosuspend(How)] ++ [noconnect || Flags band ?NOCONNECT =/= 0]
        ++ [priority || Flags band ?PRIORITY =/= 0],
    try erlang:send(To, Message, Options) of
        ok -> ok;
        nosuspend -> {error, busy};
        noconnect -> {error, noconnect}
    catch
        error:badarg -> badarg
    end.

-spec find(pid() | atom() | {atom(), node()}) -> pid() | port() | undefined | {away, teleport_nif:destination()}.
find({Name, Node}) when Node =:= node() -> whereis(Name);
find(Name) when is_atom(Name) -> whereis(Name);
find(Pid) when is_pid(Pid), node(Pid) =:= node() -> Pid;
find(To) -> {away, To}.

-spec send_local(pid() | port() | undefined, term()) -> delivered | {unconfirmed, noproc}.
send_local(Process, Message) ->
    case is_port(Process) orelse is_pid(Process) andalso is_process_alive(Process) of
        true ->
            _ = erlang:send(Process, Message),
            delivered;
        false ->
            {unconfirmed, noproc}
    end.

-spec tell(term(), delivered | {unconfirmed, noproc | disterl}) -> ok.
tell(Tag, Outcome) ->
    self() ! {teleport, Tag, Outcome},
    ok.
