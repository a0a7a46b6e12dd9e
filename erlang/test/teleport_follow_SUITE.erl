%% What distributed Erlang changes while teleport runs counts from then on: the node's name and creation, cookies, the ticktime.
%% Where there is no distributed Erlang the application rests.
-module(teleport_follow_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([it_follows_to_the_same_name/1, it_follows_to_another_name/1, those_who_wait_are_told/1,
         renaming_again_and_again_hangs_nothing/1]).
-export([told_before_the_name_goes/1, nothing_is_decoded_while_the_name_changes/1,
         no_session_is_locked_while_the_name_changes/1,
         what_comes_after_an_unnoticed_stop_arrives/1]).
-export([it_rests_without_a_name/1, a_node_takes_its_name_from_the_first_peer/1, hidden_nodes_are_reached/1]).
-export([it_follows_cookies/1, a_cookie_for_one_node_is_used/1, nobody_guesses_the_cookie_at_the_end/1,
         a_node_that_distributed_erlang_refuses_gets_no_session/1]).
-export([questions_of_strangers_are_bounded/1]).
-export([an_engine_that_cannot_start_is_tried_again/1, wrong_values_are_done_without/1]).
-export([it_listens_where_it_is_told_to/1, networks_that_it_cannot_follow_to_are_refused/1]).
-export([a_name_has_its_addresses_though_one_family_is_silent/1]).
-export([it_follows_the_ticktime/1, sessions_that_exist_follow_the_ticktime/1, a_configured_ticktime_wins/1,
         a_ticktime_that_is_set_later_ends_no_following/1,
         encrypted_clusters_are_not_downgraded/1]).
%% On peers.
-export([wait_for/3, told/1, be_strange/2, requested/2, unresolved/1]).

-import(teleport_test, [at/4]).

-define(COOKIE, 'aVhQ3tBnX81kLmZr').
-define(OTHER, 'pW9cYt5RfJ20sDqE').

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [it_follows_to_the_same_name, it_follows_to_another_name, those_who_wait_are_told, renaming_again_and_again_hangs_nothing,
     told_before_the_name_goes, nothing_is_decoded_while_the_name_changes, no_session_is_locked_while_the_name_changes,
     what_comes_after_an_unnoticed_stop_arrives,
     it_rests_without_a_name, a_node_takes_its_name_from_the_first_peer, hidden_nodes_are_reached, it_follows_cookies,
     a_cookie_for_one_node_is_used, nobody_guesses_the_cookie_at_the_end,
     a_node_that_distributed_erlang_refuses_gets_no_session, questions_of_strangers_are_bounded,
     an_engine_that_cannot_start_is_tried_again, wrong_values_are_done_without,
     it_listens_where_it_is_told_to, networks_that_it_cannot_follow_to_are_refused,
     a_name_has_its_addresses_though_one_family_is_silent,
     it_follows_the_ticktime, sessions_that_exist_follow_the_ticktime, a_configured_ticktime_wins,
     a_ticktime_that_is_set_later_ends_no_following, encrypted_clusters_are_not_downgraded].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) -> ok.

init_per_testcase(_Case, Config) ->
    ok = teleport:start(),
    Config.

end_per_testcase(_Case, _Config) ->
    teleport_test:stop_here().

%% Identity.

it_follows_to_the_same_name(_Config) ->
    again(fun(Name) -> Name end, fun({noproc, _}) -> true end).

it_follows_to_another_name(_Config) ->
    again(fun(_Name) -> peer:random_name() end, fun({{nodedown, _}, _}) -> true end).

again(Next, IsAsExpected) ->
    {Peer, Name, Node} = start_named(),
    Old = at(Peer, erlang, whereis, [server]),
    both_ways(Peer, Node, 1),
    ok = at(Peer, net_kernel, stop, []),
    Other = name(Peer, Next(Name)),
    both_ways(Peer, Other, 2),
    %% Pids of then are nobody's.
    {exit, Reason} = teleport_test:outcome(teleport, gs_call, [Old, {echo, 1}]),
    ?assert(IsAsExpected(Reason)),
    Server = at(Peer, erlang, whereis, [server]),
    ?assertEqual({ok, there}, teleport:gs_call(Server, {echo, there})),
    Monitor = teleport:monitor(Server),
    ok = at(Peer, gen_server, stop, [server]),
    ?assertEqual({'DOWN', Monitor, process, Server, normal}, teleport_test:receive_one()),
    ?assertEqual([], teleport_test:mailbox()),
    stop(Peer).

%% Calls, monitors and acknowledged messages of a node that loses its name: each ends once.
those_who_wait_are_told(_Config) ->
    {Peer, _Name, Node} = start_named(),
    Server = teleport_test_server:start_at(node(), server),
    %% Their pids would be those of another node later.
    Waiters = [list_to_atom("waiter_" ++ integer_to_list(Number)) || Number <- lists:seq(1, 60)],
    Kinds = lists:append([lists:duplicate(20, What) || What <- [call, request, monitor]]),
    [true = at(Peer, ?MODULE, wait_for, [What, Server, Name]) || {What, Name} <- lists:zip(Kinds, Waiters)],
    teleport_test:eventually(fun() -> maps:get(waiting_for, at(Peer, teleport, info, [])) =:= 60 end),
    Here = teleport:send_request({server, Node}, never),
    ok = at(Peer, net_kernel, stop, []),
    Told = [peer:call(Peer, ?MODULE, told, [Waiter], 30000) || Waiter <- Waiters],
    {Calls, Others} = lists:split(20, Told),
    {Requests, Monitors} = lists:split(20, Others),
    [?assertMatch({exit, {{nodedown, _}, {gen_server, call, _}}}, Call) || Call <- Calls],
    [?assertMatch({returned, {error, {noconnection, _}}}, Request) || Request <- Requests],
    [?assertMatch({returned, {down, noconnection}}, Down) || Down <- Monitors],
    ?assertMatch({error, {noconnection, _}}, teleport:receive_response(Here, infinity)),
    ok = gen_server:stop(Server),
    stop(Peer).

%% A process that waits for the server, and knows then what it was told, and that it was told nothing else.
wait_for(What, Server, Name) ->
    register(Name, spawn(fun() ->
        Outcome = teleport_test:outcome(erlang, apply, [fun() -> wait(What, Server) end, []]),
        receive {told, From} -> From ! {told, Name, {Outcome, teleport_test:mailbox()}} end
    end)).

wait(call, Server) ->
    teleport:gs_call(Server, never, infinity);
wait(request, Server) ->
    teleport:receive_response(teleport:send_request(Server, never), infinity);
wait(monitor, Server) ->
    Monitor = teleport:monitor(Server),
    receive {'DOWN', Monitor, process, Server, Reason} -> {down, Reason} end.

told(Waiter) ->
    Waiter ! {told, self()},
    receive {told, Waiter, {Outcome, []}} -> Outcome
    after 20000 -> {hangs, process_info(whereis(Waiter), [current_stacktrace, messages])}
    end.

%% While both send: nothing hangs, and at the end all works.
renaming_again_and_again_hangs_nothing(_Config) ->
    {Peer, Name, _Node} = start_named(),
    [begin
        ok = at(Peer, net_kernel, stop, []),
        Node = name(Peer, Next),
        _ = [peer:call(Peer, teleport, send, [{nobody, node()}, hello], 30000), teleport:send({nobody, Node}, hello)],
        Round rem 5 =:= 0 andalso both_ways(Peer, Node, Round)
     end || Round <- lists:seq(1, 20), Next <- [lists:nth(1 + Round rem 2, [Name, Name ++ "_too"])]],
    stop(Peer).

%% The engines do not notice: what still comes over the session arrives, also at processes that no thread has met before.
what_comes_after_an_unnoticed_stop_arrives(_Config) ->
    {Peer, _Name, Node} = start_named(),
    Fresh = [begin
        {ok, _} = at(Peer, gen_server, start, [{local, Name}, teleport_test_server, [], []]),
        {Name, at(Peer, erlang, whereis, [Name])}
     end || Name <- [by_pid, by_name]],
    both_ways(Peer, Node, 1),
    ok = at(Peer, sys, suspend, [teleport_manager]), % it would start another guard
    ok = at(Peer, teleport_guard, stop, []),
    teleport_test:eventually(fun() -> at(Peer, erlang, whereis, [teleport_guard]) =:= undefined end),
    ok = sys:suspend(teleport_manager),
    ok = at(Peer, net_kernel, stop, []),
    %% The name goes with the last connection of distributed Erlang, which `stop' does not wait for.
    teleport_test:eventually(fun() -> at(Peer, erlang, node, []) =:= nonode@nohost end),
    ?assertEqual([Node], teleport:nodes()),
    [begin
        ok = teleport:send(Ref, {note, Number}, [{ack, Number}]),
        ?assertEqual({teleport, Number, delivered}, teleport_test:receive_one()),
        ?assertEqual([Number], at(Peer, gen_server, call, [Name, notes]))
     end || {Number, Ref, Name} <- [{1, proplists:get_value(by_pid, Fresh), by_pid}, {2, {by_name, Node}, by_name}]],
    ok = sys:resume(teleport_manager),
    stop(Peer).

it_rests_without_a_name(_Config) ->
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => teleport_test:code_path()}),
    ?assertEqual(ok, at(Peer, teleport, start, [])),
    ?assertMatch({ok, _}, at(Peer, gen_server, start, [{local, server}, teleport_test_server, [], []])),
    %% What is local works; what is not ends as OTP has it.
    ?assertEqual({ok, 1}, at(Peer, teleport, gs_call, [server, {echo, 1}])),
    ?assertEqual(ok, at(Peer, teleport, send, [server, hello])),
    Away = {server, node()},
    Nobody = [node(), erlang, node, []],
    ?assertEqual(outcome(Peer, erpc, call, Nobody), outcome(Peer, teleport_erpc, call, Nobody)),
    [?assertEqual(outcome(Peer, Module, Function, Args), outcome(Peer, teleport, Ours, Args))
     || {Module, Function, Ours, Args} <- [{gen_server, call, gs_call, [Away, hello]},
                                           {gen_server, call, gs_call, [Away, hello, infinity]},
                                           {gen_server, cast, cast, [Away, hello]},
                                           {gen_server, abcast, abcast, [[node()], server, hello]},
                                           {gen_server, multi_call, multi_call, [[node()], server, hello]},
                                           {gen_server, multi_call, multi_call, [[node()], server, hello, 1000]},
                                           {gen_server, stop, gs_stop, [Away]},
                                           {gen_server, stop, gs_stop, [Away, shutdown, 1000]}]],
    [?assertEqual(at(Peer, ?MODULE, requested, [Otp, Away]), at(Peer, ?MODULE, requested, [Ours, Away]))
     || {Otp, Ours} <- [{gen_server, teleport}, {gen_statem, teleport_gen_statem}]],
    ?assertEqual(outcome(Peer, erlang, monitor, [process, Away]), outcome(Peer, teleport, monitor, [Away])),
    ?assertEqual({error, not_running}, at(Peer, teleport, send, [Away, hello])),
    ?assertEqual({error, not_running}, at(Peer, teleport, info, [])),
    [{nonode@nohost, {error, [{running, {error, rests}, Text} | _]}}] = at(Peer, teleport, check, []),
    ?assertNotEqual(nomatch, string:find(Text, "not distributed")),
    %% It wakes, and rests again.
    [begin
        Node = name(Peer, peer:random_name()),
        both_ways(Peer, Node, Round),
        ok = at(Peer, net_kernel, stop, []),
        teleport_test:eventually(fun() -> at(Peer, teleport, info, []) =:= {error, not_running} end),
        ?assertExit({{nodedown, _}, _}, at(Peer, teleport, gs_call, [Away, hello]))
     end || Round <- [1, 2]],
    ?assertEqual(ok, at(Peer, application, stop, [teleport])),
    stop(Peer).

%% How a request ends.
requested(Module, Server) ->
    Module:receive_response(Module:send_request(Server, hello), 1000).

a_node_takes_its_name_from_the_first_peer(_Config) ->
    Cookie = atom_to_list(erlang:get_cookie()),
    Args = ["-sname", "undefined", "-setcookie", Cookie | teleport_test:code_path()],
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => Args}),
    ?assertEqual(ok, at(Peer, teleport, start, [])),
    [{_, {error, [{running, {error, rests}, Text} | _]}}] = at(Peer, teleport, check, []),
    ?assertNotEqual(nomatch, string:find(Text, "no name yet")),
    [begin
        true = at(Peer, net_kernel, connect_node, [node()]),
        Node = at(Peer, erlang, node, []),
        start_server(Peer),
        both_ways(Peer, Node, Round),
        true = erlang:disconnect_node(Node),
        teleport_test:eventually(fun() -> at(Peer, teleport, info, []) =:= {error, not_running} end)
     end || Round <- [1, 2]],
    stop(Peer).

%% The node lives on, and says why it rests.
an_engine_that_cannot_start_is_tried_again(_Config) ->
    {ok, Listening} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listening),
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => teleport_test:code_path()}),
    ok = at(Peer, application, load, [teleport]),
    ok = at(Peer, application, set_env, [teleport, listen, {{127, 0, 0, 1}, Port}]),
    ok = at(Peer, teleport, start, []),
    {ok, _} = at(Peer, net_kernel, start, [[list_to_atom(peer:random_name()), shortnames]]),
    Why = fun() ->
        [{_, {error, [{running, {error, Reason}, Text} | _]}}] = at(Peer, teleport, check, []),
        {Reason, string:find(Text, integer_to_list(Port)) =/= nomatch}
    end,
    teleport_test:eventually(fun() -> Why() =:= {not_running, true} end),
    %% So do its processes, if they have to begin anew.
    Manager = at(Peer, erlang, whereis, [teleport_manager]),
    true = at(Peer, erlang, exit, [Manager, kill]),
    teleport_test:eventually(fun() -> not lists:member(at(Peer, erlang, whereis, [teleport_manager]), [Manager, undefined]) end),
    teleport_test:eventually(fun() -> Why() =:= {not_running, true} end),
    ok = gen_tcp:close(Listening),
    teleport_test:eventually(fun() ->
        _ = at(Peer, erlang, send, [teleport_manager, look]),
        is_map(at(Peer, teleport, info, []))
    end),
    stop(Peer).

%% Values that are set at run time are not checked by anybody before.
wrong_values_are_done_without(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = teleport:prime(Node),
    Log = whereis(teleport_log),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    [begin
         ok = application:set_env(teleport, Key, Value),
         %% Of this there is an event, with advice.
         ?assertMatch({error, {not_running, x@nowhere}}, teleport:prime(x@nowhere)),
         ?assertMatch([_ | _], teleport:check()),
         teleport_manager ! look,
         teleport_manager ! look,
         _ = sys:get_state(teleport_manager),
         Said = [Text || {error, Text} <- teleport_test_log:all(), string:find(Text, atom_to_list(Key)) =/= nomatch],
         ?assertMatch({Value, [_]}, {Value, Said}),
         ok = application:unset_env(teleport, Key),
         teleport_manager ! look
     end || {Key, Value} <- [{peers, [{x@nowhere, {"host", 1}}]}, {peers, #{x@nowhere => {"host", "1"}}},
                             {peers, #{x@nowhere => "host"}}, {fallback, sometimes}, {log_level, loud}, {advertise, {here}}]],
    ok = logger:remove_handler(?FUNCTION_NAME),
    ?assertEqual(Log, whereis(teleport_log)),
    ?assertEqual([Node], teleport:nodes()),
    stop(Peer).

%% Servers of names may drop questions for addresses of the other family.
a_name_has_its_addresses_though_one_family_is_silent(_Config) ->
    [begin
         {ok, Peer, _} = peer:start(#{connection => standard_io, args => teleport_test:code_path()}),
         ?assertEqual({Type, []}, {Type, peer:call(Peer, ?MODULE, unresolved, [Type], 30000)}),
         stop(Peer)
     end || Type <- [a, aaaa]].

%% Whether a name is found by a server that answers only questions of that type.
unresolved(Type) ->
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = inet_db:set_resolv_conf(""),
    ok = inet_db:set_hosts_file(""),
    ok = inet_db:set_lookup([dns]),
    ok = inet_db:ins_ns({127, 0, 0, 1}, Port),
    Self = self(),
    _ = spawn_link(fun() -> Self ! {unresolved, teleport_address:unresolved(["b.example"])} end),
    answer(Socket, Type).

answer(Socket, Type) ->
    receive
        {unresolved, Hosts} ->
            Hosts;
        {udp, Socket, Ip, Port, Question} ->
            {ok, Asked} = inet_dns:decode(Question),
            [Query] = inet_dns:msg(Asked, qdlist),
            Data = case Type of a -> {10, 1, 2, 3}; aaaa -> {64768, 0, 0, 0, 0, 0, 0, 1} end,
            Answer = inet_dns:make_rr([{domain, inet_dns:dns_query(Query, domain)}, {type, Type}, {class, in}, {ttl, 60}, {data, Data}]),
            Header = inet_dns:make_header(inet_dns:msg(Asked, header), [{qr, true}]),
            Message = [{header, Header}, {qdlist, [Query]}, {anlist, [Answer]}, {nslist, []}, {arlist, []}],
            _ = inet_dns:dns_query(Query, type) =:= Type
                andalso gen_udp:send(Socket, Ip, Port, inet_dns:encode(inet_dns:make_msg(Message))),
            answer(Socket, Type)
    end.

%% As distributed Erlang does, or not at all.
it_listens_where_it_is_told_to(_Config) ->
    [begin
         Args = ["-name", peer:random_name() ++ "@127.0.0.1", "-kernel", "inet_dist_" ++ Key, Value | teleport_test:code_path()],
         {ok, Peer, _} = peer:start(#{connection => standard_io, args => Args}),
         ok = at(Peer, teleport, start, []),
         ?assertMatch({Value, {ok, {{127, 0, 0, 1}, _}}}, {Value, at(Peer, teleport_manager, address, [])}),
         stop(Peer)
     end || {Key, Value} <- [{"use_interface", "loopback"}, {"listen_options", "[{ip,loopback}]"}]].

%% Unless it is told where to listen. An address that connections come from is no network.
networks_that_it_cannot_follow_to_are_refused(_Config) ->
    Start = fun(Key, Option, Listen) ->
        ok = application:stop(teleport),
        ok = application:set_env([{kernel, [{Key, [Option]}]}, {teleport, Listen}]),
        Started = teleport:start(),
        ok = application:unset_env(kernel, Key),
        ok = application:unset_env(teleport, listen),
        ok = teleport:start(),
        Started
    end,
    Told = [{listen, {{127, 0, 0, 1}, 0}}],
    [begin
         {error, {cannot_follow, Option, Text}} = Start(Key, Option, []),
         ?assertNotEqual({Text, nomatch}, {Text, string:find(Text, Does)}),
         ?assertEqual({Key, Option, ok}, {Key, Option, Start(Key, Option, Told)})
     end || {Key, Does} <- [{inet_dist_listen_options, "listens"}, {inet_dist_connect_options, "connects"}],
            Option <- [{bind_to_device, <<"lo">>}, {netns, "/run/netns/x"}]],
    ?assertEqual(ok, Start(inet_dist_connect_options, {ip, {127, 0, 0, 1}}, [])).

hidden_nodes_are_reached(_Config) ->
    [{Peer, Node}, {Other, Away}] = [teleport_test:start_peer(peer:random_name(), [], ["-hidden"]) || _ <- [1, 2]],
    start_server(Other),
    ?assertEqual({ok, 1}, at(Peer, teleport, gs_call, [{server, Away}, {echo, 1}])),
    %% The end of one is seen by the other, though neither is in the other's nodes().
    stop(Other),
    teleport_test:eventually(fun() -> not teleport_test:has_session(Node, Away) end),
    stop(Peer).

%% Cookies.

%% As in a running cluster: on all nodes, and before they have anything to do with each other.
it_follows_cookies(_Config) ->
    Pair = [{Peer, Node}, {Other, Away}] = start_pair(),
    true = at(Peer, net_kernel, connect_node, [Away]),
    %% Managers have seen the nodeup.
    [_ = at(At, sys, get_state, [teleport_manager]) || {At, _} <- Pair],
    [true = at(At, erlang, set_cookie, [?OTHER]) || {At, _} <- Pair],
    ?assertEqual({ok, 1}, at(Peer, teleport, gs_call, [{server, Away}, {echo, 1}])),
    %% And back, at the next handshake.
    [true = at(At, erlang, set_cookie, [?COOKIE]) || {At, _} <- Pair],
    true = at(Peer, teleport_nif, disconnect, [Away]),
    ?assertEqual({ok, 2}, eventually_calls(Other, {server, Node}, {echo, 2})),
    %% Where they differ there is no session, and it is said why.
    true = at(Other, erlang, set_cookie, [?OTHER]),
    true = at(Peer, teleport_nif, disconnect, [Away]),
    teleport_test:eventually(fun() -> at(Other, teleport, nodes, []) =:= [] end),
    {error, Steps} = at(Peer, teleport, check, [Away]),
    ?assertMatch({handshake, {error, cookie}, _}, lists:keyfind(handshake, 1, Steps)),
    [stop(At) || {At, _} <- Pair].

a_cookie_for_one_node_is_used(_Config) ->
    Pair = [{Peer, Node}, {Other, Away}] = start_pair(),
    true = at(Peer, erlang, set_cookie, [Away, ?OTHER]),
    true = at(Other, erlang, set_cookie, [Node, ?OTHER]),
    ?assertEqual({ok, 1}, at(Peer, teleport, gs_call, [{server, Away}, {echo, 1}])),
    [stop(At) || {At, _} <- Pair].

%% Without distributed Erlang OTP has the cookie `nocookie', which everybody knows.
nobody_guesses_the_cookie_at_the_end(_Config) ->
    {Peer, _Name, _Node} = start_named(),
    ok = at(Peer, sys, suspend, [teleport_manager]),
    ok = at(Peer, net_kernel, stop, []),
    ?assertEqual(<<>>, at(Peer, teleport_answers, cookie, [unknown])),
    ok = at(Peer, sys, resume, [teleport_manager]),
    stop(Peer).

%% It knows port and cookie. Who is named in the configuration need not be in the Erlang cluster.
a_node_that_distributed_erlang_refuses_gets_no_session(_Config) ->
    [{Peer, Node}, {Other, Away}] = start_pair(),
    {ok, {_, Port}} = at(Peer, teleport_manager, address, []),
    ok = at(Other, application, set_env, [teleport, peers, #{Node => {{127, 0, 0, 1}, Port}}]),
    Prime = fun() -> at(Other, teleport, prime, [Node]) end,
    Allow = fun(Nodes) ->
        ok = at(Peer, net_kernel, allow, [Nodes]),
        look(Peer)
    end,
    %% All are let in while there is no list.
    ?assertEqual(ok, Prime()),
    end_session(Peer, Other, Away),
    Allow([elsewhere@nowhere]),
    ?assertMatch({error, {connect, _}}, Prime()),
    {error, Steps} = at(Peer, teleport, check, [Away]),
    {node, {error, noconnection}, Text} = lists:keyfind(node, 1, Steps),
    ?assertNotEqual(nomatch, string:find(Text, "net_kernel:allow/1")),
    %% A rule for all names nobody.
    [_, Host] = string:split(atom_to_list(Away), "@"),
    Named = fun(Rules) ->
        ok = at(Peer, application, set_env, [teleport, allow, Rules]),
        at(Peer, teleport_answers, is_let_in, [atom_to_binary(Away)])
    end,
    [?assertEqual({Rules, IsNamed}, {Rules, Named(Rules)})
     || {Rules, IsNamed} <- [{[{'_', all}], false}, {[{'*@*', all}], false}, {[{'x@*', all}, {'_', all}], false},
                             {[{list_to_atom("*@" ++ Host), all}], true}, {[{'elsewhere@*', []}, {Away, all}, {'_', all}], true}]],
    ok = at(Peer, application, unset_env, [teleport, allow]),
    ok = at(Peer, application, set_env, [teleport, peers, #{Away => {{127, 0, 0, 1}, 1}}]),
    teleport_test:eventually(fun() -> Prime() =:= ok end),
    end_session(Peer, Other, Away),
    ok = at(Peer, application, unset_env, [teleport, peers]),
    ?assertMatch({error, {connect, _}}, Prime()),
    Allow([Away]),
    teleport_test:eventually(fun() -> Prime() =:= ok end),
    [stop(At) || At <- [Peer, Other]].

%% As if the time had come.
look(Peer) ->
    look = at(Peer, erlang, send, [teleport_manager, look]),
    _ = at(Peer, sys, get_state, [teleport_manager]),
    ok.

end_session(Peer, Other, Away) ->
    true = at(Peer, teleport_nif, disconnect, [Away]),
    teleport_test:eventually(fun() -> at(Other, teleport, nodes, []) =:= [] end).

%% Of distributed Erlang's processes the guard is the first to be ended, while the node still has its name.
told_before_the_name_goes(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    [First | Others] = erpc:call(Node, supervisor, which_children, [net_sup]),
    ?assertMatch({teleport_guard, Guard, worker, _} when is_pid(Guard), First),
    ?assertMatch([{net_kernel, _, _, _} | _], Others),
    %% If it ends by itself that is nothing to the others, and the manager starts another one; and it goes with the application.
    true = exit(element(2, First), kill),
    {ok, pong} = {ok, net_adm:ping(Node)},
    teleport_test:eventually(fun() ->
        look(Peer),
        case erpc:call(Node, supervisor, which_children, [net_sup]) of
            [{teleport_guard, Next, worker, _} | _] when is_pid(Next) -> Next =/= element(2, First);
            _ -> false
        end
    end),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, teleport, start, []),
    teleport_test:eventually(fun() -> is_pid(erpc:call(Node, erlang, whereis, [teleport_guard])) end),
    ok = erpc:call(Node, application, stop, [teleport]),
    teleport_test:eventually(fun() -> undefined =:= erpc:call(Node, erlang, whereis, [teleport_guard]) end),
    stop(Peer).

%% What has a pid in it waits, and comes then.
nothing_is_decoded_while_the_name_changes(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual({ok, self()}, teleport:gs_call(Server, {echo, self()})),
    ok = erpc:call(Node, teleport_nif, close_gate, []),
    ?assertExit({timeout, _}, teleport:gs_call(Server, {echo, self()}, 200)),
    Id = teleport:send_request(Server, {echo, Server}),
    ok = erpc:call(Node, teleport_nif, open_gate, []),
    ?assertEqual({reply, {ok, Server}}, teleport:receive_response(Id, 10000)),
    stop(Peer).

%% What comes for a process that the engine has not met waits where it is delivered, not where it is found.
no_session_is_locked_while_the_name_changes(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual({ok, 1}, teleport:gs_call(Server, {echo, 1})),
    Other = teleport_test_server:start_at(Node, undefined),
    ok = erpc:call(Node, teleport_nif, close_gate, []),
    Id = teleport:send_request(Other, {echo, Server}),
    %% It arrives meanwhile. A scheduler there takes the session's lock each time, for less than the gate holds up.
    _ = [?assertMatch(#{}, erpc:call(Node, teleport, info, [node()], 5000)) || _ <- lists:seq(1, 1000)],
    ok = erpc:call(Node, teleport_nif, open_gate, []),
    ?assertEqual({reply, {ok, Server}}, teleport:receive_response(Id, 10000)),
    stop(Peer).

%% A peer that says hello under invented names fills no mailbox.
questions_of_strangers_are_bounded(_Config) ->
    {ok, {_, Port}} = teleport_manager:address(),
    {Peer, Node} = teleport_test:start_peer(),
    start_server(Peer),
    ok = sys:suspend(teleport_answers),
    Name = "stranger_" ++ integer_to_list(erlang:unique_integer([positive])) ++ "@nowhere",
    Other = start_stranger(Name, Port),
    teleport_test:eventually(fun() -> questions() =:= 1 end),
    %% However many there are.
    Primed = [spawn(fun() -> teleport:prime(To) end) || To <- [Node, nobody@nowhere]],
    teleport_test:eventually(fun() -> [{status, waiting}] =:= lists:usort([process_info(P, status) || P <- Primed]) end),
    ?assertEqual(1, questions()),
    ok = sys:resume(teleport_answers),
    ?assertEqual({ok, 1}, teleport:gs_call({server, Node}, {echo, 1})),
    stop(Other),
    stop(Peer).

%% A node that knows this one's port, and has another cookie.
start_stranger(Name, Port) ->
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => teleport_test:code_path()}),
    ok = at(Peer, ?MODULE, be_strange, [Name, #{node() => {{127, 0, 0, 1}, Port}}]),
    Peer.

be_strange(Name, Peers) ->
    {ok, _} = net_kernel:start([list_to_atom(Name), shortnames]),
    true = erlang:set_cookie(?OTHER),
    ok = application:load(teleport),
    ok = application:set_env(teleport, peers, Peers),
    ok = teleport:start(),
    _ = [spawn(fun() -> teleport:prime(Peer) end) || Peer <- maps:keys(Peers)],
    ok.

questions() ->
    {messages, Messages} = process_info(whereis(teleport_answers), messages),
    length([1 || teleport_questions <- Messages]).

%% Ticktime.

it_follows_the_ticktime(_Config) ->
    {Peer, _Node} = teleport_test:start_peer(),
    ?assertMatch(#{net_ticktime := 60}, at(Peer, teleport, info, [])),
    _ = at(Peer, net_kernel, set_net_ticktime, [17, 0]),
    teleport_test:eventually(fun() -> maps:get(net_ticktime, at(Peer, teleport, info, [])) =:= 17 end),
    stop(Peer).

%% Of two nodes that distributed Erlang does not connect, so that no nodedown of its own ends their session.
sessions_that_exist_follow_the_ticktime(_Config) ->
    [{Peer, _Node}, {Other, Away}] = start_pair(),
    {ok, {_, Port}} = at(Other, teleport_manager, address, []),
    ok = at(Peer, application, set_env, [teleport, peers, #{Away => {{127, 0, 0, 1}, Port}}]),
    ok = at(Peer, teleport, prime, [Away]),
    Follows = fun(Ticktime) ->
        look(Peer),
        maps:get(net_ticktime, at(Peer, teleport, info, [])) =:= Ticktime
    end,
    _ = at(Peer, net_kernel, set_net_ticktime, [4, 0]),
    teleport_test:eventually(fun() -> Follows(4) end),
    ?assertEqual([Away], at(Peer, teleport, nodes, [])),
    %% Until now it might have been silent for a minute.
    OsPid = at(Other, os, getpid, []),
    ok = teleport_test:signal(stop, OsPid),
    teleport_test:eventually(fun() -> at(Peer, teleport, nodes, []) =:= [] end),
    ok = teleport_test:signal(cont, OsPid),
    %% A longer one counts from when it is set, though distributed Erlang has not changed over yet.
    change_initiated = at(Peer, net_kernel, set_net_ticktime, [20, 600]),
    {ongoing_change_to, 20} = at(Peer, net_kernel, get_net_ticktime, []),
    teleport_test:eventually(fun() -> Follows(20) end),
    [stop(At) || At <- [Peer, Other]].

a_configured_ticktime_wins(_Config) ->
    {Peer, _Node} = teleport_test:start_peer(peer:random_name(), [{net_ticktime, 20}]),
    _ = at(Peer, net_kernel, set_net_ticktime, [17, 0]),
    %% As if the time had come to look.
    _ = at(Peer, erlang, send, [teleport_manager, look]),
    _ = at(Peer, sys, get_state, [teleport_manager]),
    ?assertMatch(#{net_ticktime := 20}, at(Peer, teleport, info, [])),
    %% Until the engine is started the next time, without it.
    ok = at(Peer, application, unset_env, [teleport, net_ticktime]),
    look(Peer),
    ?assertMatch(#{net_ticktime := 20}, at(Peer, teleport, info, [])),
    stop(Peer).

%% It is for the engine that is started next. One that is wrong is for none.
a_ticktime_that_is_set_later_ends_no_following(_Config) ->
    {Peer, _Node} = teleport_test:start_peer(),
    [begin
         ok = at(Peer, application, set_env, [teleport, net_ticktime, Value]),
         teleport_test:eventually(fun() ->
             _ = at(Peer, net_kernel, set_net_ticktime, [Ticktime, 0]),
             look(Peer),
             maps:get(net_ticktime, at(Peer, teleport, info, [])) =:= Ticktime
         end)
     end || {Value, Ticktime} <- [{20, 17}, {sixty, 18}]],
    stop(Peer).

%% Carriers.

encrypted_clusters_are_not_downgraded(_Config) ->
    [begin
        {ok, Peer, _} = peer:start(#{connection => standard_io, args => ["-proto_dist", Carrier | teleport_test:code_path()]}),
        {error, {tls_distribution, Text}} = at(Peer, teleport, start, []),
        [?assertNotEqual(nomatch, string:find(Text, Part)) || Part <- [Carrier, "allow_plain", "true"]],
        ok = at(Peer, application, set_env, [teleport, allow_plain, true]),
        ok = at(Peer, teleport_test_log, note, []),
        [begin
            ?assertEqual(ok, at(Peer, teleport, start, [])),
            ?assertEqual(Start, at(Peer, teleport_test_log, count, ["allow_plain"])),
            ok = at(Peer, application, stop, [teleport])
         end || Start <- [1, 2]],
        stop(Peer)
     %% The last is known to nobody.
     end || Carrier <- ["inet_tls", "inet6_tls", "sealed"]].

%% In common.

%% A node that is named while it runs, with teleport, and a server.
start_named() ->
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => teleport_test:code_path()}),
    ok = at(Peer, teleport, start, []),
    Name = peer:random_name(),
    {Peer, Name, name(Peer, Name)}.

name(Peer, Name) ->
    {ok, _} = at(Peer, net_kernel, start, [[list_to_atom(Name), shortnames]]),
    true = at(Peer, erlang, set_cookie, [erlang:get_cookie()]),
    start_server(Peer),
    Node = at(Peer, erlang, node, []),
    teleport_test:eventually(fun() -> runs_as(Peer, Node) end),
    true = net_kernel:connect_node(Node),
    Node.

runs_as(Peer, Node) ->
    case at(Peer, teleport, info, []) of
        #{name := Node} -> true;
        _ -> false
    end.

start_server(Peer) ->
    case at(Peer, gen_server, start, [{local, server}, teleport_test_server, [], []]) of
        {ok, _} -> ok;
        {error, {already_started, _}} -> ok
    end.

%% Calls in both directions.
both_ways(Peer, Node, Term) ->
    Server = teleport_test_server:start_at(node(), Node),
    ?assertEqual({ok, Term}, eventually_calls(Peer, {Node, node()}, {echo, Term})),
    ?assertEqual({ok, Term}, teleport:gs_call({server, Node}, {echo, Term})),
    ok = gen_server:stop(Server).

%% A nodedown that is just being told ends a call or two.
eventually_calls(Peer, Server, Request) ->
    case outcome(Peer, teleport, gs_call, [Server, Request]) of
        {returned, Reply} -> Reply;
        {exit, {{nodedown, _}, _}} -> eventually_calls(Peer, Server, Request)
    end.

%% Two nodes that this one is not connected with.
start_pair() ->
    [begin
        Args = ["-setcookie", atom_to_list(?COOKIE) | teleport_test:code_path()],
        {ok, Peer, Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => Args}),
        ok = at(Peer, teleport, start, []), start_server(Peer), {Peer, Node}
     end || _ <- [1, 2]].

outcome(Peer, Module, Function, Args) -> at(Peer, teleport_test, outcome, [Module, Function, Args]).

stop(Peer) -> teleport_test:stop_peer(Peer).
