%% @private
%% The carrier of distributed Erlang over teleport, for `-proto_dist teleport': every connection to another node goes over the session that
%% the engine has with it, or gets for it. `net_kernel' calls these functions; `dist_util' does the handshake, in a process for each
%% connection, which then looks after it. The messages go through `teleport_dist_channel'.
%%
%% A node that does not carry is talked to as `inet_tcp' does: its listener closes at the engine's first bytes, and the engine hands
%% connections of such nodes on. A node that does not listen has no engine, and is talked to like that too.
-module(teleport_dist).

-export([childspecs/0, listen/1, listen/2, accept/1, accept_connection/5, setup/5, close/1, select/1, address/0]).
-export([setopts/2, getopts/2, is_node_name/1]).
-export([carriers/0, is_carried/1, connection/1, listens/0, goes_on/0, accept_anew/0, look_at/1, addresses/1, end_if_gone/1]).
%% For tests.
-export([carriers/2, ending/1, has_left/1]).
-export([accept_loop/1, accept_next/1, hold/2, held/3, end_with/4, ending_with/3, accepted/5, connected/6, stat/1, tick/1]).

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

%% Milliseconds without a word from a node that epmd does not know any more, until it is gone.
-define(GONE_AFTER, 500).

%% How long a node may take to say whether it carries, in milliseconds.
-define(TIMEOUT, 5000).

%% Milliseconds without a connection until the process that accepts hibernates.
-define(IDLE, 1000).

%% Milliseconds between looks at a plain connection whose handshake is not over.
-define(LOOK_AFTER, 50).

%% The persistent term with the process that accepts connections.
-define(ACCEPTOR, {?MODULE, acceptor}).

%% Characters of an atom.
-define(LONGEST_ATOM, 255).

%% The version of `kernel' (OTP 27.1) from which on the first `-proto_dist' counts. Before, none does if there are several.
-define(FIRST_COUNTS, [10, 1]).

%% The greatest creation that has a meaning of its own.
-define(MAX_OLD_CREATION, 3).

%% What the engine needs is there before `net_kernel' starts, if the application is not.
-spec childspecs() -> {ok, [supervisor:child_spec()]}.
childspecs() ->
    ok = one_family(),
    case whereis(teleport_sup) of
        undefined ->
            ok = loaded(),
            %% The configuration, and the names of the modules.
            _ = application:load(teleport),
            ok = teleport_app:load(),
            {ok, [supervisor()]};
        _Pid ->
            {ok, []}
    end.

-spec supervisor() -> supervisor:child_spec().
supervisor() ->
    #{id => teleport_sup, start => {teleport_sup, start_link, [carrier]}, type => supervisor, shutdown => infinity}.

%% The application has been stopped, and with it the engine that distributed Erlang went over: another one is begun at the same place.
-spec goes_on() -> ok.
goes_on() ->
    _ = listens() andalso
        try supervisor:start_child(net_sup, supervisor())
        catch exit:_ -> ok % distributed Erlang is ending
        end,
    ok.

%% A node has one engine, with one address.
-spec one_family() -> ok | no_return().
one_family() ->
    case [Carrier || "teleport" ++ _ = Carrier <- carriers()] of
        [_, _ | _] -> refuse("one of -proto_dist teleport and -proto_dist teleport6 can be given, not both");
        _ -> ok
    end.

%% Without the engine there is no distributed Erlang, as without a network.
-spec loaded() -> ok | no_return().
loaded() ->
    %% What the code server would say of it.
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    Loaded = try library()
    after
        ok = logger:set_primary_config(level, Level)
    end,
    case Loaded of
        ok ->
            ok;
        {error, {nif_not_loaded, File, Why}} ->
            refuse(io_lib:format("the library ~ts.so cannot be loaded: ~ts", [File, Why]));
        {error, {on_load, Reason}} ->
            refuse(io_lib:format("a module of the release cannot be loaded: ~0tp", [Reason]));
        {error, Reason} ->
            refuse(io_lib:format("~0tp", [Reason]))
    end.

%% A release has loaded its modules by now, but their functions for that are called after distributed Erlang has begun.
-spec library() -> ok | {error, term()}.
library() ->
    case teleport_app:library() of
        {error, embedded} ->
            try init:run_on_load_handlers() of
                ok -> teleport_app:library()
            catch
                exit:Reason -> {error, {on_load, Reason}}
            end;
        Other ->
            Other
    end.

-spec refuse(iolist()) -> no_return().
refuse(Why) ->
    Text = unicode:characters_to_list(["teleport cannot carry distributed Erlang (-proto_dist teleport): ", Why]),
    case init:get_status() of
        {started, _} ->
            %% To who has called `net_kernel:start/2' OTP does not say why.
            logger:error("~ts", [Text], #{teleport => #{}}),
            exit(Text);
        %% What the supervisors of a node that starts would print hides the reason.
        _ ->
            stop_with(Text)
    end.

-spec stop_with(string()) -> no_return().
stop_with(Text) ->
    %% In one line, whatever the reason is made of.
    Line = [case C of $\n -> $\s; _ -> C end || C <- Text] ++ "\n",
    case whereis(standard_error) of
        undefined -> true = erlang:display_string(Line); % it is started later
        _Pid -> ok = io:put_chars(standard_error, Line)
    end,
    erlang:halt(1, [{flush, true}]).

%% Whether this node carries its distribution.
-spec is_carrier() -> boolean().
is_carrier() ->
    lists:any(fun(Carrier) -> lists:prefix("teleport", Carrier) end, carriers()).

%% What distributed Erlang goes over, as `net_kernel' reads the flag.
-spec carriers() -> [string()].
carriers() ->
    {ok, Version} = application:get_key(kernel, vsn), % it is loaded on every node
    carriers(init:get_argument(proto_dist), [list_to_integer(Part) || Part <- string:lexemes(Version, ".")]).

-spec carriers({ok, [[string()]]} | error, Kernel :: [non_neg_integer()]) -> [string()].
carriers({ok, [Carriers]}, _Kernel) -> Carriers;
carriers({ok, [Carriers | _]}, Kernel) when Kernel >= ?FIRST_COUNTS -> Carriers;
carriers(_SeveralOrNone, _Kernel) -> ["inet_tcp"].

%% Whether the connection to a node is carried, or would be if there were one. What asks for the node's address must not need it then.
-spec is_carried(node()) -> boolean().
is_carried(Node) ->
    is_carrier() andalso connection(Node) =/= plain.

%% The family of addresses: `-proto_dist teleport6' is for IPv6.
-spec family() -> inet | inet6.
family() ->
    case lists:member("teleport6", carriers()) of
        true -> inet6;
        false -> inet
    end.

%% What talks to nodes that do not carry.
-spec driver() -> module().
driver() ->
    case family() of
        inet -> inet_tcp;
        inet6 -> inet6_tcp
    end.

%% What the connection with a node is, if there is one. Carried ones have a process; so have those of `inet_tls' on nodes that do not carry.
-spec connection(node()) -> carried | plain | none.
connection(Node) ->
    case lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)) of
        {Node, Controller} when is_pid(Controller) -> case is_carrier() of true -> carried; false -> plain end;
        {Node, _Controller} -> plain;
        false -> none
    end.

%% Whether distributed Erlang listens on this node, by an engine.
-spec listens() -> boolean().
listens() ->
    teleport_manager:carried() =/= none.

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
    #net_address{host = Host, protocol = tcp, family = family()}.

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
        true -> Epmd:register_node(Name, Port, driver());
        false -> Epmd:register_node(Name, Port)
    end.

%% Where to listen: as other carriers do.
-spec place(module(), atom(), string()) -> {inet:ip_address(), any | {inet:port_number(), inet:port_number()}}.
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
    ok = teleport_nif:carrier_refuse(),
    teleport_manager:carry_nothing().

-spec accept(pid()) -> pid().
accept(_Listen) ->
    spawn_opt(?MODULE, accept_loop, [self()], [link, {priority, max}]).

-spec accept_loop(pid()) -> no_return().
accept_loop(Kernel) ->
    ok = persistent_term:put(?ACCEPTOR, self()),
    ok = teleport_nif:carrier_accept(),
    accept_next(Kernel).

%% The engine is about to begin anew, maybe in another library, which does not know yet who accepts.
-spec accept_anew() -> ok.
accept_anew() ->
    case persistent_term:get(?ACCEPTOR, none) of
        none ->
            ok;
        Acceptor ->
            Acceptor ! accept_anew,
            ok
    end.

-spec accept_next(pid()) -> no_return().
accept_next(Kernel) ->
    receive
        %% A channel ends when no process has it any more: this one forgets it, and `net_kernel' does not get to know it.
        {teleport_carrier, accept, Channel} ->
            hand_on(Kernel, make_ref(), fun(Pid) -> Pid ! {self(), channel, Channel} end),
            true = erlang:garbage_collect();
        {teleport_carrier, plain, Plain} ->
            Driver = driver(),
            case Driver:fdopen(teleport_nif:plain_descriptor(Plain), [{active, false}, {packet, 2}, {nodelay, true}]) of
                {ok, Socket} ->
                    _ = spawn(?MODULE, hold, [Plain, Socket]),
                    hand_on(Kernel, Socket, fun(Pid) -> Driver:controlling_process(Socket, Pid) end);
                {error, _Reason} -> ok = teleport_nif:plain_close(Plain) % the node may have done so
            end;
        accept_anew ->
            ok = teleport_nif:carrier_accept()
    after ?IDLE ->
        %% So it is in no version of this module.
        erlang:hibernate(?MODULE, accept_next, [Kernel])
    end,
    ?MODULE:accept_next(Kernel).

%% A port that was opened with a descriptor does not close it when it ends. A process that hibernates is in no version of this module.
-spec hold(teleport_nif:plain(), port()) -> no_return().
hold(Plain, Socket) ->
    Monitor = erlang:monitor(port, Socket),
    _ = erlang:send_after(?LOOK_AFTER, self(), look),
    erlang:hibernate(?MODULE, held, [Plain, Socket, Monitor]).

%% One whose handshake is over belongs to the virtual machine.
-spec held(teleport_nif:plain(), port(), reference()) -> ok | no_return().
held(Plain, Socket, Monitor) ->
    receive
        %% OTP 25 says `process' of a port that ends with its owner's reason.
        {'DOWN', Monitor, _PortOrProcess, Socket, _Reason} ->
            of_this_library(fun teleport_nif:plain_close/1, Plain);
        look ->
            _ = case lists:keymember(Socket, 2, erlang:system_info(dist_ctrl)) of
                true -> of_this_library(fun teleport_nif:plain_proved/1, Plain);
                false -> erlang:send_after(?LOOK_AFTER, self(), look)
            end,
            erlang:hibernate(?MODULE, held, [Plain, Socket, Monitor])
    end.

%% One of a library that was loaded before does not count here, and is closed when the process has ended that holds it.
-spec of_this_library(fun((teleport_nif:plain()) -> ok), teleport_nif:plain()) -> ok.
of_this_library(Do, Plain) ->
    try Do(Plain)
    catch error:badarg -> ok
    end.

-spec hand_on(pid(), reference() | port(), fun((pid()) -> term())) -> ok.
hand_on(Kernel, Connection, GiveTo) ->
    Kernel ! {accept, self(), Connection, family(), tcp},
    receive
        {Kernel, controller, Pid} ->
            _ = GiveTo(Pid),
            Pid ! {self(), controller},
            ok;
        {Kernel, unsupported_protocol} ->
            exit(unsupported_protocol)
    end.

-spec accept_connection(pid(), reference() | port(), node(), [node()], timeout()) -> pid().
accept_connection(Acceptor, Socket, MyNode, Allowed, SetupTime) when is_port(Socket) ->
    inet_tcp_dist:gen_accept_connection(driver(), Acceptor, Socket, MyNode, Allowed, SetupTime);
accept_connection(Acceptor, _Channel, MyNode, Allowed, SetupTime) ->
    spawn_opt(?MODULE, accepted, [self(), Acceptor, MyNode, Allowed, SetupTime], dist_util:net_ticker_spawn_options()).

-spec accepted(pid(), pid(), node(), [node()], timeout()) -> no_return().
accepted(Kernel, Acceptor, MyNode, Allowed, SetupTime) ->
    receive {Acceptor, channel, Channel} -> ok end,
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
connected(Kernel, Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    Timer = dist_util:start_timer(SetupTime),
    ok = ended(Node),
    %% Where nothing listens the application's engine, if it runs, carries nothing.
    case listens() andalso connect(Node) of
        {ok, Channel} ->
            dist_util:reset_timer(Timer),
            HsData = hs_data(Channel, Node),
            dist_util:handshake_we_started(HsData#hs_data{
                kernel_pid = Kernel, other_node = Node, this_node = MyNode, timer = Timer, this_flags = 0,
                other_version = 6, request_type = Type});
        Otherwise ->
            _ = dist_util:cancel_timer(Timer),
            case Otherwise =:= false orelse is_plain(Otherwise) of
                true ->
                    inet_tcp_dist:do_setup(driver(), Kernel, Node, Type, MyNode, LongOrShortNames, SetupTime);
                false ->
                    ?shutdown(Node)
            end
    end.

%% Whether the connection is to be made as `inet_tcp' does, by why there is none over the engine.
-spec is_plain({error, term()}) -> boolean().
is_plain({error, {not_teleport, _Text}}) -> true;
is_plain({error, _Reason}) -> false.

%% A node is up: two nodes that carry are to know if what is between them is not carried all the same.
-spec look_at(node()) -> ok.
look_at(Node) ->
    case lists:member(Node, nodes()) andalso connection(Node) =/= carried of
        true ->
            _ = try spawn(fun() -> warn_if_carrier(Node) end) catch error:system_limit -> none end,
            ok;
        false ->
            ok
    end.

-spec warn_if_carrier(node()) -> ok.
warn_if_carrier(Node) ->
    try erpc:call(Node, ?MODULE, listens, [], ?TIMEOUT) of
        true ->
            Text = "distributed Erlang between this node and ~ts is not carried by teleport, though both have -proto_dist teleport:"
                   " one has closed the other's connection. After erlang:disconnect_node/1 it is tried again",
            teleport_log:say(warning, Text, [Node], #{peer => atom_to_binary(Node)});
        false ->
            ok
    catch
        _:_ -> ok
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
    _ = [self() ! {teleport_carrier, Packet} || Packet <- Packets],
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
        mf_setopts = fun ?MODULE:setopts/2,
        mf_getopts = fun ?MODULE:getopts/2,
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

%% A peer that has proved to be a node is that node for distributed Erlang too.
-spec address(#link{}, node()) -> #net_address{}.
address(#link{channel = Channel, peer = Peer}, Node) ->
    case Peer =:= Node orelse Peer =:= atom_to_binary(Node) of
        true ->
            [_Name, Host] = string:split(atom_to_list(Node), "@"),
            #net_address{address = teleport_nif:carrier_address(Channel), host = Host, protocol = tcp, family = family()};
        false ->
            ?shutdown(Node)
    end.

-spec complete(#link{}, node(), erlang:dist_handle()) -> ok.
complete(#link{channel = Channel, controller = Controller}, Node, Handle) ->
    Self = self(),
    {Ending, Monitor} = spawn_monitor(?MODULE, end_with, [Self, Node, Channel, Controller]),
    receive
        {Ending, ready} -> true = erlang:demonitor(Monitor, [flush]);
        {'DOWN', Monitor, process, Ending, Reason} -> exit(Reason)
    end,
    teleport_dist_channel:up(Controller, Handle).

%% With its connection a node is down: the session ends, and no later one of the same node.
-spec end_with(pid(), node(), teleport_nif:channel(), pid()) -> no_return().
end_with(Owner, Node, Channel, Controller) ->
    Monitor = erlang:monitor(process, Controller),
    ok = ended(Node),
    true = register(ending(Node), self()),
    Owner ! {self(), ready},
    erlang:hibernate(?MODULE, ending_with, [Monitor, Controller, Channel]).

-spec ending_with(reference(), pid(), teleport_nif:channel()) -> ok.
ending_with(Monitor, Controller, Channel) ->
    receive
        {'DOWN', Monitor, process, Controller, _Reason} -> end_session(Channel)
    end.

-spec end_session(teleport_nif:channel()) -> ok.
end_session(Channel) ->
    Tag = make_ref(),
    case teleport_nif:carrier_end(Channel, Tag) of
        waiting ->
            receive
                {teleport_sent, Tag, _Ended} -> ok
            after ?TIMEOUT -> ok
            end;
        {error, not_running} ->
            ok
    end.

%% Returns when the session of an earlier connection has ended: the next one is not to go over it.
-spec ended(node()) -> ok.
ended(Node) ->
    case whereis(ending(Node)) of
        undefined ->
            ok;
        Ending ->
            Monitor = erlang:monitor(process, Ending),
            receive
                {'DOWN', Monitor, process, Ending, _Reason} -> ok
            after ?TIMEOUT ->
                true = erlang:demonitor(Monitor, [flush]),
                ok
            end
    end.

%% The name of the process that ends it: one more atom for each node's. Of a node with a long name, which may be that of another up to its
%% end, it has a number.
-spec ending(node()) -> atom().
ending(Node) ->
    case "teleport_dist_" ++ atom_to_list(Node) of
        Name when length(Name) =< ?LONGEST_ATOM -> list_to_atom(Name);
        Name -> list_to_atom(lists:sublist(Name, ?LONGEST_ATOM - 11) ++ io_lib:format("_~10..0b", [erlang:phash2(Node, 1 bsl 32)]))
    end.

%% Nothing was sent for some time, or nothing came. The engine ticks too, but `dist_util' looks at its own cadence whether something came.
-spec tick(#link{}) -> ok.
tick(#link{channel = Channel}) ->
    teleport_nif:carrier_tick(Channel).

%% `dist_util' asks whether something was received, which is when the engine has heard of the peer by any of its connections.
-spec stat(#link{}) -> {ok, non_neg_integer(), non_neg_integer(), 0}.
stat(#link{channel = Channel}) ->
    {Heard, Sent} = teleport_nif:carrier_stat(Channel),
    {ok, Heard, Sent, 0}.

-spec setopts(pid() | #link{}, [term()]) -> ok | {error, enotsup}.
setopts(_Listen, _Options) ->
    {error, enotsup}.

-spec getopts(pid() | #link{}, [term()]) -> {error, enotsup}.
getopts(_Listen, _Options) ->
    {error, enotsup}.

%% Where a node listens, as distributed Erlang finds it.
-spec addresses(node()) -> [teleport_nif:address()].
addresses(Node) ->
    case find(Node) of
        {ok, Address} -> [Address];
        _ -> []
    end.

-spec find(node()) -> {ok, teleport_nif:address()} | unknown.
find(Node) ->
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    Epmd = net_kernel:epmd_module(),
    Found = case erlang:function_exported(Epmd, address_please, 3) of
        true -> Epmd:address_please(Name, Host, family());
        false -> erl_epmd:address_please(Name, Host, family())
    end,
    case Found of
        {ok, Ip, Port, _Version} ->
            {ok, {Ip, Port}};
        {ok, Ip} ->
            case Epmd:port_please(Name, Ip) of
                {port, Port, _Version} -> {ok, {Ip, Port}};
                _ -> unknown
            end;
        _ ->
            unknown
    end.

%% The engine looks for a node that has a carried connection. Of a node that was killed the connections are lost, and epmd knows it no
%% longer: then it is down now, and not when it was silent for too long. Another node may have lost its connections to both at once, and
%% has them again after some moments.
-spec end_if_gone(node()) -> ok.
end_if_gone(Node) ->
    case connection(Node) =:= carried andalso has_left(Node) of
        true ->
            receive after ?GONE_AFTER -> ok end,
            case {silent(Node), has_left(Node)} of
                {{true, Creation}, true} ->
                    _ = teleport_nif:disconnect(Node, {life, Creation}),
                    ok;
                _ ->
                    ok
            end;
        false ->
            ok
    end.

%% Whether epmd answers, and does not know the node. Asked for a port it says `noport' too if it cannot be reached.
-spec has_left(node()) -> boolean().
has_left(Node) ->
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    net_kernel:epmd_module() =:= erl_epmd andalso
        case erl_epmd:address_please(Name, Host, family()) of
            {ok, Ip} ->
                case erl_epmd:names(Ip) of
                    {ok, Names} -> not lists:keymember(Name, 1, Names);
                    {error, _Reason} -> false
                end;
            _ ->
                false
        end.

%% Whether nothing was heard from a node in the meantime, and in which life.
-spec silent(node()) -> {true, Creation :: pos_integer()} | false.
silent(Node) ->
    case teleport_nif:peer(atom_to_binary(Node)) of
        #{control_connected := false, last_heard_ms := Silence, creation := Creation} when Silence >= ?GONE_AFTER ->
            {true, Creation};
        _ ->
            false
    end.
