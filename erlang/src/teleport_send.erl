%% @private
%% Sends messages, and encodes them for other nodes.
-module(teleport_send).

-export([send/4, resolve/2, message/3, by_otp/3, to_each/4, prime/1, encode/1, parts/1]).

-export_type([error/0, flags/0, how/0, ack/0]).

-type error() :: nodedown | busy | noconnect | timeout | noproc | not_running | {not_running, node()}
               | {too_large, Size :: non_neg_integer(), Limit :: non_neg_integer()} | {connect, binary()}
               | {badarg, binary()} | system | {error, binary()}.

%% 1: unordered, 2: nosuspend, 4: async, 8: noconnect.
-type flags() :: 0..15.

%% With the milliseconds that it may wait, if it may not wait for ever.
-type how() :: flags() | {flags(), non_neg_integer()}.

%% Whether the sender is told what became of the message.
-type ack() :: none | {ack, Tag :: term()}.

-dialyzer({no_improper_lists, wait_for_all/4}).

%% Bytes from which on a binary stays apart; smaller ones in a row are joined.
-define(JOIN, 1024).
%% The same if there are many: each costs the engine time.
-define(JOIN_MANY, 65536).
%% A list of more parts is too long for a scheduler to be held up by.
-define(MANY, 512).
%% The external term format has no larger ones.
-define(LARGEST_BINARY, 16#ffffffff).
%% What is joined makes a new binary from so many bytes on.
-define(BLOCK, 1048576).

%% Sends a message to whomever. `badarg': it is no reference, or nobody here has that name.
-spec send(teleport_ref:ref() | reference(), term(), how(), ack()) -> ok | {error, error()} | badarg.
send(Alias, Message, How, Ack) when is_reference(Alias) ->
    teleport_alias:send(Alias, Message, How, Ack);
send(Ref, Message, How, Ack) ->
    Until = until(How),
    case {resolve(Ref, How), Ack} of
        {{pool, To}, none} when is_integer(How) ->
            message(To, Message, How);
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

%% As `teleport_ref:resolve/2', or why it cannot be sent there.
-spec resolve(teleport_ref:ref(), how()) -> teleport_ref:resolved() | {error, busy | timeout | noconnect}.
resolve(Ref, How) ->
    case teleport_ref:resolve(Ref, patience(How)) of
        noconnect -> {error, noconnect};
        late -> {error, case flags(How) band 2 of 0 -> timeout; 2 -> busy end};
        Where -> Where
    end.

%% How long it may take to find out which way there is.
-spec patience(how()) -> teleport_route:patience().
patience(How) ->
    Timeout = case {How, flags(How)} of
        {_, Flags} when Flags band 2 =/= 0 -> 0;
        {{_Flags, Milliseconds}, _} -> Milliseconds;
        _ -> infinity
    end,
    case flags(How) band 8 of
        0 -> Timeout;
        8 -> {connected, Timeout}
    end.

%% When the time of one that may not wait for ever is up.
-spec until(how()) -> flags() | {flags(), {abs, integer()}}.
until({Flags, Timeout}) -> {Flags, teleport_timeout:deadline(Timeout)};
until(Flags) -> Flags.

-spec left(flags() | {flags(), {abs, integer()}}) -> how().
left({Flags, Deadline}) -> {Flags, teleport_timeout:left(Deadline)};
left(Flags) -> Flags.

%% Sends a message to another node.
-spec message(teleport_nif:destination(), term(), flags()) -> ok | {error, error()}.
message(To, Message, Flags) ->
    %% Nearly always it is small, and there is room.
    case teleport_nif:send(To, {term, Message}, Flags band 11 bor 2, undefined) of
        ok -> ok;
        not_small -> encoded(Message, fun(Encoded) -> body(To, {encoded, Encoded}, Flags) end);
        {error, busy} when Flags band 2 =:= 0 -> encoded(Message, fun(Encoded) -> wait(To, {encoded, Encoded}, Flags) end);
        Error -> result(Error)
    end.

-spec encoded(term(), fun((teleport_nif:encoded()) -> ok | {error, error()})) -> ok | {error, error()}.
encoded(Message, Send) ->
    case encode(Message) of
        {ok, Encoded} -> Send(Encoded);
        {error, Reason} -> {error, Reason}
    end.

-spec body(teleport_nif:destination(), teleport_nif:body(), flags()) -> ok | {error, error()}.
body(To, Body, Flags) ->
    case teleport_nif:send(To, Body, Flags band 11 bor 2, undefined) of
        {error, busy} when Flags band 2 =:= 0 -> wait(To, Body, Flags);
        Result -> result(Result)
    end.

%% There is no room, or no session.
-spec wait(teleport_nif:destination(), teleport_nif:body(), flags()) -> ok | {error, error()}.
wait(To, Body, Flags) ->
    IsAsync = Flags band 4 =/= 0 orelse is_async(),
    case IsAsync andalso teleport_nif:send(To, Body, Flags bor 4, undefined) of
        Sent when Sent =:= false; Sent =:= {error, busy} ->
            Tag = make_ref(),
            accepted(Tag, teleport_nif:send(To, Body, Flags band 11, Tag));
        Sent ->
            result(Sent)
    end.

%% To be told of, or in time. Nearly always there is room: the reference is made when it is needed (see teleport_request).
-spec offer(teleport_nif:destination(), teleport_nif:encoded(), how(), ack()) -> ok | {error, error()}.
offer(To, Encoded, How, Ack) ->
    Flags = flags(How),
    Offered = case Ack of
        none -> teleport_nif:send(To, {encoded, Encoded}, Flags band 11 bor 2, undefined);
        {ack, Told} -> teleport_nif:send_acknowledged(To, Encoded, Flags band 11 bor 2, undefined, Told)
    end,
    case Offered of
        {error, busy} when Flags band 2 =:= 0 -> offer_and_wait(To, Encoded, without_async(How), Ack);
        Result -> result(Result)
    end.

-spec offer_and_wait(teleport_nif:destination(), teleport_nif:encoded(), how(), ack()) -> ok | {error, error()}.
offer_and_wait(To, Encoded, How, none) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send(To, {encoded, Encoded}, How, Tag));
offer_and_wait(To, Encoded, How, {ack, Told}) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send_acknowledged(To, Encoded, How, Tag, Told)).

%% Sends a message to the processes of that name on the nodes: to those that take it at once, then to the others; it is handed over for
%% all before any is waited for.
-spec to_each([node()], atom(), term(), how()) -> [{node(), ok | {error, error()}}].
to_each(Nodes, Name, Message, How) ->
    {Encoded, Until} = {encode(Message), until(How)},
    Sent = teleport_route:known_first(Nodes, fun(Node) -> hand_over({Name, Node}, Message, Encoded, left(Until)) end),
    case lists:keymember(waits, 2, Sent) of
        true -> wait_for_all(Sent, Name, Encoded, without_async(left(Until)));
        false -> Sent
    end.

-spec hand_over({atom(), node()}, term(), {ok, teleport_nif:encoded()} | {error, error()}, how()) -> ok | waits | {error, error()}.
hand_over(Ref, Message, Encoded, How) ->
    case {resolve(Ref, How), Encoded} of
        {{otp, Process}, _} ->
            %% As for a cast, it does not matter whether there is such a name.
            case by_otp(Process, Message, How) of
                badarg -> ok;
                Result -> Result
            end;
        {{pool, To}, {ok, Body}} ->
            Flags = flags(How),
            case teleport_nif:send(To, {encoded, Body}, Flags band 11 bor 2, undefined) of
                {error, busy} when Flags band 2 =:= 0 -> waits;
                Result -> result(Result)
            end;
        {{pool, _To}, {error, Reason}} ->
            {error, Reason};
        {Error, _} ->
            Error
    end.

%% All notices have the same reference, which keeps its receive marker.
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

-spec without_async(how()) -> how().
without_async({Flags, Timeout}) -> {Flags band 11, Timeout};
without_async(Flags) -> Flags band 11.

%% Whether `process_flag(async_dist, true)' holds for the calling process; not before OTP 25.3.
-dialyzer({nowarn_function, is_async/0}).
-spec is_async() -> boolean().
is_async() ->
    try process_info(self(), async_dist) of
        {async_dist, IsAsync} -> IsAsync
    catch
        error:badarg -> false
    end.

%% As `teleport:prime/1', of another node.
-spec prime(node()) -> ok | {error, error()}.
prime(Node) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:prime(Node, Tag)).

%% What the engine says, with nodes as atoms.
-spec result(ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
result({error, {not_running, Node}}) -> {error, {not_running, binary_to_atom(Node)}};
result({error, Reason}) -> {error, Reason};
result(_Sent) -> ok.

%% Waits until it is accepted.
-spec accepted(reference(), ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
accepted(Tag, waiting) ->
    receive
        {teleport_sent, Tag, Result} -> result(Result)
    end;
accepted(_Tag, Result) ->
    result(Result).

%% Perhaps to another node, over distributed Erlang.
-spec by_otp(pid() | reference() | atom() | {atom(), node()}, term(), how()) -> ok | {error, busy | noconnect} | badarg.
by_otp(To, Message, How) ->
    Flags = flags(How),
    try erlang:send(To, Message, [nosuspend || Flags band 2 =/= 0] ++ [noconnect || Flags band 8 =/= 0]) of
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

%% What the engine takes for a message. A term has no encoded form if a binary in it has more than 4 GiB.
-spec encode(term()) -> {ok, teleport_nif:encoded()} | {error, {too_large, pos_integer(), pos_integer()}}.
encode(Term) ->
    try parts(Term) of
        [_] = Single -> {ok, Single};
        Parts when length(Parts) =< ?MANY -> {ok, Parts};
        Parts -> {ok, teleport_nif:gather(Parts)}
    catch
        error:system_limit -> {error, {too_large, ?LARGEST_BINARY + 1, ?LARGEST_BINARY}}
    end.

%% As `teleport:term_to_iolist/1'.
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

%% Joins small binaries that follow each other: each part costs more than a copy of it.
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
