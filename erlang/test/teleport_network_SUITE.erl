%% Hosts of their own: network namespaces, joined by a cable. Only root can make them, with `ip' and `iptables'; where that cannot be
%% done nothing is tried, unless TELEPORT_TEST_NETWORKS=required says that it has to be.
-module(teleport_network_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([hosts_with_ipv6_only_reach_each_other/1, an_inner_address_is_reached_by_an_outer_one/1,
         translated_ports_are_reached_as_advertised/1, names_of_an_epmd_module_are_resolved_by_it/1]).
-export([called/1, send/1]).
-export([a_resolver_that_never_answers_is_not_needed/1, names_are_looked_up_when_they_are_used/1,
         a_loopback_of_another_host_is_not_the_peer/1, a_dropped_port_is_named_in_the_log/1,
         a_node_that_is_not_reached_connects_when_asked/1, nodes_are_reached_over_what_they_have_set_up/1,
         a_link_that_is_down_or_half_down_for_a_while_loses_nothing/1]).

-import(teleport_test, [at/4]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [hosts_with_ipv6_only_reach_each_other, an_inner_address_is_reached_by_an_outer_one,
     translated_ports_are_reached_as_advertised, names_of_an_epmd_module_are_resolved_by_it,
     a_resolver_that_never_answers_is_not_needed, names_are_looked_up_when_they_are_used,
     a_loopback_of_another_host_is_not_the_peer, a_dropped_port_is_named_in_the_log,
     a_node_that_is_not_reached_connects_when_asked, nodes_are_reached_over_what_they_have_set_up,
     a_link_that_is_down_or_half_down_for_a_while_loses_nothing].

init_per_suite(Config) ->
    Spaces = [name(Number) || Number <- [1, 2]],
    case make(Spaces) of
        ok ->
            remove(Spaces),
            [{spaces, Spaces} | Config];
        {error, Why} ->
            Text = "network namespaces cannot be made, so hosts of their own are not tested: run as root, with iproute2 and iptables ("
                ++ Why ++ ")",
            case os:getenv("TELEPORT_TEST_NETWORKS") of
                "required" ->
                    error(Text);
                _ ->
                    io:format(user, "~nteleport_network_SUITE: ~ts~n", [Text]),
                    {skip, Text}
            end
    end.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = make(?config(spaces, Config)),
    Config.

end_per_testcase(_Case, Config) ->
    remove(?config(spaces, Config)).

%% As in a cluster of hosts that have no other addresses.
hosts_with_ipv6_only_reach_each_other(Config) ->
    Spaces = ?config(spaces, Config),
    [run(["ip -n ", Space, " addr add fd00:7::", digit(Number), "/64 dev tp nodad"]) || {Number, Space} <- numbered(Spaces)],
    Nodes = [start(Space, "n" ++ digit(Number) ++ "@fd00:7::" ++ digit(Number), ["-proto_dist", "inet6_tcp"], [])
             || {Number, Space} <- numbered(Spaces)],
    %% Each is the only one of its host: the port that everybody knows.
    [?assertEqual({{0, 0, 0, 0, 0, 0, 0, 0}, 4371}, address(Node)) || Node <- Nodes],
    both_ways(Nodes),
    [stop(Node) || Node <- Nodes].

%% The second host's name leads to an address that it does not have: what comes there is sent on to it (1:1 NAT).
an_inner_address_is_reached_by_an_outer_one(Config) ->
    Spaces = [_, Second] = with_ipv4(Config),
    translate(Second, ["-d 10.77.0.2 -p tcp -j DNAT --to-destination 10.88.0.2"]),
    Inner = ["-kernel", "inet_dist_use_interface", "{10,88,0,2}"],
    [A, B] = Nodes = start_both(Spaces, Inner, []),
    ?assertEqual({{10, 88, 0, 2}, 4371}, address(B)),
    both_ways(Nodes),
    %% Anew, from the side that has to find the way.
    true = at(element(1, A), teleport_nif, disconnect, [element(2, B)]),
    both_ways(Nodes),
    [stop(Node) || Node <- Nodes].

%% The port at which it listens is closed from outside; another one leads there.
translated_ports_are_reached_as_advertised(Config) ->
    Spaces = [_, Second] = with_ipv4(Config),
    translate(Second, ["-d 10.77.0.2 -p tcp --dport 19101 -j DNAT --to-destination 10.88.0.2:9101",
                       "-d 10.77.0.2 -p tcp ! --dport 9101 -j DNAT --to-destination 10.88.0.2"]),
    run(["ip netns exec ", Second, " iptables -A INPUT -p tcp -d 10.77.0.2 --dport 9101 -j REJECT"]),
    [begin
        Nodes = [A, B] = start_both(Spaces, [], [{listen, {{0, 0, 0, 0}, 9101}}, {advertise, Advertised}]),
        ?assertEqual({ok, 1}, call(A, B, 1)),
        {ok, Steps} = at(element(1, A), teleport, check, [element(2, B)]),
        ?assertMatch({peer, ok, _}, lists:keyfind(peer, 1, Steps)),
        both_ways(Nodes),
        [stop(Node) || Node <- Nodes]
     end || Advertised <- [19101, {{10, 77, 0, 2}, 19101}, {"10.77.0.2", 19101}]].

%% The host in a node's name means nothing to anybody but the module that distributed Erlang asks.
names_of_an_epmd_module_are_resolved_by_it(Config) ->
    Spaces = with_ipv4(Config),
    Nodes = [start(Space, "n" ++ digit(Number) ++ "@host" ++ digit(Number) ++ ".invalid", ["-epmd_module", "teleport_test_epmd"], [])
             || {Number, Space} <- numbered(Spaces)],
    both_ways(Nodes),
    [stop(Node) || Node <- Nodes].

%% The first node reaches the second, which cannot look up the name of the first, and need not.
a_resolver_that_never_answers_is_not_needed(Config) ->
    [{Peer, _} = A, {_, Away} = B] = [start(Space, Name, ["-epmd_module", "teleport_test_epmd"], [])
        || {Space, Name} <- lists:zip(with_ipv4(Config), ["n1@silent1.invalid", "n2@host2.invalid"])],
    true = at(Peer, net_kernel, connect_node, [Away]),
    ?assertEqual({ok, back}, call(B, A, back)),
    [stop(Node) || Node <- [A, B]].

%% In `peers'; and there may be several of them. Nothing else is asked then.
names_are_looked_up_when_they_are_used(Config) ->
    Spaces = with_ipv4(Config),
    [{Peer, _} = A, {_, Node} = B] = start_both(Spaces, [], []),
    ok = at(Peer, application, set_env, [teleport, peers, #{Node => [{"outer.example", 4371}, {<<"other.example">>, 4371}]}]),
    ok = at(Peer, inet_db, set_lookup, [[file]]),
    ?assertMatch({error, {not_running, Node}}, at(Peer, teleport, send, [{server, Node}, {note, 1}])),
    %% No process is there.
    ok = at(Peer, inet_db, add_host, [{10, 77, 0, 1}, ["outer.example"]]),
    ?assertMatch({error, {connect, _}}, at(Peer, teleport, send, [{server, Node}, {note, 2}])),
    ok = at(Peer, inet_db, add_host, [{10, 77, 0, 2}, ["other.example"]]),
    ?assertEqual({ok, 3}, call(A, B, 3)),
    [stop(Started) || Started <- [A, B]].

%% What is there is not the peer, but a node of the own host.
a_loopback_of_another_host_is_not_the_peer(Config) ->
    [First, Second] = with_ipv4(Config),
    A = start(First, "n1@10.77.0.1", [], []),
    {_, Node} = B = start(Second, "n2@10.77.0.2", [], [{listen, {{127, 0, 0, 1}, 4371}}]),
    C = start(Second, "n3@10.77.0.2", [], []),
    Addresses = fun({Peer, _}) ->
        true = at(Peer, net_kernel, connect_node, [Node]),
        {Found, []} = at(Peer, teleport_address, of_node, [Node]),
        Found
    end,
    ?assertEqual([{{10, 77, 0, 2}, 4371}], Addresses(A)),
    %% It has to connect itself.
    {ok, Steps} = peer:call(element(1, A), teleport, check, [Node], 30000),
    ?assertMatch({tcp, {warning, econnrefused}, _}, lists:keyfind(tcp, 1, Steps)),
    {peer, ok, Text} = lists:keyfind(peer, 1, Steps),
    ?assertNotEqual(nomatch, string:find(Text, "for its own host only")),
    %% From there it is the way.
    ?assert(lists:member({{127, 0, 0, 1}, 4371}, Addresses(C))),
    both_ways([B, C]),
    [stop(Started) || Started <- [A, B, C]].

%% A call's time ends before the node gives up; the log has the reason by then.
a_dropped_port_is_named_in_the_log(Config) ->
    Spaces = with_ipv4(Config),
    [close(Space, "DROP") || Space <- Spaces],
    %% On a busy machine the engine may come to it too late at times; one that says nothing before the call ends never does.
    ?assert(lists:any(fun(_) -> is_named(Spaces) end, [1, 2, 3])).

is_named(Spaces) ->
    [{Peer, _}, {_, Node}] = Nodes = start_both(Spaces, [], []),
    {{'EXIT', {timeout, _}}, Logged} = peer:call(Peer, ?MODULE, called, [Node], 30000),
    [stop(Started) || Started <- Nodes],
    case [Said || {warning, Said} <- Logged, string:find(Said, "cannot connect") =/= nomatch] of
        [] ->
            false;
        [Text] ->
            ?assertNotEqual({Text, nomatch}, {Text, string:find(Text, "10.77.0.2:4371: no answer")}),
            true
    end.

%% Distributed Erlang needs no more than that either of two nodes reaches the other. The one that is not reached is asked to connect.
a_node_that_is_not_reached_connects_when_asked(Config) ->
    Spaces = [First, Second] = with_ipv4(Config),
    [begin
        ok = lists:foreach(fun nobody_listens/1, Spaces),
        close(Closed, Target),
        [A, B] = Nodes = start_both(Spaces, [], []),
        {Caller, {_, Called} = Server} = case Closed of
            Second -> {A, B};
            First -> {B, A}
        end,
        ?assertEqual({Target, Closed, {ok, 1}}, {Target, Closed, call(Caller, Server, 1)}),
        %% The session is not set up again.
        {ok, Steps} = peer:call(element(1, Caller), teleport, check, [Called], 30000),
        ?assertMatch({tcp, {warning, _}, _}, lists:keyfind(tcp, 1, Steps)),
        both_ways(Nodes),
        [stop(Started) || Started <- Nodes],
        open(Closed, Target)
     end || Target <- ["REJECT", "DROP"], Closed <- Spaces].

%% They reach others, and so does teleport; others reach them over what they have set up.
nodes_are_reached_over_what_they_have_set_up(Config) ->
    [First, Second] = with_ipv4(Config),
    Nodes = [{Peer, _}, {_, Node}] = [start(First, "n1@10.77.0.1", ["-dist_listen", "false"], []), start(Second, "n2@10.77.0.2", [], [])],
    true = at(Peer, net_kernel, connect_node, [Node]),
    both_ways(Nodes),
    [stop(Started) || Started <- Nodes].

%% Nothing comes through, or nothing in one direction; connections and messages wait for the way to come back.
a_link_that_is_down_or_half_down_for_a_while_loses_nothing(Config) ->
    [First, Second] = Spaces = with_ipv4(Config),
    [{Peer, _}, {Away, Node}] = Nodes = start_both(Spaces, [], []),
    both_ways(Nodes),
    true = at(Peer, erlang, register, [sender, at(Peer, erlang, spawn, [?MODULE, send, [{server, Node}]])]),
    Send = fun(From, Until) -> {send, _} = at(Peer, erlang, send, [sender, {send, lists:seq(From, Until)}]) end,
    Drop = fun(Space, Do) -> run(["ip netns exec ", Space, " iptables -", Do, " OUTPUT -o tp -j DROP"]) end,
    Link = fun(_Space, Do) -> run(["ip -n ", First, " link set tp ", case Do of "A" -> "down"; "D" -> "up" end]) end,
    lists:foldl(fun({Fault, Space}, From) ->
        Fault(Space, "A"),
        Send(From, From + 9),
        teleport_test:eventually(fun() -> maps:get(last_heard_ms, at(Peer, teleport, info, [Node])) >= 3000 end),
        Send(From + 10, From + 19),
        Fault(Space, "D"),
        both_ways(Nodes),
        From + 20
    end, 1, [{Link, First}, {Drop, First}, {Drop, Second}]),
    teleport_test:eventually(fun() -> at(Away, gen_server, call, [server, notes]) =:= lists:seq(1, 60) end),
    %% All in one session.
    [?assertEqual([], [Ended || {_, Count} = Ended <- maps:to_list(maps:get(sessions_ended, at(P, teleport, info, []))), Count > 0])
     || {P, _} <- Nodes],
    [stop(Started) || Started <- Nodes].

%% Sends numbers as it is told to, with and without something large.
-spec send({atom(), node()}) -> no_return().
send(To) ->
    receive
        {send, Numbers} ->
            [ok = teleport:cast(To, {note, N, binary:copy(<<N>>, 300000 * (N rem 2))}) || N <- Numbers],
            send(To)
    end.

%% What comes of a call, and what has been logged by then.
called(Node) ->
    ok = logger:add_handler(?MODULE, teleport_test_log, #{config => self()}),
    Outcome = teleport_test:caught(fun() -> teleport:gs_call({server, Node}, x) end),
    _ = sys:get_state(teleport_log),
    {Outcome, teleport_test_log:all()}.

%% Hosts.

with_ipv4(Config) ->
    Spaces = [_, Second] = ?config(spaces, Config),
    [run(["ip -n ", Space, " addr add 10.77.0.", digit(Number), "/24 dev tp"]) || {Number, Space} <- numbered(Spaces)],
    run(["ip -n ", Second, " addr add 10.88.0.2/32 dev lo"]),
    Spaces.

%% For what others begin with teleport.
%% The nodes of before have given their ports back.
nobody_listens(Space) ->
    teleport_test:eventually(fun() -> os:cmd("ip netns exec " ++ Space ++ " ss -Htln 'sport = :4371'") =:= "" end).

close(Space, Target) ->
    run(["ip netns exec ", Space, " iptables -A INPUT -p tcp --dport 4371 -j ", Target]).

open(Space, Target) ->
    run(["ip netns exec ", Space, " iptables -D INPUT -p tcp --dport 4371 -j ", Target]).

translate(Space, Rules) ->
    [run(["ip netns exec ", Space, " iptables -t nat -A PREROUTING ", Rule]) || Rule <- Rules].

name(Number) ->
    "teleport_" ++ os:getpid() ++ "_" ++ digit(Number).

digit(Number) ->
    integer_to_list(Number).

numbered(Spaces) ->
    lists:zip([1, 2], Spaces).

make([First, Second] = Spaces) ->
    Commands = [["ip netns add ", Space] || Space <- Spaces]
        ++ [["ip -n ", First, " link add tp type veth peer name tp netns ", Second]]
        ++ [["ip -n ", Space, " link set ", Link, " up"] || Space <- Spaces, Link <- ["lo", "tp"]]
        ++ [["ip netns exec ", First, " iptables -t nat -L PREROUTING"]],
    try lists:foreach(fun run/1, Commands)
    catch error:{failed, _Command, Output} ->
        remove(Spaces),
        {error, Output}
    end.

%% With what nodes have left running there: epmd.
remove(Spaces) ->
    [begin
        [os:cmd("kill " ++ Pid) || Pid <- string:lexemes(os:cmd("ip netns pids " ++ Space), "\n"), is_pid_number(Pid)],
        os:cmd("ip netns del " ++ Space)
     end || Space <- Spaces],
    ok.

is_pid_number(Text) ->
    lists:all(fun(Char) -> Char >= $0 andalso Char =< $9 end, Text).

run(Command) ->
    Line = unicode:characters_to_list([Command, " 2>&1; echo $?"]),
    Output = string:trim(os:cmd(Line)),
    case lists:reverse(string:split(Output, "\n", all)) of
        ["0" | _] -> ok;
        [_Code | Lines] -> error({failed, Line, lists:flatten(lists:join(" ", lists:reverse(Lines)))})
    end.

%% Nodes.

start_both([First, Second], More, Configuration) ->
    [start(First, "n1@10.77.0.1", [], []), start(Second, "n2@10.77.0.2", More, Configuration)].

start(Space, Node, More, Configuration) ->
    [Name, Host] = string:split(Node, "@"),
    Args = ["-setcookie", "aVhQ3tBnX81kLmZr", "-connect_all", "false" | teleport_test:code_path()] ++ More,
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    {ok, Peer, Started} = peer:start(#{name => Name, host => Host, longnames => true, connection => standard_io,
                                       exec => {os:find_executable("ip"), ["netns", "exec", Space, Erl]}, args => Args}),
    ok = at(Peer, application, load, [teleport]),
    [ok = at(Peer, application, set_env, [teleport, Key, Value]) || {Key, Value} <- Configuration],
    ok = at(Peer, teleport, start, []),
    {ok, _} = at(Peer, teleport_test_server, start, [server]),
    {Peer, Started}.

stop({Peer, _Node}) ->
    teleport_test:stop_peer(Peer).

address({Peer, _Node}) ->
    {ok, Address} = at(Peer, teleport_manager, address, []),
    Address.

call({Peer, _}, {_, Node}, Term) ->
    peer:call(Peer, teleport, gs_call, [{server, Node}, {echo, Term}, 20000], 30000).

both_ways([A, B]) ->
    [?assertEqual({ok, Term}, call(From, To, Term)) || {From, To, Term} <- [{A, B, there}, {B, A, back}]],
    ok.
