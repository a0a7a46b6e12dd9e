%% @private
%% The functions of the engine, which are NIFs of the crate `teleport_nif'. Destinations are pids of other
%% nodes and `{Name, Node}'. A term is first given as it is. If the function returns `not_small' it is given
%% again, encoded as a list of binaries, of which those of more than 1 KiB are kept by reference.
-module(teleport_nif).

-export([library/0, start/1, stop/1, questions/0, resolved/2, cookie_is/2, called_back/2, net_ticktime/1, allow/1,
         pulse/0, close_gate/0, open_gate/0, info/0, address/0, peers/0, peer/1]).
-export([relays/2, prime/2, check/2, disconnect/1, disconnect/2]).
-export([log_from/1, log_nothing/0, logs/0]).
-export([send/4, send_acknowledged/5, secret/0, request/5, monitor/4, cancel/1, is_answered/1]).
-export([watching/2, unwatched/1, sweep/1, caller/1, reply/3, reject/1, ended/1, down/2]).
-export([builder/2, build/1, document/1, built/2, gather/1, encode/1]).
-export([sample/0, pad/1, make_maps_anywhere/1]).
-export([carrier_accept/0, carrier_connect/2, carrier_own/1, carrier_packet/2, carrier_put/2, carrier_put_many/2, carrier_take/1,
         carrier_stat/1, carrier_tick/1,
         carrier_peer/1, carrier_address/1, carrier_end/2, carrier_refuse/0, plain_descriptor/1, plain_proved/1,
         plain_close/1]).
-export([file/0, in_erlang/0]).
%% For tests.
-export([makes_maps_anywhere/1]).

-nifs([library/0, start/1, stop/1, questions/0, resolved/2, cookie_is/2, called_back/2, net_ticktime/1, allow/1, pulse/0, close_gate/0,
       open_gate/0, info/0, address/0, peers/0, peer/1]).
-nifs([relays/2, prime/2, check/2, disconnect/1, disconnect/2]).
-nifs([log_from/1, log_nothing/0, logs/0]).
-nifs([send/4, send_acknowledged/5, secret/0, request/5, monitor/4, cancel/1, is_answered/1]).
-nifs([watching/2, unwatched/1, sweep/1, caller/1, reply/3, reject/1, ended/1, down/2]).
-nifs([builder/2, build/1, document/1, built/2, gather/1, encode/1]).
-nifs([sample/0, pad/1, make_maps_anywhere/1]).
-nifs([carrier_accept/0, carrier_connect/2, carrier_own/1, carrier_packet/2, carrier_put/2, carrier_put_many/2, carrier_take/1,
       carrier_stat/1, carrier_tick/1,
       carrier_peer/1, carrier_address/1, carrier_end/2, carrier_refuse/0, plain_descriptor/1, plain_proved/1,
       plain_close/1]).

-on_load(init/0).

-include("teleport_nif.hrl").
-include_lib("kernel/include/file.hrl").

-export_type([channel/0, plain/0]).
-export_type([address/0, body/0, caller/0, destination/0, encoded/0, error/0, gathered/0, how/0, job/0, log/0, question/0, reply_error/0,
              report/0, start_error/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type question() :: {addresses | cookie | call_back, Peer :: binary()}.
-type destination() :: pid() | {atom(), node()}.
%% A small term, or an encoded one.
-type body() :: {term, term()} | {encoded, encoded()}.
-type encoded() :: [binary()] | gathered().
%% A process of a peer: its session, and the numbers of its pid.
-type caller() :: {Session :: non_neg_integer(), Id :: non_neg_integer(), Serial :: non_neg_integer()}.
%% An encoded term that gather/1 has made of a long list.
-opaque gathered() :: reference().
%% A connection of distributed Erlang over a session. The peer is told when nobody holds it any more.
-opaque channel() :: reference().
%% A connection that another node has made as it would to one that does not carry, or what pulse/0 gives. It is closed when nobody holds
%% it any more.
-opaque plain() :: reference().
%% A term to be built.
-opaque job() :: reference().
-type error() ::
    not_running | {not_running, binary()} | {connect, binary()} | nodedown | busy | noconnect | timeout | noproc | system
    | {too_large, non_neg_integer(), non_neg_integer()} | {badarg, binary()} | {unexpected, binary()}.

%% Why an answer was not sent; `not_taken': too many bytes of answers wait for the peer already; their number.
-type reply_error() :: not_running | {too_large, non_neg_integer(), non_neg_integer()} | {not_taken, non_neg_integer()}
    | {badarg, binary()} | {unexpected, binary()}.

%% Why the engine does not start; the text says what to do.
-type start_error() ::
    {bad_value, Key :: atom(), Text :: binary()}
    | {cannot_listen, address(), Text :: binary()}
    | {bad_node_name | bad_cookie | no_congestion_control | tls | system_limit | not_started, Text :: binary()}.

%% The result of check/2: each address of the peer, and the session.
-type report() :: {
    [{address(), {ok, Microseconds :: non_neg_integer()} | {error, atom(), binary()}}],
    WasUp :: boolean(),
    {ok, map(), [connection()]} | {error, atom(), binary()}
}.
%% A connection of the session, and the round-trip time over it.
-type connection() :: {control | express | bulk, {ok, Microseconds :: non_neg_integer()} | no_answer}.
-type log() :: {error | warning | info | debug, Message :: binary(), [{binary(), binary()}]}.

%% The persistent term with the reason why the library could not be loaded, for teleport_app. The code server
%% does not pass it on.
-define(LOAD_ERROR, {?MODULE, load_error}).

%% The persistent term for the library that was loaded last: its number, its file, and how many were loaded so
%% far. It outlives the module, which may be purged.
-define(LIBRARY, {?MODULE, library}).

%% Loads the library. If the file is the same as before, so is the library, and its engine runs on. A library
%% from another file ends the engine of the one before.
-spec init() -> ok | {error, term()}.
init() ->
    Dir = priv(),
    File = file(),
    {Before, LastFile, Last} = persistent_term:get(?LIBRARY, {0, none, 0}),
    {ThisFile, This} = case identity(File) of
        LastFile -> {LastFile, Last};
        Other -> {Other, Last + 1}
    end,
    %% For a name that it has loaded before, the dynamic linker returns the old library even if the file has
    %% changed.
    Name = lists:append([Dir, lists:append(lists:duplicate(This, "/.")), "/teleport_nif"]),
    case erlang:load_nif(Name, Before) of
        ok ->
            ok = persistent_term:put(?LIBRARY, {library(), ThisFile, This}),
            _ = persistent_term:erase(?LOAD_ERROR),
            ok = make_maps_anywhere(makes_maps_anywhere(erlang:system_info(version))),
            pad(not is_weighed());
        {error, {_Kind, Text}} = Error ->
            persistent_term:put(?LOAD_ERROR, {nif_not_loaded, File, Text}),
            case init:get_status() of
                %% An error here would end the boot of a release with a crash of kernel; teleport_app:library/0 tells it.
                {starting, _} -> ok;
                _ -> Error
            end
    end.

%% `code:priv_dir/1' knows only applications in the code path under their names.
-spec priv() -> file:filename().
priv() ->
    case code:priv_dir(teleport) of
        {error, bad_name} -> filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Priv -> Priv
    end.

%% The library, without its extension.
-spec file() -> file:filename().
file() ->
    filename:join(priv(), "teleport_nif").

%% The exported functions that are not of the library.
-spec in_erlang() -> [{atom(), arity()}].
in_erlang() ->
    [{module_info, 0}, {module_info, 1}, {makes_maps_anywhere, 1}, {file, 0}, {in_erlang, 0}].

-spec identity(file:filename()) -> term().
identity(File) ->
    case file:read_file_info(File ++ ".so", [raw, {time, posix}]) of
        {ok, #file_info{major_device = Device, inode = Inode, mtime = Changed}} -> {Device, Inode, Changed};
        {error, Reason} -> Reason
    end.

%% The number of the library.
-spec library() -> pos_integer().
library() ->
    erlang:nif_error(not_loaded).

%% Whether the garbage collector counts the size of a received binary (up to OTP 26) or that of its resource
%% (erlang/otp#11611). This is measured by an undocumented item of process_info/2; without that the release
%% decides.
-spec is_weighed() -> boolean().
is_weighed() ->
    true = garbage_collect(),
    try
        Before = weight(),
        Sample = sample(),
        weight() - Before >= byte_size(Sample)
    catch
        error:_ -> list_to_integer(erlang:system_info(otp_release)) < 27
    end.

-spec weight() -> non_neg_integer().
weight() ->
    {garbage_collection_info, Info} = process_info(self(), garbage_collection_info),
    {bin_vheap_size, Words} = lists:keyfind(bin_vheap_size, 1, Info),
    Words * erlang:system_info(wordsize).

%% A binary of some KiB, made like those of messages, with a small resource.
-spec sample() -> binary().
sample() ->
    erlang:nif_error(not_loaded).

%% Whether threads that are no schedulers can make maps of more than 128 pairs (erlang/otp#8208): from OTP 27.3 on,
%% and in patches of OTP 26 and 25. By the version of erts.
-spec makes_maps_anywhere(string()) -> boolean().
makes_maps_anywhere(Version) ->
    Numbers = [N || Part <- string:lexemes(Version, "."), {N, _Suffix} <- [string:to_integer(Part)], is_integer(N)],
    case Numbers of
        [13 | _] -> Numbers >= [13, 2, 2, 14];
        [14 | _] -> Numbers >= [14, 2, 5, 8];
        _ -> Numbers >= [15, 2, 3]
    end.

%% Sets whether threads that are no schedulers make maps of more than 128 pairs.
-spec make_maps_anywhere(boolean()) -> ok.
make_maps_anywhere(_Can) ->
    erlang:nif_error(not_loaded).

%% Sets whether resources are made as large as the binaries that they hold.
-spec pad(boolean()) -> ok.
pad(_IsWanted) ->
    erlang:nif_error(not_loaded).

%% Starts the engine. The calling process becomes its manager. The process `answers' gets
%% `teleport_questions', and has to fetch the questions with questions/0 and to answer them. The manager gets
%% `teleport_lost' when the engine has ended because this module was loaded from another file, or because nothing answered it (pulse/0).
%% `library_was_loaded_anew': builders and relays belong to an older library, and all have to be restarted.
%% Runs on a dirty scheduler.
-spec start(map()) -> {ok, address()} | {error, already_started | library_was_loaded_anew | start_error()}.
start(_Config) ->
    erlang:nif_error(not_loaded).

%% Begins to stop the engine. Accepted messages are delivered first, for at most `Deadline' milliseconds. If
%% this returns `ok' the calling process gets `{teleport_stopped, [{Node, Unconfirmed}]}'.
-spec stop(non_neg_integer()) -> ok | not_running | system.
stop(_Deadline) ->
    erlang:nif_error(not_loaded).

%% Fetches questions of the engine about peers; if AreMore is true, call it again. `addresses': where can the
%% peer be reached? Answer with resolved/2. `cookie': which cookie is shared with it? Answer with cookie_is/2.
%% `call_back': the peer cannot be reached; does it connect to this node? Answer with called_back/2. Anybody
%% can have the engine ask for the cookie of any name.
-spec questions() -> {[question()], AreMore :: boolean()}.
questions() ->
    erlang:nif_error(not_loaded).

%% Answers the question for the cookie that is shared with a peer.
-spec cookie_is(binary(), binary()) -> ok | not_running.
cookie_is(_Node, _Cookie) ->
    erlang:nif_error(not_loaded).

%% Answers whether a peer has connected to this node on request.
-spec called_back(binary(), boolean()) -> ok | not_running.
called_back(_Node, _Has) ->
    erlang:nif_error(not_loaded).

%% Keeps the engine from decoding terms outside of schedulers until open_gate/0, since the node's name is
%% about to change: otherwise the virtual machine would crash. Engines that have been stopped, and still drain,
%% read nothing any more. Returns when nothing is being decoded. Runs on a dirty scheduler.
-spec close_gate() -> ok.
close_gate() ->
    erlang:nif_error(not_loaded).

%% Ends the effect of close_gate/0.
-spec open_gate() -> ok.
open_gate() ->
    erlang:nif_error(not_loaded).

%% Sets the ticktime, in seconds.
-spec net_ticktime(pos_integer()) -> ok | system | {error, not_running}.
net_ticktime(_Seconds) ->
    erlang:nif_error(not_loaded).

%% A descriptor for the process that answers the engine that runs: see `teleport_pulse'.
-spec pulse() -> {ok, plain()} | {error, not_running | system}.
pulse() ->
    erlang:nif_error(not_loaded).

%% Says what peers may reach from now on. Runs on a dirty scheduler.
-spec allow(teleport_allow:settings()) -> ok | {error, not_running}.
allow(_Settings) ->
    erlang:nif_error(not_loaded).

%% Answers the question for the addresses of a peer, which are tried in this order.
-spec resolved(binary(), [address()]) -> ok | not_running.
resolved(_Node, _Addresses) ->
    erlang:nif_error(not_loaded).

%% Makes the calling process the starter of relays at a place out of `Count', for this engine and later ones.
%% It gets `{watch, Process}' for the processes that belong to the place: then it has to start a relay, which
%% monitors the process and calls watching/2.
-spec relays(non_neg_integer(), pos_integer()) -> ok.
relays(_Place, _Count) ->
    erlang:nif_error(not_loaded).

%% The calling relay monitors the process: requests that waited for that are delivered. The relay gets the
%% replies as `{[[alias|Alias], Number | _], Reply}', for reply/2. `false': there is no request or monitor for
%% the process any more.
-spec watching(pid(), reference()) -> boolean().
watching(_Process, _Alias) ->
    erlang:nif_error(not_loaded).

%% The relay of the process has been killed: all calls and monitors of the process fail.
-spec unwatched(pid()) -> ok.
unwatched(_Process) ->
    erlang:nif_error(not_loaded).

%% The processes of a place whose relays can end: they have had no calls or monitors since the last sweep. The
%% next call or monitor asks for a new relay.
-spec sweep(non_neg_integer()) -> [pid()].
sweep(_Place) ->
    erlang:nif_error(not_loaded).

%% Begins to set up the session with a peer and all connections of its pool. If this returns `waiting' the
%% calling process gets `{teleport_sent, Tag, ok | {error, Reason}}' when that is done.
-spec prime(node(), reference()) -> waiting | {error, error()}.
prime(_Peer, _Tag) ->
    erlang:nif_error(not_loaded).

%% Ends the session with a peer; `false' if there is none.
-spec disconnect(node()) -> boolean().
disconnect(_Peer) ->
    erlang:nif_error(not_loaded).

%% Ends the session with a peer if it is with an incarnation of the peer (`life'), or if it is with another
%% one (`other_than').
-spec disconnect(node(), {life | other_than, Creation :: non_neg_integer()}) -> boolean().
disconnect(_Peer, _Life) ->
    erlang:nif_error(not_loaded).

%% Begins to find out why there is a session with a peer, or none. If this returns `waiting' the calling
%% process gets `{teleport_sent, Tag, {ok, Report} | {error, not_running}}' when that is done.
-spec check(node(), reference()) -> waiting | {error, error()}.
check(_Peer, _Tag) ->
    erlang:nif_error(not_loaded).

%% Makes the calling process the logger of events of a level and above. It gets `teleport_logs' when there are
%% events, which it fetches with logs/0.
-spec log_from(none | error | warning | info | debug) -> ok | system.
log_from(_Level) ->
    erlang:nif_error(not_loaded).

%% Ends the logging.
-spec log_nothing() -> ok.
log_nothing() ->
    erlang:nif_error(not_loaded).

%% Fetches the events to be logged, and the number of events that were dropped since the last time.
-spec logs() -> {[log()], Dropped :: non_neg_integer()}.
logs() ->
    erlang:nif_error(not_loaded).

%% The state of the engine, as `teleport:info/0' has it.
-spec info() -> map() | {error, not_running}.
info() ->
    erlang:nif_error(not_loaded).

%% Where the engine listens.
-spec address() -> {ok, address()} | {error, not_running}.
address() ->
    erlang:nif_error(not_loaded).

%% The peers with a session. Names that are no atoms here, and for which no budget is left, are binaries.
-spec peers() -> [node() | binary()] | {error, not_running}.
peers() ->
    erlang:nif_error(not_loaded).

%% The state of the session with a peer, as `teleport:info/1' has it.
-spec peer(Peer :: binary()) -> map() | none | {error, not_running}.
peer(_Peer) ->
    erlang:nif_error(not_loaded).

%% A sum of the flags in teleport_nif.hrl, and a limit in milliseconds for the waiting, if there is one. With
%% ASYNC the result is `{error, busy}' if there is no session, and `ok' if there is no room: then the message
%% is queued.
-type how() :: 0..?ALL_FLAGS | {0..?ALL_FLAGS, non_neg_integer()}.

%% Sends a message as the calling process. `waiting': it is not accepted yet. Then the process gets
%% `{teleport_sent, Tag, ok | {error, Reason}}' when it is, unless Tag is an atom.
-spec send(destination(), body(), how(), reference() | nonempty_improper_list(reference(), node()) | undefined) ->
    ok | waiting | not_small | {error, error()}.
send(_To, _Body, _How, _Tag) ->
    erlang:nif_error(not_loaded).

%% Sends a message like send/4. Unless the result, or the one that comes with the Tag, is an error, the
%% process also gets `{teleport, Acknowledgement, delivered | {unconfirmed, Reason}}', once.
-spec send_acknowledged(destination(), body(), how(), reference() | undefined, term()) -> ok | waiting | not_small | {error, error()}.
send_acknowledged(_To, _Body, _How, _Tag, _Acknowledgement) ->
    erlang:nif_error(not_loaded).

%% A number that nobody can guess, for request/5: references of Erlang's can be guessed, and who knows what a request goes by can answer it.
-spec secret() -> non_neg_integer().
secret() ->
    erlang:nif_error(not_loaded).

%% Calls a process. The body's term is `{_, {self(), Tag}, _}', and Tag is `[[alias|Ref], Secret | _]'. Ref is a new reference of this node.
%% Unless this returns an error, the calling process gets `{Answer, Reply}' or `{Mark, Ref, process, Object, Reason}'; Answer is
%% `[alias|Ref]' if Mark is 'DOWN', and `[[alias|Ref]|Mark]' otherwise. If it returns `waiting' and
%% Notice is a reference, the process also gets `{teleport_sent, Notice, ok}' when the request is accepted.
%% With `nosuspend' it returns `{error, busy}' in place of `waiting'.
-spec request(destination(), {reference(), Secret :: non_neg_integer()}, Mark :: term(), body(),
              Notice :: reference() | nosuspend | undefined) ->
    ok | waiting | not_small | {error, error()}.
request(_To, _RefAndSecret, _Mark, _Body, _Notice) ->
    erlang:nif_error(not_loaded).

%% Monitors a process. Unless this returns an error, the calling process gets
%% `{Mark, Ref, process, Object, Reason}'. If it returns `waiting' and Notice is a reference, the process also
%% gets `{teleport_sent, Notice, ok}' when the monitor is accepted. With `nosuspend' it returns `{error, busy}'
%% in place of `waiting'.
-spec monitor(destination(), reference(), Mark :: term(), Notice :: reference() | nosuspend | undefined) ->
    ok | waiting | {error, error()}.
monitor(_To, _Ref, _Mark, _Notice) ->
    erlang:nif_error(not_loaded).

%% Ends a call or a monitor of the calling process. `true': no message of it comes any more. `false': there
%% was none, or its message is in the mailbox already.
-spec cancel(reference()) -> boolean().
cancel(_Ref) ->
    erlang:nif_error(not_loaded).

%% Whether a call or a monitor of the calling process has ended recently. Then no message of it comes any
%% more.
-spec is_answered(reference()) -> boolean().
is_answered(_Ref) ->
    erlang:nif_error(not_loaded).

%% Who waits for the reply of a call; `none' if nobody does any more.
-spec caller(non_neg_integer()) -> caller() | none.
caller(_Number) ->
    erlang:nif_error(not_loaded).

%% Sends the reply of a call to its caller, unless this returns `not_small'. A call takes one reply; further
%% ones, and replies to calls that have ended, are dropped. The reply comes behind what a process of this node, or the server, has sent
%% to the caller's pid.
-spec reply(non_neg_integer(), body(), pid() | server) -> ok | not_small | {error, reply_error()}.
reply(_Number, _Body, _By) ->
    erlang:nif_error(not_loaded).

%% Fails a call whose reply cannot be encoded.
-spec reject(non_neg_integer()) -> ok.
reject(_Number) ->
    erlang:nif_error(not_loaded).

%% A monitored process has ended: no more messages are delivered to it. down/2 gives the reason.
-spec ended(pid()) -> ok.
ended(_Process) ->
    erlang:nif_error(not_loaded).

%% Tells all callers and monitors of a process why it has ended, unless this returns `not_small'.
-spec down(pid(), body()) -> ok | not_small.
down(_Process, _Reason) ->
    erlang:nif_error(not_loaded).

%% Makes the calling process the builder at a place out of `Count', whether or not the engine runs. It gets
%% `{teleport_build, Job}', for build/1. The builder at place 0 gets small terms, as
%% `{teleport_build_small, Job}', for document/1 and built/2.
-spec builder(non_neg_integer(), pos_integer()) -> ok.
builder(_Place, _Count) ->
    erlang:nif_error(not_loaded).

%% Builds a term and delivers it. Runs on a dirty scheduler.
-spec build(job()) -> ok.
build(_Job) ->
    erlang:nif_error(not_loaded).

%% The encoded term that is to be built. `known': all of its atoms exist. `none': it has been built already.
-spec document(job()) -> {known | counted, binary()} | none.
document(_Job) ->
    erlang:nif_error(not_loaded).

%% Delivers a term that has been built, or drops it if it could not be decoded (`none').
-spec built(job(), {ok, term()} | none) -> ok.
built(_Job, _Built) ->
    erlang:nif_error(not_loaded).

%% Converts a long list of binaries to an encoded term. Runs on a dirty scheduler, which may take long.
-spec gather([binary()]) -> gathered().
gather(_Encoded) ->
    erlang:nif_error(not_loaded).

%% Encodes a term, on a dirty scheduler. Unlike `term_to_iovec' it takes no memory of the process. `not_small': it has no encoded
%% form, or `term_to_iovec' has to find it.
-spec encode(term()) -> {ok, gathered()} | not_small.
encode(_Term) ->
    erlang:nif_error(not_loaded).

%% The calling process gets `{teleport_carrier, accept, Channel}' for each channel that a peer opens, and `{teleport_carrier, plain,
%% Plain}' for each connection of a node that does not carry.
-spec carrier_accept() -> ok.
carrier_accept() ->
    erlang:nif_error(not_loaded).

%% Opens a channel to a peer, over the session that there is or that is begun for it. The calling process gets `{teleport_sent, Tag,
%% {ok, Channel} | {error, Reason}}', if this returns `waiting'. `not_teleport': who listens there does not carry.
-spec carrier_connect(node(), reference()) -> waiting | {error, error()}.
carrier_connect(_Peer, _Tag) ->
    erlang:nif_error(not_loaded).

%% The calling process gets `{teleport_carrier, Packet}' for each packet of the handshake that comes from now on, and
%% `{teleport_carrier, closed}' when nothing comes any more. Returns what has come before.
-spec carrier_own(channel()) -> {[binary()], HasEnded :: boolean()}.
carrier_own(_Channel) ->
    erlang:nif_error(not_loaded).

%% Sends a packet of the handshake.
-spec carrier_packet(channel(), binary()) -> ok | closed.
carrier_packet(_Channel, _Packet) ->
    erlang:nif_error(not_loaded).

%% Sends messages of the virtual machine's. `busy': more should not be put before the calling process gets `{teleport_carrier, room}'.
%% `not_small': they are for carrier_put_many/2.
-spec carrier_put(channel(), [[binary()]]) -> ok | busy | closed | not_small | {error, Text :: binary()}.
carrier_put(_Channel, _Messages) ->
    erlang:nif_error(not_loaded).

%% Like carrier_put/2, on a dirty scheduler.
-spec carrier_put_many(channel(), [[binary()]]) -> ok | busy | closed | {error, Text :: binary()}.
carrier_put_many(_Channel, _Messages) ->
    erlang:nif_error(not_loaded).

%% Has the peer say something. In carrier_stat/1 it counts as something that was put.
-spec carrier_tick(channel()) -> ok.
carrier_tick(_Channel) ->
    erlang:nif_error(not_loaded).

%% Some of the messages that have come for the virtual machine. `waiting': there are none, and the calling process gets
%% `{teleport_carrier, data}' when it has to look again. `closed': and none comes any more.
-spec carrier_take(channel()) -> [binary(), ...] | waiting | closed.
carrier_take(_Channel) ->
    erlang:nif_error(not_loaded).

%% When the peer was last heard of, in milliseconds, and how many bytes were put.
-spec carrier_stat(channel()) -> {non_neg_integer(), non_neg_integer()}.
carrier_stat(_Channel) ->
    erlang:nif_error(not_loaded).

%% The name of the peer.
-spec carrier_peer(channel()) -> binary().
carrier_peer(_Channel) ->
    erlang:nif_error(not_loaded).

%% Where the peer's end of the session is.
-spec carrier_address(channel()) -> address() | undefined.
carrier_address(_Channel) ->
    erlang:nif_error(not_loaded).

%% Begins to end the session that the channel belongs to, if that has not ended. If this returns `waiting' the calling process gets
%% `{teleport_sent, Tag, ok}' when it has.
-spec carrier_end(channel(), reference()) -> waiting | {error, not_running}.
carrier_end(_Channel, _Tag) ->
    erlang:nif_error(not_loaded).

%% Ends the effect of carrier_accept/0.
-spec carrier_refuse() -> ok.
carrier_refuse() ->
    erlang:nif_error(not_loaded).

%% The descriptor of the connection.
-spec plain_descriptor(plain()) -> non_neg_integer().
plain_descriptor(_Plain) ->
    erlang:nif_error(not_loaded).

%% The other node has proved itself: the connection does not count among the newcomers any more.
-spec plain_proved(plain()) -> ok.
plain_proved(_Plain) ->
    erlang:nif_error(not_loaded).

%% Closes the connection. A port that was opened with the descriptor has ended before.
-spec plain_close(plain()) -> ok.
plain_close(_Plain) ->
    erlang:nif_error(not_loaded).
