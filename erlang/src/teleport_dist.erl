%% @private
%% The carrier of distributed Erlang over teleport, for `-proto_dist teleport': every connection to another node goes over the session that
%% the engine has with it, or gets for it. `net_kernel' calls these functions; `dist_util' does the handshake, in a process for each
%% connection, which then looks after it. The messages go through `teleport_dist_channel'.
%%
%% A node that does not carry is talked to as `inet_tcp' does: its listener closes at our first bytes, and ours hands its connections on.
-module(teleport_dist).

-export([childspecs/0, listen/1, listen/2, accept/1, accept_connection/5, setup/5, close/1, select/1, address/0]).
-export([setopts/2, getopts/2, is_node_name/1]).
-export([is_carrier/0, is_carried/1, addresses/1]).
-export([accept_loop/2, accepted/5, connected/6, stat/1, tick/1]).

-include_lib("kernel/include/net_address.hrl").
-include_lib("kernel/include/dist_util.hrl").

%% What `dist_util' takes for a socket.
-record(link, {
    channel :: teleport_nif:channel(),
    %% The process that the virtual machine knows.
    controller :: pid(),
    peer :: node() | binary()
}).

%% Messages in fragments would only be put together again.
-define(DFLAG_FRAGMENTS, 16#800000).

%% The greatest creation that has a meaning of its own.
-define(MAX_OLD_CREATION, 3).

%% What the engine needs is there before `net_kernel' starts, if the application is not.
-spec childspecs() -> {ok, [supervisor:child_spec()]}.
childspecs() ->
    case whereis(teleport_sup) of
        undefined ->
            ok = loaded(),
            %% The configuration.
            _ = application:load(teleport),
            {ok, [#{id => teleport_sup, start => {teleport_sup, start_link, []}, type => supervisor, shutdown => infinity}]};
        _Pid ->
            {ok, []}
    end.

%% Without the engine there is no distributed Erlang, as without a network.
-spec loaded() -> ok | no_return().
loaded() ->
    case teleport_app:library() of
        ok ->
            ok;
        {error, Reason} ->
            Text = io_lib:format("teleport cannot carry distributed Erlang (-proto_dist teleport): ~0tp", [Reason]),
            case init:get_status() of
                {started, _} -> exit(lists:flatten(Text));
                %% What the supervisors of a node that starts would print hides the reason.
                _ -> stop_with(Text)
            end
    end.

-spec stop_with(iolist()) -> no_return().
stop_with(Text) ->
    ok = io:put_chars(standard_error, [Text, $\n]),
    erlang:halt(1, [{flush, true}]).

%% Whether this node carries its distribution.
-spec is_carrier() -> boolean().
is_carrier() ->
    case init:get_argument(proto_dist) of
        {ok, [Carriers | _]} -> lists:member("teleport", Carriers);
        _ -> false
    end.

%% Whether the connection to a node is carried, or would be if there were one. What asks for the node's address must not need it then.
-spec is_carried(node()) -> boolean().
is_carried(Node) ->
    is_carrier() andalso
        case lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)) of
            {Node, Controller} -> is_pid(Controller);
            false -> true
        end.

-spec select(node()) -> boolean().
select(Node) ->
    is_node_name(Node).

-spec is_node_name(term()) -> boolean().
is_node_name(Node) when is_atom(Node) ->
    case string:split(atom_to_list(Node), "@", all) of
        [[_ | _], [_ | _]] -> true;
        _ -> false
    end;
is_node_name(_Node) ->
    false.

-spec address() -> #net_address{}.
address() ->
    {ok, Host} = inet:gethostname(),
    #net_address{host = Host, protocol = tcp, family = inet}.

-spec listen(atom()) -> {ok, {pid(), #net_address{}, integer()}} | {error, term()}.
listen(Name) ->
    {ok, Host} = inet:gethostname(),
    listen(Name, Host).

%% Starts the engine under the name that the node is about to have.
-spec listen(atom(), string()) -> {ok, {pid(), #net_address{}, integer()}} | {error, term()}.
listen(Name, Host) ->
    Epmd = net_kernel:epmd_module(),
    Node = list_to_atom(lists:append([atom_to_list(Name), "@", Host])),
    Creation = ?MAX_OLD_CREATION + rand:uniform((1 bsl 32) - 1 - ?MAX_OLD_CREATION),
    case teleport_manager:carry({Node, Creation}, place(Epmd, Name, Host)) of
        {ok, {_Ip, Port} = Address} ->
            case register_node(Epmd, Name, Port) of
                {ok, _} ->
                    {ok, {whereis(teleport_manager), (address())#net_address{address = Address, host = Host}, Creation}};
                Error ->
                    close(whereis(teleport_manager)),
                    Error
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec register_node(module(), atom(), inet:port_number()) -> {ok, integer()} | term().
register_node(Epmd, Name, Port) ->
    case erlang:function_exported(Epmd, register_node, 3) of
        true -> Epmd:register_node(Name, Port, inet_tcp);
        false -> Epmd:register_node(Name, Port)
    end.

%% Where to listen: as other carriers do.
-spec place(module(), atom(), string()) -> map().
place(Epmd, Name, Host) ->
    _ = code:ensure_loaded(Epmd),
    Fixed = case erlang:function_exported(Epmd, listen_port_please, 2) of
        true -> Epmd:listen_port_please(Name, Host);
        false -> {ok, 0}
    end,
    case {Fixed, application:get_env(kernel, inet_dist_listen_min)} of
        {{ok, 0}, {ok, Min}} when is_integer(Min) ->
            {teleport_address:interface(), {Min, application:get_env(kernel, inet_dist_listen_max, Min)}};
        {{ok, 0}, _} ->
            {teleport_address:interface(), any};
        {{ok, Port}, _} ->
            {teleport_address:interface(), {Port, Port}}
    end.

-spec close(pid() | undefined) -> ok.
close(_Listen) ->
    teleport_manager:carry_nothing().

-spec accept(pid()) -> pid().
accept(_Listen) ->
    spawn_opt(?MODULE, accept_loop, [self(), self()], [link, {priority, max}]).

-spec accept_loop(pid(), pid()) -> no_return().
accept_loop(Kernel, _Owner) ->
    ok = teleport_nif:carrier_accept(),
    accept_loop(Kernel).

accept_loop(Kernel) ->
    receive
        {teleport_carrier, accept, Channel} ->
            Kernel ! {accept, self(), Channel, inet, tcp},
            receive
                {Kernel, controller, Pid} ->
                    Pid ! {self(), controller};
                {Kernel, unsupported_protocol} ->
                    exit(unsupported_protocol)
            end
    end,
    accept_loop(Kernel).

-spec accept_connection(pid(), teleport_nif:channel(), node(), [node()], timeout()) -> pid().
accept_connection(Acceptor, Channel, MyNode, Allowed, SetupTime) ->
    spawn_opt(?MODULE, accepted, [self(), {Acceptor, Channel}, MyNode, Allowed, SetupTime], dist_util:net_ticker_spawn_options()).

-spec accepted(pid(), {pid(), teleport_nif:channel()}, node(), [node()], timeout()) -> no_return().
accepted(Kernel, {Acceptor, Channel}, MyNode, Allowed, SetupTime) ->
    receive
        {Acceptor, controller} ->
            Timer = dist_util:start_timer(SetupTime),
            HsData = hs_data(Channel, teleport_nif:carrier_peer(Channel)),
            dist_util:handshake_other_started(HsData#hs_data{
                kernel_pid = Kernel, this_node = MyNode, timer = Timer, this_flags = 0, allowed = Allowed})
    end.

-spec setup(node(), term(), node(), longnames | shortnames, timeout()) -> pid().
setup(Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    spawn_opt(?MODULE, connected, [self(), Node, Type, MyNode, LongOrShortNames, SetupTime],
              dist_util:net_ticker_spawn_options()).

-spec connected(pid(), node(), term(), node(), longnames | shortnames, timeout()) -> no_return().
connected(Kernel, Node, Type, MyNode, _LongOrShortNames, SetupTime) ->
    Timer = dist_util:start_timer(SetupTime),
    case connect(Node) of
        {ok, Channel} ->
            dist_util:reset_timer(Timer),
            HsData = hs_data(Channel, Node),
            dist_util:handshake_we_started(HsData#hs_data{
                kernel_pid = Kernel, other_node = Node, this_node = MyNode, timer = Timer, this_flags = 0,
                other_version = 6, request_type = Type});
        {error, _Reason} ->
            ?shutdown(Node)
    end.

-spec connect(node()) -> {ok, teleport_nif:channel()} | {error, term()}.
connect(Node) ->
    Tag = make_ref(),
    case teleport_nif:carrier_connect(Node, Tag) of
        waiting ->
            receive
                {teleport_sent, Tag, Connected} -> Connected
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec hs_data(teleport_nif:channel(), node() | binary()) -> #hs_data{}.
hs_data(Channel, Peer) ->
    {Packets, HasEnded} = teleport_nif:carrier_own(Channel),
    [self() ! {teleport_carrier, Packet} || Packet <- Packets],
    HasEnded andalso (self() ! {teleport_carrier, closed}),
    Controller = teleport_dist_channel:start_link(Channel),
    #hs_data{
        socket = #link{channel = Channel, controller = Controller, peer = Peer},
        f_send = fun send/2,
        f_recv = fun recv/3,
        f_setopts_pre_nodeup = fun(_Link) -> ok end,
        f_setopts_post_nodeup = fun(_Link) -> ok end,
        f_getll = fun(#link{controller = Pid}) -> {ok, Pid} end,
        f_address = fun address/2,
        f_handshake_complete = fun complete/3,
        mf_tick = fun ?MODULE:tick/1,
        mf_getstat = fun ?MODULE:stat/1,
        mf_setopts = fun(_Link, _Options) -> {error, enotsup} end,
        mf_getopts = fun(_Link, _Options) -> {error, enotsup} end,
        reject_flags = ?DFLAG_FRAGMENTS
    }.

-spec send(#link{}, iodata()) -> ok | {error, closed}.
send(#link{channel = Channel}, Packet) ->
    case teleport_nif:carrier_packet(Channel, iolist_to_binary(Packet)) of
        ok -> ok;
        closed -> {error, closed}
    end.

-spec recv(#link{}, 0, timeout()) -> {ok, [byte()]} | {error, closed | timeout}.
recv(_Link, 0, Timeout) ->
    receive
        {teleport_carrier, closed} -> {error, closed};
        {teleport_carrier, Packet} -> {ok, binary_to_list(Packet)}
    after Timeout ->
        {error, timeout}
    end.

%% Who has proved to be a node is that node for distributed Erlang too.
-spec address(#link{}, node()) -> #net_address{}.
address(#link{peer = Peer}, Node) ->
    case Peer =:= Node orelse Peer =:= atom_to_binary(Node) of
        true ->
            [_Name, Host] = string:split(atom_to_list(Node), "@"),
            #net_address{host = Host, protocol = tcp, family = inet};
        false ->
            ?shutdown(Node)
    end.

-spec complete(#link{}, node(), erlang:dist_handle()) -> ok.
complete(#link{controller = Controller}, _Node, Handle) ->
    teleport_dist_channel:up(Controller, Handle).

%% The engine has its own.
-spec tick(#link{}) -> ok.
tick(_Link) ->
    ok.

%% `dist_util' asks whether something was received, which is when the engine has heard of the peer by any of its connections.
-spec stat(#link{}) -> {ok, non_neg_integer(), non_neg_integer(), 0}.
stat(#link{channel = Channel}) ->
    {Heard, Sent} = teleport_nif:carrier_stat(Channel),
    {ok, Heard, Sent, 0}.

-spec setopts(pid(), [term()]) -> ok | {error, enotsup}.
setopts(_Listen, _Options) ->
    {error, enotsup}.

-spec getopts(pid(), [term()]) -> {error, enotsup}.
getopts(_Listen, _Options) ->
    {error, enotsup}.

%% Where a node listens, as distributed Erlang finds it.
-spec addresses(node()) -> [teleport_nif:address()].
addresses(Node) ->
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    Epmd = net_kernel:epmd_module(),
    Found = case erlang:function_exported(Epmd, address_please, 3) of
        true -> Epmd:address_please(Name, Host, inet);
        false -> erl_epmd:address_please(Name, Host, inet)
    end,
    case Found of
        {ok, Ip, Port, _Version} ->
            [{Ip, Port}];
        {ok, Ip} ->
            case Epmd:port_please(Name, Ip) of
                {port, Port, _Version} -> [{Ip, Port}];
                _ -> []
            end;
        _ ->
            []
    end.
