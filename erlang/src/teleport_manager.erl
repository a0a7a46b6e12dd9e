%% @private
%% Starts the engine, and connects it with distributed Erlang: which says who is in the cluster and where peers listen.
%%
%% The cookie is that of distributed Erlang; one that was set for a single node with `erlang:set_cookie/2' is used with that
%% node.
-module(teleport_manager).
-behaviour(gen_server).

-export([start_link/0, abandoned/0, address/0, about/0, route/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    address :: teleport_nif:address(),
    lives = teleport_lives:new() :: teleport_lives:lives(),
    questions = teleport_route:new() :: teleport_route:questions()
}).

%% How long a peer may take to say where it listens, in milliseconds.
-define(ADDRESS_TIMEOUT, 5000).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Ends what a manager that was killed has left, if one has.
-spec abandoned() -> ok.
abandoned() ->
    ok = stop_engine(0),
    teleport_route:stop().

%% @doc Where this node's engine listens; peers ask over distributed Erlang.
-spec address() -> {ok, teleport_nif:address()} | {error, not_running}.
address() ->
    try gen_server:call(?MODULE, address)
    catch exit:{noproc, _} -> {error, not_running}
    end.

%% What runs here, for peers that look why there is no session.
-spec about() -> {ok, #{version := string(), address := teleport_nif:address()}} | {error, not_running}.
about() ->
    case address() of
        {ok, Address} ->
            {ok, Version} = application:get_key(teleport, vsn),
            {ok, #{version => Version, address => Address}};
        {error, not_running} ->
            {error, not_running}
    end.

%% Which way messages to a node go; asks the node.
-spec route(node()) -> teleport_route:route().
route(Node) ->
    try gen_server:call(?MODULE, {route, Node}, infinity)
    catch exit:_ -> pool % where it is said that teleport does not run
    end.

-spec init([]) -> {ok, #state{}} | {stop, term()}.
init([]) ->
    process_flag(trap_exit, true),
    case is_alive() of
        true -> start_engine();
        false -> {stop, {not_alive, "teleport needs a distributed node: start erl with -name or -sname"}}
    end.

-spec start_engine() -> {ok, #state{}} | {stop, term()}.
start_engine() ->
    ok = net_kernel:monitor_nodes(true, [{node_type, all}]),
    Defaults = #{node => atom_to_binary(node()),
                 creation => erlang:system_info(creation),
                 cookie => atom_to_binary(erlang:get_cookie()),
                 listen => listen(),
                 net_ticktime => ticktime()},
    Config = maps:merge(Defaults, teleport_config:engine()),
    Started = case teleport_nif:start(Config) of
        {error, already_started} ->
            %% A manager that was killed has left it.
            ok = stop_engine(0),
            teleport_nif:start(Config);
        Other ->
            Other
    end,
    case Started of
        {ok, Address} ->
            ok = teleport_route:start(teleport_config:get(fallback)),
            lists:foreach(fun set_cookie/1, maps:keys(teleport_config:get(peers))),
            Nodes = nodes(connected),
            lists:foreach(fun set_cookie/1, Nodes),
            Lives = lists:foldl(fun teleport_lives:up/2, teleport_lives:new(), Nodes),
            announce(teleport_up),
            {ok, #state{address = Address, lives = Lives}};
        {error, Reason} ->
            {stop, reason(Reason)}
    end.

%% Why the engine did not start, with a text like those of the others.
-spec reason(teleport_nif:start_error()) -> term().
reason({What, Text}) -> {What, unicode:characters_to_list(Text)};
reason({What, Of, Text}) -> {What, Of, unicode:characters_to_list(Text)};
reason(Reason) -> Reason.

%% Delivers what is under way for at most so many milliseconds.
-spec stop_engine(non_neg_integer()) -> ok.
stop_engine(Timeout) ->
    case teleport_nif:stop(Timeout) of
        ok ->
            %% Goodbyes take up to a second more.
            receive
                {teleport_stopped, _Unconfirmed} -> ok
            after Timeout + 2000 -> ok
            end;
        _ ->
            ok
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(address, _From, #state{address = Address} = State) ->
    {reply, {ok, Address}, State};
handle_call({route, Node}, From, #state{questions = Questions} = State) ->
    case teleport_route:ask(Node, From, Questions) of
        {known, Route} -> {reply, Route, State};
        {asked, Asked} -> {noreply, State#state{questions = Asked}}
    end;
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({What, Node}, #state{questions = Questions} = State) when What =:= teleport_up; What =:= teleport_down ->
    {noreply, State#state{questions = teleport_route:changed(What, Node, Questions)}};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({teleport_resolve, Node}, State) ->
    %% Asking may take long, and must not hold up other questions.
    _ = spawn(fun() -> resolve(Node) end),
    {noreply, State};
handle_info({nodeup, Node, _Info}, #state{lives = Lives} = State) ->
    set_cookie(Node),
    {noreply, State#state{lives = teleport_lives:up(Node, Lives)}};
handle_info({nodedown, Node, _Info}, #state{lives = Lives, questions = Questions} = State) ->
    {noreply, State#state{lives = teleport_lives:down(Node, Lives),
                          questions = teleport_route:changed(teleport_down, Node, Questions)}};
handle_info({'DOWN', Monitor, process, _Pid, {creation, _, _} = Answer}, #state{lives = Lives} = State) ->
    {noreply, State#state{lives = teleport_lives:answered(Monitor, Answer, Lives)}};
handle_info({'DOWN', Monitor, process, _Pid, {route, _, _} = Answer}, #state{questions = Questions} = State) ->
    {noreply, State#state{questions = teleport_route:answered(Monitor, Answer, Questions)}};
handle_info(teleport_lost, State) ->
    {stop, {shutdown, library_was_loaded_anew}, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    ok = stop_engine(teleport_config:get(stop_timeout)),
    ok = teleport_route:stop(),
    announce(teleport_down).

%% The managers of other nodes learn that the way has changed. By then the engine listens, or its sessions have ended.
-spec announce(teleport_up | teleport_down) -> ok.
announce(What) ->
    lists:foreach(fun(Node) -> gen_server:cast({?MODULE, Node}, {What, node()}) end, nodes(connected)).

%% Distributed Erlang may have a cookie for a single node.
-spec set_cookie(node()) -> ok.
set_cookie(Node) ->
    _ = teleport_nif:peer_cookie(Node, atom_to_binary(erlang:get_cookie(Node))),
    ok.

%% Answers the engine's question.
-spec resolve(binary()) -> ok | not_running.
resolve(Name) ->
    Addresses = addresses(Name),
    %% If it was stopped in a way that it could not announce, there is another way.
    Addresses =:= [] andalso forget_route(Name),
    teleport_nif:resolved(Name, Addresses).

-spec forget_route(binary()) -> ok.
forget_route(Name) ->
    try binary_to_existing_atom(Name) of
        Node -> gen_server:cast(?MODULE, {teleport_down, Node})
    catch
        error:badarg -> ok
    end.

%% Where a node listens: as configured, or as it says itself. None if nobody knows.
-spec addresses(binary()) -> [teleport_nif:address()].
addresses(Name) ->
    %% An atom only for nodes that are known: peers choose their names.
    try binary_to_existing_atom(Name) of
        Node ->
            set_cookie(Node),
            case teleport_config:get(peers) of
                #{Node := Address} -> [Address];
                #{} -> ask(Node)
            end
    catch
        error:badarg -> []
    end.

-spec ask(node()) -> [teleport_nif:address()].
ask(Node) ->
    try erpc:call(Node, ?MODULE, address, [], ?ADDRESS_TIMEOUT) of
        {ok, {Ip, Port}} -> [{reachable(Ip, Node), Port}];
        {error, _} -> []
    catch
        _:_ -> []
    end.

%% Who listens everywhere is reached where its name says.
-spec reachable(inet:ip_address(), node()) -> inet:ip_address().
reachable({0, 0, 0, 0}, Node) -> host(Node, inet, {0, 0, 0, 0});
reachable({0, 0, 0, 0, 0, 0, 0, 0}, Node) -> host(Node, inet6, {0, 0, 0, 0, 0, 0, 0, 0});
reachable(Ip, _Node) -> Ip.

-spec host(node(), inet:address_family(), inet:ip_address()) -> inet:ip_address().
host(Node, Family, Default) ->
    [_Name, Host] = string:split(atom_to_list(Node), "@"),
    case inet:getaddr(Host, Family) of
        {ok, Ip} -> Ip;
        {error, _} -> Default
    end.

%% As configured, or where distributed Erlang listens, at any free port.
-spec listen() -> teleport_nif:address().
listen() ->
    case {teleport_config:get(listen), application:get_env(kernel, inet_dist_use_interface)} of
        {undefined, {ok, Ip}} when is_tuple(Ip) -> {Ip, 0};
        {undefined, _} -> {{0, 0, 0, 0}, 0};
        {Address, _} -> Address
    end.

%% Whoever has set weeks for it wants no ticks.
-spec ticktime() -> pos_integer().
ticktime() ->
    Seconds = case net_kernel:get_net_ticktime() of
        {ongoing_change_to, Next} -> Next;
        ignored -> 60;
        Now -> Now
    end,
    min(Seconds, teleport_config:most(net_ticktime)).
