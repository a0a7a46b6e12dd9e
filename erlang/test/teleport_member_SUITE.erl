%% Which nodes are in the cluster, why one is not, and nodes without teleport.
-module(teleport_member_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([check_takes_all_steps_to_a_peer/1, check_names_an_unknown_node/1, check_says_that_the_peer_has_no_teleport/1,
         check_names_a_closed_port/1, check_names_another_cookie/1, check_says_that_it_is_this_node/1,
         check_connects_only_where_a_message_does/1, info_tells_of_a_session/1]).
-export([a_cookie_of_one_node_is_used/1, a_wrong_cookie_is_logged/1, events_without_room_are_counted/1]).
-export([without_a_fallback_a_plain_node_is_not_running/1, the_fallback_goes_by_distributed_erlang/1,
         fallback_of_apply_and_acknowledgements/1, the_way_changes_in_order/1,
         what_began_over_distributed_erlang_ends_there/1, a_cluster_is_upgraded_node_by_node/1,
         a_peer_that_stops_and_starts_is_reached_again/1]).
-export([a_late_nodedown_ends_no_later_session/1, restarts_quicker_than_the_manager_are_told_apart/1]).

%% What teleport_test:distribute/0 has for this node.
-define(OTHER_COOKIE, 'hVq3ZwT8mRk5LxYb2NcJ').

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [check_takes_all_steps_to_a_peer, check_names_an_unknown_node, check_says_that_the_peer_has_no_teleport,
     check_names_a_closed_port, check_names_another_cookie, check_says_that_it_is_this_node,
     check_connects_only_where_a_message_does, info_tells_of_a_session,
     a_cookie_of_one_node_is_used, a_wrong_cookie_is_logged, events_without_room_are_counted,
     without_a_fallback_a_plain_node_is_not_running, the_fallback_goes_by_distributed_erlang,
     fallback_of_apply_and_acknowledgements, the_way_changes_in_order, what_began_over_distributed_erlang_ends_there,
     a_cluster_is_upgraded_node_by_node, a_peer_that_stops_and_starts_is_reached_again, a_late_nodedown_ends_no_later_session,
     restarts_quicker_than_the_manager_are_told_apart].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    IsFallback = lists:member(Case, [the_fallback_goes_by_distributed_erlang, fallback_of_apply_and_acknowledgements,
                                     the_way_changes_in_order, what_began_over_distributed_erlang_ends_there,
                                     a_cluster_is_upgraded_node_by_node, a_peer_that_stops_and_starts_is_reached_again]),
    ok = application:set_env(teleport, fallback, case IsFallback of true -> disterl; false -> error end),
    ok = teleport:start(),
    {Peer, Node} = start_without(),
    [{peer, Peer}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    teleport_test:stop_peer(?config(peer, Config)),
    _ = [application:unset_env(teleport, Key) || Key <- [peers, fallback]],
    ok = application:stop(teleport).

%% Why there is a pool, or none.

check_takes_all_steps_to_a_peer(Config) ->
    Node = ?config(node, Config),
    ok = start_at(Node),
    {ok, Steps} = teleport:check(Node),
    ?assertEqual([running, node, peer, address, tcp, handshake, session, pool], [Step || {Step, _, _} <- Steps]),
    ?assertEqual([], [Step || {_, Outcome, _} = Step <- Steps, Outcome =/= ok]),
    {ok, Version} = application:get_key(teleport, vsn),
    ?assert(says(peer, Version, Steps)),
    ?assertEqual([Node], teleport:nodes()),
    %% It finds the session that there is, and leaves it alone.
    {ok, Again} = teleport:check(Node),
    ?assert(says(session, "it was up before", Again)),
    ?assertMatch([{Node, {ok, _}}], [Check || {Checked, _} = Check <- teleport:check(), Checked =:= Node]).

check_names_an_unknown_node(_Config) ->
    {error, Steps} = teleport:check(nobody@nowhere),
    ?assertEqual([{running, ok}, {node, {error, noconnection}}, {peer, skipped}, {address, skipped}, {tcp, skipped},
                  {handshake, skipped}, {session, skipped}, {pool, skipped}], outcomes(Steps)),
    ?assert(says(node, "nobody@nowhere", Steps)).

check_says_that_the_peer_has_no_teleport(Config) ->
    Node = ?config(node, Config),
    {error, Steps} = teleport:check(Node),
    ?assertEqual([{running, ok}, {node, ok}, {peer, {error, not_running}}], lists:sublist(outcomes(Steps), 3)),
    ?assert(says(peer, "teleport:start()", Steps)),
    {Bare, BareNode} = start_bare(),
    {error, BareSteps} = teleport:check(BareNode),
    ?assertEqual({peer, {error, not_installed}}, lists:nth(3, outcomes(BareSteps))),
    teleport_test:stop_peer(Bare).

check_names_a_closed_port(_Config) ->
    %% One that no other program gets meanwhile.
    ok = application:set_env(teleport, peers, #{shut@nowhere => {{127, 0, 0, 1}, 1}}),
    {error, Steps} = teleport:check(shut@nowhere),
    ?assertEqual([{running, ok}, {node, ok}, {peer, skipped}, {address, ok}, {tcp, {error, econnrefused}},
                  {handshake, skipped}, {session, skipped}, {pool, skipped}], outcomes(Steps)),
    ?assert(says(tcp, "127.0.0.1:1 ", Steps)).

check_names_another_cookie(_Config) ->
    {Peer, Node} = start_foreign(),
    {error, Steps} = teleport:check(Node),
    ?assertEqual([{tcp, ok}, {handshake, {error, cookie}}, {session, skipped}, {pool, skipped}],
                 lists:nthtail(4, outcomes(Steps))),
    ?assert(says(handshake, "cookie", Steps)),
    teleport_test:stop_peer(Peer).

check_says_that_it_is_this_node(_Config) ->
    ?assertMatch({error, [{running, ok, _}, {node, {error, own_node}, _} | _]}, teleport:check(node())),
    ok = application:stop(teleport),
    ?assertMatch({error, [{running, {error, not_running}, _} | _]}, teleport:check(nobody@nowhere)),
    ok = teleport:start().

%% A cluster may be partitioned on purpose.
check_connects_only_where_a_message_does(Config) ->
    Node = ?config(node, Config),
    ok = start_at(Node),
    [begin
         true = net_kernel:connect_node(Node),
         ok = application:set_env(kernel, dist_auto_connect, When),
         true = erlang:disconnect_node(Node),
         teleport_test:eventually(fun() -> not lists:member(Node, nodes(connected)) end),
         Checked = teleport:check(Node),
         IsConnected = lists:member(Node, nodes(connected)),
         ok = application:unset_env(kernel, dist_auto_connect),
         ?assertMatch({When, {error, [{running, ok, _}, {node, {error, noconnection}, _} | _]}, false}, {When, Checked, IsConnected}),
         ?assert(says(node, atom_to_list(When), element(2, Checked)))
     end || When <- [never, once]],
    true = net_kernel:connect_node(Node),
    ?assertMatch({ok, _}, teleport:check(Node)).

info_tells_of_a_session(Config) ->
    Node = ?config(node, Config),
    ?assertEqual({error, no_session}, teleport:info(Node)),
    ok = start_at(Node),
    ok = teleport:prime(Node),
    Creation = erpc:call(Node, erlang, system_info, [creation]),
    ?assertMatch(#{creation := Creation, dialled := true, control_connected := true, no_process := 0}, teleport:info(Node)).

%% Cookies.

%% Distributed Erlang's own, for one node.
a_cookie_of_one_node_is_used(_Config) ->
    {Peer, Node} = start_foreign(),
    application:unset_env(teleport, peers),
    true = erlang:set_cookie(Node, ?OTHER_COOKIE),
    true = net_kernel:connect_node(Node),
    ok = teleport_test:echo(Node, echo),
    ok = teleport:send({echo, Node}, {self(), hello}),
    ?assertEqual({echo, hello}, teleport_test:receive_one()),
    teleport_test:stop_peer(Peer).

a_wrong_cookie_is_logged(_Config) ->
    Self = self(),
    %% With the filters that OTP's default handler has: what it shows is what arrives here.
    Shown = [{Name, {fun logger_filters:domain/2, {log, Compare, Domain}}}
             || {Name, Compare, Domain} <- [{domain, super, [otp, sasl]}, {no_domain, undefined, []}]],
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log,
                            #{config => Self, filter_default => stop, filters => Shown}),
    {Peer, Node} = start_foreign(),
    %% This node's attempt there, and the other's here.
    {error, {connect, _}} = teleport:send({x, Node}, hello),
    {ok, {_, Port}} = teleport_manager:address(),
    ok = teleport_test:at(Peer, application, set_env, [teleport, peers, #{node() => {{127, 0, 0, 1}, Port}}]),
    {error, {connect, _}} = teleport_test:at(Peer, teleport, send, [{x, node()}, hello]),
    Name = atom_to_binary(Node),
    ?assertMatch(#{level := warning, meta := #{peer := Name, teleport := #{<<"error">> := _}}},
                 logged("cannot connect")),
    ?assertMatch(#{level := warning, meta := #{teleport := #{<<"source">> := <<"127.0.0.1:", _/binary>>}}},
                 logged("inbound connection refused")),
    ok = logger:remove_handler(?FUNCTION_NAME),
    teleport_test:stop_peer(Peer).

%% While the process that logs is held up there is room for 256 events.
events_without_room_are_counted(_Config) ->
    ok = application:stop(teleport),
    ok = application:set_env(teleport, log_level, debug),
    ok = teleport:start(),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ok = sys:suspend(teleport_log),
    {ok, {_, Port}} = teleport_manager:address(),
    %% Each of them is an event at least.
    _ = [refused(Port) || _ <- lists:seq(1, 300)],
    ok = sys:resume(teleport_log),
    #{level := warning, msg := {_Format, [Dropped]}, meta := #{teleport := _}} = logged("were not logged: too many"),
    %% The process may have taken some before it was suspended.
    ?assert(Dropped > 0, Dropped),
    ok = logger:remove_handler(?FUNCTION_NAME),
    ok = application:unset_env(teleport, log_level).

%% A connection that does not speak the protocol is closed.
refused(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    ok = gen_tcp:send(Socket, binary:copy(<<"GET / HTTP/1.1\r\n">>, 10)),
    {error, _} = gen_tcp:recv(Socket, 0, 30000),
    gen_tcp:close(Socket).

logged(Text) ->
    receive
        {logged, #{msg := {Format, Args}} = Event} ->
            case string:find(io_lib:format(Format, Args), Text) of
                nomatch -> logged(Text);
                _ -> Event
            end
    after 30000 ->
        error({not_logged, Text})
    end.

%% Nodes without teleport.

without_a_fallback_a_plain_node_is_not_running(Config) ->
    Node = ?config(node, Config),
    ?assertEqual({error, {not_running, Node}}, teleport:send({x, Node}, hello)),
    ?assertExit({{nodedown, Node}, _}, teleport:gs_call({x, Node}, hello)).

the_fallback_goes_by_distributed_erlang(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    Server = teleport_test_server:start_at(Node, server),
    ok = teleport:send({server, Node}, {note, by_name}),
    ok = teleport:send(Server, {note, by_pid}, [nosuspend]),
    ok = teleport:cast({server, Node}, {note, a_cast}),
    ?assertEqual([by_name, by_pid, a_cast], teleport:gs_call(Server, notes)),
    ?assertEqual(Self, teleport:gs_call({server, Node}, caller)),
    Id = teleport:send_request({server, Node}, {echo, 1}),
    ?assertEqual({reply, {ok, 1}}, teleport:receive_response(Id, 5000)),
    ?assertEqual({[{Node, {ok, 2}}], []}, teleport:multi_call([Node], server, {echo, 2})),
    ?assertExit({timeout, {gen_server, call, [Server, never, 10]}}, teleport:gs_call(Server, never, 10)),
    ?assertExit({noproc, _}, teleport:gs_call({nobody, Node}, hello)),
    Ended = teleport:monitor(Server),
    true = teleport:demonitor(Ended),
    Monitor = teleport:monitor(Server),
    ?assertExit({{tired, 1}, _}, teleport:gs_call(Server, {exit, {tired, 1}})),
    ?assertEqual({'DOWN', Monitor, process, Server, {tired, 1}}, teleport_test:receive_one()),
    ?assertEqual([], teleport_test:mailbox()),
    ?assertEqual([], teleport:nodes()),
    %% A node that is not there has no way at all.
    ?assertEqual({error, {not_running, nobody@nowhere}}, teleport:send({x, nobody@nowhere}, hello)).

%% As erpc does; and nobody over there says that a message has arrived.
fallback_of_apply_and_acknowledgements(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])),
    ?assertEqual([1, 2], teleport_erpc:call(Node, lists, sort, [[2, 1]], 30000)),
    ?assertError({exception, badarg, [_ | _]}, teleport_erpc:call(Node, erlang, atom_to_list, [1])),
    ?assertError({erpc, timeout}, teleport_erpc:call(Node, timer, sleep, [infinity], 10)),
    ok = teleport:send(Server, {note, by_pid}, [{ack, 1}]),
    ?assertEqual({teleport, 1, {unconfirmed, disterl}}, teleport_test:receive_one()),
    ok = teleport:send({server, Node}, {note, by_name}, [nosuspend, {ack, {any, term}}]),
    ?assertEqual({teleport, {any, term}, {unconfirmed, disterl}}, teleport_test:receive_one()),
    ?assertEqual([by_pid, by_name], teleport:gs_call(Server, notes)),
    ok = teleport:send({nobody, Node}, x, [{ack, 2}]),
    ?assertEqual({teleport, 2, {unconfirmed, disterl}}, teleport_test:receive_one()),
    ?assertEqual([], teleport_test:mailbox()),
    ?assertEqual([], teleport:nodes()).

%% Small messages and large ones, from several processes, while teleport is started there.
the_way_changes_in_order(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    Rounds = 3,
    _ = [begin
        Collector = spawn_collector(Node, Self),
        Senders = [spawn_link(fun() -> flood(Self, Collector, 1) end) || _ <- lists:seq(1, 4)],
        [receive {begun, Sender} -> ok end || Sender <- Senders],
        ?assertEqual([], teleport:nodes()),
        ok = start_at(Node),
        teleport_test:eventually(fun() -> teleport:nodes() =:= [Node] end),
        [Sender ! stop || Sender <- Senders],
        Sent = [receive {sent, Sender, Count} -> {Sender, Count} end || Sender <- Senders],
        ok = teleport:send(Collector, {report, Sent}),
        ?assertEqual(in_order, teleport_test:receive_one()),
        ok = erpc:call(Node, application, stop, [teleport]),
        teleport_test:eventually(fun() -> teleport_route:known(Node) =:= error end)
    end || _ <- lists:seq(1, Rounds)],
    ok.

%% Sends numbers until it is stopped, every tenth message a large one.
flood(Parent, To, Number) ->
    Body = case Number rem 10 of
        0 -> binary:copy(<<Number:32>>, 500000);
        _ -> <<>>
    end,
    ok = teleport:send(To, {self(), Number, Body}),
    Number =:= 20 andalso (Parent ! {begun, self()}),
    receive stop -> Parent ! {sent, self(), Number}
    after 0 -> flood(Parent, To, Number + 1)
    end.

spawn_collector(Node, Parent) ->
    spawn(Node, fun() -> collect(Parent, #{}) end).

%% Each sender's numbers come one after the other.
collect(Parent, Last) ->
    receive
        {report, Sent} ->
            Complete = lists:all(fun({Sender, Count}) -> maps:get(Sender, Last, 0) =:= Count end, Sent),
            case Complete of
                true -> teleport:send(Parent, in_order);
                false -> self() ! {report, Sent}, collect(Parent, collect_one(Parent, Last))
            end;
        {_Sender, _Number, _Body} = Message ->
            collect(Parent, note(Parent, Message, Last))
    end.

collect_one(Parent, Last) ->
    receive {_Sender, _Number, _Body} = Message -> note(Parent, Message, Last) end.

note(Parent, {Sender, Number, _Body}, Last) ->
    case maps:get(Sender, Last, 0) + 1 of
        Number -> Last#{Sender => Number};
        Expected -> Parent ! {out_of_order, Expected, Number}, exit(out_of_order)
    end.

%% Calls and monitors of distributed Erlang end there.
what_began_over_distributed_erlang_ends_there(Config) ->
    Node = ?config(node, Config),
    Server = teleport_test_server:start_at(Node, server),
    [Ended, Monitor] = [teleport:monitor(Server) || _ <- [1, 2]],
    [Late, Given] = [teleport:send_request(Server, {held, Number}) || Number <- [1, 2]],
    ok = start_at(Node),
    teleport_test:eventually(fun() -> teleport:send(Server, {note, x}), teleport:nodes() =:= [Node] end),
    ?assertEqual(timeout, teleport:receive_response(Given, 0)),
    %% Asked over the pool. The replies to those before go over distributed Erlang.
    ?assertEqual({released, 2}, teleport:gs_call(Server, release, 30000)),
    ?assertEqual({reply, {ok, 1}}, teleport:receive_response(Late, 30000)),
    true = teleport:demonitor(Ended),
    ?assertExit({{tired, 2}, _}, teleport:gs_call(Server, {exit, {tired, 2}})),
    ?assertEqual({'DOWN', Monitor, process, Server, {tired, 2}}, teleport_test:receive_one()),
    ?assertEqual([], teleport_test:mailbox()).

%% Three nodes: here, one that has been upgraded, one that has not been.
a_cluster_is_upgraded_node_by_node(Config) ->
    Old = ?config(node, Config),
    {Peer, New} = start_without(),
    ok = erpc:call(New, application, set_env, [teleport, fallback, disterl]),
    ok = start_at(New),
    true = erpc:call(New, net_kernel, connect_node, [Old]),
    Servers = [teleport_test_server:start_at(Node, server) || Node <- [Old, New]],
    Calls = fun() ->
        [?assertEqual({ok, I}, teleport:gs_call(Server, {echo, I})) || I <- [1, 2], Server <- Servers],
        [?assertEqual({ok, 3}, erpc:call(New, teleport, gs_call, [Server, {echo, 3}])) || Server <- Servers]
    end,
    Calls(),
    ?assertEqual([New], teleport:nodes()),
    ok = start_at(Old),
    Sessions = fun() -> Calls(), lists:sort(teleport:nodes()) =:= lists:sort([Old, New]) end,
    teleport_test:eventually(Sessions),
    teleport_test:eventually(fun() -> Calls(), lists:member(Old, erpc:call(New, teleport, nodes, [])) end),
    teleport_test:stop_peer(Peer).

a_peer_that_stops_and_starts_is_reached_again(Config) ->
    Node = ?config(node, Config),
    ok = start_at(Node),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual({ok, 1}, teleport:gs_call(Server, {echo, 1})),
    ?assertEqual([Node], teleport:nodes()),
    ok = erpc:call(Node, application, stop, [teleport]),
    Works = fun(I) -> try teleport:gs_call(Server, {echo, I}) =:= {ok, I} catch exit:{{nodedown, _}, _} -> false end end,
    teleport_test:eventually(fun() -> Works(2) end),
    ?assertEqual([], teleport:nodes()),
    ok = start_at(Node),
    teleport_test:eventually(fun() -> Works(3) andalso teleport:nodes() =:= [Node] end).

%% Nodes that come and go.

a_late_nodedown_ends_no_later_session(Config) ->
    Node = ?config(node, Config),
    ok = start_at(Node),
    ok = teleport:prime(Node),
    #{creation := Life} = teleport:info(Node),
    %% Of an earlier life.
    ?assertEqual(false, teleport_nif:disconnect(Node, {life, Life bxor 1})),
    ?assertEqual(false, teleport_nif:disconnect(Node, {other_than, Life})),
    ?assertMatch(#{creation := Life}, teleport:info(Node)),
    ?assertEqual(true, teleport_nif:disconnect(Node, {other_than, Life bxor 1})),
    teleport_test:eventually(fun() -> teleport:info(Node) =:= {error, no_session} end),
    %% Of this life.
    ok = teleport:prime(Node),
    true = erlang:disconnect_node(Node),
    teleport_test:eventually(fun() -> teleport:info(Node) =:= {error, no_session} end).

%% While the manager does nothing: what it is told then is old, and the session is with a later life.
restarts_quicker_than_the_manager_are_told_apart(Config) ->
    Node = ?config(node, Config),
    [Name, _Host] = string:split(atom_to_list(Node), "@"),
    ok = start_at(Node),
    ok = teleport:prime(Node),
    {ok, {_, Port}} = teleport_manager:address(),
    %% The peer knows where to go: nobody here would answer.
    Known = [{peers, #{node() => {{127, 0, 0, 1}, Port}}}],
    Manager = whereis(teleport_manager),
    ok = sys:suspend(Manager),
    Lives = [1, 2, 3],
    Last = lists:foldl(fun(_, Peer) ->
        teleport_test:stop_peer(Peer),
        {Next, Node} = teleport_test:start_peer(Name, Known),
        ok = erpc:call(Node, teleport, prime, [node()]),
        Next
    end, ?config(peer, Config), Lives),
    Creation = erpc:call(Node, erlang, system_info, [creation]),
    teleport_test:eventually(fun() -> is_life(Creation, Node) end),
    ok = teleport_test:echo(Node, echo),
    %% Tells if this very session ends.
    Monitor = teleport:monitor({echo, Node}),
    ok = teleport:send({echo, Node}, {self(), hello}),
    ?assertEqual({echo, hello}, teleport_test:receive_one()),
    teleport_test:eventually(fun() -> length(nodedowns(Manager, Node)) =:= length(Lives) end),
    ok = sys:resume(Manager),
    teleport_test:eventually(fun() -> nodedowns(Manager, Node) =:= [] end),
    %% It asks each life for its number, and knows them all in the end.
    teleport_test:eventually(fun() -> sys:get_state(Manager), process_info(Manager, monitors) =:= {monitors, []} end),
    ok = teleport:send({echo, Node}, {self(), still_here}),
    ?assertEqual({echo, still_here}, teleport_test:receive_one()),
    ?assertEqual([], teleport_test:mailbox()),
    ?assert(is_life(Creation, Node)),
    true = teleport:demonitor(Monitor),
    teleport_test:stop_peer(Last).

is_life(Creation, Node) ->
    case teleport:info(Node) of
        #{creation := Creation} -> true;
        _ -> false
    end.

%% What the manager has not looked at yet.
nodedowns(Manager, Node) ->
    {messages, Messages} = process_info(Manager, messages),
    [Message || {nodedown, Down, _Info} = Message <- Messages, Down =:= Node].

%% Peers.

%% In the cluster, with teleport in the code path, not started.
start_without() ->
    start_node(teleport_test:code_path()).

start_bare() ->
    start_node([]).

start_node(Args) ->
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => Args}),
    true = net_kernel:connect_node(Node),
    {Peer, Node}.

start_at(Node) ->
    erpc:call(Node, teleport, start, []).

%% With another cookie, so not in the cluster; configured by address.
start_foreign() ->
    Args = ["-setcookie", atom_to_list(?OTHER_COOKIE) | teleport_test:code_path()],
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => Args}),
    ok = teleport_test:at(Peer, teleport, start, []),
    {ok, {_, Port}} = teleport_test:at(Peer, teleport_manager, address, []),
    ok = application:set_env(teleport, peers, #{Node => {{127, 0, 0, 1}, Port}}),
    {Peer, Node}.

outcomes(Steps) ->
    [{Step, Outcome} || {Step, Outcome, _Text} <- Steps].

says(Step, Part, Steps) ->
    {Step, _Outcome, Text} = lists:keyfind(Step, 1, Steps),
    string:find(Text, Part) =/= nomatch.
