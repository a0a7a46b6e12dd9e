%% @private
%% Sends messages, and encodes them for other nodes.
-module(teleport_send).

-export([send/4, message/3, accepted/2, encode/1, parts/1]).

-export_type([error/0, ack/0]).

-type error() :: nodedown | busy | noproc | not_running | {not_running, node()}
               | {too_large, Size :: non_neg_integer(), Limit :: non_neg_integer()} | {connect, binary()}
               | {badarg, binary()} | system | {error, binary()}.

%% Whether the sender is told what became of the message.
-type ack() :: none | {ack, Tag :: term()}.

%% Bytes from which on a binary stays apart; smaller ones in a row are joined.
-define(JOIN, 1024).
%% The same if there are many: each costs the engine time.
-define(JOIN_MANY, 65536).
%% A list of more parts is too long for a scheduler to be held up by.
-define(MANY, 512).
%% What is joined makes a new binary from so many bytes on.
-define(BLOCK, 1048576).

%% Sends a message to whomever. `badarg': it is no reference, or nobody here has that name.
-spec send(teleport_ref:ref(), term(), 0..3, ack()) -> ok | {error, error()} | badarg.
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

%% Sends a message to another node; Flags as in teleport_nif:send/4.
-spec message(teleport_nif:destination(), term(), 0..3) -> ok | {error, error()}.
message(To, Message, Flags) ->
    %% Nearly always it is small, and there is room.
    case teleport_nif:send(To, {term, Message}, Flags bor 2, undefined) of
        ok -> ok;
        not_small -> body(To, {encoded, encode(Message)}, Flags);
        {error, busy} when Flags band 2 =:= 0 -> wait(To, {encoded, encode(Message)}, Flags);
        Error -> result(Error)
    end.

-spec body(teleport_nif:destination(), teleport_nif:body(), 0..3) -> ok | {error, error()}.
body(To, Body, Flags) ->
    case teleport_nif:send(To, Body, Flags bor 2, undefined) of
        {error, busy} when Flags band 2 =:= 0 -> wait(To, Body, Flags);
        Result -> result(Result)
    end.

-spec wait(teleport_nif:destination(), teleport_nif:body(), 0..1) -> ok | {error, error()}.
wait(To, Body, Flags) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send(To, Body, Flags, Tag)).

%% What the engine says, with nodes as atoms.
-spec result(ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
result({error, {not_running, Node}}) -> {error, {not_running, binary_to_atom(Node)}};
result({error, Reason}) -> {error, Reason};
result(_Sent) -> ok.

-spec acknowledged(teleport_nif:destination(), term(), 0..3, term()) -> ok | {error, error()}.
acknowledged(To, Message, Flags, Ack) ->
    Tag = make_ref(),
    accepted(Tag, teleport_nif:send_acknowledged(To, encode(Message), Flags, Tag, Ack)).

%% Waits until it is accepted.
-spec accepted(reference(), ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
accepted(Tag, waiting) ->
    receive
        {teleport_sent, Tag, Result} -> result(Result)
    end;
accepted(_Tag, Result) ->
    result(Result).

%% Perhaps to another node, over distributed Erlang.
-spec by_otp(pid() | atom() | {atom(), node()}, term(), 0..3) -> ok | {error, busy} | badarg.
by_otp(To, Message, Flags) ->
    try erlang:send(To, Message, [nosuspend || Flags band 2 =/= 0]) of
        ok -> ok;
        nosuspend -> {error, busy}
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

%% What the engine takes for a message.
-spec encode(term()) -> teleport_nif:encoded().
encode(Term) ->
    case parts(Term) of
        [_] = Single -> Single;
        Parts when length(Parts) =< ?MANY -> Parts;
        Parts -> teleport_nif:gather(Parts)
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
