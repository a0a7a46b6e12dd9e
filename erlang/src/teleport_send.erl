%% @private
%% Sends messages, and encodes them for other nodes.
-module(teleport_send).

-export([send/4, message/3, by_otp/3, to_all/3, to_each/4, prime/1, encode/1, parts/1]).

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
    teleport_alias:send(Alias, Message, flags(How), Ack);
send(Ref, Message, {Flags, _Timeout} = How, Ack) ->
    case teleport_ref:where(Ref) of
        {remote, To} -> encoded(Message, fun(Encoded) -> in_time(To, Encoded, How, Ack) end);
        _Otherwise -> send(Ref, Message, Flags, Ack)
    end;
send(Ref, Message, Flags, Ack) ->
    case {teleport_ref:where(Ref), Ack} of
        {{remote, To}, none} ->
            message(To, Message, Flags);
        {{remote, To}, {ack, Tag}} ->
            acknowledged(To, Message, Flags, Tag);
        {{local, Process}, none} ->
            by_otp(Process, Message, Flags);
        {{local, Process}, {ack, Tag}} ->
            case find(Process) of
                {away, To} ->
                    case by_otp(To, Message, Flags) of
                        ok -> tell(Tag, {unconfirmed, disterl});
                        Error -> Error
                    end;
                Found ->
                    tell(Tag, send_local(Found, Message))
            end;
        {undefined, {ack, Tag}} ->
            tell(Tag, {unconfirmed, noproc});
        {_Nobody, _Ack} ->
            badarg
    end.

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

%% It waits for so long.
-spec in_time(teleport_nif:destination(), teleport_nif:encoded(), how(), ack()) -> ok | {error, error()}.
in_time(To, Encoded, {Flags, Timeout}, none) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send(To, {encoded, Encoded}, {Flags band 11, Timeout}, Tag));
in_time(To, Encoded, {Flags, Timeout}, {ack, Ack}) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send_acknowledged(To, Encoded, {Flags band 11, Timeout}, Tag, Ack)).

%% Sends a message to the processes of that name on the nodes: it is handed over for all before any is waited for.
-spec to_each([node()], atom(), term(), how()) -> [{node(), ok | {error, error()}}].
to_each(Nodes, Name, Message, How) ->
    Encoded = encode(Message),
    Sent = [{Node, hand_over({Name, Node}, Message, Encoded, How, make_ref())} || Node <- Nodes],
    [{Node, accepted(Tag, Result)} || {Node, {Tag, Result}} <- Sent].

-spec hand_over({atom(), node()}, term(), {ok, teleport_nif:encoded()} | {error, error()}, how(), reference()) ->
    {reference(), ok | waiting | {error, term()}}.
hand_over(Ref, Message, Encoded, How, Tag) ->
    case {teleport_ref:where(Ref), Encoded} of
        {{local, Process}, _} ->
            %% As for a cast, it does not matter whether there is such a name.
            case by_otp(Process, Message, flags(How)) of
                badarg -> {Tag, ok};
                Result -> {Tag, Result}
            end;
        {{remote, To}, {ok, Body}} ->
            {Tag, teleport_nif:send(To, {encoded, Body}, without_async(How), Tag)};
        {{remote, _To}, {error, Reason}} ->
            {Tag, {error, Reason}}
    end.

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

%% Sends a message to the processes of that name on the nodes: first to those that take it at once. One to which the way is full does
%% not hold up the others.
-spec to_all([node()], atom(), term()) -> ok.
to_all(Nodes, Name, Message) ->
    Encoded = encode(Message),
    IsBusy = fun(Node) -> to_one({Name, Node}, Message, Encoded) =:= {error, busy} andalso {true, Node} end,
    case lists:filtermap(IsBusy, Nodes) of
        [] -> ok;
        Busy -> wait_for_all(Busy, Name, Encoded)
    end.

-spec to_one({atom(), node()}, term(), {ok, teleport_nif:encoded()} | {error, term()}) -> ok | waiting | {error, term()}.
to_one({_Name, Node} = Ref, Message, Encoded) when is_atom(Node) ->
    case {teleport_ref:where(Ref), Encoded} of
        {{local, Process}, _} ->
            _ = erlang:send(Process, Message),
            ok;
        {{remote, To}, {ok, Body}} ->
            teleport_nif:send(To, {encoded, Body}, 2, undefined);
        {{remote, _To}, {error, Reason}} ->
            {error, Reason}
    end.

-spec wait_for_all([node()], atom(), {ok, teleport_nif:encoded()}) -> ok.
wait_for_all(Nodes, Name, {ok, Body}) ->
    Notice = make_ref(),
    Sent = [teleport_nif:send({Name, Node}, {encoded, Body}, 0, Notice) || Node <- Nodes],
    all_accepted(Notice, length([waiting || waiting <- Sent])).

-spec all_accepted(reference(), non_neg_integer()) -> ok.
all_accepted(_Notice, 0) -> ok;
all_accepted(Notice, Left) -> receive {teleport_sent, Notice, _Result} -> all_accepted(Notice, Left - 1) end.

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

-spec acknowledged(teleport_nif:destination(), term(), flags(), term()) -> ok | {error, error()}.
acknowledged(To, Message, Flags, Ack) ->
    encoded(Message, fun(Encoded) ->
        %% Nearly always there is room.
        case teleport_nif:send_acknowledged(To, Encoded, Flags band 11 bor 2, undefined, Ack) of
            {error, busy} when Flags band 2 =:= 0 -> acknowledged_later(To, Encoded, Flags band 11, Ack);
            Result -> result(Result)
        end
    end).

-spec acknowledged_later(teleport_nif:destination(), teleport_nif:encoded(), flags(), term()) -> ok | {error, error()}.
acknowledged_later(To, Encoded, Flags, Ack) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send_acknowledged(To, Encoded, Flags, Tag, Ack)).

%% Waits until it is accepted.
-spec accepted(reference(), ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
accepted(Tag, waiting) ->
    receive
        {teleport_sent, Tag, Result} -> result(Result)
    end;
accepted(_Tag, Result) ->
    result(Result).

%% Perhaps to another node, over distributed Erlang.
-spec by_otp(pid() | reference() | atom() | {atom(), node()}, term(), flags()) -> ok | {error, busy} | badarg.
by_otp(To, Message, Flags) ->
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
