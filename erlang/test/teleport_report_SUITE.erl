%% What fails says so: in the log, to who checks, and as text for people.
-module(teleport_report_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([check_sees_that_nothing_gets_through/1, the_side_that_was_dialled_can_check/1, a_report_fits_a_terminal/1,
         a_report_says_that_teleport_does_not_run/1]).
-export([check_says_since_when_a_peer_is_silent/1, an_address_that_is_not_the_way_is_a_warning/1,
         hosts_that_do_not_resolve_are_named/1]).
-export([a_start_that_failed_says_why/1, a_rest_is_said_once/1, a_call_that_ends_first_is_explained/1]).
-export([a_check_that_is_killed_is_one_that_failed/1]).
-export([a_call_in_vain_is_warned_of_once/1, nodes_that_are_not_there_are_not_warned_of/1,
         a_lost_session_is_warned_of/1, what_a_nodedown_has_lost_is_warned_of/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [check_sees_that_nothing_gets_through, check_says_since_when_a_peer_is_silent, an_address_that_is_not_the_way_is_a_warning,
     hosts_that_do_not_resolve_are_named, a_start_that_failed_says_why, a_rest_is_said_once, a_call_that_ends_first_is_explained,
     the_side_that_was_dialled_can_check, a_report_fits_a_terminal, a_report_says_that_teleport_does_not_run,
     a_check_that_is_killed_is_one_that_failed,
     a_call_in_vain_is_warned_of_once, nodes_that_are_not_there_are_not_warned_of, a_lost_session_is_warned_of,
     what_a_nodedown_has_lost_is_warned_of].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(Case, _Config) ->
    _ = logger:remove_handler(Case),
    _ = application:stop(teleport),
    application:unload(teleport).

%% A firewall drops what goes to the port: nothing is closed, and the session stands.
check_sees_that_nothing_gets_through(_Config) ->
    %% No connection is given up while the check waits.
    {Peer, Node, Proxy} = behind_a_proxy([{stall_timeout, 60000}]),
    Server = teleport_test_server:start_at(Node, server),
    ok = teleport:prime(Node),
    {ok, Well} = teleport:check(Node),
    ?assert(says(pool, "answered within", Well)),
    ?assert(says(session, "last heard", Well)),
    ok = teleport_test_proxy:hold(Proxy, 1),
    ?assertExit({timeout, _}, teleport:gs_call(Server, {echo, 1}, 500)),
    {error, Steps} = teleport:check(Node),
    ?assertEqual([{session, {error, no_answer}}, {pool, {error, no_answer}}],
                 [{Step, Outcome} || {Step, {error, _} = Outcome, _} <- Steps]),
    [?assert(says(Step, Text, Steps)) || {Step, Text} <- [{session, "something on the path drops"}, {session, "last heard"},
                                                          {pool, "without an answer"}]],
    ok = teleport_test_proxy:release(Proxy),
    teleport_test:eventually(fun() -> element(1, teleport:check(Node)) =:= ok end),
    teleport_test:stop_peer(Peer).

%% It says nothing over distributed Erlang either; the session says since when.
check_says_since_when_a_peer_is_silent(_Config) ->
    ok = teleport_test:start_here([{stall_timeout, 60000}]),
    {Peer, Node} = teleport_test:start_peer(),
    ok = teleport:prime(Node),
    OsPid = erpc:call(Node, os, getpid, []),
    ok = teleport_test:signal(stop, OsPid),
    {error, Steps} = teleport:check(Node),
    ok = teleport_test:signal(cont, OsPid),
    ?assertEqual([{peer, {error, timeout}}, {session, {error, no_answer}}, {pool, {error, no_answer}}],
                 [{Step, Outcome} || {Step, {error, _} = Outcome, _} <- Steps]),
    ?assertEqual([tcp], [Step || {Step, skipped, _} <- Steps]),
    [?assert(says(Step, Text, Steps)) || {Step, Text} <- [{peer, "has not answered over distributed Erlang"}, {session, "last heard"}]],
    teleport_test:stop_peer(Peer).

%% The peer has dialled, through a translation of addresses, say.
an_address_that_is_not_the_way_is_a_warning(_Config) ->
    ok = teleport_test:start_here([]),
    {Peer, Node} = teleport_test:start_peer(),
    ok = teleport:prime(Node),
    ok = application:set_env(teleport, peers, #{Node => {{127, 0, 0, 1}, 1}}),
    %% A question from before, which connections of the pool have asked, may be answered still.
    teleport_test:eventually(fun() ->
        {ok, Steps} = teleport:check(Node),
        {tcp, Outcome, _Text} = lists:keyfind(tcp, 1, Steps),
        Outcome =:= {warning, econnrefused}
    end),
    Lines = printed(fun() -> teleport:report(Node) end),
    ?assertMatch([_ | _], [Line || Line <- Lines, string:find(Line, "econnrefused, though") =/= nomatch]),
    teleport_test:stop_peer(Peer).

hosts_that_do_not_resolve_are_named(_Config) ->
    No = "no-such-host.invalid",
    ok = teleport_test:start_here([]),
    {Peer, Node} = teleport_test:start_peer(),
    {ok, {_, Port}} = erpc:call(Node, teleport_manager, address, []),
    ok = application:set_env(teleport, peers, #{x@nowhere => {No, 1}, Node => [{No, 1}, {{127, 0, 0, 1}, Port}]}),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ?assertMatch({error, {not_running, x@nowhere}}, teleport:prime(x@nowhere)),
    {warning, Text} = logged("cannot be resolved"),
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Text, Part)}) || Part <- ["x@nowhere", No, "`peers'"]],
    {error, Steps} = teleport:check(x@nowhere),
    ?assertMatch({address, {error, nxdomain}, _}, lists:keyfind(address, 1, Steps)),
    ?assert(says(address, No, Steps)),
    %% It need not be the only one.
    {ok, Others} = teleport:check(Node),
    ?assertMatch({address, {warning, nxdomain}, _}, lists:keyfind(address, 1, Others)),
    ?assert(says(address, No, Others)),
    ok = application:set_env(teleport, peers, #{}),
    %% The name is the peer's.
    ok = erpc:call(Node, application, set_env, [teleport, advertise, {No, 1}]),
    {ok, Advertised} = teleport:check(Node),
    ?assertMatch({address, {warning, nxdomain}, _}, lists:keyfind(address, 1, Advertised)),
    %% Once a minute.
    _ = sys:get_state(teleport_answers),
    ?assertEqual([], [Again || {_, Again} <- teleport_test_log:all(), string:find(Again, "cannot be resolved") =/= nomatch]),
    %% A node of such a host.
    {error, Unknown} = teleport:check(list_to_atom("y@" ++ No)),
    ?assert(says(node, No ++ " cannot be resolved", Unknown)),
    teleport_test:stop_peer(Peer).

a_start_that_failed_says_why(_Config) ->
    ok = application:load(teleport),
    ok = application:set_env(teleport, listen, nonsense),
    {error, {bad_value, listen, _}} = teleport:start(),
    [{_, {error, [{running, {error, not_running}, Text} | _]}}] = teleport:check(),
    ?assertNotEqual(nomatch, string:find(Text, "listen cannot be nonsense")),
    ok = application:unset_env(teleport, listen),
    ok = teleport:start(),
    ok = application:stop(teleport),
    [{_, {error, [{running, {error, not_running}, Now} | _]}}] = teleport:check(),
    ?assertNotEqual(nomatch, string:find(Now, "teleport:start()")).

a_rest_is_said_once(_Config) ->
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => teleport_test:code_path()}),
    ok = teleport_test:at(Peer, teleport, start, []),
    Checks = teleport_test:at(Peer, teleport, check, []),
    Report = printed(fun() -> teleport_report:node({error, not_running}, Checks) end),
    ?assertMatch([_, _], string:split(lists:join($\s, Report), "rests", all)),
    teleport_test:stop_peer(Peer).

%% OTP's time for a call is shorter than `setup_timeout'.
a_call_that_ends_first_is_explained(_Config) ->
    {ok, Mute} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Mute),
    Nodes = ['mute1@127.0.0.1', 'mute2@127.0.0.1', 'mute3@127.0.0.1'],
    Places = [{{127, 0, 0, 1}, 1}, {{127, 0, 0, 1}, Port}],
    ok = teleport_test:start_here([{peers, maps:from_list([{Node, Places} || Node <- Nodes])}]),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    %% On a busy machine the engine may come to it too late at times; one that says nothing before the call ends never does.
    ?assert(lists:any(fun(Node) -> is_explained(Node, Port) end, Nodes)),
    ok = gen_tcp:close(Mute).

%% Whether the log has the reason when a call ends, and has it once.
is_explained(Node, Port) ->
    Check = lists:flatten(io_lib:format("teleport:check('~s')", [Node])),
    ?assertExit({timeout, _}, teleport:gs_call({server, Node}, x)),
    ok = flushed(),
    case [Said || {warning, Said} <- teleport_test_log:all(), string:find(Said, "cannot connect") =/= nomatch,
                  string:find(Said, Check) =/= nomatch] of
        [] ->
            false;
        [Text] ->
            [?assertNotEqual({Part, nomatch}, {Part, string:find(Text, Part)})
             || Part <- ["127.0.0.1:1: Connection refused", "127.0.0.1:" ++ integer_to_list(Port) ++ ": it accepts"]],
            true
    end.

%% The side that has not dialled asks over the same connections.
the_side_that_was_dialled_can_check(_Config) ->
    {Peer, Node, _Proxy} = behind_a_proxy([]),
    ok = teleport:prime(Node),
    ?assertMatch({ok, _}, erpc:call(Node, teleport, check, [node()])),
    teleport_test:stop_peer(Peer).

a_report_fits_a_terminal(_Config) ->
    ok = teleport_test:start_here([{log_level, none},
                                   {peers, #{'a_node_with_a_long_name@a-host-with-a-long-name.example.org' => {{127, 0, 0, 1}, 1}}}]),
    {Peer, Node} = teleport_test:start_peer(),
    Lines = printed(fun() -> teleport:report() end) ++ printed(fun() -> teleport:report(Node) end),
    ct:log("~ts", [lists:join($\n, Lines)]),
    ?assertEqual([], [Line || Line <- Lines, string:length(Line) > 80]),
    [?assertMatch({Text, [_ | _]}, {Text, [Line || Line <- Lines, string:find(Line, Text) =/= nomatch]})
     || Text <- [atom_to_list(node()), atom_to_list(Node) ++ ": ok", "a_node_with_a_long_name@a-host-with-a-long-name.example.org: error",
                 "! tcp", "econnrefused", "handshake", "messages_sent", "address", "last_heard_ms"]],
    teleport_test:stop_peer(Peer).

a_report_says_that_teleport_does_not_run(_Config) ->
    [begin
        Lines = printed(Report),
        ?assertMatch([_ | _], [Line || Line <- Lines, string:find(Line, "teleport:start()") =/= nomatch])
     end || Report <- [fun() -> teleport:report() end, fun() -> teleport:report(nobody@nowhere) end]].

%% And what is told of the others is told. This node is not one of them, though `peers' may be the same everywhere.
a_check_that_is_killed_is_one_that_failed(_Config) ->
    {ok, Silent} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Silent),
    {Peer, Node} = teleport_test:start_peer(),
    %% The check of the silent one lasts until it is killed.
    ok = teleport_test:start_here([{setup_timeout, 60000},
                                   {peers, #{silent@nowhere => {{127, 0, 0, 1}, Port}, node() => {{127, 0, 0, 1}, Port}}}]),
    {Checking, Monitor} = spawn_monitor(fun() -> exit({checks, teleport:check()}) end),
    Of = fun() -> [Pid || Pid <- processes(), process_info(Pid, initial_call) =:= {initial_call, {teleport_check, exit_with, 1}}] end,
    %% That of the peer ends.
    teleport_test:eventually(fun() -> length(Of()) =:= 1 andalso teleport:nodes() =:= [Node] end),
    [exit(Pid, kill) || Pid <- Of()],
    receive
        {'DOWN', Monitor, process, Checking, {checks, Checks}} ->
            ?assertMatch([{Node, {ok, _}}, {silent@nowhere, {error, [{running, {error, killed}, _} | _]}}], lists:sort(
                fun({_, {Outcome, _}}, {_, {Other, _}}) -> Outcome >= Other end, Checks))
    end,
    ok = gen_tcp:close(Silent),
    teleport_test:stop_peer(Peer).

%% The exit does not say why. The log does, once a minute.
a_call_in_vain_is_warned_of_once(_Config) ->
    ok = teleport_test:start_here([]),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => teleport_test:code_path()}),
    true = net_kernel:connect_node(Node),
    [?assertExit({{nodedown, Node}, _}, teleport:gs_call({server, Node}, x)) || _ <- [1, 2, 3]],
    Name = atom_to_list(Node),
    {warning, Text} = logged("cannot connect"),
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Text, Part)})
     || Part <- [Name, "nobody knows where", "teleport:check('" ++ Name ++ "')"]],
    ?assertEqual(nomatch, string:find(Text, "resolver")),
    ok = flushed(),
    ?assertEqual([], [Again || {warning, Again} <- teleport_test_log:all(), string:find(Again, "cannot connect") =/= nomatch]),
    teleport_test:stop_peer(Peer).

%% As OTP does, which fails as well.
nodes_that_are_not_there_are_not_warned_of(_Config) ->
    ok = teleport_test:start_here([{log_level, debug}]),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ?assertExit({{nodedown, nobody@nowhere}, _}, teleport:gs_call({server, nobody@nowhere}, x)),
    ?assertMatch({info, _}, logged("cannot connect")).

a_lost_session_is_warned_of(_Config) ->
    {Peer, Node, Proxy} = behind_a_proxy([]),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ok = teleport:prime(Node),
    ok = teleport_test_proxy:hold(Proxy, 1),
    %% Not before there is something to be missed.
    ok = teleport_nif:net_ticktime(4),
    {warning, Text} = logged("session down"),
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Text, Part)}) || Part <- ["nothing was heard", "teleport:check('"]],
    teleport_test:stop_peer(Peer).

%% By then the node is no longer one of those that are connected.
what_a_nodedown_has_lost_is_warned_of(_Config) ->
    ok = teleport_test:start_here([]),
    {Peer, Node} = teleport_test:start_peer(),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ok = teleport:prime(Node),
    OsPid = erpc:call(Node, os, getpid, []),
    ok = teleport_test:signal(stop, OsPid),
    [ok = teleport:send({x, Node}, Number) || Number <- lists:seq(1, 100)],
    true = erlang:disconnect_node(Node),
    {Level, Text} = try logged("session down") after teleport_test:signal(cont, OsPid), teleport_test:stop_peer(Peer) end,
    ?assertEqual({warning, true}, {Level, string:find(Text, "unconfirmed=100") =/= nomatch}).

%% Both nodes are configured like that.
behind_a_proxy(Configuration) ->
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), Configuration),
    {ok, Address} = erpc:call(Node, teleport_manager, address, []),
    {_Ip, Port} = Address,
    {Proxy, Instead} = teleport_test_proxy:start({{127, 0, 0, 1}, Port}),
    ok = teleport_test:start_here([{peers, #{Node => Instead}} | Configuration]),
    {Peer, Node, Proxy}.

says(Step, Text, Steps) ->
    {Step, _Outcome, Said} = lists:keyfind(Step, 1, Steps),
    string:find(Said, Text) =/= nomatch.

%% The lines that a function prints.
printed(Function) ->
    ok = ct:capture_start(),
    ok = Function(),
    Printed = ct:capture_get(),
    ok = ct:capture_stop(),
    string:split(unicode:characters_to_list(Printed), "\n", all).

logged(Text) ->
    receive
        {logged, Event} ->
            {_Level, Said} = Found = teleport_test_log:said(Event),
            case string:find(Said, Text) of
                nomatch -> logged(Text);
                _ -> Found
            end
    after 30000 ->
        error({not_logged, Text})
    end.

%% Everything that the engine has said by now has been logged.
flushed() ->
    _ = sys:get_state(teleport_log),
    ok.
