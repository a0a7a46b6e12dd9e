%% @private
%% Starts the engine, and connects it with distributed Erlang: which says who is in the cluster and where peers listen.
%%
%% Configuration of the application `teleport':
%% <ul>
%% <li>`listen': `{Address, Port}'. Default: the interface of distributed Erlang (kernel's `inet_dist_use_interface'), or all,
%% and any free port.</li>
%% <li>`peers': `#{Node => {Address, Port}}', for nodes that are not in the Erlang cluster, such as those in Rust.</li>
%% <li>`fallback': what becomes of messages, calls and monitors to a node of the Erlang cluster where teleport does not run:
%% `error' (the default), or `disterl': they go over distributed Erlang, until teleport is started there. A cluster can be
%% upgraded node by node so. Order is kept when the way changes; see `teleport_route'.</li>
%% <li>`log_level': what the engine says to OTP's `logger': `none', `error', `warning' (the default), `info' or `debug'.</li>
%% <li>`relays': how many processes start relays, of which each server that peers call or monitor has one. Default: one per
%% scheduler.</li>
%% <li>`max_watches': how many calls and monitors peers may have open here together; each peer a part of them. Default 65,536: each
%% process that is watched has a relay, of some 3 KiB.</li>
%% <li>`stop_timeout': milliseconds that messages under way have when the application stops. Default 5000.</li>
%% <li>`apply': whether other nodes may apply functions here with `teleport:apply/4'. Default `true', as with `erpc'.</li>
%% <li>`max_new_atoms_per_peer', `max_new_atoms': how many atoms a peer, and all peers together, may add to the table of atoms,
%% which never shrinks. A message with more is refused: what has a caller is rejected, and it is counted, see
%% `teleport:info/1'. The numbers are of a peer's name, so it does not help to come again; they are kept for 1024 names, all
%% further ones have one account together. Defaults 16384, twice what a virtual machine begins with, and 65536, a sixteenth of
%% the table.</li>
%% <li>`max_term': bytes of heap that one message may take in a process, large binaries not counted. A list of empty lists is 16
%% times as large there as on its way. A message that would take more is refused before it is built: what has a caller is
%% rejected, and it is counted as unreadable. At least 2 MiB; default 256 MiB.</li>
%% <li>`max_message', `peer_window', `node_window', `answers_window', `fragment_size', `express_connections',
%% `bulk_connections',
%% `net_ticktime' (seconds; default: that of distributed Erlang), `setup_timeout' and `stall_timeout' (milliseconds),
%% `max_handshakes', `max_sessions', `buffer_pool', `worker_threads', `congestion': the engine's own, see `Config' in the
%% crate `teleport'.</li>
%% </ul>
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

-define(ENGINE_KEYS, [max_new_atoms, max_new_atoms_per_peer, max_term, max_message, peer_window, node_window, answers_window,
                      max_watches, fragment_size, express_connections, bulk_connections, net_ticktime, setup_timeout,
                      stall_timeout, max_handshakes, max_sessions, buffer_pool, worker_threads, congestion]).

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
        {ok, Address} ->
            ok = teleport_route:start(teleport_config:get(fallback)),
            lists:foreach(fun set_cookie/1, maps:keys(teleport_config:get(peers))),
            Nodes = nodes(connected),
            lists:foreach(fun set_cookie/1, Nodes),
            Lives = lists:foldl(fun teleport_lives:up/2, teleport_lives:new(), Nodes),
            announce(teleport_up),
            {ok, #state{address = Address, lives = Lives}};
        {error, Reason} ->
            {stop, Reason}
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
