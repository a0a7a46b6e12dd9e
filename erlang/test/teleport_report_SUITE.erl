%% What fails says so: in the log, to who checks, and as text for people.
-module(teleport_report_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([nothing_gets_through/1, the_peer_asks_too/1, a_report_fits_a_terminal/1, a_report_without_teleport/1]).
-export([a_call_in_vain_is_warned_of_once/1, nodes_that_are_not_there_are_not_warned_of/1, a_lost_session_is_warned_of/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [nothing_gets_through, the_peer_asks_too, a_report_fits_a_terminal, a_report_without_teleport,
     a_call_in_vain_is_warned_of_once, nodes_that_are_not_there_are_not_warned_of, a_lost_session_is_warned_of].

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
nothing_gets_through(_Config) ->
    {Peer, Node, Proxy} = behind_a_proxy([{setup_timeout, 1000}]),
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
    [?assert(says(Step, Text, Steps)) || {Step, Text} <- [{session, "something on the way drops"}, {session, "last heard"},
                                                          {pool, "without an answer"}]],
    ok = teleport_test_proxy:release(Proxy),
    teleport_test:eventually(fun() -> element(1, teleport:check(Node)) =:= ok end),
    teleport_test:stop_peer(Peer).

%% The side that has not dialled asks over the same connections.
the_peer_asks_too(_Config) ->
    {Peer, Node, _Proxy} = behind_a_proxy([]),
    ok = teleport:prime(Node),
    ?assertMatch({ok, _}, erpc:call(Node, teleport, check, [node()])),
    teleport_test:stop_peer(Peer).

a_report_fits_a_terminal(_Config) ->
    ok = teleport_test:start_here([{peers, #{'a_node_with_a_long_name@a-host-with-a-long-name.example.org' => {{127, 0, 0, 1}, 1}}}]),
    {Peer, Node} = teleport_test:start_peer(),
    Lines = printed(fun() -> teleport:report() end) ++ printed(fun() -> teleport:report(Node) end),
    ct:log("~ts", [lists:join($\n, Lines)]),
    ?assertEqual([], [Line || Line <- Lines, string:length(Line) > 80]),
    [?assertMatch({Text, [_ | _]}, {Text, [Line || Line <- Lines, string:find(Line, Text) =/= nomatch]})
     || Text <- [atom_to_list(node()), atom_to_list(Node) ++ ": ok", "a_node_with_a_long_name@a-host-with-a-long-name.example.org: error",
                 "! tcp", "econnrefused", "handshake", "messages_sent", "address", "last_heard_ms"]],
    teleport_test:stop_peer(Peer).

a_report_without_teleport(_Config) ->
    [begin
        Lines = printed(Report),
        ?assertMatch([_ | _], [Line || Line <- Lines, string:find(Line, "teleport:start()") =/= nomatch])
     end || Report <- [fun() -> teleport:report() end, fun() -> teleport:report(nobody@nowhere) end]].

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
    ?assertEqual([], [Again || {warning, Again} <- all_logged(), string:find(Again, "cannot connect") =/= nomatch]),
    teleport_test:stop_peer(Peer).

%% As OTP does, which fails as well.
nodes_that_are_not_there_are_not_warned_of(_Config) ->
    ok = teleport_test:start_here([{log_level, debug}]),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ?assertExit({{nodedown, nobody@nowhere}, _}, teleport:gs_call({server, nobody@nowhere}, x)),
    ?assertMatch({info, _}, logged("cannot connect")).

a_lost_session_is_warned_of(_Config) ->
    {Peer, Node, Proxy} = behind_a_proxy([{net_ticktime, 1}]),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    ok = teleport:prime(Node),
    ok = teleport_test_proxy:hold(Proxy, 1),
    {warning, Text} = logged("session down"),
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Text, Part)}) || Part <- ["nothing was heard", "teleport:check('"]],
    teleport_test:stop_peer(Peer).

behind_a_proxy(Configuration) ->
    {Peer, Node} = teleport_test:start_peer(),
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
            {_Level, Said} = Found = said(Event),
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

all_logged() ->
    receive {logged, Event} -> [said(Event) | all_logged()] after 0 -> [] end.

said(#{level := Level, msg := {report, Report}}) -> {Level, lists:flatten(io_lib:format("~p", [Report]))};
said(#{level := Level, msg := {string, String}}) -> {Level, unicode:characters_to_list(String)};
said(#{level := Level, msg := {Format, Args}}) -> {Level, lists:flatten(io_lib:format(Format, Args))}.
