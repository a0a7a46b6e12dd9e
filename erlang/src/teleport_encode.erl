%% @private
%% Encodes terms for the engine and other nodes.
-module(teleport_encode).

-export([encode/1, parts/1]).

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
%% A joined binary of at least this many bytes is complete, and the next one begins.
-define(BLOCK, 1048576).

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
