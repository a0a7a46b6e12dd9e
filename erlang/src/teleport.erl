%% @doc Messages of any size between nodes, beside distributed Erlang.
%%
%% `{Name, Node} ! Message' becomes `teleport:send({Name, Node}, Message)', and `gen_server:call(Server, Request)' becomes
%% `teleport:gs_call(Server, Request)'. The servers stay as they are. Both nodes run the application `teleport'.
%%
%% What goes to the own node goes the way it always did, and has the results it always had.
-module(teleport).

-export([start/0, send/2, send/3, cast/2, gs_call/2, gs_call/3, monitor/1, demonitor/1, info/0, term_to_iolist/1]).

-export_type([ref/0, option/0, error/0]).

-type ref() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.
%% A process: a pid, a registered name, here or on another node, or a name in a registry.

-type option() :: unordered | nosuspend.
%% `unordered': neither wait for earlier messages of the same pair of processes, nor be waited for by later ones.
%% `nosuspend': answer `{error, busy}' rather than wait, for room or for the first session.

-type error() :: nodedown | busy | noproc | not_running | {not_running, node()}
               | {too_large, Size :: non_neg_integer(), Limit :: non_neg_integer()} | {connect, binary()} | term().
%% Why a message was not sent. `not_running': teleport does not run here; `{not_running, Node}': it does not run there, or
%% there is no such node; `{connect, Text}' says why there is no connection.

%% `[alias|Tag]' is what `gen:reply/2' takes for the alias of a caller.
-dialyzer({no_improper_lists, call_remote/4}).

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
    call(Ref, Request, 5000, [Ref, Request]).

%% @doc Calls a server, like `gen_server:call/3', and with its exits. A late reply never gets into the mailbox.
-spec gs_call(ref(), term(), timeout()) -> term().
gs_call(Ref, Request, Timeout) ->
    call(Ref, Request, Timeout, [Ref, Request, Timeout]).

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
                    %% What is sent next must not overtake it.
                    receive
                        {teleport_sent, Tag, ok} -> Monitor
                    end;
                {error, Reason} ->
                    self() ! {'DOWN', Monitor, process, To, down_reason(Reason)},
                    Monitor
            end;
        undefined ->
            Monitor = make_ref(),
            self() ! {'DOWN', Monitor, process, {Ref, node()}, noproc},
            Monitor
    end.

%% @doc Ends a monitor, like `erlang:demonitor(Monitor, [flush])': no DOWN of it is in the mailbox after this.
-spec demonitor(reference()) -> true.
demonitor(Monitor) ->
    case teleport_nif:cancel(Monitor) of
        true -> true;
        false -> erlang:demonitor(Monitor, [flush]) % one of this node's own, or it has ended
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

-spec call(ref(), term(), timeout(), [term()]) -> term().
call(Ref, Request, Timeout, Args) ->
    case where(Ref) of
        {local, _Process} ->
            %% With the exits that it has anyway.
            erlang:apply(gen_server, call, Args);
        {remote, To} ->
            call_remote(To, Request, Timeout, Args);
        undefined ->
            exit_of(noproc, Args)
    end.

-spec call_remote(teleport_nif:destination(), term(), timeout(), [term()]) -> term().
call_remote(To, Request, Timeout, Args) ->
    Tag = make_ref(),
    Encoded = term_to_iolist({'$gen_call', {self(), [alias | Tag]}, Request}),
    case teleport_nif:request(To, Tag, Encoded, undefined) of
        {error, Reason} ->
            exit_of(call_reason(Reason, To), Args);
        _Begun ->
            receive
                {[alias | Tag], Reply} -> Reply;
                {'DOWN', Tag, process, _Object, Reason} -> exit_of(call_reason(Reason, To), Args)
            after Timeout ->
                case teleport_nif:cancel(Tag) of
                    true ->
                        exit_of(timeout, Args);
                    false ->
                        %% It came just now.
                        receive
                            {[alias | Tag], Reply} -> Reply;
                            {'DOWN', Tag, process, _Object, Reason} -> exit_of(call_reason(Reason, To), Args)
                        after 0 ->
                            exit_of(timeout, Args)
                        end
                end
            end
    end.

-spec exit_of(term(), [term()]) -> no_return().
exit_of(Reason, Args) ->
    exit({Reason, {gen_server, call, Args}}).

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
