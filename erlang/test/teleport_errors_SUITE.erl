%% Bad input: the errors and exits of the functions that ours stand in for.
-module(teleport_errors_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([bad_references_fail_as_those_of_otp/1, names_of_no_node_are_not_running/1,
         what_is_no_reference_fails_like_otps/1, bad_timeouts_fail_as_those_of_otp/1,
         invalid_response_timeouts_are_a_badarg/1, unknown_options_are_a_badarg/1,
         bad_multi_calls_fail_as_those_of_otp/1, a_name_above_255_bytes_is_a_badarg/1,
         a_term_that_is_too_large_is_refused/1, the_monitor_of_another_process_is_a_badarg/1]).
-export([whereis_name/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [bad_references_fail_as_those_of_otp, names_of_no_node_are_not_running, what_is_no_reference_fails_like_otps,
     bad_timeouts_fail_as_those_of_otp, invalid_response_timeouts_are_a_badarg, unknown_options_are_a_badarg,
     bad_multi_calls_fail_as_those_of_otp, a_name_above_255_bytes_is_a_badarg, a_term_that_is_too_large_is_refused,
     the_monitor_of_another_process_is_a_badarg].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

end_per_testcase(_Case, _Config) ->
    teleport_test:ended(fun() ->
        teleport_test:nothing_is_left()
    end).

%% Processes that there are not, and terms that are no references. This module is a registry, of nonsense.
references(Node) ->
    [undefined, {undefined, Node}, {undefined, node()}, {global, nobody}, {via, global, nobody},
     "no reference", <<"none">>, 1, make_ref(), {name, "no node"}, {"no name", Node}, {name, 1}, {a, b, c},
     {via, nomodule, name}, {via, ?MODULE, fails} | [{name, No} || No <- no_nodes()]].

%% Atoms that can be no node's name: for OTP they are nodes that are not there.
no_nodes() ->
    [none, 'none@', '@none', 'a@b@c', ''].

%% What may happen to who asks such a registry.
whereis_name(fails) -> error(fails);
whereis_name(nonsense) -> nonsense.

bad_references_fail_as_those_of_otp(Config) ->
    Functions = [{{gen_server, cast}, {teleport, cast}, [x]},
                 {{gen_server, call}, {teleport, gs_call}, [x]},
                 {{gen_server, call}, {teleport, gs_call}, [x, 1000]},
                 {{gen_server, stop}, {teleport, gs_stop}, [normal, 1000]}]
        ++ [{{Module, Function}, {list_to_atom("teleport_" ++ atom_to_list(Module)), Function}, Args}
            || {Module, Function, Args} <- [{gen_event, notify, [x]},
                                            {gen_event, sync_notify, [x]},
                                            {gen_event, call, [handler, x]},
                                            {gen_event, call, [handler, x, 1000]},
                                            {gen_event, add_handler, [handler, x]},
                                            {gen_event, add_sup_handler, [handler, x]},
                                            {gen_event, delete_handler, [handler, x]},
                                            {gen_event, swap_handler, [{handler, x}, {handler, x}]},
                                            {gen_event, swap_sup_handler, [{handler, x}, {handler, x}]},
                                            {gen_event, which_handlers, []},
                                            {gen_event, stop, []},
                                            {gen_statem, call, [x]},
                                            {gen_statem, call, [x, 1000]},
                                            {gen_statem, cast, [x]},
                                            {gen_statem, stop, []},
                                            {gen_fsm, send_event, [x]},
                                            {gen_fsm, send_all_state_event, [x]},
                                            {gen_fsm, sync_send_event, [x]},
                                            {gen_fsm, sync_send_event, [x, 1000]},
                                            {gen_fsm, sync_send_all_state_event, [x]},
                                            {gen_fsm, sync_send_all_state_event, [x, 1000]},
                                            {gen_fsm, stop, []}]],
    [begin
         [Otp, Ours] = [outcome(Module, Name, [Ref | Args]) || {Module, Name} <- [OtpFunction, Function]],
         ?assertEqual({Function, Ref, Otp}, {Function, Ref, Ours})
     end || {OtpFunction, Function, Args} <- Functions, Ref <- references(?config(node, Config))].

%% What is not compared above.
names_of_no_node_are_not_running(_Config) ->
    [begin
         ?assertEqual({error, {not_running, No}}, teleport:send({name, No}, x)),
         ?assertEqual({error, {not_running, No}}, teleport:prime(No)),
         ?assertEqual([{No, {error, {not_running, No}}}], teleport:abcast([No], name, x, [])),
         ?assertEqual(gen_server:multi_call([No], name, x), teleport:multi_call([No], name, x)),
         ?assertEqual(outcome(erpc, call, [No, erlang, node, []]), outcome(teleport_erpc, call, [No, erlang, node, []])),
         ?assertEqual(gen_server:receive_response(gen_server:send_request({name, No}, x), 1000),
                      teleport:receive_response(teleport:send_request({name, No}, x), 1000)),
         [begin
              Monitor = Monitored(),
              ?assertEqual({'DOWN', Monitor, process, {name, No}, noconnection}, teleport_test:receive_one())
          end || Monitored <- [fun() -> erlang:monitor(process, {name, No}) end, fun() -> teleport:monitor({name, No}) end]],
         ?assertMatch({error, [{running, ok, _}, {node, {error, noconnection}, _} | _]}, teleport:check(No)),
         ?assertEqual({error, no_session}, teleport:info(No))
     end || No <- no_nodes()].

%% A `badarg' says which function was called, and with what.
what_is_no_reference_fails_like_otps(_Config) ->
    [begin
         Args = [Ref | Rest],
         ?assertMatch({badarg, [{Module, Function, Args, _} | _]}, blamed(Module, Function, Args))
     end || {Module, Function, Rest} <- [{teleport, send, [x]},
                                         {teleport, send, [x, [unordered]]},
                                         {teleport, send, [x, [{ack, y}]]},
                                         {teleport, send_request, [x]},
                                         {teleport, monitor, []},
                                         {teleport_gen_event, send_request, [handler, x]}],
            Ref <- ["no reference", 1, {name, "no node"}, {via, nomodule, name}, {via, ?MODULE, nonsense}]],
    [?assertMatch({badarg, [{teleport, send, [Ref, x], _} | _]}, blamed(teleport, send, [Ref, x]))
     || Ref <- [undefined, nobody_here, {global, nobody}]],
    [?assertMatch({badarg, [{teleport, Function, Args, _} | _]}, blamed(teleport, Function, Args))
     || {Function, Args} <- [{demonitor, [x]}, {check_response, [x, y]}, {receive_response, [x, 0]}, {wait_response, [x, 0]}]].

bad_timeouts_fail_as_those_of_otp(Config) ->
    Node = ?config(node, Config),
    _ = teleport_test_server:start_at(Node, server),
    Functions = [{{gen_server, call}, {teleport, gs_call}, [x]},
                 {{gen_server, stop}, {teleport, gs_stop}, [normal]},
                 {{gen_event, call}, {teleport_gen_event, call}, [handler, x]},
                 {{gen_statem, call}, {teleport_gen_statem, call}, [x]},
                 {{gen_fsm, sync_send_event}, {teleport_gen_fsm, sync_send_event}, [x]}],
    Timeouts = [-1, 1.0, soon, {abs, 1}, {clean_timeout, soon}, {dirty_timeout, -1}, {other_timeout, 1}],
    [begin
         Call = [{server, Node} | Args] ++ [Timeout],
         [Otp, Ours] = [outcome(Module, Name, Call) || {Module, Name} <- [OtpFunction, Function]],
         ?assertEqual({Function, Timeout, Otp}, {Function, Timeout, Ours})
     end || {OtpFunction, Function, Args} <- Functions, Timeout <- Timeouts],
    %% Nothing was sent.
    ?assertEqual([], teleport:gs_call({server, Node}, notes)),
    ok = teleport:gs_stop({server, Node}).

invalid_response_timeouts_are_a_badarg(Config) ->
    Server = teleport_test_server:start_at(?config(node, Config), undefined),
    Id = teleport:send_request(Server, {echo, x}),
    [?assertMatch({badarg, [{teleport, Function, [Id, Timeout], _} | _]}, blamed(teleport, Function, [Id, Timeout]))
     || Function <- [receive_response, wait_response],
        Timeout <- [-1, 1.0, soon, 16#100000000, {abs, soon}, {abs, 1 bsl 70}, {clean_timeout, 1}]],
    ?assertEqual({reply, {ok, x}}, teleport:receive_response(Id, 16#ffffffff)),
    exit(Server, kill).

unknown_options_are_a_badarg(Config) ->
    To = {nobody, ?config(node, Config)},
    [?assertMatch({badarg, [{teleport, send, [To, x, Options], _} | _]}, blamed(teleport, send, [To, x, Options]))
     || Options <- [[reliable], [{ack}], [unordered | nosuspend], unordered, [priority | x], [noconnected], [{timeout, -1}],
                     [{timeout, soon}]]],
    ?assertEqual(ok, teleport:send(To, x, [unordered, nosuspend, unordered])).

bad_multi_calls_fail_as_those_of_otp(Config) ->
    Node = ?config(node, Config),
    Calls = [[[Node], name, x, -1], [[Node], name, x, soon], [node, name, x, 1000], [[Node], "name", x, 1000],
             [[Node, 1], name, x, 1000], [[1], name, x, 1000], [[], name, x, 1000]],
    [?assertEqual(outcome(gen_server, multi_call, Call), outcome(teleport, multi_call, Call)) || Call <- Calls],
    %% Some releases say what is wrong with it, others just fail.
    Improper = [[Node | node], name, x, 1000],
    Cause = fun({Class, {Reason, _Stack}}) -> {Class, Reason}; (Outcome) -> Outcome end,
    ?assertEqual(Cause(outcome(gen_server, multi_call, Improper)), Cause(outcome(teleport, multi_call, Improper))),
    %% Longer than one can wait, which is no reason not to wait.
    Server = teleport_test_server:start_at(Node, several_nodes),
    ?assertEqual({[{Node, {ok, x}}], []}, teleport:multi_call([Node], several_nodes, {echo, x}, 16#1ffffffff)),
    exit(Server, kill),
    Casts = [[node, name, x], [[Node], "name", x], [[Node, 1], name, x], [[Node | node], name, x], [[], name, x]],
    [?assertEqual(outcome(gen_server, abcast, Cast), outcome(teleport, abcast, Cast)) || Cast <- Casts].

%% Erlang's atoms have 255 characters, of up to four bytes each.
a_name_above_255_bytes_is_a_badarg(Config) ->
    Name = list_to_atom(lists:duplicate(128, $\x{e9})),
    To = {Name, ?config(node, Config)},
    {error, {badarg, Text}} = teleport:send(To, x),
    ?assertMatch({match, _}, re:run(Text, "256")),
    ?assertExit({{badarg, Text}, {gen_server, call, [To, x]}}, teleport:gs_call(To, x)),
    Monitor = teleport:monitor(To),
    ?assertEqual({'DOWN', Monitor, process, To, {badarg, Text}}, teleport_test:receive_one()).

%% Only who monitors can end it.
the_monitor_of_another_process_is_a_badarg(Config) ->
    Server = teleport_test_server:start_at(?config(node, Config), undefined),
    Monitor = teleport:monitor(Server),
    {Other, Ended} = spawn_monitor(fun() -> teleport:demonitor(Monitor) end),
    receive {'DOWN', Ended, process, Other, _} -> ok end,
    %% Behind the monitor, which distributed Erlang's exit could overtake.
    {ok, x} = teleport:gs_call(Server, {echo, x}),
    exit(Server, kill),
    ?assertEqual({'DOWN', Monitor, process, Server, killed}, teleport_test:receive_one()).

%% The caller learns both sizes of what it cannot send, and that an answer could not be sent.
a_term_that_is_too_large_is_refused(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = erpc:call(Node, application, stop, [teleport]),
    ok = erpc:call(Node, application, set_env, [teleport, max_message, 1000000]),
    ok = erpc:call(Node, teleport, start, []),
    Server = teleport_test_server:start_at(Node, undefined),
    Large = binary:copy(<<1>>, 1000001),
    {error, {too_large, Size, 1000000}} = teleport:send(Server, {note, Large}, [{ack, x}]),
    ?assert(Size > 1000001),
    ?assertEqual(ok, teleport:cast(Server, {note, Large})),
    ?assertExit({{too_large, _, 1000000}, {gen_server, call, [Server, {echo, Large}]}},
                teleport:gs_call(Server, {echo, Large})),
    ?assertMatch({error, {{too_large, _, 1000000}, Server}},
                 teleport:receive_response(teleport:send_request(Server, {echo, Large}), 30000)),
    ?assertEqual({[], [Node]}, teleport:multi_call([Node], name, Large, 30000)),
    {'EXIT', {{rejected, Text}, {gen_server, call, _}}} =
        teleport_test:caught(fun() -> teleport:gs_call(Server, {bytes, 1000001}) end),
    ?assertMatch({match, _}, re:run(Text, "1000000")),
    %% The server has not noticed any of it.
    ?assertEqual({ok, x}, teleport:gs_call(Server, {echo, x})),
    ?assertEqual([], teleport:gs_call(Server, notes)),
    teleport_test:stop_peer(Peer).

%% Without the stacks in reasons: they name who called.
outcome(Module, Function, Args) ->
    try {returned, erlang:apply(Module, Function, Args)}
    catch
        exit:{{Reason, [{_, _, _, _} | _]}, Call} -> {exit, {Reason, Call}};
        Class:Reason -> {Class, Reason}
    end.

blamed(Module, Function, Args) ->
    try {returned, erlang:apply(Module, Function, Args)}
    catch error:Reason:Stack -> {Reason, Stack}
    end.
