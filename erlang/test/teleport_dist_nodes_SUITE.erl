%% Nodes with `erl -proto_dist teleport' in clusters of all kinds, by the flags and programs that distributed Erlang knows.
-module(teleport_dist_nodes_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/net_address.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([plain_nodes_connect_to_a_carrier/1, a_carrier_connects_to_plain_nodes/1, another_cookie_is_refused/1,
         plain_connections_are_closed/1, strangers_leave_nothing/1, erl_call_reaches_a_carrier/1, a_dynamic_name_carries/1,
         without_a_listener_it_goes_plain/1, it_is_plain_to_peers_that_do_not_carry/1,
         an_epmd_that_cannot_be_reached_knows_nothing/1, who_asks_an_epmd_that_is_silent_gives_up/1,
         it_works_without_epmd/1, ports_and_interface_of_the_kernel_hold/1,
         a_node_does_not_listen_at_other_ports/1,
         hidden_nodes_stay_hidden/1, ipv6_carries/1, a_remote_shell_works/1, distribution_stops_and_starts_again/1,
         the_application_may_come_and_go/1, what_is_set_too_late_is_told/1,
         a_wrong_key_keeps_a_carrier_from_starting/1,
         a_wrong_value_does_not_end_a_carrier/1, a_broken_library_ends_the_node_with_a_line/1,
         a_broken_library_is_logged_at_run_time/1,
         a_release_in_embedded_mode_carries/1, two_carriers_are_refused/1,
         a_flag_that_is_repeated_counts_as_for_the_kernel/1, a_node_that_stops_needs_no_warning/1,
         an_engine_that_cannot_begin_anew_is_tried_again/1,
         distribution_stops_in_time_beside_a_peer_that_stands_still/1, a_net_kernel_that_stands_still_does_not_hold_the_manager/1,
         overlapping_partitions_are_prevented/1]).

-import(teleport_test_carrier, [carrier/0, plain/0, start/1, start_as/2, start_at/2, start_in/2, anonymous/1, stop/1, with/2,
                                name/1, at/2, at/4, is_up/2, is_carried/2, watcher/2, told/1, large/0, cookie/0]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [plain_nodes_connect_to_a_carrier, a_carrier_connects_to_plain_nodes, another_cookie_is_refused,
     plain_connections_are_closed, strangers_leave_nothing, erl_call_reaches_a_carrier, a_dynamic_name_carries,
     without_a_listener_it_goes_plain, it_is_plain_to_peers_that_do_not_carry,
     an_epmd_that_cannot_be_reached_knows_nothing, who_asks_an_epmd_that_is_silent_gives_up,
     it_works_without_epmd, ports_and_interface_of_the_kernel_hold,
     a_node_does_not_listen_at_other_ports,
     hidden_nodes_stay_hidden, ipv6_carries, a_remote_shell_works, distribution_stops_and_starts_again,
     the_application_may_come_and_go, what_is_set_too_late_is_told, a_wrong_key_keeps_a_carrier_from_starting,
     a_wrong_value_does_not_end_a_carrier,
     a_broken_library_ends_the_node_with_a_line, a_broken_library_is_logged_at_run_time,
     a_release_in_embedded_mode_carries, two_carriers_are_refused, a_flag_that_is_repeated_counts_as_for_the_kernel,
     a_node_that_stops_needs_no_warning, an_engine_that_cannot_begin_anew_is_tried_again,
     distribution_stops_in_time_beside_a_peer_that_stands_still, a_net_kernel_that_stands_still_does_not_hold_the_manager,
     overlapping_partitions_are_prevented].

init_per_suite(Config) ->
    ok = teleport_test:epmd(),
    Config.

end_per_suite(_Config) ->
    ok.

plain_nodes_connect_to_a_carrier(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        mixed(A, B)
    end).

a_carrier_connects_to_plain_nodes(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        mixed(A, B)
    end).

mixed(Carrier, Plain) ->
    ?assert(is_up(Carrier, Plain)),
    ?assertNot(is_carried(Carrier, Plain)),
    [?assertEqual([], at(One, teleport_test_carrier, numbers, [name(Other), 20])) || {One, Other} <- [{Carrier, Plain}, {Plain, Carrier}]],
    %% A second carrier is connected as such, and both with the plain one.
    with([carrier()], fun([Third]) ->
        ?assertEqual(pong, at(Third, net_adm, ping, [name(Carrier)])),
        ?assert(is_carried(Third, Carrier)),
        teleport_test:eventually(fun() -> is_up(Third, Plain) end),
        ?assertNot(is_carried(Third, Plain))
    end),
    Watcher = watcher(Carrier, Plain),
    ?assert(at(Plain, erlang, disconnect_node, [name(Carrier)])),
    ?assertEqual(nodedown, told(Watcher)),
    ?assertEqual(pong, at(Carrier, net_adm, ping, [name(Plain)])).

%% A node that carries is not talked to in another way.
another_cookie_is_refused(_Config) ->
    with([carrier(), start(["-proto_dist", "teleport", "-setcookie", "nT3bW8xKq1ZcV5yHj0Lf"])], fun([A, B]) ->
        ?assertEqual(pang, at(A, net_adm, ping, [name(B)])),
        ?assertNot(is_up(A, B))
    end).

%% They begin the handshake of distributed Erlang, and go or say something wrong.
strangers_leave_nothing(_Config) ->
    Carrier = start(["-proto_dist", "teleport", "-kernel", "net_setuptime", "25"]),
    with([Carrier, start(["-setcookie", "nT3bW8xKq1ZcV5yHj0Lf"])], fun([A, B]) ->
        ?assertEqual(pang, at(B, net_adm, ping, [name(A)])), % which loads what it takes
        {Name, Before} = {<<"N", 16#d07df7fbd:64, 7:32, 5:16, "xx@yy">>, open_at(A)},
        [begin
            {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, port_of(A), [binary, {active, false}]),
            ok = gen_tcp:send(Socket, <<(byte_size(Name)):16, Name/binary>>),
            {ok, _Status} = gen_tcp:recv(Socket, 0, 30000),
            Answer =/= none andalso gen_tcp:send(Socket, Answer),
            %% Before `net_setuptime' is over.
            Answer =/= none andalso ?assertMatch(ok, until_closed(Socket, erlang:monotonic_time(millisecond) + 20000)),
            gen_tcp:close(Socket)
        end || Answer <- [none, <<21:16, "r", 0:160>>], _ <- lists:seq(1, 5)],
        [?assertEqual(pang, at(B, net_adm, ping, [name(A)])) || _ <- lists:seq(1, 5)],
        teleport_test:eventually(fun() -> open_at(A) =< Before + 2 end)
    end).

until_closed(Socket, Deadline) ->
    case gen_tcp:recv(Socket, 0, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {ok, _} -> until_closed(Socket, Deadline);
        {error, closed} -> ok;
        {error, Reason} -> Reason
    end.

port_of(Node) ->
    [Name, _] = string:split(atom_to_list(name(Node)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, {127, 0, 0, 1}),
    Port.

%% Descriptors.
open_at(Node) ->
    at(Node, fun() -> {ok, Open} = file:list_dir("/proc/self/fd"), length(Open) end).

plain_connections_are_closed(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        Count = fun() -> open_at(A) end,
        Again = fun(Closer, Other) ->
            ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
            ?assert(at(Closer, erlang, disconnect_node, [name(Other)])),
            %% The other end is told.
            teleport_test:eventually(fun() -> not is_up(A, B) andalso not is_up(B, A) end)
        end,
        Again(A, B),
        Before = Count(),
        [begin Again(A, B), Again(B, A) end || _ <- lists:seq(1, 10)],
        teleport_test:eventually(fun() -> Count() =< Before + 2 end)
    end).

%% A node in C.
erl_call_reaches_a_carrier(_Config) ->
    [Program | _] = filelib:wildcard(filename:join([code:root_dir(), "lib", "erl_interface-*", "bin", "erl_call"]))
        ++ filelib:wildcard(filename:join([code:root_dir(), "erts-*", "bin", "erl_call"])),
    with([carrier()], fun([A]) ->
        [Name, _] = string:split(atom_to_list(name(A)), "@"),
        Said = os:cmd(Program ++ " -sname " ++ Name ++ " -c " ++ cookie() ++ " -a 'erlang node'"),
        ?assertEqual(atom_to_list(name(A)), string:trim(Said, both, "'"))
    end).

a_dynamic_name_carries(_Config) ->
    with([carrier(), start_as("undefined", ["-proto_dist", "teleport"])], fun([A, B]) ->
        ?assert(at(B, net_kernel, connect_node, [name(A)])),
        Node = at(B, erlang, node, []),
        ?assertNotEqual(nonode@nohost, Node),
        %% Its answer comes from the other node, where the connection is up by then.
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assertEqual([Node], at(A, erlang, nodes, [hidden])),
        ?assertEqual([], at(B, teleport_test_carrier, numbers, [name(A), 20]))
    end).

%% It has no engine: it goes plain to others.
without_a_listener_it_goes_plain(_Config) ->
    with([carrier(), start(["-proto_dist", "teleport", "-dist_listen", "false"])], fun([A, B]) ->
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assertNot(is_carried(B, A)),
        ?assertEqual({error, not_running}, at(B, teleport_manager, address, [])),
        ?assertEqual([], at(B, teleport_test_carrier, numbers, [name(A), 20])),
        %% Nor does the application's.
        {ok, _} = at(B, application, ensure_all_started, [teleport]),
        ?assertMatch({ok, _}, at(B, teleport_manager, address, [])),
        ?assert(at(B, erlang, disconnect_node, [name(A)])),
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assertNot(is_carried(B, A)),
        ?assertEqual([], at(B, teleport_test_carrier, numbers, [name(A), 20]))
    end).

%% Its engine is reached, at an address that is configured.
it_is_plain_to_peers_that_do_not_carry(_Config) ->
    with([carrier(), plain()], fun([A, B]) ->
        {ok, _} = at(B, application, ensure_all_started, [teleport]),
        {ok, {_, Port}} = at(B, teleport_manager, address, []),
        ok = at(A, application, set_env, [teleport, peers, #{name(B) => {{127, 0, 0, 1}, Port}}]),
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        ?assertNot(is_carried(A, B))
    end).

%% It does not say that a node is gone, as it does of a node that it does not know.
an_epmd_that_cannot_be_reached_knows_nothing(_Config) ->
    Port = integer_to_list(teleport_test:free_port()),
    Epmd = open_port({spawn_executable, os:find_executable("epmd")}, [{args, ["-port", Port]}, exit_status]),
    {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
    Kill = fun() -> os:cmd("kill " ++ integer_to_list(Pid)) end,
    try knows_nothing(Port, fun() -> _ = Kill(), receive {Epmd, {exit_status, _}} -> ok end end)
    after
        Kill()
    end.

knows_nothing(Port, Kill) ->
    teleport_test:eventually(fun() ->
        case gen_tcp:connect({127, 0, 0, 1}, list_to_integer(Port), []) of
            {ok, Socket} -> ok =:= gen_tcp:close(Socket);
            {error, _} -> false
        end
    end),
    Start = fun() -> start_in([{"ERL_EPMD_PORT", Port}], ["-proto_dist", "teleport", "-start_epmd", "false"]) end,
    with([Start(), Start()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        [_, Host] = string:split(atom_to_list(name(B)), "@"),
        ?assertNot(at(A, teleport_dist, has_left, [name(B)])),
        ?assert(at(A, teleport_dist, has_left, [list_to_atom("nobody@" ++ Host)])),
        ok = Kill(),
        ?assertNot(at(A, teleport_dist, has_left, [name(B)])),
        ?assertNot(at(A, teleport_dist, has_left, [list_to_atom("nobody@" ++ Host)]))
    end).

%% Each who asks has a descriptor, and there is another one after each set-up time.
who_asks_an_epmd_that_is_silent_gives_up(_Config) ->
    Flags = ["-proto_dist", "teleport", "-epmd_module", "teleport_test_epmd", "-kernel", "net_setuptime", "1",
             "-teleport", "setup_timeout", "1000"],
    with([start_at("127.0.0.1", Flags)], fun([A]) ->
        Asking = fun() ->
            at(A, fun() ->
                Function = {current_function, {teleport_test_epmd, address_please, 3}},
                [Pid || Pid <- processes(), process_info(Pid, current_function) =:= Function]
            end)
        end,
        Silent = 'node@silent.invalid',
        Connect = spawn_link(fun() -> ?assertEqual(false, at(A, net_kernel, connect_node, [Silent])) end),
        Monitor = erlang:monitor(process, Connect),
        receive {'DOWN', Monitor, process, Connect, Reason} -> ?assertEqual(normal, Reason) end,
        ?assert(at(A, persistent_term, get, [{teleport_test_epmd, asked}, false])),
        teleport_test:eventually(fun() -> Asking() =:= [] end)
    end).

it_works_without_epmd(_Config) ->
    Port = teleport_test:free_port(),
    Flags = ["-proto_dist", "teleport", "-start_epmd", "false", "-erl_epmd_port", integer_to_list(Port)],
    with([start(Flags), start(Flags ++ ["-dist_listen", "false"])], fun([A, B]) ->
        ?assertMatch({ok, {_, Port}}, at(A, teleport_manager, address, [])),
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)]))
    end).

ports_and_interface_of_the_kernel_hold(_Config) ->
    Flags = fun(Ip, First, Last) ->
        ["-proto_dist", "teleport", "-kernel", "inet_dist_use_interface", Ip, "inet_dist_listen_min", integer_to_list(First),
         "inet_dist_listen_max", integer_to_list(Last)]
    end,
    with([start(Flags("{127,0,0,1}", 24371, 24379)), start(Flags("{127,0,0,1}", 24371, 24379))], fun([A, B]) ->
        [{ok, {{127, 0, 0, 1}, First}}, {ok, {{127, 0, 0, 1}, Second}}] = [at(Node, teleport_manager, address, []) || Node <- [A, B]],
        ?assertNotEqual(First, Second),
        [?assert(Port >= 24371 andalso Port =< 24379) || Port <- [First, Second]],
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        ?assert(is_carried(A, B))
    end).

%% As with `inet_tcp': who looks for it at these ports would find another node there.
a_node_does_not_listen_at_other_ports(_Config) ->
    Port = teleport_test:free_port(),
    {ok, Taken} = gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}]),
    Flags = ["-kernel", "inet_dist_use_interface", "{127,0,0,1}", "inet_dist_listen_min", integer_to_list(Port),
             "inet_dist_listen_max", integer_to_list(Port)],
    Anonymous = anonymous(["-proto_dist", "teleport" | Flags]),
    with([Anonymous], fun([Node]) ->
        Start = fun() -> net_kernel:start(list_to_atom(peer:random_name()), #{name_domain => shortnames}) end,
        ?assertMatch({error, _}, at(Node, Start)),
        ok = gen_tcp:close(Taken),
        ?assertMatch({ok, _}, at(Node, Start)),
        ?assertMatch({ok, {_, Port}}, at(Node, teleport_manager, address, []))
    end).

hidden_nodes_stay_hidden(_Config) ->
    with([carrier(), start(["-proto_dist", "teleport", "-hidden"])], fun([A, B]) ->
        ?assertEqual(pong, at(B, net_adm, ping, [name(A)])),
        ?assert(is_carried(A, B)),
        ?assertEqual([], at(A, erlang, nodes, [])),
        ?assertEqual([name(B)], at(A, erlang, nodes, [hidden]))
    end).

%% The loopback address, since hosts have names for no other.
ipv6_carries(_Config) ->
    Flags = ["-proto_dist", "teleport6"],
    Start = fun() -> start_at("::1", Flags) end,
    with([Start(), Start(), start_at("::1", ["-proto_dist", "inet6_tcp"])], fun([A, B, Plain]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        ?assert(is_carried(A, B)),
        ?assertMatch({ok, #net_address{address = {{0, 0, 0, 0, 0, 0, 0, 1}, _}, family = inet6}},
                     at(A, net_kernel, node_info, [name(B), address])),
        ?assertEqual(pong, at(Plain, net_adm, ping, [name(A)])),
        teleport_test:eventually(fun() -> is_up(B, Plain) end)
    end).

a_remote_shell_works(_Config) ->
    with([carrier()], fun([A]) ->
        [begin
             Shell = ["-setcookie", cookie(), "-remsh", atom_to_list(name(A)) | Flags],
             Erl = lists:join($\s, ["erl" | Shell ++ teleport_test:code_path()]),
             By = lists:flatten(io_lib:format("{said_by,~p}", [name(A)])),
             %% The end of its input ends the shell: not before it has answered.
             Script = open_port({spawn_executable, os:find_executable("timeout")},
                                [{args, ["60", "script", "-qc", lists:flatten(Erl), "/dev/null"]}, exit_status, stderr_to_stdout]),
             {os_pid, Pid} = erlang:port_info(Script, os_pid),
             true = port_command(Script, "{said_by, node()}.\n"),
             ?assertEqual({Flags, said}, {Flags, until_said(Script, By, "")}),
             _ = os:cmd("kill " ++ integer_to_list(Pid)),
             true = port_close(Script)
         end || Flags <- [["-sname", "undefined"], ["-sname", peer:random_name(), "-proto_dist", "teleport"],
                          ["-sname", "undefined", "-proto_dist", "teleport"]]]
    end).

until_said(Port, By, Before) ->
    receive
        {Port, {data, More}} ->
            Said = Before ++ More,
            case string:find(Said, By) of
                nomatch -> until_said(Port, By, Said);
                _ -> said
            end;
        {Port, {exit_status, Status}} ->
            {ended, Status, Before}
    after 60000 ->
        {never, Before}
    end.

distribution_stops_and_starts_again(_Config) ->
    with([carrier(), anonymous(["-proto_dist", "teleport"])], fun([A, B]) ->
        Short = peer:random_name(),
        Round = fun() ->
            {ok, _} = at(B, net_kernel, start, [[list_to_atom(Short), shortnames]]),
            true = at(B, erlang, set_cookie, [list_to_atom(cookie())]),
            Named = {element(1, B), at(B, erlang, node, [])},
            %% `stop' does not wait for the connections of the node before.
            teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(Named)]) =:= pong end),
            ?assert(is_carried(A, Named)),
            ?assertEqual([], at(A, teleport_test_carrier, numbers, [name(Named), 20])),
            Watcher = watcher(A, Named),
            ok = at(B, net_kernel, stop, []),
            ?assertEqual(nodedown, told(Watcher))
        end,
        Round(),
        Round(),
        %% While the application runs: before distributed Erlang begins, and from within.
        ok = at(B, teleport, start, []),
        Round(),
        Round(),
        ok = at(B, application, stop, [teleport]),
        Round()
    end).

%% As by Mix, which reads `runtime.exs' when distributed Erlang has begun: it would go unencrypted.
what_is_set_too_late_is_told(_Config) ->
    with([carrier()], fun([A]) ->
        Start = fun() -> at(A, teleport, start, []) end,
        Set = fun(Key, Value) -> ok = at(A, application, set_env, [teleport, Key, Value]) end,
        Set(tls, [{certfile, "cert.pem"}, {keyfile, "key.pem"}, {cacertfile, "ca.pem"}]),
        {error, {bad_value, tls, Text}} = Start(),
        ?assertMatch({match, _}, re:run(Text, "reboot_system_after_config")),
        Set(tls, none),
        Set(peers, #{}),
        Set(bulk_idle, 30000),
        ?assertEqual(ok, Start())
    end).

%% As it does the application, which need not be started there.
a_wrong_key_keeps_a_carrier_from_starting(_Config) ->
    [begin
         Said = os:cmd(lists:flatten(lists:join($\s, ["ERL_CRASH_DUMP=/dev/null erl -noshell -proto_dist teleport -sname",
                                                      peer:random_name(), "-teleport", Key, Value, "-s init stop"
                                                      | teleport_test:code_path()])) ++ " 2>&1; echo ended $?"),
         ?assertMatch({Key, {match, _}, _}, {Key, re:run(Said, What ++ ",\\s*" ++ Key), Said}),
         ?assertEqual({Key, nomatch}, {Key, string:find(Said, "ended 0")})
     end || {Key, Value, What} <- [{"tlss", "none", "unknown_key"}, {"fallback", "sometimes", "bad_value"},
                                   {"congestion", "7", "bad_value"}]].

%% One that is set while it runs: an engine that begins anew does without it.
a_wrong_value_does_not_end_a_carrier(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        ok = at(B, teleport_test_log, note, []),
        ok = at(B, application, set_env, [teleport, congestion, 7]),
        Manager = at(B, erlang, whereis, [teleport_manager]),
        true = at(B, erlang, exit, [Manager, kill]),
        teleport_test:eventually(fun() -> not lists:member(at(B, erlang, whereis, [teleport_manager]), [Manager, undefined]) end),
        teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(B)]) =:= pong end),
        ?assert(is_carried(A, B)),
        ?assert(at(B, teleport_test_log, count, ["congestion"]) > 0)
    end).

%% It is not what distributed Erlang goes over.
the_application_may_come_and_go(_Config) ->
    with([carrier(), anonymous(["-proto_dist", "teleport"])], fun([A, B]) ->
        ok = at(B, teleport, start, []),
        {ok, _} = at(B, net_kernel, start, [[list_to_atom(peer:random_name()), shortnames]]),
        true = at(B, erlang, set_cookie, [list_to_atom(cookie())]),
        Named = {element(1, B), at(B, erlang, node, [])},
        ?assertEqual(pong, at(A, net_adm, ping, [name(Named)])),
        {ok, Address} = at(B, teleport_manager, address, []),
        %% The supervisor was the application's: distributed Erlang begins anew, at the same place.
        ok = at(B, application, stop, [teleport]),
        teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(Named)]) =:= pong end),
        ?assert(is_carried(A, Named)),
        ?assertEqual({ok, Address}, at(B, teleport_manager, address, [])),
        ok = at(B, teleport, start, []),
        ?assertEqual({ok, Address}, at(B, teleport_manager, address, [])),
        ok = at(B, application, stop, [teleport]),
        ?assert(is_up(A, Named))
    end).

%% The node ends, and says why in a line.
a_broken_library_ends_the_node_with_a_line(Config) ->
    Said = os:cmd("erl -noshell -proto_dist teleport -sname " ++ peer:random_name() ++ " -pa " ++ broken(Config) ++ " 2>&1; echo ended $?"),
    ?assertMatch(["teleport cannot carry distributed Erlang (-proto_dist teleport): the library " ++ _, "ended 1"],
                 string:tokens(Said, "\r\n")).

%% Who starts distributed Erlang gets to know no more than that it did not start.
a_broken_library_is_logged_at_run_time(Config) ->
    Args = ["-proto_dist", "teleport", "-pa", broken(Config), "-pa", filename:dirname(code:which(?MODULE))],
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => Args}),
    with([{Peer, nonode@nohost}], fun([A]) ->
        teleport_test:eventually(fun() -> element(1, at(A, init, get_status, [])) =:= started end),
        ok = at(A, teleport_test_log, note, []),
        Before = at(A, logger, get_primary_config, []),
        ?assertMatch({error, _}, at(A, net_kernel, start, [[list_to_atom(peer:random_name()), shortnames]])),
        ?assert(at(A, teleport_test_log, count, ["(-proto_dist teleport): the library"]) > 0),
        ?assertEqual(Before, at(A, logger, get_primary_config, []))
    end).

%% The application, with something that is no library.
broken(Config) ->
    Dir = filename:join(?config(priv_dir, Config), "broken"),
    Ebin = filename:join(Dir, "ebin"),
    ok = filelib:ensure_path(filename:join(Dir, "priv")),
    ok = filelib:ensure_path(Ebin),
    [{ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
     || File <- filelib:wildcard(filename:join(filename:dirname(code:which(teleport)), "*"))],
    ok = file:write_file(filename:join([Dir, "priv", "teleport_nif.so"]), <<"not a library">>),
    Ebin.

%% Of a release, in embedded mode: modules are loaded at once, before distributed Erlang begins.
a_release_in_embedded_mode_carries(Config) ->
    with([carrier()], fun([A]) ->
        Said = os:cmd(release(Config, filename:dirname(code:which(teleport)), "good") ++ " -setcookie " ++ cookie()
                      ++ " -eval 'io:format(\"~p\", [net_adm:ping(list_to_atom(\"" ++ atom_to_list(name(A)) ++ "\"))]), halt().' 2>&1"),
        ?assertEqual("pong", Said)
    end),
    Said = os:cmd(release(Config, broken(Config), "bad") ++ " 2>&1; echo ended $?"),
    ?assertMatch(["teleport cannot carry distributed Erlang (-proto_dist teleport): the library " ++ _, "ended 1"],
                 string:tokens(Said, "\r\n")).

%% A command that runs it.
release(Config, Ebin, Name) ->
    File = filename:join(?config(priv_dir, Config), Name),
    Version = fun(Application) ->
        _ = application:load(Application),
        {ok, Vsn} = application:get_key(Application, vsn),
        {Application, Vsn}
    end,
    Release = {release, {Name, "1"}, {erts, erlang:system_info(version)}, [Version(One) || One <- [kernel, stdlib, teleport]]},
    ok = file:write_file(File ++ ".rel", io_lib:format("~p.~n", [Release])),
    ok = systools:make_script(File, [local, no_warn_sasl, {path, [Ebin]}, {outdir, ?config(priv_dir, Config)}]),
    "erl -boot " ++ File ++ " -mode embedded -noshell -proto_dist teleport -sname " ++ peer:random_name().

two_carriers_are_refused(_Config) ->
    Said = os:cmd(lists:flatten(lists:join($\s, ["erl -noshell -proto_dist teleport teleport6 -sname", peer:random_name()
                                                 | teleport_test:code_path()])) ++ " 2>&1; echo ended $?"),
    ?assertMatch(["teleport cannot carry distributed Erlang" ++ _, "ended 1"], string:lexemes(Said, "\n")).

%% What this node takes for its carrier is what distributed Erlang has gone by, which depends on the release of OTP.
a_flag_that_is_repeated_counts_as_for_the_kernel(_Config) ->
    [with([carrier(), start(["-proto_dist", "teleport", "-proto_dist", Second])], fun([A, B]) ->
         ?assertEqual(at(B, teleport_dist, listens, []), at(B, teleport_dist, is_carried, [name(A)]))
     end) || Second <- ["teleport", "teleport6"]],
    [?assertEqual({Kernel, Carriers}, {Kernel, teleport_dist:carriers({ok, [["teleport"], ["inet_tls"]]}, Kernel)})
     || {Kernel, Carriers} <- [{[8, 5, 3], ["inet_tcp"]}, {[10, 0, 1], ["inet_tcp"]}, {[10, 1], ["teleport"]},
                               {[10, 2, 7, 1], ["teleport"]}, {[11, 0], ["teleport"]}]],
    [?assertEqual({Kernel, ["teleport6"]}, {Kernel, teleport_dist:carriers({ok, [["teleport6"]]}, Kernel)})
     || Kernel <- [[8, 5, 3], [10, 2]]],
    ?assertEqual(["inet_tcp"], teleport_dist:carriers(error, [10, 2])).

%% That is told by a nodedown, and needs no warning.
a_node_that_stops_needs_no_warning(_Config) ->
    with([carrier()], fun([A]) ->
        ok = at(A, teleport_test_log, note, []),
        [begin
             B = carrier(),
             ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
             Watcher = watcher(A, B),
             %% It does not get all of this any more.
             at(A, fun() ->
                 spawn_link(name(B), teleport_test_carrier, echo, []),
                 [{nobody, name(B)} ! large() || _ <- lists:seq(1, 10)],
                 ok
             end),
             at(B, init, stop, []),
             ?assertEqual(nodedown, told(Watcher)),
             stop(B)
         end || _ <- lists:seq(1, 5)],
        ?assertEqual(0, at(A, teleport_test_log, count, ["session down"]))
    end).

%% The node goes on without connections until it can.
an_engine_that_cannot_begin_anew_is_tried_again(_Config) ->
    with([carrier(), carrier()], fun([A, B]) ->
        ?assertEqual(pong, at(A, net_adm, ping, [name(B)])),
        {ok, Address} = at(B, teleport_manager, address, []),
        Supervisor = at(B, erlang, whereis, [teleport_sup]),
        Watcher = watcher(A, B),
        ok = at(B, teleport_test_log, note, []),
        ok = at(B, application, set_env, [teleport, allow, no_list]),
        true = at(B, fun() -> exit(whereis(teleport_manager), kill) end),
        ?assertEqual(nodedown, told(Watcher)),
        teleport_test:eventually(fun() -> at(B, teleport_test_log, count, ["teleport did not start"]) =:= 1 end),
        ?assertEqual({error, not_running}, at(B, teleport_manager, address, [])),
        ?assertEqual(pang, at(A, net_adm, ping, [name(B)])),
        %% Who starts the application is told, and no supervisor gives up.
        ?assertMatch({error, _}, at(B, teleport, start, [])),
        ?assertEqual(Supervisor, at(B, erlang, whereis, [teleport_sup])),
        ok = at(B, application, unset_env, [teleport, allow]),
        teleport_test:eventually(fun() -> at(A, net_adm, ping, [name(B)]) =:= pong end),
        ?assert(is_carried(A, B)),
        ?assertEqual({ok, Address}, at(B, teleport_manager, address, []))
    end).

%% The supervisor of distribution that was started at run time has a second, and the node has its name as long as `net_kernel' ends.
distribution_stops_in_time_beside_a_peer_that_stands_still(_Config) ->
    with([carrier(), carrier(), anonymous(["-proto_dist", "teleport"])], fun([A, B, C]) ->
        Start = fun() ->
            {ok, _} = at(C, net_kernel, start, [[list_to_atom(peer:random_name()), shortnames]]),
            true = at(C, erlang, set_cookie, [list_to_atom(cookie())]),
            {element(1, C), at(C, erlang, node, [])}
        end,
        ?assertEqual(pong, at(Start(), net_adm, ping, [name(A)])),
        Pid = at(A, os, getpid, []),
        teleport_test:signal(stop, Pid),
        try
            %% It confirms nothing.
            at(C, fun() -> [{nobody, name(A)} ! large() || _ <- [1, 2]], ok end),
            ?assertEqual(ok, at(C, net_kernel, stop, [])),
            teleport_test:eventually(fun() -> at(C, erlang, node, []) =:= nonode@nohost end),
            Again = Start(),
            teleport_test:eventually(fun() -> at(B, net_adm, ping, [name(Again)]) =:= pong end),
            ?assert(is_carried(B, Again))
        after
            teleport_test:signal(cont, Pid)
        end
    end).

%% Each would wait for the other when distributed Erlang ends.
a_net_kernel_that_stands_still_does_not_hold_the_manager(_Config) ->
    with([carrier()], fun([A]) ->
        ok = at(A, sys, suspend, [net_kernel]),
        ?assertEqual({error, badarg}, at(A, fun() -> teleport_manager ! look, gen_server:call(teleport_manager, nothing) end)),
        ok = at(A, sys, resume, [net_kernel])
    end).

%% As OTP does by default: a node does not stay with two others that have lost each other, and all come together again.
overlapping_partitions_are_prevented(_Config) ->
    Start = fun() ->
        Args = ["-sname", peer:random_name(), "-setcookie", cookie(), "-proto_dist", "teleport" | teleport_test:code_path()],
        {ok, Peer, _} = peer:start(#{connection => standard_io, args => Args}),
        {Peer, peer:call(Peer, erlang, node, [])}
    end,
    with([Start(), Start(), Start()], fun([A, B, C] = All) ->
        Together = fun() ->
            _ = [at(One, net_kernel, connect_node, [name(Other)]) || One <- All, Other <- All, One =/= Other],
            lists:all(fun({One, Other}) -> is_up(One, Other) end, [{One, Other} || One <- All, Other <- All, One =/= Other])
        end,
        teleport_test:eventually(Together),
        [?assertEqual(ok, at(One, global, sync, [])) || One <- All],
        true = at(A, erlang, disconnect_node, [name(B)]),
        teleport_test:eventually(fun() -> not (is_up(C, A) andalso is_up(C, B)) end),
        teleport_test:eventually(Together),
        [?assert(is_carried(One, Other)) || {One, Other} <- [{A, B}, {B, C}, {C, A}]]
    end).
