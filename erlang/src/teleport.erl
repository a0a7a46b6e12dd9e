%% @doc Messages of any size between nodes, beside distributed Erlang.
%%
%% `{Name, Node} ! Message' becomes `teleport:send({Name, Node}, Message)', and `gen_server:call(Server, Request)' becomes
%% `teleport:gs_call(Server, Request)'. The servers stay as they are. Both nodes run the application `teleport'.
%%
%% What goes to the own node goes the way it always did, and has the results it always had.
-module(teleport).

-export([start/0, send/2, send/3, cast/2, gs_call/2, gs_call/3, monitor/1, demonitor/1, info/0, term_to_iolist/1]).
-export([send_request/2, receive_response/2, wait_response/2, check_response/2]).
-export([multi_call/2, multi_call/3, multi_call/4, abcast/2, abcast/3]).
-export([notify/2, sync_notify/2, call/3, call/4]).
-export([nodes/0, prime/1]).

-compile({no_auto_import, [nodes/0]}).

-export_type([ref/0, option/0, error/0, request_id/0, response_timeout/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.
%% A process: a pid, a registered name, here or on another node, or a name in a registry.

-type option() :: unordered | nosuspend.
%% `unordered': neither wait for earlier messages of the same pair of processes, nor be waited for by later ones.
%% `nosuspend': answer `{error, busy}' rather than wait, for room or for the first session.

-type error() :: nodedown | busy | noproc | not_running | {not_running, node()}
               | {too_large, Size :: non_neg_integer(), Limit :: non_neg_integer()} | {connect, binary()} | term().
%% Why a message was not sent. `not_running': teleport does not run here; `{not_running, Node}': it does not run there, or
%% there is no such node; `{connect, Text}' says why there is no connection.

-type request_id() :: reference().
%% A request under way.

-type response_timeout() :: timeout() | {abs, integer()}.
%% Milliseconds, or a point in the time of `erlang:monotonic_time(millisecond)'.

%% `[alias|Tag]' is what `gen:reply/2' takes for the alias of a caller.
-dialyzer({no_improper_lists, [begin_remote/4, request_local/2]}).

%% Bytes from which on a binary stays apart; smaller ones in a row are joined.
-define(JOIN, 1024).

%% @doc Starts the application, and what it needs.
-spec start() -> ok | {error, term()}.
start() ->
    case application:ensure_all_started(teleport) of
        {ok, _Started} -> ok;
        {error, {teleport, {Reason, {teleport_app, start, _Args}}}} -> {error, Reason};
        {error, {teleport, Reason}} -> {error, Reason}
    end.

%% @equiv send(Ref, Message, [])
-spec send(ref(), term()) -> ok | {error, error()}.
send(Ref, Message) ->
    send(Ref, Message, []).

%% @doc Sends a message, like `erlang:send/3'.
%%
%% Returns when the message is accepted: it is delivered unless its node goes down. Waits while the way is full. A message
%% to a process that does not exist vanishes; a name that is not registered on this node is a `badarg', as it is for `!'.
-spec send(ref(), term(), [option()]) -> ok | {error, error()}.
send(Ref, Message, Options) ->
    case where(Ref) of
        {local, Process} ->
            _ = erlang:send(Process, Message),
            ok;
        {remote, To} ->
            send_remote(To, Message, flags(Options));
        undefined ->
            erlang:error(badarg, [Ref, Message, Options])
    end.

%% @doc Sends a cast to a server, like `gen_server:cast/2': always `ok'.
-spec cast(ref(), term()) -> ok.
cast(Ref, Request) ->
    case where(Ref) of
        {local, Process} ->
            gen_server:cast(Process, Request);
        {remote, To} ->
            _ = send_remote(To, {'$gen_cast', Request}, 0),
            ok;
        undefined ->
            ok
    end.

%% @doc Calls a server, like `gen_server:call/2'.
-spec gs_call(ref(), term()) -> term().
gs_call(Ref, Request) ->
    call_server(Ref, '$gen_call', Request, 5000, {gen_server, call, [Ref, Request]}).

%% @doc Calls a server, like `gen_server:call/3', and with its exits. A late reply never gets into the mailbox.
-spec gs_call(ref(), term(), timeout()) -> term().
gs_call(Ref, Request, Timeout) ->
    call_server(Ref, '$gen_call', Request, Timeout, {gen_server, call, [Ref, Request, Timeout]}).

%% @doc Sends a request to a server, like `gen_server:send_request/2', and does not wait for its answer, which is a message:
%% one for {@link check_response/2}. Whoever does not want it any more takes it with {@link receive_response/2}.
%%
%% Never fails; if nothing comes of it, the response says so. Waits while the way is full, since what is sent next must not
%% overtake it.
-spec send_request(ref(), term()) -> request_id().
send_request(Ref, Request) ->
    case where(Ref) of
        {local, Process} ->
            request_local(Process, Request);
        {remote, To} ->
            {Id, Tag} = {make_ref(), make_ref()},
            case begin_remote(To, '$gen_call', Id, {Request, Tag}) of
                ok -> Id;
                waiting -> accepted(Tag, Id, To);
                {error, Reason} -> ended(Id, To, down_reason(Reason))
            end;
        undefined ->
            ended(make_ref(), Ref, noproc)
    end.

%% @doc Waits for the answer to a request, like `gen_server:receive_response/2'. After `timeout' no answer comes any more.
-spec receive_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
receive_response(Id, Timeout) when is_reference(Id) ->
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after milliseconds(Timeout) ->
        case teleport_nif:cancel(Id) of
            true -> timeout;
            false -> last_response(Id)
        end
    end.

%% @doc Waits for the answer to a request, like `gen_server:wait_response/2'. After `timeout' one can wait again.
-spec wait_response(request_id(), response_timeout()) -> {reply, term()} | timeout | {error, {term(), term()}}.
wait_response(Id, Timeout) when is_reference(Id) ->
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after milliseconds(Timeout) ->
        timeout
    end.

%% @doc Whether a message is the answer to a request, like `gen_server:check_response/2'.
-spec check_response(Message :: term(), request_id()) -> {reply, term()} | no_reply | {error, {term(), term()}}.
check_response({[alias | Id], Reply}, Id) -> replied(Id, Reply);
check_response({'DOWN', Id, process, Object, Reason}, Id) -> {error, {Reason, Object}};
check_response(_Message, Id) when is_reference(Id) -> no_reply.

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
multi_call(Nodes, Name, Request, Timeout) when is_list(Nodes), is_atom(Name) ->
    Deadline = deadline(Timeout),
    Ids = [{Node, request_one({Name, Node}, Request)} || Node <- Nodes],
    Responses = [{Node, receive_response(Id, Deadline)} || {Node, Id} <- Ids],
    {[{Node, Reply} || {Node, {reply, Reply}} <- Responses],
     [Node || {Node, Response} <- Responses, not is_reply(Response)]}.

%% @equiv abcast([node() | erlang:nodes()], Name, Request)
-spec abcast(atom(), term()) -> abcast.
abcast(Name, Request) ->
    abcast([node() | erlang:nodes()], Name, Request).

%% @doc Sends a cast to the servers of that name on the nodes, like `gen_server:abcast/3': always `abcast'. A node to which the
%% way is full does not hold up the others.
-spec abcast([node()], atom(), term()) -> abcast.
abcast(Nodes, Name, Request) when is_list(Nodes), is_atom(Name) ->
    Message = {'$gen_cast', Request},
    Encoded = term_to_iolist(Message),
    Waiting = lists:filtermap(fun(Node) -> cast_one({Name, Node}, Message, Encoded) end, Nodes),
    lists:foreach(fun(Tag) -> receive {teleport_sent, Tag, _Result} -> ok end end, Waiting),
    abcast.

%% @doc Tells an event manager of an event, like `gen_event:notify/2': `ok', unless the name is not registered on this node.
-spec notify(ref(), term()) -> ok.
notify(Ref, Event) ->
    case where(Ref) of
        {local, Process} ->
            gen_event:notify(Process, Event);
        {remote, To} ->
            _ = send_remote(To, {notify, Event}, 0),
            ok;
        undefined ->
            ok
    end.

%% @doc Tells an event manager of an event, and waits until its handlers have got it, like `gen_event:sync_notify/2'.
-spec sync_notify(ref(), term()) -> ok.
sync_notify(Ref, Event) ->
    case where(Ref) of
        {local, Process} ->
            gen_event:sync_notify(Process, Event);
        {remote, To} ->
            case call_remote(To, self(), {sync_notify, Event}, infinity) of
                {reply, ok} -> ok;
                {exit, Reason} -> exit(Reason)
            end;
        undefined ->
            exit(noproc)
    end.

%% @doc Calls a handler of an event manager, like `gen_event:call/3'.
-spec call(ref(), Handler :: module() | {module(), term()}, term()) -> term().
call(Ref, Handler, Query) ->
    call_server(Ref, self(), {call, Handler, Query}, 5000, {gen_event, call, [Ref, Handler, Query]}).

%% @doc Calls a handler of an event manager, like `gen_event:call/4', and with its exits. A late reply never gets into the
%% mailbox.
-spec call(ref(), Handler :: module() | {module(), term()}, term(), timeout()) -> term().
call(Ref, Handler, Query, Timeout) ->
    call_server(Ref, self(), {call, Handler, Query}, Timeout, {gen_event, call, [Ref, Handler, Query, Timeout]}).

%% @doc Monitors a process, like `erlang:monitor(process, Process)'. DOWN comes behind what the process has sent by
%% {@link send/2} to this process's pid.
-spec monitor(ref()) -> reference().
monitor(Ref) ->
    case where(Ref) of
        {local, Process} ->
            erlang:monitor(process, Process);
        {remote, To} ->
            Monitor = make_ref(),
            Tag = make_ref(),
            case teleport_nif:monitor(To, Monitor, Tag) of
                ok ->
                    Monitor;
                waiting ->
                    accepted(Tag, Monitor, To);
                {error, Reason} ->
                    ended(Monitor, To, down_reason(Reason))
            end;
        undefined ->
            ended(make_ref(), {Ref, node()}, noproc)
    end.

%% @doc Ends a monitor, like `erlang:demonitor(Monitor, [flush])': no DOWN of it is in the mailbox after this.
-spec demonitor(reference()) -> true.
demonitor(Monitor) ->
    case teleport_nif:cancel(Monitor) of
        true -> true;
        false -> erlang:demonitor(Monitor, [flush]) % one of this node's own, or it has ended
    end.

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
    Tag = make_ref(),
    case teleport_nif:prime(Node, Tag) of
        waiting ->
            receive
                {teleport_sent, Tag, Result} -> result(Result)
            end;
        Error ->
            result(Error)
    end.

%% @doc What there is to know about the engine and its peers.
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
    case erlang:term_to_iovec(Term) of
        [_] = Single -> Single;
        Parts -> join(Parts, [])
    end.

%% What to do with a reference to a process.
-spec where(ref()) -> {local, pid() | atom() | {atom(), node()}} | {remote, teleport_nif:destination()} | undefined.
where(Pid) when is_pid(Pid) ->
    if
        node(Pid) =:= node() -> {local, Pid};
        true -> {remote, Pid}
    end;
where({global, Name}) ->
    registered(global:whereis_name(Name));
where({via, Module, Name}) ->
    registered(Module:whereis_name(Name));
where({Name, Node}) when is_atom(Name), Node =:= node() ->
    {local, {Name, Node}};
where({Name, Node}) when is_atom(Name), is_atom(Node) ->
    {remote, {Name, Node}};
where(Name) when is_atom(Name) ->
    {local, Name};
where(Other) ->
    erlang:error(badarg, [Other]).

-spec registered(pid() | undefined) -> {local, pid()} | {remote, pid()} | undefined.
registered(undefined) -> undefined;
registered(Pid) when node(Pid) =:= node() -> {local, Pid};
registered(Pid) -> {remote, Pid}.

-spec flags([option()]) -> 0..3.
flags(Options) ->
    lists:foldl(fun(unordered, Flags) -> Flags bor 1;
                   (nosuspend, Flags) -> Flags bor 2
                end, 0, Options).

-spec send_remote(teleport_nif:destination(), term(), 0..3) -> ok | {error, error()}.
send_remote(To, Message, Flags) when Flags band 2 =/= 0 ->
    result(teleport_nif:send(To, term_to_iolist(Message), Flags, undefined));
send_remote(To, Message, Flags) ->
    Encoded = term_to_iolist(Message),
    %% Nearly always there is room.
    case teleport_nif:send(To, Encoded, Flags bor 2, undefined) of
        {error, busy} ->
            Tag = make_ref(),
            case teleport_nif:send(To, Encoded, Flags, Tag) of
                waiting ->
                    receive
                        {teleport_sent, Tag, Result} -> result(Result)
                    end;
                Result ->
                    result(Result)
            end;
        Result ->
            result(Result)
    end.

-spec result(ok | waiting | {error, teleport_nif:error()}) -> ok | {error, error()}.
result({error, {not_running, Node}}) -> {error, {not_running, binary_to_atom(Node)}};
result({error, Reason}) -> {error, Reason};
result(_Sent) -> ok.

%% Function is the one of OTP, with its arguments.
-spec call_server(ref(), term(), term(), timeout(), {gen_server | gen_event, call, [term()]}) -> term().
call_server(Ref, Kind, Request, Timeout, {Module, Name, Args} = Function) ->
    case where(Ref) of
        {local, _Process} ->
            %% With the exits that it has anyway.
            erlang:apply(Module, Name, Args);
        {remote, To} ->
            case call_remote(To, Kind, Request, Timeout) of
                {reply, Reply} -> Reply;
                {exit, Reason} -> exit({Reason, Function})
            end;
        undefined ->
            exit({noproc, Function})
    end.

-spec call_remote(teleport_nif:destination(), term(), term(), timeout()) -> {reply, term()} | {exit, term()}.
call_remote(To, Kind, Request, Timeout) ->
    Id = make_ref(),
    case begin_remote(To, Kind, Id, {Request, undefined}) of
        {error, Reason} ->
            {exit, call_reason(Reason, To)};
        _Begun ->
            case receive_response(Id, Timeout) of
                {reply, Reply} -> {reply, Reply};
                {error, {Reason, _Object}} -> {exit, call_reason(Reason, To)};
                timeout -> {exit, timeout}
            end
    end.

%% `{teleport_sent, Tag, _}' comes if Tag is a reference and this returns `waiting'.
-spec begin_remote(teleport_nif:destination(), term(), reference(), {term(), reference() | undefined}) ->
    ok | waiting | {error, teleport_nif:error()}.
begin_remote(To, Kind, Id, {Request, Tag}) ->
    teleport_nif:request(To, Id, term_to_iolist({Kind, {self(), [alias | Id]}, Request}), Tag).

%% As `gen' does it.
-spec request_local(pid() | atom() | {atom(), node()}, term()) -> request_id().
request_local(Name, Request) when is_atom(Name) ->
    case whereis(Name) of
        undefined -> ended(make_ref(), Name, noproc);
        Pid -> request_local(Pid, Request)
    end;
request_local(Process, Request) ->
    Id = erlang:monitor(process, Process, [{alias, demonitor}]),
    _ = erlang:send(Process, {'$gen_call', {self(), [alias | Id]}, Request}),
    Id.

%% One of several at the same time. It may still be waiting: the answer is awaited before anything else is sent.
-spec request_one({atom(), node()}, term()) -> request_id().
request_one(Ref, Request) ->
    case where(Ref) of
        {local, Process} ->
            request_local(Process, Request);
        {remote, To} ->
            Id = make_ref(),
            case begin_remote(To, '$gen_call', Id, {Request, undefined}) of
                {error, Reason} -> ended(Id, To, down_reason(Reason));
                _Begun -> Id
            end
    end.

-spec cast_one({atom(), node()}, term(), [binary()]) -> {true, reference()} | false.
cast_one(Ref, Message, Encoded) ->
    case where(Ref) of
        {local, Process} ->
            _ = erlang:send(Process, Message),
            false;
        {remote, To} ->
            Tag = make_ref(),
            case teleport_nif:send(To, Encoded, 0, Tag) of
                waiting -> {true, Tag};
                _Result -> false
            end
    end.

%% It is told that it has ended, by a message like any other of its kind.
-spec ended(reference(), term(), term()) -> reference().
ended(Id, Object, Reason) ->
    self() ! {'DOWN', Id, process, Object, Reason},
    Id.

%% Waits until a request or a monitor waits no longer: what is sent next must not overtake it.
-spec accepted(reference(), reference(), teleport_nif:destination()) -> reference().
accepted(Tag, Id, To) ->
    receive
        {teleport_sent, Tag, ok} ->
            Id;
        {teleport_sent, Tag, {error, Reason}} ->
            %% The engine has stopped. It may have told this process so, or not.
            _ = teleport_nif:cancel(Id),
            receive {'DOWN', Id, process, _Object, _Reason} -> ok after 0 -> ok end,
            ended(Id, To, down_reason(Reason))
    end.

-spec replied(request_id(), term()) -> {reply, term()}.
replied(Id, Reply) ->
    true = erlang:demonitor(Id, [flush]), % if it is one of this node's own
    {reply, Reply}.

%% What came just now, if anything did.
-spec last_response(request_id()) -> {reply, term()} | timeout | {error, {term(), term()}}.
last_response(Id) ->
    %% No message of this node's own comes after this. One of a peer is kept: flush would take its DOWN.
    true = erlang:demonitor(Id),
    receive
        {[alias | Id], Reply} -> replied(Id, Reply);
        {'DOWN', Id, process, Object, Reason} -> {error, {Reason, Object}}
    after 0 ->
        timeout
    end.

-spec is_reply(term()) -> boolean().
is_reply({reply, _Reply}) -> true;
is_reply(_Other) -> false.

-spec deadline(timeout()) -> infinity | {abs, integer()}.
deadline(infinity) -> infinity;
deadline(Timeout) -> {abs, erlang:monotonic_time(millisecond) + Timeout}.

-spec milliseconds(response_timeout()) -> timeout().
milliseconds({abs, Time}) -> max(0, Time - erlang:monotonic_time(millisecond));
milliseconds(Timeout) -> Timeout.

%% Why a call has no reply, in the words of `gen'.
-spec call_reason(term(), teleport_nif:destination()) -> term().
call_reason(Reason, To) ->
    case down_reason(Reason) of
        noconnection -> {nodedown, node_of(To)};
        Other -> Other
    end.

%% What was not sent since there is no connection has no connection, whatever the cause.
-spec down_reason(term()) -> term().
down_reason(not_running) -> noconnection;
down_reason({not_running, _Node}) -> noconnection;
down_reason({connect, _Why}) -> noconnection;
down_reason(nodedown) -> noconnection;
down_reason(Reason) -> Reason.

-spec node_of(teleport_nif:destination()) -> node().
node_of({_Name, Node}) -> Node;
node_of(Pid) -> node(Pid).

%% Joins small binaries that follow each other: each part costs more than a copy of it.
-spec join([binary()], [binary()]) -> [binary()].
join([], []) ->
    [];
join([], Small) ->
    [joined(Small)];
join([Part | Rest], Small) when byte_size(Part) < ?JOIN ->
    join(Rest, [Part | Small]);
join([Part | Rest], []) ->
    [Part | join(Rest, [])];
join([Part | Rest], Small) ->
    [joined(Small), Part | join(Rest, [])].

-spec joined([binary()]) -> binary().
joined([Single]) -> Single;
joined(Small) -> iolist_to_binary(lists:reverse(Small)).
