%% @private
%% Runs the engine for the identity that distributed Erlang gives this node: its name and creation.
%% Distributed Erlang also decides who is in the cluster, where peers are, and which cookie is shared with
%% them.
%%
%% When the identity changes, the engine is stopped, pending calls and monitors end, and a new engine is
%% started. Without a name, that is without distributed Erlang, the application rests: there is no engine.
%% Other settings are read when they are needed: cookies and addresses when the engine asks for them
%% (`teleport_answers'); the ticktime and the nodes that are let in, whose changes are not announced, every few
%% seconds.
-module(teleport_manager).
-behaviour(gen_server).

-export([start_link/1, carry/2, carry_nothing/0, carried/0, application/1, abandoned/0]).
-export([address/0, about/0, rests/0, route/2, find_route/1, forget_route/1, name_goes/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([place/0]).

%% An interface, and the first and the last port to try.
-type place() :: {inet:ip_address(), any | {inet:port_number(), inet:port_number()}}.

-type identity() :: {node(), Creation :: non_neg_integer()} | none.

-record(state, {
    %% The identity that the engine runs for, and the address where it listens.
    identity = none :: identity(),
    address :: teleport_nif:address() | undefined,
    %% `configured': it does not follow distributed Erlang's.
    ticktime :: pos_integer() | configured | undefined,
    %% What peers may reach, or why that is not known.
    allow = none :: teleport_allow:settings() | none | {error, term()},
    %% Why the engine could not be started for the identity that the node has got, and what is wrong with the configuration.
    failed = none :: none | term(),
    wrong = [] :: [teleport_config:error()],
    %% Whether distributed Erlang itself goes over the engine: then its identity is what it was started with.
    carries = false :: boolean(),
    %% Whether there is an engine for the sake of the application too.
    is_wanted :: boolean(),
    %% The identity that is about to go.
    going = none :: identity(),
    lives = teleport_lives:new() :: teleport_lives:lives(),
    questions = teleport_route:new() :: teleport_route:questions()
}).

%% The persistent term with carried/0.
-define(CARRIED, {?MODULE, carried}).

%% The persistent term with the configuration that was set when the engine began.
-define(BEGUN_WITH, {?MODULE, begun_with}).

%% How long distributed Erlang's end waits for what is on its way, and how long for the engine to end, in milliseconds. With the node
%% `net_kernel' has two seconds for its end. Where it was started at run time its supervisor has one, and is killed then.
-define(AT_STOP, {700, 1500}).
-define(AT_RUN_TIME, {300, 500}).

%% How long `net_kernel' waits for the manager when it ends, in milliseconds, of its two seconds.
-define(ENDS_WITHIN, 1700).

%% How long to wait for what `net_kernel' knows, in milliseconds: when an engine starts for the application, and at each look.
-define(KNOWN_AT_START, 5000).
-define(KNOWN_AT_LOOK, 100).

%% Milliseconds between two checks whether the name has gone, and the number of checks.
-define(GONE_AFTER, 20).
-define(GONE_TRIES, 400).
%% The number of checks where the manager ends, too.
-define(GOING_TRIES, 20).

%% Milliseconds between two checks of the ticktime and the identity.
-define(LOOK_AFTER, 5000).

%% Milliseconds until it is tried again to begin anew where there was no process for it.
-define(AGAIN_AFTER, 1000).

%% How often an engine is started anew at a port that is taken, and how long it takes until it is tried again, in milliseconds.
-define(TRIES, 20).
-define(TRY_AFTER, 100).

%% `carrier': the engine is for distributed Erlang, if that goes over it, and until the application is started for nothing else.
-spec start_link(application | carrier) -> gen_server:start_ret().
start_link(For) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, For, []).

%% Starts the engine for distributed Erlang, which is about to begin under that identity; returns where it listens.
-spec carry({node(), non_neg_integer()}, place()) -> {ok, teleport_nif:address()} | {error, term()}.
carry(Identity, Place) ->
    gen_server:call(?MODULE, {carry, Identity, Place}, infinity).

%% Distributed Erlang ends.
-spec carry_nothing() -> ok.
carry_nothing() ->
    %% Whether or not there is a manager.
    _ = persistent_term:erase(?CARRIED),
    try gen_server:call(?MODULE, carry_nothing, ?ENDS_WITHIN)
    catch exit:_ -> ok
    end.

%% What distributed Erlang goes over: under which identity, and where the engine listens. A manager that was killed is followed by one
%% that goes on with it.
-spec carried() -> none | {{node(), non_neg_integer()}, teleport_nif:address()}.
carried() ->
    persistent_term:get(?CARRIED, none).

%% The application is started or stopped, while the manager belongs to distributed Erlang. When it is started there is an engine, or
%% the reason why there is none.
-spec application(started | stopped) -> ok | {error, term()}.
application(started) ->
    try gen_server:call(?MODULE, application_started, infinity)
    catch exit:Reason -> {error, Reason}
    end;
application(stopped) ->
    gen_server:cast(?MODULE, application_stopped).

%% Stops an engine that a killed manager has left running, and tells other nodes, which that manager has not.
-spec abandoned() -> ok.
abandoned() ->
    ok = stop_engine(0),
    ok = teleport_route:stop(),
    announce(teleport_down).

%% @doc Where this node's engine listens. The manager is not asked: while it waits for the last messages to arrive, peers are to be
%% told at once that the engine takes no more.
-spec address() -> {ok, teleport_nif:address()} | {error, not_running}.
address() ->
    %% Without one there is no engine, nor maybe the library.
    case whereis(?MODULE) of
        undefined -> {error, not_running};
        _Manager -> teleport_nif:address()
    end.

%% The version that runs here and where it can be reached. Peers call this over distributed Erlang.
-spec about() -> {ok, teleport_address:about()} | {error, not_running}.
about() ->
    case address() of
        {ok, Address} -> {ok, teleport_address:advertised(Address)};
        {error, not_running} -> {error, not_running}
    end.

%% Whether the application runs without an engine, and why.
-spec rests() -> false | {true, Why :: string()}.
rests() ->
    case {identity(), whereis(?MODULE), whereis(net_kernel)} of
        {none, Manager, undefined} when is_pid(Manager) ->
            {true, "this node is not distributed: teleport starts when it is, after net_kernel:start/2 or with -name or -sname"};
        {none, Manager, _NetKernel} when is_pid(Manager) ->
            {true, "this node has no name yet: teleport starts when the first node that it connects to has given it one"};
        _ ->
            false
    end.

%% The route of messages to a node; asks the node for it. `late': it has not answered in time.
-spec route(node(), timeout()) -> teleport_route:route() | late.
route(Node, 0) ->
    ok = find_route(Node),
    late;
route(Node, Timeout) ->
    try gen_server:call(?MODULE, {route, Node}, Timeout)
    catch
        exit:{timeout, _} -> late;
        exit:_ -> pool % which fails, since teleport does not run
    end.

%% Begins to find the route to a node.
-spec find_route(node()) -> ok.
find_route(Node) ->
    gen_server:cast(?MODULE, {find_route, Node}).

%% The route to a node has to be found again.
-spec forget_route(node()) -> ok.
forget_route(Node) ->
    gen_server:cast(?MODULE, {forget_route, Node}).

%% The node is about to lose its name. Returns when the engine has ended.
-spec name_goes(timeout()) -> ok.
name_goes(Timeout) ->
    try gen_server:call(?MODULE, name_goes, Timeout)
    catch exit:_ -> ok
    end.

-spec init(application | carrier) -> {ok, #state{}} | {stop, term()}.
init(For) ->
    process_flag(trap_exit, true),
    ok = net_kernel:monitor_nodes(true, [{node_type, all}]),
    _ = erlang:send_after(?LOOK_AFTER, self(), look),
    ok = try teleport_address:start_resolver()
    catch error:system_limit -> ok % the first name that is looked up starts it
    end,
    %% One that was killed may have left an engine, and an application that was started on distributed Erlang's.
    IsWanted = For =:= application orelse whereis(teleport_app) =/= undefined,
    case go_on(carried(), rest(#state{is_wanted = IsWanted})) of
        {ok, State} -> {ok, State};
        {error, Reason} ->
            %% Who starts the application is told. Later there is nobody to be told, and a supervisor that tries again at once would
            %% end the application, or, where that is distributed Erlang's, the node.
            case For =:= application andalso teleport_app:is_starting() orelse Reason =:= library_was_loaded_anew of
                true -> {stop, Reason};
                false -> {ok, failed(Reason, #state{is_wanted = IsWanted, carries = carried() =/= none})}
            end
    end.

-spec identity() -> identity().
identity() ->
    case node() of
        nonode@nohost ->
            none;
        Node ->
            %% Without a cookie distributed Erlang is about to end.
            try erlang:get_cookie() of
                nocookie -> none;
                _ -> {Node, erlang:system_info(creation)}
            catch
                exit:_ -> none
            end
    end.

%% Distributed Erlang has its name and port already, if it goes over the engine.
-spec go_on(none | {{node(), non_neg_integer()}, teleport_nif:address()}, #state{}) -> {ok, #state{}} | {error, term()}.
go_on(none, State) ->
    follow(State);
go_on(Carried, State) ->
    go_on(Carried, State, ?TRIES).

-spec go_on({{node(), non_neg_integer()}, teleport_nif:address()}, #state{}, pos_integer()) -> {ok, #state{}} | {error, term()}.
go_on({Identity, Address}, State, Tries) ->
    ok = teleport_dist:accept_anew(),
    %% A value that was set meanwhile is not to take connections from distributed Erlang, which has begun.
    Wrong = teleport_config:check_again(State#state.wrong),
    go_on(Identity, Address, State#state{carries = true, wrong = Wrong}, Tries).

%% The engine of before may be about to close the port.
-spec go_on({node(), non_neg_integer()}, teleport_nif:address(), #state{}, pos_integer()) -> {ok, #state{}} | {error, term()}.
go_on(Identity, {Ip, Port} = Address, State, Tries) ->
    case start_engine(Identity, ticktime_at_first(), only_at(Ip, {Port, Port}), State) of
        {error, {cannot_listen, _Address, _Text}} when Tries > 1 ->
            receive after ?TRY_AFTER -> ok end,
            go_on(Identity, Address, State, Tries - 1);
        Started ->
            Started
    end.

%% Where to listen: at the first of these ports that is free, and nowhere else.
-spec only_at(inet:ip_address(), {inet:port_number(), inet:port_number()}) -> map().
only_at(Ip, Ports) ->
    #{listen => {Ip, 0}, ports => Ports, any_port => false}.

%% Makes the engine follow the node's identity.
-spec follow(#state{}) -> {ok, #state{}} | {error, term()}.
follow(#state{carries = true, identity = none} = State) ->
    %% It could not begin anew when it was tried last.
    case carried() of
        none -> {ok, State}; % distributed Erlang is ending
        Carried -> go_on(Carried, rest(State), 1)
    end;
follow(#state{carries = true} = State) ->
    {ok, State};
follow(#state{is_wanted = false} = State) ->
    {ok, State};
follow(#state{identity = Identity, going = Going} = State) ->
    case identity() of
        Identity -> {ok, State};
        Going -> {ok, State}; % it is about to go
        none -> {ok, rest(State)};
        Other -> start_engine(Other, rest(State))
    end.

%% Stops the engine without draining it: to peers the node with the old identity is down already.
-spec rest(#state{}) -> #state{}.
rest(#state{questions = Questions, going = Going, is_wanted = IsWanted, wrong = Wrong}) ->
    ok = stop_engine(0),
    ok = teleport_route:stop(),
    #state{questions = Questions, going = Going, is_wanted = IsWanted, wrong = Wrong}.

-spec start_engine({node(), non_neg_integer()}, #state{}) -> {ok, #state{}} | {error, term()}.
start_engine(Identity, State) ->
    ok = follow_allowed(?KNOWN_AT_START),
    Ticktime = case ticktime(?KNOWN_AT_START) of
        unknown -> ticktime_at_first();
        Seconds -> Seconds
    end,
    start_checked(Identity, Ticktime, teleport_address:listen(), State).

%% The configuration may have been changed since the application was started, or not have been looked at yet.
-spec start_checked({node(), non_neg_integer()}, pos_integer(), map(), #state{}) -> {ok, #state{}} | {error, term()}.
start_checked(Identity, Ticktime, Listen, State) ->
    case teleport_config:check() of
        ok -> start_engine(Identity, Ticktime, Listen, State);
        {error, Reason} -> {error, Reason}
    end.

-spec start_engine({node(), non_neg_integer()}, pos_integer(), map(), #state{}) -> {ok, #state{}} | {error, term()}.
start_engine(Identity, Ticktime, Listen, State) ->
    case {teleport_tls:settings(), teleport_allow:settings(State#state.carries)} of
        {{ok, Tls}, {ok, Allow}} -> start_engine(Identity, Ticktime, Listen, Tls, State#state{allow = Allow});
        {{error, Reason}, _} -> {error, Reason};
        {_, {error, Reason}} -> {error, Reason}
    end.

-spec start_engine({node(), non_neg_integer()}, pos_integer(), map(), plain | {term(), teleport_tls:settings()}, #state{}) ->
    {ok, #state{}} | {error, term()}.
start_engine({Node, Creation} = Identity, Ticktime, Listen, Tls, State) ->
    Defaults = #{node => atom_to_binary(Node),
                 creation => Creation,
                 cookie => teleport_answers:cookie(Node),
                 answers => whereis(teleport_answers),
                 carries => State#state.carries,
                 net_ticktime => Ticktime},
    ok = teleport_nif:open_gate(), % the name has come
    Encryption = case Tls of
        plain -> #{};
        {_Origin, Settings} -> #{tls => Settings}
    end,
    Allowed = case State#state.allow of
        none -> #{};
        Allow -> #{allow => Allow}
    end,
    Configured = teleport_config:engine(),
    Config = maps:merge(lists:foldl(fun maps:merge/2, Defaults, [Allowed, Encryption, Listen]), Configured),
    case teleport_nif:start(Config) of
        {ok, Address} ->
            ok = teleport_pulse:start(),
            ok = teleport_route:start(teleport_config:get(fallback)),
            _ = State#state.carries andalso persistent_term:put(?BEGUN_WITH, held()),
            Lives = lists:foldl(fun teleport_lives:up/2, teleport_lives:new(), nodes(connected)),
            announce(teleport_up),
            Followed = case is_map_key(net_ticktime, Configured) of
                true -> configured;
                false -> Ticktime
            end,
            Started = State#state{identity = Identity, address = Address, ticktime = Followed, lives = Lives},
            ok = guard(Started),
            {ok, Started};
        {error, {tls, Why}} ->
            {Origin, _Settings} = Tls,
            case teleport_tls:refused(Origin, Why) of
                plain -> start_engine(Identity, Ticktime, Listen, plain, State);
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, reason(Reason)}
    end.

-spec held() -> #{atom() => term()}.
held() ->
    teleport_config:held(teleport_tls:settings()).

%% Why the engine did not start, with the text as a string like those of other reasons.
-spec reason(library_was_loaded_anew | teleport_nif:start_error()) -> term().
reason({What, Text}) -> {What, unicode:characters_to_list(Text)};
reason({What, Of, Text}) -> {What, Of, unicode:characters_to_list(Text)};
reason(Reason) -> Reason.

%% Stops the engine, after it has delivered pending messages for at most `Timeout' milliseconds.
-spec stop_engine(non_neg_integer()) -> ok.
stop_engine(Timeout) ->
    %% To say goodbye to peers takes up to a second more.
    stop_engine(Timeout, Timeout + 2000).

%% The same; it may go on saying goodbye after that many milliseconds.
-spec stop_engine(non_neg_integer(), non_neg_integer()) -> ok.
stop_engine(Timeout, Longest) ->
    %% Of an engine that took longer.
    receive {teleport_stopped, _Before} -> ok after 0 -> ok end,
    case teleport_nif:stop(Timeout) of
        ok ->
            receive
                {teleport_stopped, _Unconfirmed} -> ok
            after Longest -> ok
            end;
        _ ->
            ok
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({carry, Identity, {Interface, Ports}}, _From, State) ->
    Listen = case Ports of
        any -> #{listen => {Interface, 0}};
        _ -> only_at(Interface, Ports)
    end,
    ok = teleport_answers:allowed_are([]), % `net_kernel' has just begun
    case start_checked(Identity, ticktime_at_first(), Listen, (rest(State))#state{carries = true}) of
        {ok, #state{address = Address} = Started} ->
            ok = persistent_term:put(?CARRIED, {Identity, Address}),
            {reply, {ok, Address}, Started};
        {error, Reason} -> {reply, {error, Reason}, rest(State)}
    end;
handle_call(carry_nothing, _From, State) ->
    {Timeout, Longest} = case is_started_at_run_time() of
        true -> ?AT_RUN_TIME;
        false -> ?AT_STOP
    end,
    ok = stop_engine(Timeout, Longest),
    {reply, ok, let_go(State)};
handle_call(name_goes, _From, State) ->
    {_Timeout, Longest} = ?AT_RUN_TIME,
    ok = stop_engine(0, Longest),
    {reply, ok, let_go(State)};
handle_call(application_started, _From, #state{carries = true, identity = none, failed = Reason} = State) ->
    {reply, {error, Reason}, State};
handle_call(application_started, _From, #state{carries = true} = State) ->
    Now = held(),
    case teleport_config:check_held(persistent_term:get(?BEGUN_WITH, Now), Now) of
        ok -> {reply, ok, State#state{is_wanted = true}};
        {error, Reason} -> {reply, {error, Reason}, State}
    end;
handle_call(application_started, _From, State) ->
    case follow(State#state{is_wanted = true}) of
        {ok, Followed} -> {reply, ok, Followed};
        {error, Reason} -> {reply, {error, Reason}, rest(State)}
    end;
handle_call({route, Node}, From, #state{questions = Questions} = State) ->
    case teleport_route:ask(Node, [From], Questions) of
        {known, Route} -> {reply, Route, State};
        {asked, Asked} -> {noreply, State#state{questions = Asked}}
    end;
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% Nothing decodes terms any more, not even an engine that still ends, until the name has gone.
-spec let_go(#state{}) -> #state{}.
let_go(State) ->
    Resting = rest(State),
    ok = teleport_nif:close_gate(),
    _ = erlang:send_after(?GONE_AFTER, self(), {going, ?GONE_TRIES}),
    %% Whether or not there is an engine for it.
    Resting#state{going = identity()}.

%% By `net_kernel:start/1,2', and not by a flag. A node that ends answers this, too.
-spec is_started_at_run_time() -> boolean().
is_started_at_run_time() ->
    init:get_argument(sname) =:= error andalso init:get_argument(name) =:= error.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast({What, Node}, #state{questions = Questions} = State) when What =:= teleport_up; What =:= teleport_down ->
    {noreply, State#state{questions = teleport_route:changed(What, Node, Questions)}};
handle_cast(application_stopped, #state{carries = Carries} = State) ->
    Unwanted = State#state{is_wanted = false},
    {noreply, case Carries of true -> Unwanted; false -> rest(Unwanted) end};
handle_cast({find_route, Node}, #state{questions = Questions} = State) ->
    case teleport_route:ask(Node, [], Questions) of
        {known, _Route} -> {noreply, State};
        {asked, Asked} -> {noreply, State#state{questions = Asked}}
    end;
handle_cast({forget_route, Node}, State) ->
    ok = teleport_route:forget(Node),
    {noreply, State};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({nodeup, Node, _Info}, State) when Node =:= node() ->
    followed(follow(State), State);
handle_info({nodeup, Node, _Info}, #state{lives = Lives, carries = Carries} = State) ->
    ok = case Carries of true -> teleport_dist:look_at(Node); false -> ok end,
    {noreply, State#state{lives = teleport_lives:up(Node, Lives)}};
handle_info({nodedown, Node, _Info}, #state{identity = {Node, _Creation}, carries = false} = State) ->
    %% The node may have got the same name and creation again: its peers still saw it go down.
    followed(follow(rest(State)), State);
handle_info({nodedown, Node, _Info}, #state{lives = Lives, questions = Questions} = State) ->
    {noreply, State#state{lives = teleport_lives:down(Node, Lives),
                          questions = teleport_route:changed(teleport_down, Node, Questions)}};
handle_info({going, Tries}, #state{going = Going} = State) ->
    case identity() of
        Going when Going =/= none, Tries > 0 ->
            _ = erlang:send_after(?GONE_AFTER, self(), {going, Tries - 1}),
            {noreply, State};
        _ ->
            ok = teleport_nif:open_gate(),
            followed(follow(State#state{going = none}), State)
    end;
handle_info({forget_route, _Node} = Forget, State) ->
    handle_cast(Forget, State);
handle_info(look, State) ->
    _ = erlang:send_after(?LOOK_AFTER, self(), look),
    Looked = State#state{wrong = teleport_config:check_again(State#state.wrong)},
    _ = Looked#state.identity =/= none andalso follow_allowed(?KNOWN_AT_LOOK),
    ok = guard(Looked),
    followed(follow(follow_allow(follow_ticktime(Looked))), Looked);
handle_info({'DOWN', Monitor, process, _Pid, {creation, _, _} = Answer}, #state{lives = Lives} = State) ->
    {noreply, State#state{lives = teleport_lives:answered(Monitor, Answer, Lives)}};
handle_info({'DOWN', Monitor, process, _Pid, {route, _, _} = Answer}, #state{questions = Questions} = State) ->
    {noreply, State#state{questions = teleport_route:answered(Monitor, Answer, Questions)}};
handle_info({'DOWN', Monitor, process, _Pid, _Killed}, #state{questions = Questions} = State) ->
    {noreply, State#state{questions = teleport_route:failed(Monitor, Questions)}};
handle_info(teleport_lost, State) ->
    case teleport_nif:address() of
        {error, not_running} ->
            _ = try spawn(fun teleport_sup:begin_anew/0)
            catch error:system_limit -> erlang:send_after(?AGAIN_AFTER, self(), teleport_lost)
            end,
            ok;
        _ ->
            ok % another one has been started since
    end,
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec followed({ok, #state{}} | {error, term()}, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
followed({ok, #state{identity = Identity} = Followed}, _State) ->
    _ = Identity =/= none andalso teleport_app:failed(none),
    {noreply, Followed};
followed({error, library_was_loaded_anew = Reason}, State) ->
    {stop, Reason, State};
followed({error, Reason}, State) ->
    {noreply, failed(Reason, State)}.

%% The engine did not start: rests, until the next look at the identity. What distributed Erlang goes over stays that: the node goes on
%% without connections meanwhile.
-spec failed(term(), #state{}) -> #state{}.
failed(Reason, #state{failed = Before, carries = Carries} = State) ->
    ok = teleport_app:failed(Reason),
    _ = Reason =:= Before orelse
        teleport_log:say(error, "teleport did not start: ~ts; it is tried again every ~b s",
                         [teleport_check:said(Reason), ?LOOK_AFTER div 1000], #{}),
    (rest(State))#state{failed = Reason, carries = Carries}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{going = Going}) ->
    ok = teleport_guard:stop(),
    ok = stop_engine(teleport_config:get(stop_timeout)),
    ok = await_end(Going, ?GOING_TRIES),
    ok = teleport_nif:open_gate(), % in case the name is going
    ok = teleport_route:stop(),
    announce(teleport_down).

%% Waits until the name has gone, if it is going, but not for long.
-spec await_end(identity(), non_neg_integer()) -> ok.
await_end(Going, Tries) when Going =:= none; Tries =:= 0 ->
    ok;
await_end(Going, Tries) ->
    case identity() of
        Going -> receive after ?GONE_AFTER -> await_end(Going, Tries - 1) end;
        _Other -> ok
    end.

%% Tells the managers of other nodes that the route here has changed. The engine listens by then, or its
%% sessions have ended.
-spec announce(teleport_up | teleport_down) -> ok.
announce(What) ->
    lists:foreach(fun(Node) -> tell(Node, {What, node()}) end, nodes(connected)).

%% A cast to the manager of another node, which must not wait for a connection that takes nothing at present.
-spec tell(node(), {teleport_up | teleport_down, node()}) -> ok.
tell(Node, News) ->
    {To, Cast} = {{?MODULE, Node}, {'$gen_cast', News}},
    case erlang:send(To, Cast, [noconnect, nosuspend]) of
        nosuspend ->
            _ = try spawn(erlang, send, [To, Cast, [noconnect]]) catch error:system_limit -> none end,
            ok;
        _ ->
            ok
    end.

%% Makes the engine follow distributed Erlang's ticktime, whose changes are not announced.
-spec follow_ticktime(#state{}) -> #state{}.
follow_ticktime(#state{identity = none} = State) ->
    State;
follow_ticktime(#state{ticktime = configured} = State) ->
    State;
follow_ticktime(#state{ticktime = Before} = State) ->
    case ticktime(?KNOWN_AT_LOOK) of
        unknown ->
            State;
        Before ->
            State;
        Ticktime ->
            _ = teleport_nif:net_ticktime(Ticktime),
            State#state{ticktime = Ticktime}
    end.

%% Makes the engine follow the list of nodes that distributed Erlang lets in (`net_kernel:allow/1').
-spec follow_allowed(timeout()) -> ok.
follow_allowed(Timeout) ->
    case known(allowed, Timeout) of
        {ok, Allowed} -> teleport_answers:allowed_are(Allowed);
        _ -> ok % `ignored', or unknown at present
    end.

%% What `net_kernel' answers. It may wait for this process, as when it ends: so this one does not wait for it for long.
-spec known(allowed | get_net_ticktime, timeout()) -> term() | unknown.
known(Function, Timeout) ->
    try erpc:call(node(), net_kernel, Function, [], Timeout)
    catch _:_ -> unknown % it takes too long, or is ending, or there are too many processes
    end.

%% One that was killed is started anew: without it the name would go while the engine runs. Where it has ended because the name goes
%% the engine has ended before.
-spec guard(#state{}) -> ok.
guard(#state{identity = none}) ->
    ok;
guard(#state{carries = true}) ->
    ok;
guard(#state{}) ->
    case whereis(teleport_guard) of
        undefined -> teleport_guard:start();
        _Pid -> ok
    end.

%% Makes the engine follow the configuration. What cannot be used changes nothing, and is logged once.
-spec follow_allow(#state{}) -> #state{}.
follow_allow(#state{identity = none} = State) ->
    State;
follow_allow(#state{allow = Before, carries = Carries} = State) ->
    case teleport_allow:settings(Carries) of
        {ok, Before} ->
            State;
        {ok, none} ->
            _ = teleport_nif:allow(teleport_allow:everything()),
            State#state{allow = none};
        {ok, Allow} ->
            _ = teleport_nif:allow(Allow),
            State#state{allow = Allow};
        Before ->
            State;
        {error, {bad_value, allow, Text}} = Error ->
            ok = teleport_log:say(error, "peers may still reach what they could: ~ts", [Text], #{}),
            State#state{allow = Error}
    end.

%% As configured: distributed Erlang may wait for the engine to start, and not answer.
-spec ticktime_at_first() -> pos_integer().
ticktime_at_first() ->
    at_most(application:get_env(kernel, net_ticktime, 60)).

%% A ticktime of weeks means that no ticks are wanted.
-spec ticktime(timeout()) -> pos_integer() | unknown.
ticktime(Timeout) ->
    case known(get_net_ticktime, Timeout) of
        unknown -> unknown;
        ignored -> at_most(60);
        {ongoing_change_to, Next} -> at_most(Next);
        Now -> at_most(Now)
    end.

-spec at_most(pos_integer()) -> pos_integer().
at_most(Seconds) ->
    min(Seconds, teleport_config:most(net_ticktime)).
