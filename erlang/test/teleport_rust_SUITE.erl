%% A node in Rust and nodes in Erlang: neither notices what the other is written in. The node in Rust is the example `interop`
%% of the crate, whose path is in the environment (TELEPORT_INTEROP); its server `desk` and its process `client` are described
%% there.
-module(teleport_rust_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([sends_go_both_ways/1, large_binaries_go_both_ways/1, terms_of_all_kinds_go_both_ways/1,
         casts_keep_their_order/1, calls_go_both_ways/1, calls_of_no_process_end_with_noproc/1,
         exit_reasons_go_both_ways/1, what_comes_after_a_timeout_is_dropped/1,
         requests_that_cannot_be_read_are_rejected/1, more_new_atoms_than_allowed_reject_the_call/1,
         one_peers_atoms_are_not_anothers/1, a_panic_is_the_exit_reason/1, many_calls_at_once_have_their_own_answers/1,
         monitors_go_both_ways/1, a_node_in_rust_is_killed/1, a_node_in_erlang_is_killed/1,
         a_node_in_rust_is_restarted/1]).

%% Milliseconds, far above what anything takes on a busy machine.
-define(PATIENCE, 30000).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [sends_go_both_ways, large_binaries_go_both_ways, terms_of_all_kinds_go_both_ways, casts_keep_their_order,
     calls_go_both_ways, calls_of_no_process_end_with_noproc, exit_reasons_go_both_ways,
     what_comes_after_a_timeout_is_dropped, requests_that_cannot_be_read_are_rejected,
     more_new_atoms_than_allowed_reject_the_call, one_peers_atoms_are_not_anothers, a_panic_is_the_exit_reason,
     many_calls_at_once_have_their_own_answers, monitors_go_both_ways, a_node_in_rust_is_killed,
     a_node_in_erlang_is_killed, a_node_in_rust_is_restarted].

init_per_suite(Config) ->
    case os:getenv("TELEPORT_INTEROP") of
        false ->
            {skip, "TELEPORT_INTEROP is not set: make test-erlang builds the node in Rust and says where it is"};
        Program ->
            ok = teleport_test:distribute(),
            %% A node that is killed is missed after a quarter of it.
            ok = application:set_env(teleport, net_ticktime, 12),
            ok = teleport:start(),
            [{program, Program} | Config]
    end.

end_per_suite(_Config) ->
    application:unset_env(teleport, peers),
    application:unset_env(teleport, net_ticktime),
    ok = application:stop(teleport).

init_per_testcase(_Case, Config) ->
    {Rust, Node} = start_rust(Config, random_name(), [{node(), own_port()}]),
    [{rust, Rust}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    stop_rust(?config(rust, Config)).

%% Sending.

sends_go_both_ways(Config) ->
    {Rust, Node} = rust(Config),
    ok = teleport:send({desk, Node}, {echo, self(), to_a_name}),
    ?assertEqual({echo, to_a_name}, teleport_test:receive_one()),
    Desk = teleport:gs_call({desk, Node}, pid),
    ok = teleport:send(Desk, {echo, self(), to_a_pid}),
    ?assertEqual({echo, to_a_pid}, teleport_test:receive_one()),
    sent = tell(Rust, {send, self(), [hello]}),
    ?assertEqual([hello], teleport_test:receive_one()),
    true = register(?FUNCTION_NAME, self()),
    sent = tell(Rust, {send, {?FUNCTION_NAME, node()}, by_name}),
    ?assertEqual(by_name, teleport_test:receive_one()),
    ok = teleport:send({client, Node}, {"for", the, client}),
    ?assertEqual({message, {"for", the, client}}, tell(Rust, 'receive')),
    %% No process there, as ever.
    ok = teleport:send({nobody, Node}, hello),
    sent = tell(Rust, {send, {nobody, node()}, hello}).

large_binaries_go_both_ways(Config) ->
    {Rust, Node} = rust(Config),
    Binary = rand:bytes(10 bsl 20),
    ok = teleport:send({desk, Node}, {echo, self(), {Binary, tail}}),
    ?assertEqual({echo, {Binary, tail}}, teleport_test:receive_one()),
    ?assertEqual(Binary, teleport:gs_call({desk, Node}, {echo, Binary}, ?PATIENCE)),
    sent = tell(Rust, {send, self(), Binary}),
    ?assertEqual(Binary, teleport_test:receive_one()),
    Server = server(),
    ?assertEqual({ok, {ok, Binary}}, tell(Rust, {call, Server, {echo, Binary}, ?PATIENCE})).

terms_of_all_kinds_go_both_ways(Config) ->
    {Rust, Node} = rust(Config),
    Server = server(),
    Terms = [[], {}, #{a => #{1 => "x"}}, -(1 bsl 200), 1 bsl 70, 2.5, <<5:3>>, make_ref(), self(), fun lists:map/2,
             'ж', list_to_tuple(lists:seq(1, 300)), [a | b], binary:copy(<<"x">>, 70000), hd(erlang:ports()),
             lists:seq(1, 100000), fun(X) -> {X, Config} end],
    [begin
         ?assertEqual(Term, teleport:gs_call({desk, Node}, {echo, Term})),
         ?assertEqual({ok, {ok, Term}}, tell(Rust, {call, Server, {echo, Term}, ?PATIENCE}))
     end || Term <- Terms].

%% In the order in which they were sent, and with what is sent plainly.
casts_keep_their_order(Config) ->
    {Rust, Node} = rust(Config),
    [begin
         ok = teleport:cast({desk, Node}, {note, {cast, I}}),
         ok = teleport:send({desk, Node}, {note, {info, I}})
     end || I <- lists:seq(1, 20)],
    Notes = lists:append([[{cast, I}, {info, I}] || I <- lists:seq(1, 20)]),
    ?assertEqual(Notes, teleport:gs_call({desk, Node}, notes)),
    Server = server(),
    [begin
         sent = tell(Rust, {cast, Server, {note, {cast, I}}}),
         sent = tell(Rust, {send, Server, {note, {info, I}}})
     end || I <- lists:seq(1, 20)],
    ?assertEqual({ok, Notes}, tell(Rust, {call, Server, notes, ?PATIENCE})).

%% Calls.

calls_go_both_ways(Config) ->
    {Rust, Node} = rust(Config),
    Desk = teleport:gs_call({desk, Node}, pid),
    ?assertEqual(Node, node(Desk)),
    ?assertEqual(hello, teleport:gs_call(Desk, {echo, hello}, infinity)),
    ?assertEqual(self(), teleport:gs_call(Desk, caller)),
    ?assertEqual(later, teleport:gs_call(Desk, {later, 10, later})),
    ?assertEqual([], teleport_test:mailbox()),
    Server = server(),
    true = register(?FUNCTION_NAME, Server),
    ?assertEqual({ok, {ok, hello}}, tell(Rust, {call, Server, {echo, hello}, ?PATIENCE})),
    ?assertEqual({ok, {ok, hello}}, tell(Rust, {call, {?FUNCTION_NAME, node()}, {echo, hello}, ?PATIENCE})),
    ?assertEqual({ok, {ok, later}}, tell(Rust, {call, Server, {later, 10, later}, ?PATIENCE})),
    %% The server answers and ends at once: the reply wins.
    {ok, Client} = tell(Rust, {call, Server, caller, ?PATIENCE}),
    ?assertEqual(Node, node(Client)),
    ?assertEqual({ok, {ok, bye}}, tell(Rust, {call, Server, {last, bye}, ?PATIENCE})),
    ?assertEqual({count, 0}, tell(Rust, waiting)).

calls_of_no_process_end_with_noproc(Config) ->
    {Rust, Node} = rust(Config),
    ?assertExit({noproc, {gen_server, call, [{nobody, Node}, hello]}}, teleport:gs_call({nobody, Node}, hello)),
    Desk = teleport:gs_call({desk, Node}, pid),
    ?assertExit({normal, _}, teleport:gs_call(Desk, {exit, normal})),
    ?assertExit({noproc, {gen_server, call, [Desk, hello, 1000]}}, teleport:gs_call(Desk, hello, 1000)),
    ?assertEqual(noproc, tell(Rust, {call, {nobody, node()}, hello, ?PATIENCE})),
    Dead = server(),
    ok = gen_server:stop(Dead),
    ?assertEqual(noproc, tell(Rust, {call, Dead, hello, ?PATIENCE})).

exit_reasons_go_both_ways(Config) ->
    {Rust, Node} = rust(Config),
    ?assertExit({{tired, "of it"}, {gen_server, call, [{desk, Node}, _]}},
                teleport:gs_call({desk, Node}, {exit, {tired, "of it"}})),
    Server = server(),
    ?assertEqual({exit, {tired, "of it"}}, tell(Rust, {call, Server, {exit, {tired, "of it"}}, ?PATIENCE})).

%% What still comes gets into no mailbox.
what_comes_after_a_timeout_is_dropped(Config) ->
    {Rust, Node} = rust(Config),
    Desk = {desk, Node},
    %% Who has stood still for so long has the reply, and tries again.
    [teleport_test:eventually(fun() ->
         case teleport_test:outcome(teleport, gs_call, [Desk, {later, 300, x}, Timeout]) of
             {exit, {timeout, {gen_server, call, [Desk, {later, 300, x}, Timeout]}}} -> true;
             {returned, x} -> false
         end
     end) || Timeout <- [0, 1, 5]],
    %% Behind the late replies.
    ?assertEqual(y, teleport:gs_call(Desk, {later, 600, y}, ?PATIENCE)),
    ?assertEqual([], teleport_test:mailbox()),
    ?assertMatch(#{waiting_for := 0}, teleport:info()),
    Server = server(),
    [teleport_test:eventually(fun() ->
         case tell(Rust, {call, Server, {later, 300, x}, Timeout}) of
             timeout -> true;
             {ok, {ok, x}} -> false
         end
     end) || Timeout <- [1, 5]],
    ?assertEqual({ok, {ok, y}}, tell(Rust, {call, Server, {later, 600, y}, ?PATIENCE})),
    ?assertEqual({count, 0}, tell(Rust, waiting)),
    teleport_test:eventually(fun() -> teleport_test:watched() =:= 0 end).

%% The server in Rust refuses what it cannot read, and goes on; one in Erlang ends, as it always did.
requests_that_cannot_be_read_are_rejected(Config) ->
    {Rust, Node} = rust(Config),
    Desk = teleport:gs_call({desk, Node}, pid),
    {'EXIT', {{rejected, Text}, {gen_server, call, [Desk, {bake, a_cake}]}}} =
        teleport_test:caught(fun() -> teleport:gs_call(Desk, {bake, a_cake}) end),
    ?assertMatch({match, _}, re:run(Text, "^the request cannot be read: .*bake")),
    ok = teleport:cast(Desk, {bake, a_cake}),
    ?assertEqual(Desk, teleport:gs_call({desk, Node}, pid)),
    ?assertEqual([], teleport_test:mailbox()),
    Server = server(),
    ?assertMatch({exit, {function_clause, [_ | _]}}, tell(Rust, {call, Server, {bake, a_cake}, ?PATIENCE})).

%% What has more new atoms than the node in Erlang takes: the caller is told, in Rust and in Erlang.
more_new_atoms_than_allowed_reject_the_call(Config) ->
    {Peer, Erlang} = teleport_test:start_peer(),
    ok = erpc:call(Erlang, application, stop, [teleport]),
    ok = erpc:call(Erlang, application, set_env, [teleport, max_new_atoms, 10]),
    ok = erpc:call(Erlang, teleport, start, []),
    {ok, {_, Port}} = erpc:call(Erlang, teleport_manager, address, []),
    {Rust, Node} = start_rust(Config, random_name(), [{Erlang, Port}, {node(), own_port()}]),
    {ok, Peers} = application:get_env(teleport, peers),
    ok = erpc:call(Erlang, application, set_env, [teleport, peers, Peers]),
    Server = teleport_test_server:start_at(Erlang, server),
    New = [list_to_atom(lists:concat([?FUNCTION_NAME, I])) || I <- lists:seq(1, 20)],
    {rejected, Text} = tell(Rust, {call, Server, {echo, New}, ?PATIENCE}),
    ?assertMatch({match, _}, re:run(Text, "^the request cannot be read: ")),
    ok = teleport:cast({desk, Node}, {note, New}),
    ?assertEqual([New], teleport:gs_call({desk, Node}, notes)),
    ?assertExit({exception, {{unreadable_reply, _}, {gen_server, call, [{desk, Node}, notes]}}},
                erpc:call(Erlang, teleport, gs_call, [{desk, Node}, notes])),
    %% All else goes on.
    ?assertEqual({ok, {ok, [known, atoms]}}, tell(Rust, {call, Server, {echo, [known, atoms]}, ?PATIENCE})),
    ?assertEqual([known, atoms], erpc:call(Erlang, teleport, gs_call, [{desk, Node}, {echo, [known, atoms]}])),
    teleport_test:stop_peer(Peer),
    stop_rust(Rust).

%% One peer has used up what it may add, also when it comes again. Another one has not.
one_peers_atoms_are_not_anothers(Config) ->
    {Peer, Erlang} = teleport_test:start_peer(peer:random_name(), [{max_new_atoms_per_peer, 20}, {max_new_atoms, 53}]),
    {ok, {_, Port}} = erpc:call(Erlang, teleport_manager, address, []),
    Server = teleport_test_server:start_at(Erlang, server),
    Start = fun(Name) -> start_rust(Config, Name, [{Erlang, Port}]) end,
    Ask = fun(Rust, Term) -> tell(Rust, {call, Server, {echo, Term}, ?PATIENCE}) end,
    Used = fun(Node) -> maps:with([new_atoms, atoms_refused], erpc:call(Erlang, teleport, info, [Node])) end,
    Name = random_name(),
    {One, OneNode} = Start(Name),
    {Other, OtherNode} = Start(random_name()),
    ?assertEqual({ok, {ok, known}}, Ask(One, known)),
    %% Its own name at most.
    #{new_atoms := Names, atoms_refused := 0} = Used(OneNode),
    ?assertMatch({rejected, _}, Ask(One, new_atoms(21))),
    ?assertEqual(#{new_atoms => Names, atoms_refused => 1}, Used(OneNode)),
    New = new_atoms(20 - Names),
    ?assertEqual({ok, {ok, New}}, Ask(One, New)),
    ?assertMatch({rejected, _}, Ask(One, new_atoms(1))),
    ?assertEqual(#{new_atoms => 20, atoms_refused => 2}, Used(OneNode)),
    ?assertEqual({ok, {ok, known}}, Ask(Other, known)),
    [First, Second] = [new_atoms(5), new_atoms(15 - maps:get(new_atoms, Used(OtherNode)))],
    ?assertEqual({ok, {ok, First}}, Ask(Other, First)),
    stop_rust(One),
    teleport_test:eventually(fun() -> not teleport_test:has_session(Erlang, OneNode) end),
    {Again, OneNode} = Start(Name),
    ?assertMatch({rejected, _}, Ask(Again, new_atoms(1))),
    ?assertEqual({ok, {ok, New}}, Ask(Again, New)),
    ?assertEqual(#{new_atoms => 20, atoms_refused => 3}, Used(OneNode)),
    ?assertEqual({ok, {ok, Second}}, Ask(Other, Second)),
    ?assertEqual(#{new_atoms => 20, atoms_refused => 0}, Used(OtherNode)),
    %% All at one address have no more: three quarters.
    {Third, ThirdNode} = Start(random_name()),
    ?assertMatch({rejected, _}, Ask(Third, new_atoms(1))),
    %% Not even the third one's name becomes an atom there.
    ThirdName = atom_to_binary(ThirdNode),
    ?assertMatch(#{new_atoms := 40, atoms_refused := 4, peers := #{ThirdName := _}}, erpc:call(Erlang, teleport, info, [])),
    ?assertEqual([], [OneNode, OtherNode] -- erpc:call(Erlang, teleport, nodes, [])),
    ?assertNot(lists:member(ThirdNode, erpc:call(Erlang, teleport, nodes, []))),
    teleport_test:stop_peer(Peer),
    [stop_rust(Rust) || Rust <- [Other, Again, Third]].

new_atoms(Count) ->
    [list_to_atom(lists:concat(["new", erlang:unique_integer([positive]), "-", I])) || I <- lists:seq(1, Count)].

a_panic_is_the_exit_reason(Config) ->
    {_Rust, Node} = rust(Config),
    Monitor = teleport:monitor({desk, Node}),
    ?assertExit({{panic, <<"oh dear">>}, {gen_server, call, _}}, teleport:gs_call({desk, Node}, {panic, <<"oh dear">>})),
    ?assertEqual({'DOWN', Monitor, process, {desk, Node}, {panic, <<"oh dear">>}}, teleport_test:receive_one()).

%% From both sides, to both sides, each with its own answer.
many_calls_at_once_have_their_own_answers(Config) ->
    {Rust, Node} = rust(Config),
    Self = self(),
    Callers = [spawn_link(fun() ->
        [Term = teleport:gs_call({desk, Node}, {echo, Term}) || J <- lists:seq(1, 50), Term <- [{I, J, self()}]],
        Self ! {self(), answered}
    end) || I <- lists:seq(1, 20)],
    Server = server(),
    [?assertEqual({ok, {ok, I}}, tell(Rust, {call, Server, {echo, I}, ?PATIENCE})) || I <- lists:seq(1, 200)],
    [receive {Caller, answered} -> ok end || Caller <- Callers],
    ?assertMatch(#{waiting_for := 0}, teleport:info()).

%% Monitors.

monitors_go_both_ways(Config) ->
    {Rust, Node} = rust(Config),
    Desk = teleport:gs_call({desk, Node}, pid),
    [ByPid, ByName, Nobody] = [teleport:monitor(Ref) || Ref <- [Desk, {desk, Node}, {nobody, Node}]],
    ?assertEqual({'DOWN', Nobody, process, {nobody, Node}, noproc}, teleport_test:receive_one()),
    ok = teleport:send(Desk, {echo, self(), last}),
    ?assertExit({{tired, 1}, _}, teleport:gs_call(Desk, {exit, {tired, 1}})),
    ?assertEqual({echo, last}, teleport_test:receive_one()),
    ?assertEqual(lists:sort([{'DOWN', ByPid, process, Desk, {tired, 1}},
                             {'DOWN', ByName, process, {desk, Node}, {tired, 1}}]),
                 lists:sort([teleport_test:receive_one(), teleport_test:receive_one()])),
    Server = server(),
    {monitored, Monitor} = tell(Rust, {monitor, Server}),
    ?assertEqual({exit, {tired, 2}}, tell(Rust, {call, Server, {exit, {tired, 2}}, ?PATIENCE})),
    ?assertEqual({message, {'DOWN', Monitor, process, Server, {tired, 2}}}, tell(Rust, 'receive')),
    {monitored, Gone} = tell(Rust, {monitor, {nobody, node()}}),
    ?assertEqual({message, {'DOWN', Gone, process, {nobody, node()}, noproc}}, tell(Rust, 'receive')).

%% Nodes.

a_node_in_rust_is_killed(Config) ->
    {Rust, Node} = rust(Config),
    Desk = teleport:gs_call({desk, Node}, pid),
    Monitor = teleport:monitor(Desk),
    Self = self(),
    _ = spawn(fun() ->
        Self ! asking,
        Self ! {result, teleport_test:caught(fun() -> teleport:gs_call({desk, Node}, never, infinity) end)}
    end),
    asking = teleport_test:receive_one(),
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 2 end),
    kill(Rust),
    Results = [teleport_test:receive_one(), teleport_test:receive_one()],
    ?assertEqual([{'DOWN', Monitor, process, Desk, noconnection}], [Down || {'DOWN', _, _, _, _} = Down <- Results]),
    ?assertMatch([{'EXIT', {{nodedown, Node}, {gen_server, call, [{desk, Node}, never, infinity]}}}],
                 [Result || {result, Result} <- Results]),
    ?assertMatch({error, {connect, _}}, teleport:send(Desk, hello)).

a_node_in_erlang_is_killed(Config) ->
    {Peer, Erlang} = teleport_test:start_peer(),
    {ok, {_, Port}} = erpc:call(Erlang, teleport_manager, address, []),
    {Rust, _Node} = start_rust(Config, random_name(), [{Erlang, Port}]),
    Server = teleport_test_server:start_at(Erlang, server),
    {monitored, Monitor} = tell(Rust, {monitor, Server}),
    command(Rust, {call, {server, Erlang}, never, ?PATIENCE}),
    teleport_test:eventually(fun() -> erpc:call(Erlang, teleport_test, watched, []) =:= 2 end),
    _ = os:cmd("kill -9 " ++ erpc:call(Erlang, os, getpid, [])),
    ?assertEqual(nodedown, outcome(Rust)),
    ?assertEqual({message, {'DOWN', Monitor, process, Server, noconnection}}, tell(Rust, 'receive')),
    ?assertEqual(nodedown, tell(Rust, {send, Server, hello})),
    ?assertEqual(nodedown, tell(Rust, {call, Server, hello, ?PATIENCE})),
    teleport_test:stop_peer(Peer),
    stop_rust(Rust).

%% Names lead to the new one, pids of the old one to nobody.
a_node_in_rust_is_restarted(Config) ->
    {Rust, Node} = rust(Config),
    Old = teleport:gs_call({desk, Node}, pid),
    Monitor = teleport:monitor(Old),
    stop_rust(Rust),
    ?assertEqual({'DOWN', Monitor, process, Old, noconnection}, teleport_test:receive_one()),
    {Again, Node} = start_rust(Config, atom_to_list(Node), [{node(), own_port()}]),
    ?assertNotEqual(Old, teleport:gs_call({desk, Node}, pid)),
    ?assertExit({noproc, _}, teleport:gs_call(Old, pid)),
    stop_rust(Again).

%% The node in Rust.

rust(Config) ->
    {?config(rust, Config), ?config(node, Config)}.

random_name() ->
    "rust-" ++ os:getpid() ++ "-" ++ integer_to_list(erlang:unique_integer([positive])) ++ "@127.0.0.1".

own_port() ->
    {ok, {_Ip, Port}} = teleport_manager:address(),
    Port.

%% Knows those peers, and is known to this node.
start_rust(Config, Name, Peers) ->
    Arguments = [lists:concat([Peer, "=127.0.0.1:", Port]) || {Peer, Port} <- Peers],
    Rust = open_port({spawn_executable, ?config(program, Config)},
                     [{packet, 4}, binary, {args, [Name | Arguments]},
                      {env, [{"TELEPORT_COOKIE", atom_to_list(erlang:get_cookie())}, {"RUST_BACKTRACE", "0"}]}]),
    {listening, Text, Port} = outcome(Rust),
    {ok, Ip} = inet:parse_address(binary_to_list(Text)),
    Node = list_to_atom(Name),
    ok = application:set_env(teleport, peers, #{Node => {Ip, Port}}),
    {Rust, Node}.

%% What it is told last is that there is nothing more: then it ends in order.
stop_rust(Rust) ->
    try port_close(Rust) of
        true -> ok
    catch
        error:badarg -> ok
    end.

kill(Rust) ->
    {os_pid, Pid} = erlang:port_info(Rust, os_pid),
    _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
    ok.

%% Has `client' do something.
tell(Rust, Command) ->
    command(Rust, Command),
    outcome(Rust).

command(Rust, Command) ->
    true = port_command(Rust, term_to_binary(Command)).

outcome(Rust) ->
    receive {Rust, {data, Outcome}} -> binary_to_term(Outcome)
    after ?PATIENCE -> error(no_outcome)
    end.

%% A stock gen_server here.
server() ->
    {ok, Server} = teleport_test_server:start(undefined),
    Server.
