%% @private
%% Starts the engine, and connects it with distributed Erlang: which says who is in the cluster and where peers listen.
%%
%% Configuration of the application `teleport':
%% <ul>
%% <li>`listen': `{Address, Port}'. Default: the interface of distributed Erlang (kernel's `inet_dist_use_interface'), or all,
%% and any free port.</li>
%% <li>`peers': `#{Node => {Address, Port}}', for nodes that are not in the Erlang cluster, such as those in Rust.</li>
%% <li>`relays': how many processes watch servers for peers. Default: one per scheduler.</li>
%% <li>`stop_timeout': milliseconds that messages under way have when the application stops. Default 5000.</li>
%% <li>`apply': whether other nodes may apply functions here with `teleport:apply/4'. Default `true', as with `erpc'.</li>
%% <li>`max_new_atoms': how many atoms peers may add to the table. Default 65536.</li>
%% <li>`max_message', `peer_window', `node_window', `fragment_size', `express_connections', `bulk_connections',
%% `net_ticktime' (seconds; default: that of distributed Erlang), `setup_timeout' (milliseconds), `buffer_pool',
%% `worker_threads', `congestion': the engine's own, see `Config' in the crate `teleport'.</li>
%% </ul>
-module(teleport_manager).
-behaviour(gen_server).

-export([start_link/0, stop/0, address/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {address :: teleport_nif:address()}).

%% How long a peer may take to say where it listens, in milliseconds.
-define(ADDRESS_TIMEOUT, 5000).

-define(ENGINE_KEYS, [max_new_atoms, max_message, peer_window, node_window, fragment_size, express_connections,
                      bulk_connections, net_ticktime, setup_timeout, buffer_pool, worker_threads, congestion]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Pid} -> {ok, Pid};
        ignore -> {error, ignore};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Stops the engine; what was accepted is delivered, for as long as `stop_timeout' says.
-spec stop() -> ok.
stop() ->
    stop_engine(application:get_env(teleport, stop_timeout, 5000)).

%% @doc Where this node's engine listens; peers ask over distributed Erlang.
-spec address() -> {ok, teleport_nif:address()} | {error, not_running}.
address() ->
    try gen_server:call(?MODULE, address)
    catch exit:{noproc, _} -> {error, not_running}
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
    Keys = [{Key, Value} || Key <- ?ENGINE_KEYS, {ok, Value} <- [application:get_env(teleport, Key)]],
    Defaults = #{node => atom_to_binary(node()),
                 creation => erlang:system_info(creation),
                 cookie => atom_to_binary(erlang:get_cookie()),
                 listen => application:get_env(teleport, listen, {interface(), 0}),
                 net_ticktime => ticktime()},
    Config = maps:merge(Defaults, maps:from_list(Keys)),
    Started = case teleport_nif:start(Config) of
        {error, already_started} ->
            %% A manager that was killed has left it.
            ok = stop_engine(0),
            teleport_nif:start(Config);
        Other ->
            Other
    end,
    case Started of
        {ok, Address} -> {ok, #state{address = Address}};
        {error, Reason} -> {stop, Reason}
    end.

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
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({teleport_resolve, Node}, State) ->
    %% Asking may take long, and must not hold up other questions.
    _ = spawn(fun() -> teleport_nif:resolved(Node, addresses(Node)) end),
    {noreply, State};
handle_info({nodedown, Node, _Info}, State) ->
    _ = teleport_nif:disconnect(Node),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    stop().

%% Where a node listens: as configured, or as it says itself. None if nobody knows.
-spec addresses(binary()) -> [teleport_nif:address()].
addresses(Name) ->
    %% An atom only for nodes that are known: peers choose their names.
    try binary_to_existing_atom(Name) of
        Node ->
            case application:get_env(teleport, peers, #{}) of
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

-spec interface() -> inet:ip_address().
interface() ->
    case application:get_env(kernel, inet_dist_use_interface) of
        {ok, Ip} when is_tuple(Ip) -> Ip;
        _ -> {0, 0, 0, 0}
    end.

-spec ticktime() -> pos_integer().
ticktime() ->
    case net_kernel:get_net_ticktime() of
        {ongoing_change_to, Seconds} -> Seconds;
        ignored -> 60;
        Seconds -> Seconds
    end.
