%% @doc Sends messages of any size between nodes, over connections of its own beside distributed Erlang.
%%
%% `{Name, Node} ! Message' becomes `teleport:send({Name, Node}, Message)', and
%% `gen_server:call(Server, Request)' becomes `teleport:gs_call(Server, Request)'. The servers stay as they
%% are. Both nodes run the application `teleport'.
%%
%% For processes on the calling node each function does what its counterpart in OTP does, with the same
%% results.
-module(teleport).
-compile({parse_transform, teleport_docs}).

-export([start/0, send/2, send/3, cast/2, cast/3, gs_call/2, gs_call/3, gs_stop/1, gs_stop/3]).
-export([send_request/2, receive_response/2, wait_response/2, check_response/2]).
-export([multi_call/2, multi_call/3, multi_call/4, abcast/2, abcast/3, abcast/4]).
-export([monitor/1, monitor/2, demonitor/1]).
-export([nodes/0, prime/1, check/0, check/1, report/0, report/1, info/0, info/1, term_to_iolist/1]).

-compile({no_auto_import, [nodes/0]}).

-include("teleport_nif.hrl").

-export_type([ref/0, option/0, send_option/0, monitor_option/0, error/0, request_id/0, request_id_collection/0,
              collected/0, response_timeout/0, check/0]).

-type ref() :: teleport_ref:ref().
%% A process: a pid, a registered name, here or on another node, or a name in a registry.

-type send_option() :: unordered | nosuspend | async | noconnect | {timeout, timeout()}.
%% `noconnect': answer `{error, noconnect}' rather than set up a session.
%% `{timeout, Milliseconds}': answer `{error, timeout}' rather than wait longer, for the session and for room
%% together. A message that goes over distributed Erlang (`fallback') waits as with `!'. `async' is ignored
%% with this option.
%% `unordered': the message may overtake earlier messages of its pair of processes, and be overtaken by later
%% ones.
%% `nosuspend': answer `{error, busy}' rather than wait for room or for a session, even if there is no such
%% node.
%% `async': wait for a session, but not for room. The message is queued behind those that wait, in memory
%% without bounds. `process_flag(async_dist, true)' sets this for all sends and casts of the calling process.
%% `async' is ignored with `{ack, _}', by {@link abcast/4}, and by a send that waits for the first session.

-type option() :: send_option() | {ack, Tag :: term()} | priority.
%% `{ack, Tag}': send the outcome to the calling process: `{teleport, Tag, delivered}' once the message is in
%% the mailbox, or `{teleport, Tag, {unconfirmed, Reason}}'. The reason is `noproc' if there is no such
%% process, `nodedown' if the session ended before the outcome was known, and `disterl' if the message went
%% over distributed Erlang (`fallback'), which does not acknowledge. The outcome comes exactly once if
%% `send/3' returns `ok', and not at all if it returns an error.
%% `priority' (OTP 28 and later): a priority message, if the destination is an alias that takes those.

-type monitor_option() :: {tag, term()} | {alias, explicit_unalias | demonitor} | priority.
%% `{tag, Tag}': the `DOWN' message has Tag in place of the atom `DOWN'. `{alias, _}': the monitor is also an
%% alias of the calling process, until `unalias/1' (`explicit_unalias') or until {@link demonitor/1}
%% (`demonitor'). `priority' (OTP 28 and later): the `DOWN' message of a process on this node is a priority
%% message; that of a process on another node is an ordinary one.

-type error() :: teleport_send:error().
%% Why a message was not sent. `not_running': teleport does not run here. `{not_running, Node}': it does not
%% run there, or there is no such node. `{connect, Text}': there is no connection, and Text says why.
%% `{badarg, Text}': the name is too long, or the message cannot be encoded, and Text says which.
%% `{unexpected, Text}': anything else, and Text says what.

-type request_id() :: teleport_request:request_id().
%% A request under way.

-type request_id_collection() :: teleport_reqids:collection().
%% Requests under way, with labels; see {@link teleport_gen_server}. It may hold requests made by OTP's
%% functions too.

-type collected() :: {{reply, term()} | {error, {term(), term()}}, Label :: term(), request_id_collection()}.
%% The response to one request of a collection.

-type response_timeout() :: teleport_timeout:response_timeout().
%% Milliseconds, or a point in the time of `erlang:monotonic_time(millisecond)'.

-type check() :: teleport_check:result().
%% The steps in their order, each with its outcome and a text. See {@link check/1}.

%% @doc Starts the application and those that it depends on.
%%
%% Errors whose cause is outside of teleport; each Text says what to do:
%% <ul>
%% <li>`{tls_distribution, Text}': distributed Erlang is encrypted on this node, or may be, by a carrier that teleport
%% does not know, and teleport cannot do the same; see `tls' and `allow_plain'.</li>
%% <li>`{unknown_key, Key, Text}', `{bad_value, Key, Text}': teleport has no such key, or the key does not
%% take this value.</li>
%% <li>`{cannot_follow, Option, Text}': distributed Erlang listens or connects with an option that teleport cannot
%% follow; see `listen'.</li>
%% <li>`{cannot_listen, {Address, Port}, Text}': the address cannot be listened on; for example, the port is
%% taken.</li>
%% <li>`{no_congestion_control, Text}': the kernel does not have the algorithm that `congestion' names.</li>
%% <li>`{bad_cookie, Text}', `{bad_node_name, Text}': it is empty or too long.</li>
%% <li>`{system_limit, Text}': there are no threads or file descriptors left.</li>
%% <li>`{nif_not_loaded, File, Text}': the NIF library cannot be loaded.</li>
%% <li>`{unsupported_otp, Release, Text}': this release of OTP is too old.</li>
%% <li>`{not_started, Text}': anything else; Text says what.</li>
%% </ul>
%% Where the library is not loaded, or is replaced at that moment, the error may also be an atom (`not_loaded',
%% `library_was_loaded_anew'): start it again.
-spec start() -> ok | {error, term()}.
start() ->
    case application:ensure_all_started(teleport) of
        {ok, _Started} -> ok;
        {error, {teleport, {Reason, {teleport_app, start, _Args}}}} -> {error, Reason};
        {error, {teleport, Reason}} -> {error, Reason}
    end.

%% @equiv send(Ref, Message, [])
-spec send(ref() | reference(), term()) -> ok | {error, error()}.
send(Ref, Message) ->
    case teleport_send:send(Ref, Message, 0, none) of
        badarg -> erlang:error(badarg, [Ref, Message]);
        Result -> Result
    end.

%% @doc Sends a message to a process or an alias, like `erlang:send/3'.
%%
%% Waits while there is no room for the message. Returns when it is accepted: then it is delivered unless its
%% node goes down. A message to a process that does not exist is dropped. A name that is not registered on
%% this node, or in the registry that Ref names, is a `badarg', as for `!'; with `{ack, Tag}' it is
%% acknowledged as `{unconfirmed, noproc}' instead.
-spec send(ref() | reference(), term(), [option()]) -> ok | {error, error()}.
send(Ref, Message, Options) ->
    case send_options(Options) of
        {Flags, Ack} ->
            case teleport_send:send(Ref, Message, Flags, Ack) of
                badarg -> erlang:error(badarg, [Ref, Message, Options]);
                Result -> Result
            end;
        badarg ->
            erlang:error(badarg, [Ref, Message, Options])
    end.

%% @doc Sends a cast to a server, like `gen_server:cast/2'. Returns `ok' in any case.
-spec cast(ref(), term()) -> ok.
cast(Ref, Request) ->
    teleport_call:tell(Ref, {'$gen_cast', Request}, {gen_server, cast, [Ref, Request]}).

%% @doc Sends a cast to a server, with options, and returns whether it was sent. A cast to a name that is not
%% registered on this node is dropped with `ok', as by `gen_server:cast/2'.
-spec cast(ref(), term(), [send_option()]) -> ok | {error, error()}.
cast(Ref, Request, Options) ->
    case options(Options, 0, none) of
        {How, none} ->
            Until = teleport_send:until(How),
            case teleport_send:resolve(Ref, How) of
                invalid ->
                    erlang:error(badarg, [Ref, Request, Options]);
                Resolved ->
                    case teleport_send:to(Resolved, {'$gen_cast', Request}, Until, none) of
                        badarg -> ok;
                        Result -> Result
                    end
            end;
        _ ->
            erlang:error(badarg, [Ref, Request, Options])
    end.

%% @doc Calls a server, like `gen_server:call/2'.
-spec gs_call(ref(), term()) -> term().
gs_call(Ref, Request) ->
    teleport_call:server(Ref, '$gen_call', Request, 5000, {gen_server, call, [Ref, Request]}).

%% @doc Calls a server, with the results and exits of `gen_server:call/3'. A late reply never gets into the
%% mailbox.
-spec gs_call(ref(), term(), timeout()) -> term().
gs_call(Ref, Request, Timeout) ->
    teleport_call:server(Ref, '$gen_call', Request, Timeout, {gen_server, call, [Ref, Request, Timeout]}).

%% @equiv gs_stop(Ref, normal, infinity)
-spec gs_stop(ref()) -> ok.
gs_stop(Ref) ->
    gs_stop(Ref, normal, infinity).

%% @doc Stops a server with a reason and waits until it has terminated, with the exits of `gen_server:stop/3'.
-spec gs_stop(ref(), term(), timeout()) -> ok.
gs_stop(Ref, Reason, Timeout) ->
    teleport_call:stop(Ref, Reason, Timeout, {gen_server, stop, [Ref, Reason, Timeout]}).

%% @doc Sends a request to a server, like `gen_server:send_request/2', and does not wait for the response.
%%
%% The response arrives as a message, for {@link check_response/2}. To abandon a request, call
%% {@link receive_response/2} with a timeout of 0. A request that fails has an error as its response. Waits
%% for a session and for room, without a limit of its own, since the next message must not overtake it.
-spec send_request(ref(), term()) -> request_id().
send_request(Ref, Request) ->
    case teleport_request:send(Ref, '$gen_call', Request) of
        badarg -> erlang:error(badarg, [Ref, Request]);
        Id -> Id
    end.

%% @doc Waits for the response to a request, like `gen_server:receive_response/2'. After `timeout' no response
%% comes any more.
-spec receive_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
receive_response(Id, Timeout) ->
    case teleport_request:receive_response(Id, Timeout) of
        badarg -> erlang:error(badarg, [Id, Timeout]);
        Response -> Response
    end.

%% @doc Waits for the response to a request, like `gen_server:wait_response/2'. After `timeout' it can be
%% called again.
-spec wait_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
wait_response(Id, Timeout) ->
    case teleport_request:wait_response(Id, Timeout) of
        badarg -> erlang:error(badarg, [Id, Timeout]);
        Response -> Response
    end.

%% @doc Returns the response to a request if the message is that, like `gen_server:check_response/2'.
-spec check_response(Message :: term(), request_id()) -> {reply, term()} | no_reply | {error, {term(), term()}}.
check_response(Message, Id) ->
    case teleport_request:check_response(Message, Id) of
        badarg -> erlang:error(badarg, [Message, Id]);
        Response -> Response
    end.

%% @equiv multi_call([node() | erlang:nodes()], Name, Request, infinity)
-spec multi_call(atom(), term()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Name, Request) ->
    multi_call([node() | erlang:nodes()], Name, Request, infinity).

%% @equiv multi_call(Nodes, Name, Request, infinity)
-spec multi_call([node()], atom(), term()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Nodes, Name, Request) ->
    multi_call(Nodes, Name, Request, infinity).

%% @doc Calls the servers with a name on several nodes at the same time, like `gen_server:multi_call/4'. Both
%% lists in the result are in the order of the nodes. A late reply never gets into the mailbox. A node where the name
%% is the calling process itself has no answer, and is not waited for.
-spec multi_call([node()], atom(), term(), timeout()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Nodes, Name, Request, Timeout)
  when is_list(Nodes), is_atom(Name), Timeout =:= infinity orelse is_integer(Timeout) andalso Timeout >= 0 ->
    %% Some releases of OTP skip elements that are no nodes, others fail: let the running one decide.
    case no_nodes(Nodes) of
        [] -> ok;
        Others -> {[], []} = gen_server:multi_call(Others, Name, Request, 0), ok
    end,
    Known = [Node || Node <- Nodes, is_atom(Node)],
    teleport_request:multi(Known, Name, Request, teleport_timeout:deadline(Timeout)).

%% The elements that are no nodes. The tail of an improper list is kept, so that OTP sees it too.
no_nodes([Node | Nodes]) when is_atom(Node) -> no_nodes(Nodes);
no_nodes([Other | Nodes]) -> [Other | no_nodes(Nodes)];
no_nodes([]) -> [];
no_nodes(End) -> [{} | End].

%% @equiv abcast([node() | erlang:nodes()], Name, Request)
-spec abcast(atom(), term()) -> abcast.
abcast(Name, Request) ->
    abcast([node() | erlang:nodes()], Name, Request).

%% @doc Sends a cast to the servers with a name on several nodes, like `gen_server:abcast/3'. Returns `abcast'
%% in any case. A node whose queue is full does not delay the casts to the others. The caller waits for such nodes
%% for 100 ms at most; then the cast is queued as with the option `async'. For a node without a session it waits
%% until there is one, or there cannot be one.
-spec abcast([node()], atom(), term()) -> abcast.
abcast(Nodes, Name, Request) when is_atom(Name) ->
    %% Checked before anything is sent.
    are_nodes(Nodes) orelse erlang:error(function_clause, [Nodes, Name, Request]),
    ok = teleport_send:to_all(Nodes, Name, {'$gen_cast', Request}),
    abcast.

%% @doc Sends a cast to the servers with a name on several nodes, with options, and returns for each node
%% whether it was sent. `{timeout, Milliseconds}' is the limit for all nodes together.
-spec abcast([node()], atom(), term(), [send_option()]) -> [{node(), ok | {error, error()}}].
abcast(Nodes, Name, Request, Options) when is_atom(Name) ->
    case {options(Options, 0, none), are_nodes(Nodes)} of
        {{How, none}, true} -> teleport_send:to_each(Nodes, Name, {'$gen_cast', Request}, How);
        _ -> erlang:error(badarg, [Nodes, Name, Request, Options])
    end.

%% @doc Monitors a process, like `erlang:monitor(process, Process)'. The same as `monitor(Ref, [])'.
%%
%% End it with {@link demonitor/1}. OTP's `demonitor' does not know the monitor of a process on another node: it
%% returns `true', and the `DOWN' message comes all the same.
-spec monitor(ref()) -> reference().
monitor(Ref) ->
    case monitor_of(Ref, 'DOWN', []) of
        badarg -> erlang:error(badarg, [Ref]);
        Monitor -> Monitor
    end.

%% @doc Monitors a process, like `erlang:monitor(process, Process, Options)'. The `DOWN' message arrives after
%% all messages that the process has sent by {@link send/2} to the calling process's pid.
%%
%% End it with {@link demonitor/1}. OTP's `demonitor' does not know the monitor of a process on another node: it
%% returns `true', and the `DOWN' message comes all the same.
%%
%% With `{alias, demonitor}' the alias of a monitor of another node's process stays active after the `DOWN'
%% message: end it with {@link demonitor/1}. There is no `reply_demonitor'.
-spec monitor(ref(), [monitor_option()]) -> reference().
monitor(Ref, Options) ->
    Monitor = case monitor_options(Options, 'DOWN', []) of
        {Mark, Alias} -> monitor_of(Ref, Mark, Alias);
        badarg -> badarg
    end,
    case Monitor of
        badarg -> erlang:error(badarg, [Ref, Options]);
        _ -> Monitor
    end.

%% @doc Ends a monitor, like `erlang:demonitor(Monitor, [flush])': afterwards the mailbox has no `DOWN'
%% message of it.
-spec demonitor(reference()) -> true.
demonitor(Monitor) when is_reference(Monitor) ->
    teleport_request:demonitor(Monitor);
demonitor(Other) ->
    erlang:error(badarg, [Other]).

%% @doc Returns the peers that have a session with this node, in Erlang or in Rust. A session begins with the
%% first message. A name that is no atom here counts as one that the peer has added (`max_new_atoms_per_peer'); if
%% there is no room for it, the peer is left out.
-spec nodes() -> [node()].
nodes() ->
    case teleport_nif:peers() of
        {error, not_running} -> [];
        Peers -> [Peer || Peer <- Peers, is_atom(Peer)]
    end.

%% @doc Sets up the session with a node, and all connections of its pool, before the first message.
-spec prime(node()) -> ok | {error, error()}.
prime(Node) when Node =:= node() ->
    ok;
prime(Node) when is_atom(Node) ->
    teleport_send:prime(Node).

%% @doc Checks all nodes that are visible in the Erlang cluster, have a session, or are configured. If
%% teleport does not run on this node, checks this node only, and says why it does not run. See
%% {@link check/1}.
-spec check() -> [{node(), check()}].
check() ->
    Nodes = case teleport_nif:address() of
        {error, not_running} -> [node()];
        {ok, _Address} -> lists:usort(erlang:nodes() ++ nodes() ++ maps:keys(teleport_config:get(peers))) -- [node()]
    end,
    teleport_check:nodes(Nodes).

%% @doc Finds out why there is a pool of connections to a node, or why there is none. Does what a first
%% message does, and reports each step in words: sets up the session and its pool if possible, sends a probe
%% over each connection, and waits for the answers. Where nothing gets through this takes `setup_timeout'
%% (7 s); where a session begins and its connections do not, or do not answer, up to three times that. A node
%% that does not answer over distributed Erlang either, and has no session, takes 5 s more.
%%
%% The steps, in their order, and the reasons for which they fail:
%% <ul>
%% <li>`running': teleport runs here. `not_running' (the text says why it did not start), `rests' (this node
%% is not distributed).</li>
%% <li>`node': distributed Erlang is connected to the node, or the node is configured. `noconnection',
%% `own_node'.</li>
%% <li>`peer': teleport runs there. `not_running', `not_installed', `timeout', or the error of the remote
%% call. If there is a session already, the next steps are done even if this one fails.</li>
%% <li>`address': the address where it listens is known. `not_running', `unknown' (the node does not say), or
%% why a host name cannot be resolved, such as `nxdomain'.</li>
%% <li>`tcp': one of its addresses can be reached. `econnrefused', `etimedout', `ehostunreach', `enetunreach',
%% `econnreset', `connect' (see the text).</li>
%% <li>`handshake': the node at that address is the one that was meant, and is compatible. `cookie',
%% `version', `wrong_node', `own_name', `not_teleport', `unproven', `refused', `tls', `closed', `timeout',
%% `nodedown', `not_running', `handshake' (see the text), or those of `tcp'.</li>
%% <li>`session': the session is up and its control connection answers. The text has the node's incarnation,
%% and when it was last heard. `no_control_connection', `no_answer'.</li>
%% <li>`pool': each connection of the pool answers. The text has the numbers of connections for small and for
%% large messages. `no_connections', `no_answer'.</li>
%% </ul>
%% A step is `skipped' if an earlier one has failed, or if it does not apply to the node. It is
%% `{warning, Reason}' if it has failed but messages have another way: an existing session, or another
%% address. {@link report/1} prints the result.
-spec check(node()) -> check().
check(Node) when is_atom(Node) ->
    teleport_check:node(Node).

%% @doc Prints {@link info/0} and {@link check/0} in lines of at most 80 columns.
-spec report() -> ok.
report() ->
    teleport_report:node(info(), check()).

%% @doc Prints {@link check/1} and {@link info/1} of a node, in lines of at most 80 columns. It needs no
%% shell; see docs/erlang.md for use in releases.
-spec report(node()) -> ok.
report(Node) when is_atom(Node) ->
    Check = check(Node),
    teleport_report:peer(Node, Check, info(Node)).

%% @doc Returns the state of the session with a node, and its counters, which begin at 0 with the session.
%% <ul>
%% <li>`creation': the node's incarnation. `dialled': whether this node set up the session.</li>
%% <li>`control_connected': whether the session has its control connection now. `last_heard_ms': milliseconds
%% since anything was received from the node. `tick_round_trip_us': the round-trip time of the last tick in
%% microseconds, or `undefined'. `ticks_missed': ticks without an answer.</li>
%% <li>`encrypted': whether the session's connections are encrypted.</li>
%% <li>`express_connections', `bulk_connections': open pool connections for messages up to 64 KiB, and for
%% larger ones.</li>
%% <li>`unconfirmed': messages that were sent and are not confirmed yet, and `bytes_in_flight', their bytes. `waiting':
%% messages that wait for room. `undelivered_bytes': bytes of the node's that are here and in no mailbox yet.</li>
%% <li>`watched': calls and monitors that the node's processes have on processes of this node. `watches_refused': those
%% that ended at once for the limit `max_watches'.</li>
%% <li>`not_allowed': what of the node's the key `allow' refuses, or would refuse if it did more than log: a map with
%% `messages', `calls', `monitors', `functions'.</li>
%% <li>`messages_sent', `messages_received', `bytes_sent', `bytes_received'. `no_process': received messages
%% whose process does not exist. `frames_resent': frames that were sent again after a connection broke.
%% `control_lost': how often the control connection broke. `connections_retired': pool connections that were
%% given up, idle, stalled or broken; `connections_stalled': those of them on which nothing got through.
%% `answers_refused': replies that were not kept since the node does not take its answers, and calls of the
%% node that were rejected for that.</li>
%% <li>`carried': of these messages and bytes, those of distributed Erlang, if that goes over the session
%% (`-proto_dist teleport'): a map with `messages_sent', `messages_received', `bytes_sent', `bytes_received'.</li>
%% <li>`new_atoms': atoms that the node's messages have added to the atom table since teleport was started
%% here, in all of its sessions. `atoms_refused': its messages that were refused for the limit
%% `max_new_atoms_per_peer'.</li>
%% </ul>
-spec info(node()) -> map() | {error, not_running | no_session}.
info(Node) when is_atom(Node) ->
    case teleport_nif:peer(atom_to_binary(Node)) of
        none -> {error, no_session};
        Info -> Info
    end.

%% @doc Returns the state of the engine and of its sessions, and their counters.
%%
%% <ul>
%% <li>`name': this node. `creation': its incarnation. `address': where its engine listens.
%% `net_ticktime': the one that holds, in seconds.</li>
%% <li>`bytes_in_flight': bytes of all messages that are on their way to peers.</li>
%% <li>`waiting_for': pending calls and monitors of this node's processes. `late_replies': replies that
%% arrived after their call had ended, since the start. `unreadable': messages, requests and replies that were
%% refused: they are no terms, are compressed, have too many new atoms, or need more memory than
%% `max_term'.</li>
%% <li>`sessions_ended': sessions that have ended, a map of counters by reason: `silent', `gone', `restarted',
%% `peer_gave_up', `probe_unanswered', `protocol_error', `disconnected' (by this node), `peer_shut_down'.
%% `sessions_refused': those that nodes wanted to open beyond `max_sessions'. `handshakes_refused': inbound
%% connections that did not prove themselves. `newcomers_dropped': those given up before that, since there
%% were too many or no more descriptors (`full'), or since they took too long (`slow').</li>
%% <li>`new_atoms', `atoms_refused': as in {@link info/1}, for all peers together; see `max_new_atoms'.</li>
%% <li>`unconfirmed': messages that were not confirmed when their session ended, in all sessions so far.</li>
%% <li>`peers': {@link info/1} of each peer, by node. A name that is no atom here counts as a new one of the
%% peer's; it is a binary if none is left of `max_new_atoms'.</li>
%% </ul>
-spec info() -> map() | {error, not_running}.
info() ->
    teleport_nif:info().

%% @doc Encodes a term in the external term format, as a list of binaries. Large binaries are shared with the
%% term, not copied; small parts are joined.
-spec term_to_iolist(term()) -> [binary()].
term_to_iolist(Term) ->
    teleport_encode:parts(Term).

-spec send_options([option()]) -> {teleport_send:how(), teleport_send:ack()} | badarg.
send_options(Options) ->
    try lists:member(priority, Options) andalso has_priority() andalso [Option || Option <- Options, Option =/= priority] of
        false ->
            options(Options, 0, none);
        Others ->
            options(Others, ?PRIORITY, none)
    catch
        error:_ -> badarg % it is no list
    end.

%% Whether the release of OTP has priority messages.
-spec has_priority() -> boolean().
has_priority() ->
    list_to_integer(erlang:system_info(otp_release)) >= 28.

-spec options([send_option() | {ack, term()}], teleport_send:how(), teleport_send:ack()) ->
    {teleport_send:how(), teleport_send:ack()} | badarg.
options([], How, Ack) -> {How, Ack};
options([unordered | Rest], How, Ack) -> options(Rest, flag(?UNORDERED, How), Ack);
options([nosuspend | Rest], How, Ack) -> options(Rest, flag(?NOSUSPEND, How), Ack);
options([async | Rest], How, Ack) -> options(Rest, flag(?ASYNC, How), Ack);
options([noconnect | Rest], How, Ack) -> options(Rest, flag(?NOCONNECT, How), Ack);
options([{timeout, infinity} | Rest], How, Ack) -> options(Rest, How, Ack);
options([{timeout, Time} | Rest], How, Ack) when is_integer(Time), Time >= 0, Time =< 16#ffffffff ->
    Flags = case How of {Before, _} -> Before; Before -> Before end,
    options(Rest, {Flags, Time}, Ack);
options([{ack, Tag} | Rest], How, _Ack) -> options(Rest, How, {ack, Tag});
options(_Other, _How, _Ack) -> badarg.

-spec flag(teleport_send:flags(), teleport_send:how()) -> teleport_send:how().
flag(Flag, {Flags, Timeout}) -> {Flags bor Flag, Timeout};
flag(Flag, Flags) -> Flags bor Flag.

-spec are_nodes(term()) -> boolean().
are_nodes([Node | Nodes]) -> is_atom(Node) andalso are_nodes(Nodes);
are_nodes(Rest) -> Rest =:= [].

-spec monitor_options([monitor_option()], Mark :: term(), teleport_request:alias()) ->
    {Mark :: term(), teleport_request:alias()} | badarg.
monitor_options([], Mark, Alias) -> {Mark, Alias};
monitor_options([{tag, Mark} | Rest], _Mark, Alias) -> monitor_options(Rest, Mark, Alias);
monitor_options([{alias, Until} | Rest], Mark, Alias) when Until =:= explicit_unalias; Until =:= demonitor ->
    monitor_options(Rest, Mark, lists:keystore(alias, 1, Alias, {alias, Until}));
monitor_options([priority | Rest], Mark, Alias) ->
    case has_priority() of
        true -> monitor_options(Rest, Mark, [priority | lists:delete(priority, Alias)]);
        false -> badarg
    end;
monitor_options(_Other, _Mark, _Alias) ->
    badarg.

-spec monitor_of(ref(), Mark :: term(), teleport_request:alias()) -> reference() | badarg.
monitor_of(Ref, Mark, Alias) ->
    case teleport_ref:resolve(Ref) of
        {otp, Process} ->
            erlang:monitor(process, Process, [{tag, Mark} | Alias]);
        {pool, To} ->
            teleport_request:monitor(To, Mark, Alias);
        undefined ->
            Monitor = teleport_request:watcher(Alias),
            ok = teleport_request:ended(Monitor, Mark, {Ref, node()}, noproc),
            Monitor;
        invalid ->
            badarg
    end.
