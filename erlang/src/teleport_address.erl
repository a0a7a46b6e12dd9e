%% @private
%% Addresses: where this node listens, and where other nodes can be reached. Configured addresses go first,
%% then those by which distributed Erlang reaches the node. Host names are resolved on the node that connects,
%% each time, since the answer may change.
-module(teleport_address).

-export([listen/0, interface/0, advertised/1, configured/1, of_node/1, unresolved/1, is_host/1, is_place/1, is_of_host_only/1, to_text/1,
         unresolved_to_text/1]).
-export([check/0]).
-export([start_resolver/0, find/1]).

-export_type([host/0, place/0, about/0, unresolved/0]).

-include_lib("kernel/include/net_address.hrl").

-type host() :: inet:ip_address() | string() | binary().
-type place() :: {host(), inet:port_number()}.

%% A host name that cannot be resolved here, and why.
-type unresolved() :: {host(), timeout | inet:posix()}.

%% A process that resolves a name, its monitor, and the result if that takes too long.
-type lookup() :: {pid(), reference(), [term()]}.

%% What a node tells peers about itself.
-type about() :: #{version := string(),
                   address := teleport_nif:address(),
                   advertise => undefined | host() | inet:port_number() | place()}.

%% The range of ports to listen on if none is configured.
-define(FIRST_PORT, 4371).
-define(LAST_PORT, 4498).

%% How long a node may take to say where it listens, in milliseconds.
-define(TIMEOUT, 5000).

%% How long to wait for the resolver, in milliseconds: without any other address of the node, and with one.
-define(LOOKUP, 3000).
-define(MORE, 300).

-define(ANY, {0, 0, 0, 0}).
-define(ANY6, {0, 0, 0, 0, 0, 0, 0, 0}).

%% Starts OTP's resolver, a program that stays. OTP halts the virtual machine if the first name is looked up when there
%% are no descriptors left to start it.
-spec start_resolver() -> ok.
start_resolver() ->
    _ = spawn(fun() -> inet:getaddrs("localhost", inet) end),
    ok.

%% Where the engine is to listen: as configured, or on distributed Erlang's interface at the first free port
%% of the range.
-spec listen() -> #{listen := teleport_nif:address(), ports => {inet:port_number(), inet:port_number()}}.
listen() ->
    case teleport_config:get(listen) of
        undefined -> #{listen => {interface(), 0}, ports => {?FIRST_PORT, ?LAST_PORT}};
        Address -> #{listen => Address}
    end.

%% The interface that distributed Erlang listens on, by its configuration.
-spec interface() -> inet:ip_address().
interface() ->
    Family = hd(families()),
    case [Ip || {Key, Given} <- listen_options(), Key =:= ip orelse Key =:= ifaddr, Ip <- ip(Given, Family)] of
        [Ip | _] -> Ip;
        [] -> any(Family)
    end.

%% Whether this can listen where distributed Erlang does, and nowhere else, and reach peers by its way; or is told where to listen.
-spec check() -> ok | {error, {cannot_follow, term(), string()}}.
check() ->
    Confined = [{"listens", Option} || Option <- listen_options(), is_confining(Option) orelse has_no_address(Option)]
        ++ [{"connects", Option} || Option <- options(inet_dist_connect_options), is_confining(Option)],
    case teleport_config:get(listen) =:= undefined andalso Confined of
        [{Does, Option} | _] ->
            Text = io_lib:format("distributed Erlang ~s with the option ~0tp, which teleport cannot follow: if peers are reached without"
                                 " it, set teleport's key listen to {Address, Port}", [Does, Option]),
            {error, {cannot_follow, Option, unicode:characters_to_list(Text)}};
        _ ->
            ok
    end.

%% Whether a socket with this option is in another network than one without.
-spec is_confining(term()) -> boolean().
is_confining({Key, _Given}) -> lists:member(Key, [bind_to_device, netns]);
is_confining(_Flag) -> false.

-spec has_no_address(term()) -> boolean().
has_no_address({Key, Given}) when Key =:= ip; Key =:= ifaddr -> ip(Given, inet) =:= [];
has_no_address(_Other) -> false.

%% What distributed Erlang listens with, in its order: the interface first.
-spec listen_options() -> [term()].
listen_options() ->
    [{ip, Interface} || {ok, Interface} <- [application:get_env(kernel, inet_dist_use_interface)]] ++ options(inet_dist_listen_options).

-spec options(inet_dist_listen_options | inet_dist_connect_options) -> [term()].
options(Key) ->
    case application:get_env(kernel, Key, []) of
        Given when is_list(Given) -> Given;
        _ -> []
    end.

%% An address as an option of a socket. None if it is no IP address.
-spec ip(term(), inet | inet6) -> [inet:ip_address()].
ip(any, Family) -> [any(Family)];
ip(loopback, inet) -> [{127, 0, 0, 1}];
ip(loopback, inet6) -> [{0, 0, 0, 0, 0, 0, 0, 1}];
ip(Ip, _Family) -> [Ip || inet:is_ip_address(Ip)].

-spec any(inet | inet6) -> inet:ip_address().
any(inet) -> ?ANY;
any(inet6) -> ?ANY6.

%% The address families, with that of distributed Erlang first.
-spec families() -> [inet | inet6].
families() ->
    case lists:any(fun(Carrier) -> lists:prefix("inet6", Carrier) orelse Carrier =:= "teleport6" end, teleport_dist:carriers()) of
        true -> [inet6, inet];
        false -> [inet, inet6]
    end.

%% What peers are told about this node.
-spec advertised(teleport_nif:address()) -> about().
advertised(Address) ->
    {ok, Version} = application:get_key(teleport, vsn),
    #{version => Version, address => Address, advertise => teleport_config:get(advertise)}.

%% The configured addresses of a node.
-spec configured(node()) -> {ok, [place()]} | error.
configured(Node) ->
    teleport_config:peer(Node).

%% The addresses to try for a node, in this order, and the host names that could not be resolved. `late': the node has not answered.
-spec of_node(node()) -> {[teleport_nif:address()] | late, [unresolved()]}.
of_node(Node) ->
    IsCarried = teleport_dist:is_carried(Node),
    {Candidates, Unresolved} = case configured(Node) of
        error when IsCarried -> {teleport_dist:addresses(Node), []};
        {ok, Places} -> places(looked_up([begin_lookup(Host, Port) || {Host, Port} <- Places], ?LOOKUP));
        error -> ask(Node)
    end,
    case Candidates of
        late -> {late, Unresolved};
        _ -> {unique([Candidate || {Ip, _Port} = Candidate <- Candidates, Ip =/= ?ANY, Ip =/= ?ANY6]), Unresolved}
    end.

%% The hosts among these that cannot be resolved here.
-spec unresolved([host()]) -> [unresolved()].
unresolved(Hosts) ->
    {_Places, Unresolved} = places(looked_up([begin_lookup(Host, 1) || Host <- Hosts], ?LOOKUP)),
    Unresolved.

-spec places([teleport_nif:address() | {unresolved, unresolved()}]) -> {[teleport_nif:address()], [unresolved()]}.
places(Found) ->
    {[Place || {Ip, _Port} = Place <- Found, is_tuple(Ip)], [Unresolved || {unresolved, Unresolved} <- Found]}.

-spec unique([teleport_nif:address()]) -> [teleport_nif:address()].
unique([]) -> [];
unique([First | Rest]) -> [First | unique([Other || Other <- Rest, Other =/= First])].

-spec ask(node()) -> {[teleport_nif:address()] | late, [unresolved()]}.
ask(Node) ->
    try erpc:call(Node, teleport_manager, about, [], ?TIMEOUT) of
        {ok, About} -> candidates(Node, About);
        {error, _} -> {[], []}
    catch
        error:{erpc, timeout} -> {late, []};
        _:_ -> {[], []}
    end.

-spec candidates(node(), about()) -> {[teleport_nif:address()], [unresolved()]}.
candidates(Node, #{address := {Bound, Port} = Address} = About) ->
    {Lookups, Ports} = case maps:get(advertise, About, undefined) of
        undefined -> {[], [Port]};
        Other when is_integer(Other) -> {[], [Other, Port]};
        {Host, Other} -> {[begin_lookup(Host, Other)], [Port]};
        Host -> {[begin_lookup(Host, Port)], [Port]}
    end,
    Asked = ask_carrier(Node, Bound),
    {Advertised, Unresolved} = places(looked_up(Lookups, ?LOOKUP)),
    Connected = connected(Node),
    Told = looked_up(Asked, case Advertised ++ Connected of [] -> ?LOOKUP; _ -> ?MORE end),
    Ways = [{Ip, Known} || Ip <- Connected ++ Told, Known <- Ports] ++ [Address],
    %% A loopback address of another host would lead back to this one.
    IsElsewhere = is_elsewhere(Connected),
    {Advertised ++ [Way || {Ip, _} = Way <- Ways, not (IsElsewhere andalso is_loopback(Ip))], Unresolved}.

%% Whether a node that distributed Erlang is connected to by this address is on another host.
-spec is_elsewhere([inet:ip_address()]) -> boolean().
is_elsewhere([]) ->
    false;
is_elsewhere([Ip]) ->
    not is_loopback(Ip) andalso
        case inet:getifaddrs() of
            {ok, Interfaces} -> not lists:any(fun({_Name, Options}) -> lists:member({addr, Ip}, Options) end, Interfaces);
            {error, _} -> false
        end.

is_loopback({127, _, _, _}) -> true;
is_loopback({0, 0, 0, 0, 0, 0, 0, 1}) -> true;
is_loopback(_Ip) -> false.

%% Whether a node listens on a loopback address, so that only its own host can reach it.
-spec is_of_host_only(teleport_nif:address()) -> boolean().
is_of_host_only({Ip, _Port}) -> is_loopback(Ip).

%% The address by which distributed Erlang is connected.
-spec connected(node()) -> [inet:ip_address()].
connected(Node) ->
    try net_kernel:node_info(Node, address) of
        {ok, #net_address{address = {Ip, _Port}}} -> [unmapped(Ip) || inet:is_ip_address(Ip)];
        _ -> []
    catch
        _:_ -> []
    end.

%% Begins to ask distributed Erlang's epmd module for the node's address, in the families that the node
%% listens in.
-spec ask_carrier(node(), inet:ip_address()) -> [lookup()].
ask_carrier(Node, Bound) ->
    Families = case Bound of
        ?ANY6 -> families();
        _ when tuple_size(Bound) =:= 8 -> [inet6];
        _ -> [inet]
    end,
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    Module = net_kernel:epmd_module(),
    _ = code:ensure_loaded(Module),
    Asked = case erlang:function_exported(Module, address_please, 3) of
        true -> Module;
        false -> erl_epmd
    end,
    [begin_with(fun() -> told_by(Asked, Name, Host, Family) end, []) || Family <- Families].

-spec told_by(module(), string(), string(), inet | inet6) -> [inet:ip_address()].
told_by(Module, Name, Host, Family) ->
    try Module:address_please(Name, Host, Family) of
        {ok, Ip} -> [Ip || inet:is_ip_address(Ip)];
        {ok, Ip, _Port, _Version} -> [Ip || inet:is_ip_address(Ip)];
        _ -> []
    catch
        _:_ -> []
    end.

%% Begins to resolve a name, in a process that exits with the result.
-spec begin_lookup(host(), inet:port_number()) -> lookup().
begin_lookup(Host, Port) ->
    begin_with(fun() -> lookup(Host, Port) end, [{unresolved, {Host, timeout}}]).

-spec begin_with(fun(() -> [term()]), [term()]) -> lookup().
begin_with(Lookup, IfLate) ->
    {Pid, Monitor} = spawn_monitor(?MODULE, find, [Lookup]),
    {Pid, Monitor, IfLate}.

-spec find(fun(() -> [term()])) -> no_return().
find(Lookup) ->
    exit({found, Lookup()}).

%% The results within `Patience' milliseconds, in the order of the lookups. Ends the lookups that take longer.
-spec looked_up([lookup()], non_neg_integer()) -> [Found] when Found :: term().
looked_up(Lookups, Patience) ->
    Until = erlang:monotonic_time(millisecond) + Patience,
    lists:append([found(Lookup, Until) || Lookup <- Lookups]).

-spec found(lookup(), integer()) -> [term()].
found({Pid, Monitor, IfLate}, Until) ->
    receive
        {'DOWN', Monitor, process, Pid, {found, Found}} -> Found;
        {'DOWN', Monitor, process, Pid, _Failed} -> IfLate
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        true = erlang:demonitor(Monitor, [flush]),
        true = exit(Pid, kill),
        IfLate
    end.

-spec lookup(host(), inet:port_number()) -> [teleport_nif:address() | {unresolved, unresolved()}].
lookup(Ip, Port) when is_tuple(Ip) ->
    [{Ip, Port}];
lookup(Host, Port) ->
    Name = host_name(Host),
    %% At the same time: a server of names may answer for one family only.
    Asked = [begin_with(fun() -> [inet:getaddrs(Name, Family)] end, [{error, timeout}]) || Family <- families()],
    Answers = answers(Asked, #{}, erlang:monotonic_time(millisecond) + ?LOOKUP - ?MORE),
    %% Without IPv4 addresses in IPv6 notation.
    case {[{Ip, Port} || {ok, Ips} <- Answers, Ip <- Ips, not is_mapped(Ip)], Answers} of
        {[], [{error, Reason} | _]} -> [{unresolved, {Host, Reason}}];
        {Places, _Answers} -> Places
    end.

%% The answers of all families, in their order. When one has addresses the others have a moment more.
-spec answers([lookup()], #{reference() => [Answer]}, integer()) -> [Answer] when Answer :: {ok, [inet:ip_address()]} | {error, term()}.
answers(Asked, Answers, _Until) when map_size(Answers) =:= length(Asked) ->
    lists:append([maps:get(Monitor, Answers) || {_Pid, Monitor, _IfLate} <- Asked]);
answers(Asked, Answers, Until) ->
    receive
        {'DOWN', Monitor, process, _Pid, {found, [{ok, _}] = Found}} ->
            answers(Asked, Answers#{Monitor => Found}, min(Until, erlang:monotonic_time(millisecond) + ?MORE));
        {'DOWN', Monitor, process, _Pid, {found, Found}} ->
            answers(Asked, Answers#{Monitor => Found}, Until);
        {'DOWN', Monitor, process, _Pid, _Failed} ->
            answers(Asked, Answers#{Monitor => [{error, timeout}]}, Until)
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        Late = [Lookup || {_Pid, Monitor, _IfLate} = Lookup <- Asked, not is_map_key(Monitor, Answers)],
        None = maps:from_list([{Monitor, found(Lookup, Until)} || {_Pid, Monitor, _IfLate} = Lookup <- Late]),
        answers(Asked, maps:merge(Answers, None), Until)
    end.

%% The IPv4 address behind an IPv4-mapped IPv6 address; other addresses unchanged.
-spec unmapped(inet:ip_address()) -> inet:ip_address().
unmapped({0, 0, 0, 0, 0, 16#ffff, High, Low}) -> {High bsr 8, High band 255, Low bsr 8, Low band 255};
unmapped(Ip) -> Ip.

is_mapped({0, 0, 0, 0, 0, 16#ffff, _, _}) -> true;
is_mapped(_Ip) -> false.

-spec host_name(string() | binary()) -> string().
host_name(Host) -> unicode:characters_to_list(Host).

%% Checks for the configuration.

-spec is_host(term()) -> boolean().
is_host(Host) when is_binary(Host) -> is_host(unicode:characters_to_list(Host));
is_host(Host) when is_list(Host) -> Host =/= [] andalso io_lib:printable_unicode_list(Host) andalso is_host_name(Host);
is_host(Host) -> inet:is_ip_address(Host) andalso Host =/= ?ANY andalso Host =/= ?ANY6.

%% Neither a port, which the resolver would take for an address, nor a host with a port, nor the address of all interfaces. Hosts of
%% containers may be large numbers.
-spec is_host_name(string()) -> boolean().
is_host_name(Host) ->
    IsPort = length(Host) < 6 andalso lists:all(fun(Char) -> $0 =< Char andalso Char =< $9 end, Host),
    not IsPort andalso case inet:parse_address(Host) of
        {ok, Ip} -> Ip =/= ?ANY andalso Ip =/= ?ANY6;
        {error, einval} -> not lists:member($:, Host)
    end.

-spec is_place(term()) -> boolean().
is_place({Host, Port}) -> is_host(Host) andalso is_integer(Port) andalso 0 < Port andalso Port < 65536;
is_place(_Other) -> false.

%% An address as people write it.
-spec to_text(place()) -> iolist().
to_text({Ip, Port}) when tuple_size(Ip) =:= 4 -> io_lib:format("~s:~b", [inet:ntoa(Ip), Port]);
to_text({Ip, Port}) when tuple_size(Ip) =:= 8 -> io_lib:format("[~s]:~b", [inet:ntoa(Ip), Port]);
to_text({Host, Port}) -> io_lib:format("~ts:~b", [host_name(Host), Port]).

-spec unresolved_to_text(unresolved()) -> iolist().
unresolved_to_text({Host, timeout}) ->
    io_lib:format("the host name ~ts cannot be resolved here: no resolver has answered", [host_name(Host)]);
unresolved_to_text({Host, Reason}) ->
    io_lib:format("the host name ~ts cannot be resolved here: ~ts", [host_name(Host), inet:format_error(Reason)]).
