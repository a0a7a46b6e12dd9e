%% @private
%% The engine, in the crate `teleport_nif'. Destinations are pids of other nodes and `{Name, Node}'. Small terms are given as
%% they are; after `not_small' the term is given encoded, as a list of binaries, of which those of more than a KiB are kept by
%% reference.
-module(teleport_nif).

-export([library/0, start/1, stop/1, questions/0, resolved/2, cookie_is/2, called_back/2, net_ticktime/1,
         close_gate/0, open_gate/0, info/0]).
-export([relays/2, prime/2, check/2, disconnect/1, disconnect/2]).
-export([log_from/1, log_nothing/0, logs/0]).
-export([send/4, send_acknowledged/5, request/5, monitor/4, cancel/1, is_answered/1]).
-export([watching/2, unwatched/1, sweep/1, reply/2, reject/1, ended/1, down/2]).
-export([builder/2, build/1, document/1, built/2, gather/1]).
-export([sample/0, pad/1]).

-nifs([library/0, start/1, stop/1, questions/0, resolved/2, cookie_is/2, called_back/2, net_ticktime/1, close_gate/0, open_gate/0, info/0]).
-nifs([relays/2, prime/2, check/2, disconnect/1, disconnect/2]).
-nifs([log_from/1, log_nothing/0, logs/0]).
-nifs([send/4, send_acknowledged/5, request/5, monitor/4, cancel/1, is_answered/1]).
-nifs([watching/2, unwatched/1, sweep/1, reply/2, reject/1, ended/1, down/2]).
-nifs([builder/2, build/1, document/1, built/2, gather/1]).
-nifs([sample/0, pad/1]).

-on_load(init/0).

-include_lib("kernel/include/file.hrl").

-export_type([address/0, body/0, destination/0, encoded/0, error/0, gathered/0, how/0, job/0, log/0, report/0, start_error/0, question/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type question() :: {addresses | cookie | call_back, Peer :: binary()}.
-type destination() :: pid() | {atom(), node()}.
%% A small term, or an encoded one.
-type body() :: {term, term()} | {encoded, encoded()}.
-type encoded() :: [binary()] | gathered().
%% An encoded term that was made of a long list.
-opaque gathered() :: reference().
%% A term to be built.
-opaque job() :: reference().
-type error() ::
    not_running | {not_running, binary()} | {connect, binary()} | nodedown | busy | noconnect | timeout | noproc | system
    | {too_large, non_neg_integer(), non_neg_integer()} | {badarg, binary()} | {error, binary()}.

%% Why the engine does not start; the text has the way out.
-type start_error() ::
    {bad_value, Key :: atom(), Text :: binary()}
    | {cannot_listen, address(), Text :: binary()}
    | {bad_node_name | bad_cookie | no_congestion_control | system_limit | not_started, Text :: binary()}.

%% What was found out about the way to a peer.
-type report() :: {
    [{address(), {ok, Microseconds :: non_neg_integer()} | {error, atom(), binary()}}],
    WasUp :: boolean(),
    {ok, map(), [connection()]} | {error, atom(), binary()}
}.
%% A connection of the session, and how long an answer over it took.
-type connection() :: {control | express | bulk, {ok, Microseconds :: non_neg_integer()} | no_answer}.
-type log() :: {error | warning | info | debug, Message :: binary(), [{binary(), binary()}]}.

%% Where the reason is kept why the library could not be loaded, for teleport_app; the code server forgets it.
-define(LOAD_ERROR, {?MODULE, load_error}).

%% Which library was loaded last: its number, which file that was, and how many there were by then. This outlives the module, which may be
%% purged.
-define(LIBRARY, {?MODULE, library}).

%% From the same file it is the library of before, and nothing has changed. Another one ends the engine of the one before.
-spec init() -> ok | {error, term()}.
init() ->
    %% `code:priv_dir/1' knows only applications in the code path under their names.
    Dir = case code:priv_dir(teleport) of
        {error, bad_name} -> filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Priv -> Priv
    end,
    File = filename:join(Dir, "teleport_nif"),
    {Before, LastFile, Last} = persistent_term:get(?LIBRARY, {0, none, 0}),
    {ThisFile, This} = case identity(File) of
        LastFile -> {LastFile, Last};
        Other -> {Other, Last + 1}
    end,
    %% By the same name the dynamic linker finds what it has loaded, whatever is there now.
    Name = lists:append([Dir, lists:append(lists:duplicate(This, "/.")), "/teleport_nif"]),
    case erlang:load_nif(Name, Before) of
        ok ->
            ok = persistent_term:put(?LIBRARY, {library(), ThisFile, This}),
            _ = persistent_term:erase(?LOAD_ERROR),
            pad(not is_weighed());
        {error, {_Kind, Text}} = Error ->
            persistent_term:put(?LOAD_ERROR, {nif_not_loaded, File, Text}),
            Error
    end.

-spec identity(file:filename()) -> term().
identity(File) ->
    case file:read_file_info(File ++ ".so", [raw, {time, posix}]) of
        {ok, #file_info{major_device = Device, inode = Inode, mtime = Changed}} -> {Device, Inode, Changed};
        {error, Reason} -> Reason
    end.

%% Names the library.
-spec library() -> pos_integer().
library() ->
    erlang:nif_error(not_loaded).

%% Whether the garbage collector counts a received binary for what it is, as it does up to OTP 26, or its resource, erlang/otp#11611.
%% What is looked at is not documented: where it is not there the release decides.
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

%% A binary of some KiB like those of messages, with a resource that is small.
-spec sample() -> binary().
sample() ->
    erlang:nif_error(not_loaded).

%% Whether resources are to be made as large as what they hold.
-spec pad(boolean()) -> ok.
pad(_IsWanted) ->
    erlang:nif_error(not_loaded).

%% Starts the engine. The calling process becomes its manager. The process `answers' gets `teleport_questions', and has to fetch and
%% answer them, see questions/0. The manager gets `teleport_lost' when the engine has ended since this module was loaded anew, from
%% another file. `library_was_loaded_anew': builders and relays have started before that; all have to begin anew. Runs on a
%% dirty scheduler.
-spec start(map()) -> {ok, address()} | {error, already_started | library_was_loaded_anew | start_error()}.
start(_Config) ->
    erlang:nif_error(not_loaded).

%% Begins to stop the engine; what was accepted is delivered, for at most so many milliseconds. The calling process gets
%% `{teleport_stopped, [{Node, Unconfirmed}]}' if this returns `ok'.
-spec stop(non_neg_integer()) -> ok | not_running | system.
stop(_Deadline) ->
    erlang:nif_error(not_loaded).

%% Some of what the engine asks about peers, and whether there is more: then it has to be called again. `addresses': where the peer is,
%% for resolved/2; `cookie': which one is shared with it, for cookie_is/2; `call_back': it is not reached, so it should connect to this
%% node, for called_back/2. Anybody can have the engine ask for the cookie of any name.
-spec questions() -> {[question()], AreMore :: boolean()}.
questions() ->
    erlang:nif_error(not_loaded).

%% The cookie that is shared with a peer at present.
-spec cookie_is(binary(), binary()) -> ok | not_running.
cookie_is(_Node, _Cookie) ->
    erlang:nif_error(not_loaded).

%% Whether a peer has connected to this node, since it was asked to.
-spec called_back(binary(), boolean()) -> ok | not_running.
called_back(_Node, _Has) ->
    erlang:nif_error(not_loaded).

%% The name of the virtual machine is about to change: until open_gate/0 nothing is decoded off its schedulers, since that would crash
%% it. Returns when nothing is. Runs on a dirty scheduler.
-spec close_gate() -> ok.
close_gate() ->
    erlang:nif_error(not_loaded).

-spec open_gate() -> ok.
open_gate() ->
    erlang:nif_error(not_loaded).

%% Another ticktime holds, in seconds.
-spec net_ticktime(pos_integer()) -> ok | system | {error, not_running}.
net_ticktime(_Seconds) ->
    erlang:nif_error(not_loaded).

%% Where a peer is, to be tried in this order.
-spec resolved(binary(), [address()]) -> ok | not_running.
resolved(_Node, _Addresses) ->
    erlang:nif_error(not_loaded).

%% The calling process starts relays at that place, of so many, from now on, also for engines that are started later. For the
%% processes that belong to the place it gets `{watch, Process}': a relay has to monitor the process, and to say so with watching/2.
-spec relays(non_neg_integer(), pos_integer()) -> ok.
relays(_Place, _Count) ->
    erlang:nif_error(not_loaded).

%% The calling relay monitors the process: what waited for that is delivered. It gets `{[[alias|Alias], Number | _], Reply}', the
%% answer of a watch, for reply/2. `false': nobody has asked for it.
-spec watching(pid(), reference()) -> boolean().
watching(_Process, _Alias) ->
    erlang:nif_error(not_loaded).

%% The relay of the process has ended without a word: those who wait are told that nobody answers.
-spec unwatched(pid()) -> ok.
unwatched(_Process) ->
    erlang:nif_error(not_loaded).

%% The processes of that place that nobody waits for, and nothing has come for since the last time. They need no relays any more:
%% if they are called or monitored again it is asked for one, as if for the first time.
-spec sweep(non_neg_integer()) -> [pid()].
sweep(_Place) ->
    erlang:nif_error(not_loaded).

%% Begins to set up the session with a peer and its whole pool. The calling process gets `{teleport_sent, Tag, ok | {error,
%% Reason}}' when that is done, if this returns `waiting'.
-spec prime(node(), reference()) -> waiting | {error, error()}.
prime(_Peer, _Tag) ->
    erlang:nif_error(not_loaded).

%% Ends the session with a peer; `false' if there is none.
-spec disconnect(node()) -> boolean().
disconnect(_Peer) ->
    erlang:nif_error(not_loaded).

%% The same, if the session is with that life of the peer, or with another one than that.
-spec disconnect(node(), {life | other_than, Creation :: non_neg_integer()}) -> boolean().
disconnect(_Peer, _Life) ->
    erlang:nif_error(not_loaded).

%% Begins to find out why there is a session with a peer, or none. The calling process gets `{teleport_sent, Tag, {ok, Report} |
%% {error, not_running}}' when that is done, if this returns `waiting'.
-spec check(node(), reference()) -> waiting | {error, error()}.
check(_Peer, _Tag) ->
    erlang:nif_error(not_loaded).

%% The calling process logs what is of that level or above. It gets `teleport_logs' when something waits, and fetches it with
%% logs/0.
-spec log_from(none | error | warning | info | debug) -> ok | system.
log_from(_Level) ->
    erlang:nif_error(not_loaded).

%% Nothing is logged any more.
-spec log_nothing() -> ok.
log_nothing() ->
    erlang:nif_error(not_loaded).

%% What waits to be logged, and how many events found no room since the last time.
-spec logs() -> {[log()], Dropped :: non_neg_integer()}.
logs() ->
    erlang:nif_error(not_loaded).

-spec info() -> map() | {error, not_running}.
info() ->
    erlang:nif_error(not_loaded).

%% 1 unordered, 2 nosuspend, 8 noconnect, 4 async: it waits neither for a session (`{error, busy}') nor for room (`ok': it has its
%% place). Perhaps with the milliseconds that it may wait.
-type how() :: 0..15 | {0..15, non_neg_integer()}.

%% Sends a message as the calling process. `waiting': it was not accepted yet; unless Tag
%% is an atom the process gets `{teleport_sent, Tag, ok | {error, Reason}}' when that has changed.
-spec send(destination(), body(), how(), reference() | nonempty_improper_list(reference(), node()) | undefined) ->
    ok | waiting | not_small | {error, error()}.
send(_To, _Body, _How, _Tag) ->
    erlang:nif_error(not_loaded).

%% The same; unless this, or what comes with the Tag, is an error, the process gets `{teleport, Acknowledgement, delivered |
%% {unconfirmed, Reason}}', once.
-spec send_acknowledged(destination(), encoded(), how(), reference() | undefined, term()) -> ok | waiting | {error, error()}.
send_acknowledged(_To, _Encoded, _How, _Tag, _Acknowledgement) ->
    erlang:nif_error(not_loaded).

%% Calls a process. The body's term is `{_, {self(), Tag}, _}'; Ref is a reference that was made on this node and not used before. With
%% the mark `'DOWN'' Tag is `[alias|Ref]', and with another one, whatever that is, `[[alias|Ref]|Mark]'. The calling process gets
%% `{Tag, Reply}' or `{Mark, Ref, process, Object, Reason}', unless this returns an error. With a reference for the notice it also
%% gets `{teleport_sent, Notice, ok}' when a request that was waiting waits no longer; with `nosuspend' it does not wait (`{error,
%% busy}').
-spec request(destination(), reference(), Mark :: term(), body(), Notice :: reference() | nosuspend | undefined) ->
    ok | waiting | not_small | {error, error()}.
request(_To, _Ref, _Mark, _Body, _Notice) ->
    erlang:nif_error(not_loaded).

%% Monitors a process. The calling process gets `{Mark, Ref, process, Object, Reason}', unless this returns an error. With a
%% reference for the notice it also gets `{teleport_sent, Notice, ok}' when a monitor that was waiting waits no longer.
-spec monitor(destination(), reference(), Mark :: term(), Notice :: reference() | undefined) ->
    ok | waiting | {error, error()}.
monitor(_To, _Ref, _Mark, _Notice) ->
    erlang:nif_error(not_loaded).

%% Ends a call or a monitor of the calling process. `true': no message about it comes any more. `false': there was none, or
%% its message is in the mailbox.
-spec cancel(reference()) -> boolean().
cancel(_Ref) ->
    erlang:nif_error(not_loaded).

%% Whether the calling process was told of a call or a monitor, not long ago. Then nothing of it comes any more.
-spec is_answered(reference()) -> boolean().
is_answered(_Ref) ->
    erlang:nif_error(not_loaded).

%% Answers a watch, once, unless this returns `not_small'. Nothing comes of it if nobody waits any more.
-spec reply(non_neg_integer(), body()) -> ok | not_small | {error, error()}.
reply(_Number, _Body) ->
    erlang:nif_error(not_loaded).

%% Says that an answer has no form that can be sent.
-spec reject(non_neg_integer()) -> ok.
reject(_Number) ->
    erlang:nif_error(not_loaded).

%% A process that was monitored has ended: it gets nothing any more. The reason comes with down/2.
-spec ended(pid()) -> ok.
ended(_Process) ->
    erlang:nif_error(not_loaded).

%% Says why the process has ended to all who wait, unless this returns `not_small'.
-spec down(pid(), body()) -> ok | not_small.
down(_Process, _Reason) ->
    erlang:nif_error(not_loaded).

%% The calling process is the builder at that place, of so many, from now on, whether the engine runs or not. It gets
%% `{teleport_build, Job}', for build/1; or at place 0, which is for small terms, `{teleport_build_small, Job}', for document/1 and
%% built/2.
-spec builder(non_neg_integer(), pos_integer()) -> ok.
builder(_Place, _Count) ->
    erlang:nif_error(not_loaded).

%% Builds a term, once, on a dirty scheduler.
-spec build(job()) -> ok.
build(_Job) ->
    erlang:nif_error(not_loaded).

%% The encoded term that is to be built; `known': of atoms that exist. `none': it has been built.
-spec document(job()) -> {known | counted, binary()} | none.
document(_Job) ->
    erlang:nif_error(not_loaded).

%% The term has been built, or it is none.
-spec built(job(), {ok, term()} | none) -> ok.
built(_Job, _Built) ->
    erlang:nif_error(not_loaded).

%% Makes what is sent of a list of binaries, on a dirty scheduler: for lists of more than some hundreds, which would hold up
%% a scheduler.
-spec gather([binary()]) -> gathered().
gather(_Encoded) ->
    erlang:nif_error(not_loaded).
