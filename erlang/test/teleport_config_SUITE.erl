%% What is configured wrongly is said at the start, with what it takes; and what is configured counts.
-module(teleport_config_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([values_that_keys_do_not_take_are_refused/1, examples_are_taken/1, values_at_the_edges_are_taken/1,
         misspelt_keys_are_refused_with_a_suggestion/1, unknown_keys_are_refused_with_all_keys/1]).
-export([a_port_in_use_is_named_in_the_error/1, congestion_control_the_kernel_lacks_is_refused/1,
         an_empty_cookie_is_refused/1, info_and_debug_are_shown/1,
         what_is_below_the_level_is_not_logged/1,
         each_wrong_key_is_told/1]).

all() ->
    [values_that_keys_do_not_take_are_refused, examples_are_taken, values_at_the_edges_are_taken,
     misspelt_keys_are_refused_with_a_suggestion, unknown_keys_are_refused_with_all_keys,
     a_port_in_use_is_named_in_the_error, congestion_control_the_kernel_lacks_is_refused, an_empty_cookie_is_refused,
     info_and_debug_are_shown, what_is_below_the_level_is_not_logged, each_wrong_key_is_told].

suite() -> [{timetrap, {minutes, 2}}].

init_per_suite(Config) ->
    ok = teleport_test:start_here([]),
    ok = teleport_test:stop_here(),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = application:load(teleport),
    Config.

end_per_testcase(_Case, _Config) ->
    _ = application:stop(teleport),
    application:unload(teleport).

values_that_keys_do_not_take_are_refused(_Config) ->
    [?assertMatch({Key, Value, {error, {bad_value, Key, _}}}, {Key, Value, started(Key, Value)})
     || {Key, Values} <- [{listen, [{{127, 0, 0, 1}, 80000}, {{127, 0, 0, 1}, -1}, {{300, 0, 0, 0}, 0}, {{1, 2, 3}, 0},
                                    {{0, 0, 0, 0, 0, 0, 0, 65536}, 0}, {localhost, 0}, "127.0.0.1:1", 4370]},
                          {peers, [[here], #{here => {{127, 0, 0, 1}, 4370}}, #{a@b => {{127, 0, 0, 1}, 0}},
                                   #{a@b => {{127, 0, 0, 1}, 65536}}, #{a@b => {{256, 0, 0, 1}, 1}}, #{'@b' => {{127, 0, 0, 1}, 1}},
                                   #{'a@' => {{127, 0, 0, 1}, 1}}, #{"a@b" => {{127, 0, 0, 1}, 1}}]},
                          {setup_timeout, [-1, 0, 86400001, 1.5, infinity]},
                          {stall_timeout, [-1, 0, 1 bsl 64]},
                          {handshake_timeout, [0]},
                          {bulk_idle, [0, 86400001]},
                          {stop_timeout, [-1, infinity, 1 bsl 32]},
                          {net_ticktime, [0, -1, often, 1 bsl 62]},
                          {max_message, [0, -1, 1 bsl 64]},
                          {max_term, [1048576, -1]},
                          {max_watches, [0, 1]},
                          {max_sessions, [0]},
                          {max_handshakes, [0]},
                          {fragment_size, [16383, 16777217, 1 bsl 32 + 65536]},
                          {express_connections, [0, 1025, 1 bsl 32 + 1]},
                          {bulk_connections, [0, -1]},
                          {most_bulk_connections, [0, 1025]},
                          {max_pacing_rate, [0, fast]},
                          {worker_threads, [0, 100000]},
                          {relays, [0, 1025]},
                          {congestion, ["", <<>>, [cubic], 7]},
                          {fallback, [sometimes]},
                          {allow, [all, [all], [{"a@b", all}], [{'_', [{name, "x"}]}], [{'_', [{apply, {m, f, -1}}]}]]},
                          %% None is asked behind a rule for all.
                          {allow, [[{'_', all}, {'a@*', []}], [{'a@*', all}, {'*@*', all}, {'b@*', all}]]},
                          {advertise, ["14371", <<"14371">>, "10.0.0.7:14371", "[fd00::1]", {"10.0.0.7:1", 14371}]},
                          %% Those of all interfaces are nobody's.
                          {advertise, ["0.0.0.0", <<"::">>, {0, 0, 0, 0}, {"0.0", 14371}]},
                          {peers, [#{a@b => {"0.0.0.0", 4370}}, #{a@b => [{"10.0.0.7", 4370}, {<<"::0">>, 4370}]}]},
                          {allow_mode, [sometimes]},
                          {log_level, [loud]},
                          {tls, [[], [here], [{certfile, ""}], [{certfile, "a"}]]},
                          {apply, [yes]},
                          %% Lists without an end.
                          {tls, [[{certfile, "a"} | b], [{certfile, "a"}, {verify, verify_none} | b], [{key, "secret"} | b]]},
                          {peers, [#{a@b => [{{127, 0, 0, 1}, 1} | x]}, #{a@b => {"host" ++ x, 1}}]},
                          {allow, [[{'_', all} | x], [{'_', [pids | x]}]]},
                          {advertise, ["host" ++ x, {"host" ++ x, 1}]},
                          {congestion, ["cubic" ++ x]},
                          {log_level, [[info | x]]}],
        Value <- Values].

%% The text has the value, and an example that the key takes.
examples_are_taken(_Config) ->
    [begin
        {error, {bad_value, Key, Text}} = started(Key, {wrong, 4711}),
        ?assertNotEqual(nomatch, string:find(Text, "{wrong,4711}")),
        [_, Example] = string:split(Text, "for example "),
        {ok, Tokens, _} = erl_scan:string(Example ++ "."),
        {ok, {Key, Value}} = erl_parse:parse_term(Tokens),
        ok = application:set_env(teleport, Key, Value),
        ?assertEqual(ok, teleport_config:check()),
        ok = application:unset_env(teleport, Key)
    end || Key <- keys()].

%% What the table has as the ends of a range is what the engine takes.
values_at_the_edges_are_taken(_Config) ->
    [?assertEqual({Key, Value, ok}, {Key, Value, started(Key, Value)})
     || {Key, Value} <- [{net_ticktime, 1}, {net_ticktime, 30 * 86400}, {setup_timeout, 86400000}, {stall_timeout, 86400000},
                         {bulk_idle, 86400000}, {handshake_timeout, 1}, {allow, []}, {allow, [{'_', []}]},
                         {advertise, "fd00::1"}, {advertise, <<"h1.example.org">>}, {advertise, {"10.0.0.7", 65535}},
                         {fragment_size, 16384}, {fragment_size, 16777216}, {max_watches, 2}, {max_watches, 1 bsl 32},
                         {max_message, 1}, {max_message, 1 bsl 62}, {peer_window, 1 bsl 62}, {node_window, 1 bsl 62},
                         {answers_window, 1 bsl 62}, {buffer_pool, 0}, {buffer_pool, 1 bsl 62}, {max_term, 1 bsl 62},
                         {express_connections, 100}, {bulk_connections, 100}, {most_bulk_connections, 100}, {max_pacing_rate, 1 bsl 40},
                         {max_sessions, 1000000},
                         {max_handshakes, 1000000}, {max_new_atoms, 0}, {max_new_atoms_per_peer, 1 bsl 32}]].

misspelt_keys_are_refused_with_a_suggestion(_Config) ->
    [begin
        {error, {unknown_key, Key, Text}} = started(Key, 1),
        ?assertNotEqual({Key, nomatch}, {Key, string:find(Text, "did you mean " ++ Meant ++ "?")})
     end || {Key, Meant} <- [{lisen, "listen"}, {peer, "peers"}, {'max-message', "max_message"}, {max_mesage, "max_message"},
                             {netticktime, "net_ticktime"}, {bulk_connection, "bulk_connections"}, {loglevel, "log_level"}]].

%% All keys are named where none is near.
unknown_keys_are_refused_with_all_keys(_Config) ->
    {error, {unknown_key, colour, Text}} = started(colour, red),
    [?assertNotEqual(nomatch, string:find(Text, Key)) || Key <- ["listen", "peers", "worker_threads"]].

a_port_in_use_is_named_in_the_error(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    {error, {cannot_listen, {{127, 0, 0, 1}, Port}, Text}} = started(listen, {{127, 0, 0, 1}, Port}),
    %% With its cause, once.
    ?assertMatch([_, _], string:split(Text, "in use", all)),
    ok = gen_tcp:close(Socket).

congestion_control_the_kernel_lacks_is_refused(_Config) ->
    [begin
        {error, {no_congestion_control, Text}} = started(congestion, Name),
        ?assertNotEqual(nomatch, string:find(Text, "snail"))
     end || Name <- ["snail", <<"snail">>]].

an_empty_cookie_is_refused(_Config) ->
    {ok, Peer, _Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => teleport_test:code_path()}),
    true = teleport_test:at(Peer, erlang, set_cookie, ['']),
    ?assertMatch({error, {bad_cookie, _}}, teleport_test:at(Peer, teleport, start, [])),
    teleport_test:stop_peer(Peer).

%% OTP itself lets `notice' through, and what is above it.
info_and_debug_are_shown(_Config) ->
    #{level := Primary} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, notice),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    [begin
        ok = started(log_level, LogLevel),
        {Peer, Node} = teleport_test:start_peer(),
        ok = teleport:prime(Node),
        {ok, {_, Port}} = teleport_manager:address(),
        {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, []),
        ok = gen_tcp:close(Socket),
        teleport_test:eventually(fun() -> lists:member(Seen, levels([])) end),
        teleport_test:stop_peer(Peer),
        ok = application:stop(teleport),
        _ = levels([])
     end || {LogLevel, Seen} <- [{info, info}, {debug, debug}]],
    %% It asks for nothing any more when it has stopped.
    ?assertEqual([], logger:get_module_level(teleport_log)),
    ok = logger:remove_handler(?FUNCTION_NAME),
    ok = logger:set_primary_config(level, Primary).

%% Not only the first of them, and each once.
each_wrong_key_is_told(_Config) ->
    ok = teleport:start(),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    Told = fun() -> [Text || {error, Text} <- teleport_test_log:all()] end,
    Of = fun(Key, Texts) -> length([Text || Text <- Texts, string:find(Text, Key) =/= nomatch]) end,
    ok = application:set_env([{teleport, [{fallback, sometimes}, {relays, 0}, {tlss, none}]}]),
    ok = look(),
    ok = look(),
    First = Told(),
    [?assertEqual({Key, 1}, {Key, Of(Key, First)}) || Key <- ["fallback", "relays", "tlss"]],
    %% What is corrected says nothing of the others.
    ok = application:unset_env(teleport, fallback),
    ok = look(),
    Then = Told(),
    [?assertEqual({Key, 0}, {Key, Of(Key, Then)}) || Key <- ["fallback", "relays", "tlss"]],
    ok = logger:remove_handler(?FUNCTION_NAME).

%% Whoever logs it: this is what the Erlang side has to say.
what_is_below_the_level_is_not_logged(_Config) ->
    ok = teleport:start(),
    ok = logger:add_handler(?FUNCTION_NAME, teleport_test_log, #{config => self()}),
    Wrong = fun(LogLevel) ->
        ok = application:set_env([{teleport, [{log_level, LogLevel}, {fallback, sometimes}]}]),
        ok = look(),
        ok = application:unset_env(teleport, fallback),
        ok = look(),
        [Level || {Level, Text} <- teleport_test_log:all(), string:find(Text, "fallback") =/= nomatch]
    end,
    ?assertEqual([error], Wrong(error)),
    ?assertEqual([], Wrong(none)),
    Plain = fun(LogLevel) ->
        ok = application:set_env(teleport, log_level, LogLevel),
        ok = teleport_log:say(warning, "it says ~ts", ["so"], #{}),
        [Level || {Level, "it says so"} <- teleport_test_log:all()]
    end,
    [?assertEqual({LogLevel, Logged}, {LogLevel, Plain(LogLevel)})
     || {LogLevel, Logged} <- [{none, []}, {error, []}, {warning, [warning]}, {info, [warning]}]],
    ok = logger:remove_handler(?FUNCTION_NAME).

%% As if the time had come.
look() ->
    look = erlang:send(teleport_manager, look),
    _ = sys:get_state(teleport_manager),
    ok.

%% Of all that was logged by now.
levels(Levels) ->
    receive {logged, #{level := Level}} -> levels([Level | Levels]) after 0 -> Levels end.

%% What comes of a start with this, and nothing else.
started(Key, Value) ->
    ok = application:set_env(teleport, Key, Value),
    Result = teleport:start(),
    ok = application:unset_env(teleport, Key),
    Key =/= log_level andalso application:stop(teleport),
    Result.

keys() ->
    {error, {unknown_key, _, Text}} = started(none_of_them_at_all, 1),
    [_, Keys] = string:split(Text, "its keys are "),
    [list_to_existing_atom(Key) || Key <- string:split(Keys, ", ", all)].
