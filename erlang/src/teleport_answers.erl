%% @private
%% Answers questions of the engine: the addresses of a peer; the cookie that distributed Erlang shares with it,
%% if it does not refuse the peer; and whether a peer that cannot be reached connects to this node on request.
%% (Distributed Erlang works where only one of two nodes can reach the other.) It does nothing else, so that
%% handshakes do not wait for other work.
-module(teleport_answers).
-behaviour(gen_server).

-export([start_link/0, cookie/1, allowed_are/1, is_let_in/1, connect/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    %% What a warning was logged for, and when, in seconds: host names, and that nodes are refused.
    warned = #{} :: warned(),
    %% The processes that connect to nodes on their request.
    connecting = [] :: [{node(), pid()}]
}).
-type state() :: #state{}.
-type warned() :: #{teleport_address:host() | refused => integer()}.

%% How long a node may take to connect to this one, in milliseconds. By default the engine stops waiting
%% earlier.
-define(CALL_BACK, 10000).

%% Milliseconds that looking for a node's addresses, and whether it is gone, has at the least.
-define(LEAST, 2000).

%% The persistent term with the nodes that distributed Erlang lets in.
-define(ALLOWED, {?MODULE, allowed}).

%% Seconds until a warning is logged again.
-define(PAUSE, 60).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% The cookie that is shared with a node now. Empty, which the engine rejects, if there is none, as while
%% distributed Erlang ends. OTP returns `nocookie' then, which anybody could guess.
-spec cookie(node() | unknown) -> binary().
cookie(Node) ->
    Cookie = try
        case Node of
            unknown -> erlang:get_cookie();
            _ -> erlang:get_cookie(Node)
        end
    catch
        exit:_ -> nocookie % distributed Erlang is ending
    end,
    case Cookie of
        nocookie -> <<>>;
        _ -> atom_to_binary(Cookie)
    end.

%% The nodes that distributed Erlang lets in (`net_kernel:allow/1'); none: all. `net_kernel' is not asked at each handshake, since it may
%% wait for the engine, or for other nodes.
-spec allowed_are([node()]) -> ok.
allowed_are(Allowed) ->
    persistent_term:put(?ALLOWED, Allowed).

%% Whether a node may have a session, as far as these go. They have no say about nodes that the configuration names: those need not be
%% in the Erlang cluster.
-spec is_let_in(binary()) -> boolean().
is_let_in(Name) ->
    case persistent_term:get(?ALLOWED, []) of
        [] ->
            true;
        Allowed ->
            %% Entries are compared as distributed Erlang does.
            is_configured(known(Name)) orelse teleport_allow:names(Name)
                orelse dist_util:is_allowed(unicode:characters_to_list(Name), Allowed)
    end.

-spec is_configured(node() | unknown) -> boolean().
is_configured(unknown) -> false;
is_configured(Node) -> teleport_address:configured(Node) =/= error.

-spec init([]) -> {ok, state()}.
init([]) ->
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), state()) -> {reply, term(), state()}.
handle_call({connecting, Node, Process}, _From, State) ->
    {reply, ok, State#state{connecting = [{Node, Process} | alive(State)]}};
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

-spec alive(state()) -> [{node(), pid()}].
alive(#state{connecting = Connecting}) ->
    [One || {_Node, Process} = One <- Connecting, is_process_alive(Process)].

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast({unresolved, Node, Host}, #state{warned = Warned} = State) ->
    {noreply, State#state{warned = warn_of_host(Node, Host, Warned)}};
handle_cast({refused, Node}, #state{warned = Warned} = State) ->
    {noreply, State#state{warned = warn_of_refusal(Node, Warned)}};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()}.
handle_info(teleport_questions, State) ->
    {Questions, AreMore} = teleport_nif:questions(),
    _ = AreMore andalso (self() ! teleport_questions),
    lists:foreach(fun(Question) -> answer(Question, State) end, Questions),
    {noreply, State};
handle_info({late, Asking}, State) ->
    true = exit(Asking, kill),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec answer(teleport_nif:question(), state()) -> ok | not_running | pid() | reference().
answer({cookie, Name}, _State) ->
    Node = known(Name),
    Cookie = case is_let_in(Name) of
        true ->
            cookie(Node);
        false ->
            %% Strangers have any name.
            _ = Node =/= unknown andalso gen_server:cast(?MODULE, {refused, Node}),
            <<>>
    end,
    teleport_nif:cookie_is(Name, Cookie);
answer({addresses, Name}, _State) ->
    Answer = fun() ->
        Node = known(Name),
        _ = case addresses(Node) of
            late -> ok; % the engine says that there was no answer in time
            Addresses -> teleport_nif:resolved(Name, Addresses)
        end,
        Node =/= unknown andalso teleport_dist:end_if_gone(Node)
    end,
    %% Nobody waits for longer. Epmd is asked without a limit, and each question has a descriptor.
    case aside(Answer, fun() -> ok end) of
        ok -> ok;
        Asking -> erlang:send_after(max(teleport_config:get(setup_timeout), ?LEAST), self(), {late, Asking})
    end;
answer({call_back, Name}, State) ->
    Node = known(Name),
    %% If the peer has asked the same of this node, neither can reach the other.
    IsAsked = lists:keymember(Node, 1, alive(State)),
    aside(fun() -> teleport_nif:called_back(Name, not IsAsked andalso is_called_back(Node)) end,
          fun() -> teleport_nif:called_back(Name, false) end).

%% What may take long must not delay other answers. Where there can be no more processes, only this question is not answered.
-spec aside(fun(() -> term()), fun(() -> ok)) -> ok | pid().
aside(Answer, Otherwise) ->
    try spawn(Answer)
    catch error:system_limit -> Otherwise()
    end.

-spec is_called_back(node() | unknown) -> boolean().
is_called_back(Node) ->
    Node =/= unknown andalso teleport_address:configured(Node) =:= error andalso lists:member(Node, nodes(connected))
        andalso try erpc:call(Node, ?MODULE, connect, [node()], ?CALL_BACK) =:= ok catch _:_ -> false end.

%% Connects to a node on its request.
-spec connect(node()) -> ok | {error, teleport:error()}.
connect(Node) ->
    ok = gen_server:call(?MODULE, {connecting, Node, self()}),
    teleport:prime(Node).

%% Makes no new atom: anybody can have the engine ask for any name.
-spec known(binary()) -> node() | unknown.
known(Name) ->
    try binary_to_existing_atom(Name)
    catch error:badarg -> unknown
    end.

-spec addresses(node() | unknown) -> [teleport_nif:address()] | late.
addresses(unknown) ->
    [];
addresses(Node) ->
    {Addresses, Unresolved} = teleport_address:of_node(Node),
    [gen_server:cast(?MODULE, {unresolved, Node, Host}) || Host <- Unresolved],
    %% Teleport may have been stopped there without an announcement: then the route has to be found again.
    Addresses =:= [] andalso teleport_manager:forget_route(Node),
    Addresses.

%% Warns of a host name that cannot be resolved, once a minute for each.
-spec warn_of_host(node(), teleport_address:unresolved(), warned()) -> warned().
warn_of_host(Node, {Host, _Reason} = Unresolved, Warned) ->
    warn(Host, Node, "teleport looks for ~ts, and ~ts; correct it in `peers' here or in `advertise' there",
         [Node, teleport_address:unresolved_to_text(Unresolved)], Warned).

%% Warns that nodes are refused, once a minute for all: who says that it is such a node has proved nothing.
-spec warn_of_refusal(node(), warned()) -> warned().
warn_of_refusal(Node, Warned) ->
    warn(refused, Node, "~ts has no session, since it is not among the nodes of net_kernel:allow/1; one that is to have one all the same"
         " is named in `peers', or by a rule of `allow'", [Node], Warned).

-spec warn(teleport_address:host() | refused, node(), io:format(), [term()], warned()) -> warned().
warn(Of, Node, Format, Args, Warned) ->
    Now = erlang:monotonic_time(second),
    Recent = maps:filter(fun(_Of, Time) -> Now - Time < ?PAUSE end, Warned),
    case is_map_key(Of, Recent) of
        true ->
            Recent;
        false ->
            ok = teleport_log:say(warning, Format, Args, #{peer => atom_to_binary(Node)}),
            Recent#{Of => Now}
    end.
