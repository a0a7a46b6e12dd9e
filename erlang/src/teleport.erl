%% @doc Messages of any size between nodes, beside distributed Erlang.
%%
%% `{Name, Node} ! Message' becomes `teleport:send({Name, Node}, Message)', and `gen_server:call(Server, Request)' becomes
%% `teleport:gs_call(Server, Request)'. The servers stay as they are. Both nodes run the application `teleport'.
%%
%% What goes to the own node goes the way it always did, and has the results it always had.
-module(teleport).
-compile({parse_transform, teleport_docs}).

-export([start/0, send/2, send/3, cast/2, cast/3, gs_call/2, gs_call/3, gs_stop/1, gs_stop/3]).
-export([send_request/2, receive_response/2, wait_response/2, check_response/2]).
-export([multi_call/2, multi_call/3, multi_call/4, abcast/2, abcast/3, abcast/4]).
-export([monitor/1, monitor/2, demonitor/1]).
-export([nodes/0, prime/1, check/0, check/1, report/0, report/1, info/0, info/1, term_to_iolist/1]).

-compile({no_auto_import, [nodes/0]}).

-export_type([ref/0, option/0, send_option/0, monitor_option/0, error/0, request_id/0, request_id_collection/0,
              collected/0, response_timeout/0, check/0]).

-type ref() :: teleport_ref:ref().
%% A process: a pid, a registered name, here or on another node, or a name in a registry.

-type send_option() :: unordered | nosuspend | async | noconnect | {timeout, timeout()}.
%% `noconnect': answer `{error, noconnect}' rather than set up a session.
%% `{timeout, Milliseconds}': answer `{error, timeout}' rather than wait longer, for a session and for room together. Over
%% distributed Erlang (`fallback') it waits as `!' does; `async' has no meaning with it.
%% `unordered': neither wait for earlier messages of the same pair of processes, nor be waited for by later ones.
%% `nosuspend': answer `{error, busy}' rather than wait, for room or for a session, even if there is no such node.
%% `async': wait for a session, but not for room: the message has its place behind those that wait, in memory without bounds. What
%% `process_flag(async_dist, true)' does for all sends and casts of the calling process. Not with `{ack, _}'.

-type option() :: send_option() | {ack, Tag :: term()}.
%% `{ack, Tag}': tell the calling process what became of the message, by `{teleport, Tag, delivered}' once it is in the
%% mailbox, or `{teleport, Tag, {unconfirmed, Reason}}': `noproc' if there is no such process, `nodedown' if the session ended
%% before anything was known, `disterl' if it went over distributed Erlang (`fallback'), where nobody says. Comes exactly
%% once, if `send/3' returns `ok'; and not at all if it returns an error.

-type monitor_option() :: {tag, term()} | {alias, explicit_unalias | demonitor} | priority.
%% `{tag, Tag}': what says that the process has ended has that in place of the atom `DOWN'. `{alias, _}': the monitor is an alias of
%% the calling process too, until `unalias/1', or until {@link demonitor/1}. `priority', from OTP 28 on: what says that a process of
%% this node has ended is a priority message; of another node it is an ordinary one.

-type error() :: teleport_send:error().
%% Why a message was not sent. `not_running': teleport does not run here; `{not_running, Node}': it does not run there, or
%% there is no such node; `{connect, Text}' says why there is no connection; `{badarg, Text}' what is wrong with the name.
%% `system': there is no thread to be had, for {@link prime/1}.

-type request_id() :: teleport_request:request_id().
%% A request under way.

-type request_id_collection() :: teleport_reqids:collection().
%% Requests under way, with labels; see {@link teleport_gen_server}. They may be of teleport's and of OTP's functions.

-type collected() :: {{reply, term()} | {error, {term(), term()}}, Label :: term(), request_id_collection()}.
%% The answer to one of them.

-type response_timeout() :: teleport_timeout:response_timeout().
%% Milliseconds, or a point in the time of `erlang:monotonic_time(millisecond)'.

-type check() :: teleport_check:result().
%% Steps in their order, with what came of each, and a text about it. See {@link check/1}.

%% @doc Starts the application, and what it needs.
%%
%% Errors that have a cause outside; each Text says what to do:
%% <ul>
%% <li>`{tls_distribution, Text}': distributed Erlang is encrypted on this node, and teleport cannot encrypt; see `allow_plain'.</li>
%% <li>`{unknown_key, Key, Text}', `{bad_value, Key, Text}': teleport has no such key, or it cannot be what it is set to.</li>
%% <li>`{cannot_listen, {Address, Port}, Text}': the port is taken, say.</li>
%% <li>`{no_congestion_control, Text}': the kernel does not have the one in `congestion'.</li>
%% <li>`{bad_cookie, Text}', `{bad_node_name, Text}': it is empty, or too long.</li>
%% <li>`{system_limit, Text}': there are no threads or descriptors left.</li>
%% <li>`{nif_not_loaded, File, Text}', `{unsupported_otp, Release, Text}'.</li>
%% </ul>
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

%% @doc Sends a message, like `erlang:send/3'; also to an alias.
%%
%% Returns when the message is accepted: it is delivered unless its node goes down. Waits while the way is full. A message
%% to a process that does not exist vanishes; a name that is not registered on this node, or in the registry that was named,
%% is a `badarg', as it is for `!', unless it is to be told of by `{ack, Tag}'.
-spec send(ref() | reference(), term(), [option()]) -> ok | {error, error()}.
send(Ref, Message, Options) ->
    case options(Options, 0, none) of
        {Flags, Ack} ->
            case teleport_send:send(Ref, Message, Flags, Ack) of
                badarg -> erlang:error(badarg, [Ref, Message, Options]);
                Result -> Result
            end;
        badarg ->
            erlang:error(badarg, [Ref, Message, Options])
    end.

%% @doc Sends a cast to a server, like `gen_server:cast/2': always `ok'.
-spec cast(ref(), term()) -> ok.
cast(Ref, Request) ->
    teleport_call:tell(Ref, {'$gen_cast', Request}, {gen_server, cast, [Ref, Request]}).

%% @doc The same, with options; says whether it was sent. A name that nobody has on this node takes it, as ever.
-spec cast(ref(), term(), [send_option()]) -> ok | {error, error()}.
cast(Ref, Request, Options) ->
    case options(Options, 0, none) of
        {How, none} ->
            case teleport_send:resolve(Ref, How) of
                invalid ->
                    erlang:error(badarg, [Ref, Request, Options]);
                {error, Reason} ->
                    {error, Reason};
                _ ->
                    case teleport_send:send(Ref, {'$gen_cast', Request}, How, none) of
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

%% @doc Calls a server, like `gen_server:call/3', and with its exits. A late reply never gets into the mailbox.
-spec gs_call(ref(), term(), timeout()) -> term().
gs_call(Ref, Request, Timeout) ->
    teleport_call:server(Ref, '$gen_call', Request, Timeout, {gen_server, call, [Ref, Request, Timeout]}).

%% @equiv gs_stop(Ref, normal, infinity)
-spec gs_stop(ref()) -> ok.
gs_stop(Ref) ->
    gs_stop(Ref, normal, infinity).

%% @doc Orders a server to end for that reason, and waits until it has, like `gen_server:stop/3', and with its exits.
-spec gs_stop(ref(), term(), timeout()) -> ok.
gs_stop(Ref, Reason, Timeout) ->
    teleport_call:stop(Ref, Reason, Timeout, {gen_server, stop, [Ref, Reason, Timeout]}).

%% @doc Sends a request to a server, like `gen_server:send_request/2', and does not wait for its answer, which is a message:
%% one for {@link check_response/2}. Whoever does not want it any more takes it with {@link receive_response/2}.
%%
%% Never fails; if nothing comes of it, the response says so. Waits while the way is full, since what is sent next must not
%% overtake it.
-spec send_request(ref(), term()) -> request_id().
send_request(Ref, Request) ->
    case teleport_request:send(Ref, '$gen_call', Request) of
        badarg -> erlang:error(badarg, [Ref, Request]);
        Id -> Id
    end.

%% @doc Waits for the answer to a request, like `gen_server:receive_response/2'. After `timeout' no answer comes any more.
-spec receive_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
receive_response(Id, Timeout) ->
    case teleport_request:receive_response(Id, Timeout) of
        badarg -> erlang:error(badarg, [Id, Timeout]);
        Response -> Response
    end.

%% @doc Waits for the answer to a request, like `gen_server:wait_response/2'. After `timeout' one can wait again.
-spec wait_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
wait_response(Id, Timeout) ->
    case teleport_request:wait_response(Id, Timeout) of
        badarg -> erlang:error(badarg, [Id, Timeout]);
        Response -> Response
    end.

%% @doc Whether a message is the answer to a request, like `gen_server:check_response/2'.
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

%% @doc Calls the servers of that name on the nodes, like `gen_server:multi_call/4', all at the same time. Both lists are in the
%% order of the nodes. A late reply never gets into the mailbox.
-spec multi_call([node()], atom(), term(), timeout()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Nodes, Name, Request, Timeout)
  when is_list(Nodes), is_atom(Name), Timeout =:= infinity orelse is_integer(Timeout) andalso Timeout >= 0 ->
    %% What is no node is skipped by some releases of OTP, and an error for others.
    case no_nodes(Nodes) of
        [] -> ok;
        Others -> {[], []} = gen_server:multi_call(Others, Name, Request, 0), ok
    end,
    Known = [Node || Node <- Nodes, is_atom(Node)],
    teleport_request:multi(Known, Name, Request, teleport_timeout:deadline(Timeout)).

%% With an end that is no list, that is kept.
no_nodes([Node | Nodes]) when is_atom(Node) -> no_nodes(Nodes);
no_nodes([Other | Nodes]) -> [Other | no_nodes(Nodes)];
no_nodes([]) -> [];
no_nodes(End) -> [{} | End].

%% @equiv abcast([node() | erlang:nodes()], Name, Request)
-spec abcast(atom(), term()) -> abcast.
abcast(Name, Request) ->
    abcast([node() | erlang:nodes()], Name, Request).

%% @doc Sends a cast to the servers of that name on the nodes, like `gen_server:abcast/3': always `abcast'. A node to which the
%% way is full does not hold up the others.
-spec abcast([node()], atom(), term()) -> abcast.
abcast(Nodes, Name, Request) when is_atom(Name) ->
    %% Before anything is sent.
    are_nodes(Nodes) orelse erlang:error(function_clause, [Nodes, Name, Request]),
    _ = teleport_send:to_each(Nodes, Name, {'$gen_cast', Request}, 0),
    abcast.

%% @doc The same, with options; says for each node whether it was sent. With `{timeout, Milliseconds}' all nodes together take no
%% longer than that.
-spec abcast([node()], atom(), term(), [send_option()]) -> [{node(), ok | {error, error()}}].
abcast(Nodes, Name, Request, Options) when is_atom(Name) ->
    case {options(Options, 0, none), are_nodes(Nodes)} of
        {{How, none}, true} -> teleport_send:to_each(Nodes, Name, {'$gen_cast', Request}, How);
        _ -> erlang:error(badarg, [Nodes, Name, Request, Options])
    end.

%% @equiv monitor(Ref, [])
-spec monitor(ref()) -> reference().
monitor(Ref) ->
    case monitor_of(Ref, 'DOWN', []) of
        badarg -> erlang:error(badarg, [Ref]);
        Monitor -> Monitor
    end.

%% @doc Monitors a process, like `erlang:monitor(process, Process, Options)'. What says that it has ended comes behind what the
%% process has sent by {@link send/2} to this process's pid.
%%
%% An alias by `{alias, demonitor}' of a process on another node outlives what says that it has ended: end it by {@link demonitor/1}
%% then, too. There is no `reply_demonitor'.
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

%% @doc Ends a monitor, like `erlang:demonitor(Monitor, [flush])': no DOWN of it is in the mailbox after this.
-spec demonitor(reference()) -> true.
demonitor(Monitor) when is_reference(Monitor) ->
    teleport_request:demonitor(Monitor);
demonitor(Other) ->
    erlang:error(badarg, [Other]).

%% @doc The peers that have a session with this node, such as those in Rust. A session begins with the first message.
-spec nodes() -> [node()].
nodes() ->
    case info() of
        #{peers := Peers} -> maps:keys(Peers);
        {error, not_running} -> []
    end.

%% @doc Sets up the session with a node and its whole pool, ahead of use.
-spec prime(node()) -> ok | {error, error()}.
prime(Node) when Node =:= node() ->
    ok;
prime(Node) when is_atom(Node) ->
    teleport_send:prime(Node).

%% @doc Checks all nodes that are visible in the Erlang cluster, have a session, or are configured. Where teleport does not run it
%% says so of this node, and why. See {@link check/1}.
-spec check() -> [{node(), check()}].
check() ->
    Nodes = case info() of
        {error, not_running} -> [node()];
        #{} -> lists:usort(erlang:nodes() ++ nodes() ++ maps:keys(teleport_config:get(peers)))
    end,
    teleport_check:nodes(Nodes).

%% @doc Says why there is a pool to a node, or why there is none: goes the way that a first message goes, and tells of each step
%% in words. Sets a session and its pool up if that can be done, sends something over each of its connections, and waits for the
%% answers: for `setup_timeout' (7 s) where nothing gets through.
%%
%% The steps, in their order, and the reasons why they fail:
%% <ul>
%% <li>`running': teleport runs here. `not_running', with why it did not start; `rests', if this node is not distributed.</li>
%% <li>`node': distributed Erlang knows the node and is connected to it, or it is configured. `noconnection', `own_node'.</li>
%% <li>`peer': teleport runs there. `not_running', `not_installed', `timeout', or what the question came back with. Where there is a
%% session the next steps are done all the same.</li>
%% <li>`address': where it listens is known. `not_running', `unknown' (it does not say), or why a host's name cannot be looked up, such as
%% `nxdomain'.</li>
%% <li>`tcp': one of its addresses can be reached. `econnrefused', `etimedout', `ehostunreach', `enetunreach', `econnreset',
%% `connect' (see the text).</li>
%% <li>`handshake': the node that is there fits. `cookie', `version', `wrong_node', `own_name', `not_teleport', `unproven',
%% `refused', `closed', `timeout', `handshake' (see the text).</li>
%% <li>`session': the session stands, with which life of the node, its control connection answers, and when the node was last
%% heard. `no_control_connection', `no_answer'.</li>
%% <li>`pool': how many connections there are for small messages, and for large ones, and that each of them has answered.
%% `no_connections', `no_answer'.</li>
%% </ul>
%% A step is `skipped' if an earlier one has failed, or it has no meaning for the node. It is `{warning, Reason}' if it has failed and
%% messages have another way: there is a session already, or another address. {@link report/1} prints it.
-spec check(node()) -> check().
check(Node) when is_atom(Node) ->
    teleport_check:node(Node).

%% @doc Prints what there is to know about this node, and {@link check/1} of all nodes, in lines of at most 80 columns.
-spec report() -> ok.
report() ->
    teleport_report:node(info(), check()).

%% @doc Prints {@link check/1} and {@link info/1} of a node, in lines of at most 80 columns. It needs no shell: see
%% docs/erlang.md for releases.
-spec report(node()) -> ok.
report(Node) when is_atom(Node) ->
    Check = check(Node),
    teleport_report:peer(Node, Check, info(Node)).

%% @doc What there is to know about the session with a node.
%%
%% Numbers count from the session's beginning, unless they say how many there are.
%% <ul>
%% <li>`creation': the node's present life. `dialled': whether this node set the session up.</li>
%% <li>`control_connected': whether it has its control connection now. `last_heard_ms': milliseconds since anything came from the
%% node. `tick_round_trip_us': microseconds of the last tick that came back, or `undefined'. `ticks_missed'.</li>
%% <li>`express_connections', `bulk_connections': pool connections that there are, for messages up to 64 KiB and larger ones.</li>
%% <li>`unconfirmed': messages on their way there. `waiting': those that wait for room.</li>
%% <li>`watched': calls and monitors that the node's processes have on processes of this node.</li>
%% <li>`messages_sent', `messages_received', `bytes_sent', `bytes_received'. `no_process': messages that came for processes that
%% were not there. `frames_resent': frames that were sent again since a connection broke.</li>
%% <li>`new_atoms': atoms that the node has added to the table of atoms, since the start of teleport here, in all of its sessions.
%% `atoms_refused': its messages that had more of them than it may add; see `max_new_atoms_per_peer'.</li>
%% </ul>
-spec info(node()) -> map() | {error, not_running | no_session}.
info(Node) when is_atom(Node) ->
    case info() of
        #{peers := #{Node := Info}} -> Info;
        #{} -> {error, no_session};
        {error, not_running} -> {error, not_running}
    end.

%% @doc What there is to know about the engine and its peers.
%%
%% <ul>
%% <li>`name': this node. `creation': its present life. `address': where its engine listens.</li>
%% <li>`bytes_in_flight': bytes of all messages that are on their way to peers.</li>
%% <li>`waiting_for': calls and monitors that processes of this node wait for. `late_replies': replies that came when nobody
%% waited any more, since the start. `unreadable': messages, requests and replies that are no terms, are compressed, have more
%% new atoms than are taken, or take more memory than `max_term'.</li>
%% <li>`new_atoms', `atoms_refused': as in {@link info/1}, of all peers together; see `max_new_atoms'.</li>
%% <li>`peers': what {@link info/1} says, by node.</li>
%% </ul>
-spec info() -> map() | {error, not_running}.
info() ->
    case teleport_nif:info() of
        #{name := Name, peers := Peers} = Info ->
            ByNode = fun(Peer, PeerInfo, Map) -> Map#{binary_to_atom(Peer) => PeerInfo} end,
            Info#{name := binary_to_atom(Name), peers := maps:fold(ByNode, #{}, Peers)};
        {error, not_running} ->
            {error, not_running}
    end.

%% @doc Encodes a term in the external term format, as a list of binaries. Large binaries in it are the same memory; small
%% parts are joined.
-spec term_to_iolist(term()) -> [binary()].
term_to_iolist(Term) ->
    teleport_send:parts(Term).

-spec options([option()], teleport_send:how(), teleport_send:ack()) -> {teleport_send:how(), teleport_send:ack()} | badarg.
options([], How, Ack) -> {How, Ack};
options([unordered | Rest], How, Ack) -> options(Rest, flag(1, How), Ack);
options([nosuspend | Rest], How, Ack) -> options(Rest, flag(2, How), Ack);
options([async | Rest], How, Ack) -> options(Rest, flag(4, How), Ack);
options([noconnect | Rest], How, Ack) -> options(Rest, flag(8, How), Ack);
options([{timeout, infinity} | Rest], How, Ack) -> options(Rest, How, Ack);
options([{timeout, Time} | Rest], How, Ack) when is_integer(Time), Time >= 0, Time =< 16#ffffffff ->
    Flags = case How of {Before, _} -> Before; Before -> Before end,
    options(Rest, {Flags, Time}, Ack);
options([{ack, Tag} | Rest], How, _Ack) -> options(Rest, How, {ack, Tag});
options(_Other, _How, _Ack) -> badarg.

-spec flag(0..8, teleport_send:how()) -> teleport_send:how().
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
    case list_to_integer(erlang:system_info(otp_release)) >= 28 of
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
