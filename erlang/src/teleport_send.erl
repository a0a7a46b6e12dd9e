%% @private
%% Sends messages: over the pool or by OTP, with or without waiting; and encodes terms for other nodes.
-module(teleport_send).

-export([send/4, resolve/2, message/3, by_otp/3, has_priority/1, to_each/4, to_all/3, prime/1, encode/1, parts/1]).

-include("teleport_nif.hrl").

-export_type([error/0, flags/0, how/0, ack/0]).

-type error() :: nodedown | busy | noconnect | timeout | noproc | not_running | {not_running, node()}
               | {too_large, Size :: non_neg_integer(), Limit :: non_neg_integer()} | {connect, binary()}
               | {badarg, binary()} | system | {error, binary()}.

%% A sum of the flags in teleport_nif.hrl.
-type flags() :: 0..(?ALL_FLAGS bor ?PRIORITY).

%% The flags, and a limit in milliseconds for the waiting, if there is one.
-type how() :: flags() | {flags(), non_neg_integer()}.

%% Whether the sender wants the outcome of the message.
-type ack() :: none | {ack, Tag :: term()}.

-define(MAY_WAIT(Flags), Flags band ?NOSUSPEND =:= 0).

-dialyzer({no_improper_lists, wait_for_all/4}).

%% Binaries of at least this size stay apart; smaller ones in a row are joined. In bytes.
-define(JOIN, 1024).
%% Like JOIN, for lists of more than MANY parts: each part costs the engine time.
-define(JOIN_MANY, 65536).
%% A longer list of parts is handed over on a dirty scheduler.
-define(MANY, 512).
%% The external term format has no larger ones.
-define(LARGEST_BINARY, 16#ffffffff).
%% From this many messages in the mailbox on, another scheduler costs less than garbage collections.
-define(LONG_MAILBOX, 1000).
%% How long to_all/3 waits for room, in milliseconds.
-define(MOMENT, 100).
%% A joined binary of at least this many bytes is complete, and the next one begins.
-define(BLOCK, 1048576).

%% Sends a message to a process or an alias. `badarg': it is no reference, or the name is not registered.
-spec send(teleport_ref:ref() | reference(), term(), how(), ack()) -> ok | {error, error()} | badarg.
send(Alias, Message, How, Ack) when is_reference(Alias) ->
    teleport_alias:send(Alias, Message, How, Ack);
send(Ref, Message, How, Ack) ->
    Until = until(ordinary(How)),
    case {resolve(Ref, How), Ack} of
        {{pool, To}, none} when is_integer(Until) ->
            message(To, Message, Until);
        {{pool, To}, none} ->
            limited(To, Message, Until);
        {{pool, To}, _} ->
            encoded(Message, fun(Encoded) -> offer(To, Encoded, left(Until), Ack) end);
        {{otp, Process}, none} ->
            by_otp(Process, Message, How);
        {{otp, Process}, {ack, Tag}} ->
            case find(Process) of
                {away, To} ->
                    case by_otp(To, Message, How) of
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
-spec resolve(teleport_ref:ref(), how()) -> teleport_ref:resolved() | {error, busy | timeout | noconnect | not_running}.
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
-spec until(how()) -> flags() | {flags(), {abs, integer()}}.
until({Flags, Timeout}) -> {Flags, teleport_timeout:deadline(Timeout)};
until(Flags) -> Flags.

-spec left(flags() | {flags(), {abs, integer()}}) -> how().
left({Flags, Deadline}) -> {Flags, teleport_timeout:left(Deadline)};
left(Flags) -> Flags.

%% Sends a message to another node.
-spec message(teleport_nif:destination(), term(), flags()) -> ok | {error, error()}.
message(To, Message, Flags) ->
    %% Nearly always the message is small, and there is room.
    case teleport_nif:send(To, {term, Message}, at_once(Flags), undefined) of
        ok -> ok;
        not_small -> encoded(Message, fun(Encoded) -> body(To, {encoded, Encoded}, Flags) end);
        {error, busy} when ?MAY_WAIT(Flags) -> encoded(Message, fun(Encoded) -> wait(To, {encoded, Encoded}, Flags) end);
        Error -> result(Error)
    end.

%% Sends a message to another node, with a limit for the waiting. It is small as often as any other.
-spec limited(teleport_nif:destination(), term(), {flags(), {abs, integer()}}) -> ok | {error, error()}.
limited(To, Message, {Flags, _Deadline} = Until) ->
    case teleport_nif:send(To, {term, Message}, at_once(Flags), undefined) of
        ok ->
            ok;
        not_small ->
            encoded(Message, fun(Encoded) -> offer(To, Encoded, left(Until), none) end);
        {error, busy} when ?MAY_WAIT(Flags) ->
            encoded(Message, fun(Encoded) -> offer_and_wait(To, Encoded, without_async(left(Until)), none) end);
        Error ->
            result(Error)
    end.

-spec encoded(term(), fun((teleport_nif:encoded()) -> ok | {error, error()})) -> ok | {error, error()}.
encoded(Message, Send) ->
    case encode(Message) of
        {ok, Encoded} -> Send(Encoded);
        {error, Reason} -> {error, Reason}
    end.

-spec body(teleport_nif:destination(), teleport_nif:body(), flags()) -> ok | {error, error()}.
body(To, Body, Flags) ->
    case teleport_nif:send(To, Body, at_once(Flags), undefined) of
        {error, busy} when ?MAY_WAIT(Flags) -> wait(To, Body, Flags);
        Result -> result(Result)
    end.

%% Waits for room, or for a session.
-spec wait(teleport_nif:destination(), teleport_nif:body(), flags()) -> ok | {error, error()}.
wait(To, Body, Flags) ->
    IsAsync = Flags band ?ASYNC =/= 0 orelse is_async(),
    case IsAsync andalso teleport_nif:send(To, Body, Flags bor ?ASYNC, undefined) of
        Sent when Sent =:= false; Sent =:= {error, busy} ->
            Tag = make_ref(),
            accepted(Tag, teleport_nif:send(To, Body, without_async(Flags), Tag));
        Sent ->
            result(Sent)
    end.

%% Sends an encoded message with an acknowledgement or a time limit. Nearly always there is room, so the
%% reference for the notice is made only when it is needed (see teleport_request).
-spec offer(teleport_nif:destination(), teleport_nif:encoded(), how(), ack()) -> ok | {error, error()}.
offer(To, Encoded, How, Ack) ->
    Flags = flags(How),
    Offered = case Ack of
        none -> teleport_nif:send(To, {encoded, Encoded}, at_once(Flags), undefined);
        {ack, Told} -> teleport_nif:send_acknowledged(To, Encoded, at_once(Flags), undefined, Told)
    end,
    case Offered of
        {error, busy} when ?MAY_WAIT(Flags) -> offer_and_wait(To, Encoded, without_async(How), Ack);
        Result -> result(Result)
    end.

-spec offer_and_wait(teleport_nif:destination(), teleport_nif:encoded(), how(), ack()) -> ok | {error, error()}.
offer_and_wait(To, Encoded, How, none) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send(To, {encoded, Encoded}, How, Tag));
offer_and_wait(To, Encoded, How, {ack, Told}) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send_acknowledged(To, Encoded, How, Tag, Told)).

%% Sends a message to the processes with a name on several nodes. First it is offered to all of them without
%% waiting; then the caller waits for those that had no room, all at the same time.
-spec to_each([node()], atom(), term(), how()) -> [{node(), ok | {error, error()}}].
to_each(Nodes, Name, Message, How) ->
    to_each(Nodes, Name, Message, encode(Message), How).

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
    Encoded = encode(Message),
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

-spec flags(how()) -> flags().
flags({Flags, _Timeout}) -> Flags;
flags(Flags) -> Flags.

-spec is_nosuspend(how()) -> boolean().
is_nosuspend(How) -> flags(How) band ?NOSUSPEND =/= 0.

-spec has_priority(how()) -> boolean().
has_priority(How) -> flags(How) band ?PRIORITY =/= 0.

%% Only an alias takes priority messages.
-spec ordinary(how()) -> how().
ordinary({Flags, Timeout}) -> {Flags band ?ALL_FLAGS, Timeout};
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
-spec by_otp(pid() | reference() | atom() | {atom(), node()}, term(), how()) -> ok | {error, busy | noconnect} | badarg.
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

%% Encodes a term for the engine. A term with a binary of more than 4 GiB cannot be encoded.
-spec encode(term()) -> {ok, teleport_nif:encoded()} | {error, {too_large, pos_integer(), pos_integer()}}.
encode(Term) ->
    case has_long_mailbox() andalso teleport_nif:encode(Term) of
        {ok, Encoded} -> {ok, Encoded};
        _ -> encode_interruptibly(Term)
    end.

%% `term_to_iovec' takes memory of the process, so that it collects garbage more often. Each collection reads all messages in the
%% mailbox.
-spec has_long_mailbox() -> boolean().
has_long_mailbox() ->
    {message_queue_len, Messages} = process_info(self(), message_queue_len),
    Messages >= ?LONG_MAILBOX.

-spec encode_interruptibly(term()) -> {ok, teleport_nif:encoded()} | {error, {too_large, pos_integer(), pos_integer()}}.
encode_interruptibly(Term) ->
    try parts(Term) of
        [_] = Single -> {ok, Single};
        Parts when length(Parts) =< ?MANY -> {ok, Parts};
        Parts -> {ok, teleport_nif:gather(Parts)}
    catch
        error:system_limit -> {error, {too_large, ?LARGEST_BINARY + 1, ?LARGEST_BINARY}}
    end.

%% Like `teleport:term_to_iolist/1'.
-spec parts(term()) -> [binary()].
parts(Term) ->
    case erlang:term_to_iovec(Term) of
        [_] = Single -> Single;
        Parts ->
            case length(Parts) > ?MANY andalso all_small(Parts) of
                true ->
                    [iolist_to_binary(Parts)];
                false ->
                    case join(Parts, ?JOIN) of
                        Joined when length(Joined) =< ?MANY -> Joined;
                        Many -> join(Many, ?JOIN_MANY)
                    end
            end
    end.

-spec all_small([binary()]) -> boolean().
all_small([]) -> true;
all_small([Part | Rest]) -> byte_size(Part) < ?JOIN andalso all_small(Rest).

%% Joins small binaries that follow each other: to hand over a small part costs more than to copy it.
-spec join([binary()], pos_integer()) -> [binary()].
join(Parts, Smallest) ->
    join(Parts, [], 0, Smallest).

-spec join([binary()], [binary()], non_neg_integer(), pos_integer()) -> [binary()].
join([], Small, _Size, _Smallest) ->
    joined(Small, []);
join([Part | Rest], Small, Size, Smallest) when byte_size(Part) < Smallest, Size < ?BLOCK ->
    join(Rest, [Part | Small], Size + byte_size(Part), Smallest);
join([Part | Rest], Small, _Size, Smallest) when byte_size(Part) < Smallest ->
    joined(Small, join(Rest, [Part], byte_size(Part), Smallest));
join([Part | Rest], Small, _Size, Smallest) ->
    joined(Small, [Part | join(Rest, [], 0, Smallest)]).

-spec joined([binary()], [binary()]) -> [binary()].
joined([], Rest) -> Rest;
joined([Single], Rest) -> [Single | Rest];
joined(Small, Rest) -> [iolist_to_binary(lists:reverse(Small)) | Rest].
