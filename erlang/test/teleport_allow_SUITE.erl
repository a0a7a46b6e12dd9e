%% What other nodes may reach at a node that has a list of it, and what becomes of the rest.
-module(teleport_allow_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([names_on_the_list_are_reached_and_others_are_not/1, callers_are_told_what_they_may_not_and_where/1,
         a_monitor_of_what_may_not_be_reached_ends_as_rejected/1, functions_are_applied_that_are_on_the_list/1,
         no_function_is_applied_by_the_pid_of_the_server/1, funs_are_functions_of_erlang/1,
         sys_reaches_nothing_without_leave/1, pids_and_aliases_go_together/1, answers_come_from_who_may_reach_nothing/1,
         a_list_that_only_logs_lets_everything_in/1, another_list_holds_without_a_restart/1,
         a_list_that_cannot_be_used_changes_nothing/1, info_and_report_have_what_was_refused/1,
         lists_and_the_carrier_do_not_go_together/1]).

-define(NAME, open).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [names_on_the_list_are_reached_and_others_are_not, callers_are_told_what_they_may_not_and_where,
     a_monitor_of_what_may_not_be_reached_ends_as_rejected, functions_are_applied_that_are_on_the_list,
     no_function_is_applied_by_the_pid_of_the_server, funs_are_functions_of_erlang, sys_reaches_nothing_without_leave,
     pids_and_aliases_go_together, answers_come_from_who_may_reach_nothing, a_list_that_only_logs_lets_everything_in,
     another_list_holds_without_a_restart, a_list_that_cannot_be_used_changes_nothing,
     info_and_report_have_what_was_refused, lists_and_the_carrier_do_not_go_together].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    ok = teleport:start(),
    %% The list is there from the start; it is for this node by the pattern of its name.
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{allow, [{'teleport_ct_*', [{name, ?NAME}]}]}]),
    [{peer, Peer}, {node, Node} | Config].

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(names_on_the_list_are_reached_and_others_are_not, Config) ->
    Config;
init_per_testcase(_Case, Config) ->
    may(?config(node, Config), [{name, ?NAME}]),
    Config.

end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        [erpc:call(?config(node, Config), fun() -> teleport_test:caught(fun() -> gen_server:stop(Name) end) end)
         || Name <- [?NAME, secrets]],
        teleport_test:nothing_is_left()
    end).

%% All nodes may reach these things at that node.
may(Node, Items) ->
    set(Node, [{allow, [{'_', Items}]}, {allow_mode, enforce}]).

set(Node, Configuration) ->
    ok = erpc:call(Node, application, set_env, [[{teleport, Configuration}]]),
    look(Node).

%% Looks at the configuration now, as it does every few seconds.
look(Node) ->
    {teleport_manager, Node} ! look,
    _ = sys:get_state({teleport_manager, Node}),
    ok.

start_server(Node, Name) ->
    teleport_test_server:start_at(Node, Name).

refused(Config) ->
    Self = node(),
    #{not_allowed := Refused} = erpc:call(?config(node, Config), teleport, info, [Self]),
    Refused.

%% So much is refused meanwhile, by kind.
refuses(Expected, Config, Do) ->
    Before = refused(Config),
    _ = Do(),
    Refused = maps:map(fun(Kind, Count) -> Count - maps:get(Kind, Before) end, refused(Config)),
    ?assertEqual(Expected, maps:filter(fun(_Kind, Count) -> Count > 0 end, Refused)).

names_on_the_list_are_reached_and_others_are_not(Config) ->
    Node = ?config(node, Config),
    Pid = start_server(Node, ?NAME),
    Secret = start_server(Node, secrets),
    ?assertEqual({ok, x}, teleport:gs_call({?NAME, Node}, {echo, x})),
    Send = fun(To) ->
        ok = teleport:send(To, {note, x}, [{ack, To}]),
        {teleport, To, What} = teleport_test:receive_one(),
        What
    end,
    ?assertEqual(delivered, Send({?NAME, Node})),
    refuses(#{messages => 3}, Config, fun() -> [?assertEqual({unconfirmed, noproc}, Send(To)) || To <- [{secrets, Node}, Secret, Pid]] end),
    ?assertEqual([], erpc:call(Node, fun() -> element(2, process_info(Secret, messages)) end)).

callers_are_told_what_they_may_not_and_where(Config) ->
    Node = ?config(node, Config),
    _ = start_server(Node, secrets),
    Says = fun(Text, Words) -> [?assertNotEqual(nomatch, string:find(Text, Word)) || Word <- Words] end,
    refuses(#{calls => 3}, Config, fun() ->
        {exit, {{rejected, Text}, _}} = teleport_test:outcome(teleport, gs_call, [{secrets, Node}, {echo, x}]),
        Says(Text, ["not on the allow-list: send to the name secrets, at " ++ atom_to_list(Node)]),
        Id = teleport:send_request({secrets, Node}, {echo, x}),
        ?assertMatch({error, {{rejected, Text}, _}}, teleport:receive_response(Id, infinity)),
        ?assertEqual({[], [Node]}, teleport:multi_call([Node], secrets, {echo, x}))
    end).

a_monitor_of_what_may_not_be_reached_ends_as_rejected(Config) ->
    Node = ?config(node, Config),
    Pid = start_server(Node, ?NAME),
    refuses(#{monitors => 2}, Config, fun() ->
        [begin
            Monitor = teleport:monitor(To),
            {'DOWN', Monitor, process, _, {rejected, Text}} = teleport_test:receive_one(),
            ?assertNotEqual(nomatch, string:find(Text, "not on the allow-list: " ++ What))
        end || {To, What} <- [{{secrets, Node}, "monitor the name secrets"}, {Pid, "reach processes by their pids"}]]
    end),
    may(Node, [{monitor, ?NAME}]),
    Monitor = teleport:monitor({?NAME, Node}),
    {exit, {{rejected, _}, _}} = teleport_test:outcome(teleport, gs_call, [{?NAME, Node}, {echo, x}]),
    %% The request may have come before the process is monitored.
    teleport_test:eventually(fun() -> erpc:call(Node, erlang, process_info, [Pid, monitored_by]) =/= {monitored_by, []} end),
    true = exit(Pid, kill),
    ?assertMatch({'DOWN', Monitor, process, _, killed}, teleport_test:receive_one()).

functions_are_applied_that_are_on_the_list(Config) ->
    Node = ?config(node, Config),
    may(Node, [{name, '_'}, {apply, {lists, 'rev*', 1}}, {apply, {erlang, node}}, {apply, maps}]),
    ?assertEqual([2, 1], teleport_erpc:call(Node, lists, reverse, [[1, 2]])),
    ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])),
    ?assertEqual(#{}, teleport_erpc:call(Node, maps, new, [])),
    refuses(#{functions => 6}, Config, fun() ->
        Refused = fun(Module, Function, Args) ->
            {error, {erpc, {rejected, Text}}} = teleport_test:outcome(teleport_erpc, call, [Node, Module, Function, Args]),
            What = lists:flatten(io_lib:format("apply the function ~s:~s/~b", [Module, Function, length(Args)])),
            ?assertNotEqual(nomatch, string:find(Text, What))
        end,
        Refused(lists, reverse, [[1], [2]]),
        Refused(lists, reverse, lists:seq(1, 255)),
        Refused(os, cmd, ["true"]),
        Id = teleport_erpc:send_request(Node, os, cmd, ["true"]),
        ?assertError({erpc, {rejected, _}}, teleport_erpc:receive_response(Id)),
        ?assertMatch([{error, {erpc, {rejected, _}}}], teleport_erpc:multicall([Node], os, cmd, ["true"])),
        %% A cast is told nothing.
        ok = teleport_erpc:cast(Node, erlang, send, [self(), applied]),
        ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, []))
    end).

no_function_is_applied_by_the_pid_of_the_server(Config) ->
    Node = ?config(node, Config),
    may(Node, [{name, '_'}, pids, system, {apply, {erlang, node}}]),
    Server = erpc:call(Node, erlang, whereis, [teleport_apply]),
    Apply = fun(Function, Args) -> {apply, group_leader(), erlang, Function, Args} end,
    [begin
        ?assertEqual({return, Node}, teleport:gs_call(To, Apply(node, []))),
        ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_call, [To, Apply(self, [])])),
        Elsewhere = {apply_at, self(), Node, erlang, self, []},
        ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_call, [To, Elsewhere])),
        ?assertMatch({error, {{rejected, _}, _}},
                     teleport_request:receive_response(teleport_request:send(To, system, get_state), infinity))
     end || To <- [Server, {teleport_apply, Node}]].

funs_are_functions_of_erlang(Config) ->
    Node = ?config(node, Config),
    ?assertError({erpc, {rejected, _}}, teleport_erpc:call(Node, fun() -> x end)),
    may(Node, [{apply, {erlang, apply, 2}}]),
    ?assertEqual(x, teleport_erpc:call(Node, fun() -> x end)).

sys_reaches_nothing_without_leave(Config) ->
    Node = ?config(node, Config),
    _ = start_server(Node, ?NAME),
    Replace = {replace_state, fun erlang:is_list/1},
    Ask = fun() -> teleport_request:receive_response(teleport_request:send({?NAME, Node}, system, Replace), infinity) end,
    refuses(#{calls => 2, messages => 1}, Config, fun() ->
        ?assertMatch({error, {{rejected, _}, _}}, Ask()),
        ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_stop, [{?NAME, Node}])),
        ok = teleport:send({?NAME, Node}, {system, {self(), make_ref()}, Replace}, [{ack, sent}]),
        ?assertEqual({teleport, sent, {unconfirmed, noproc}}, teleport_test:receive_one())
    end),
    ?assertEqual([], erpc:call(Node, sys, get_state, [?NAME])),
    may(Node, [{name, ?NAME}, system]),
    ?assertEqual({reply, true}, Ask()),
    ok = teleport:gs_stop({?NAME, Node}).

pids_and_aliases_go_together(Config) ->
    Node = ?config(node, Config),
    Self = self(),
    Taker = spawn(Node, fun() ->
        Self ! {alias, erlang:alias()},
        receive first -> Self ! first end,
        receive second -> Self ! second end
    end),
    Alias = receive {alias, A} -> A end,
    may(Node, [{name, '_'}]),
    refuses(#{messages => 2}, Config, fun() ->
        [ok = teleport:send(To, refused) || To <- [Taker, Alias]],
        teleport_test:eventually(fun() -> #{messages := M} = refused(Config), M >= 2 end),
        {exit, {noproc, _}} = teleport_test:outcome(teleport, gs_call, [{nobody, Node}, x])
    end),
    may(Node, [pids]),
    ok = teleport:send(Taker, first),
    ?assertEqual(first, teleport_test:receive_one()),
    ok = teleport:send(Alias, second),
    ?assertEqual(second, teleport_test:receive_one()).

answers_come_from_who_may_reach_nothing(Config) ->
    Node = ?config(node, Config),
    may(Node, []),
    Self = self(),
    Here = start_server(node(), undefined),
    Asked = erpc:call(Node, fun() ->
        Reply = teleport:gs_call(Here, {echo, x}),
        Applied = teleport_erpc:call(node(Self), erlang, node, []),
        Monitor = teleport:monitor(Here),
        ok = teleport:gs_stop(Here),
        receive {'DOWN', Monitor, process, _, Reason} -> {Reply, Applied, Reason} end
    end),
    ?assertEqual({{ok, x}, node(), normal}, Asked),
    ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_call, [{?NAME, Node}, x])).

a_list_that_only_logs_lets_everything_in(Config) ->
    Node = ?config(node, Config),
    set(Node, [{allow, []}, {allow_mode, log}]),
    _ = start_server(Node, secrets),
    %% To stop a server is to monitor it, too.
    refuses(#{calls => 2, messages => 1, monitors => 2, functions => 1}, Config, fun() ->
        ?assertEqual({ok, x}, teleport:gs_call({secrets, Node}, {echo, x})),
        ok = teleport:send({secrets, Node}, {note, x}),
        ?assertEqual(Node, teleport_erpc:call(Node, erlang, node, [])),
        Monitor = teleport:monitor({secrets, Node}),
        ok = teleport:gs_stop({secrets, Node}),
        ?assertMatch({'DOWN', Monitor, process, _, normal}, teleport_test:receive_one())
    end).

%% Within seconds, and nobody has to be told.
another_list_holds_without_a_restart(Config) ->
    Node = ?config(node, Config),
    _ = start_server(Node, ?NAME),
    #{creation := Creation} = teleport:info(Node),
    ok = erpc:call(Node, application, set_env, [teleport, allow, [{'nobody@*', all}]]),
    Call = fun() -> teleport_test:outcome(teleport, gs_call, [{?NAME, Node}, {echo, x}]) end,
    teleport_test:eventually(fun() -> element(1, Call()) =:= exit end),
    ok = erpc:call(Node, application, unset_env, [teleport, allow]),
    look(Node),
    ?assertEqual({ok, x}, teleport:gs_call({?NAME, Node}, {echo, x})),
    ?assertMatch(#{creation := Creation}, teleport:info(Node)).

a_list_that_cannot_be_used_changes_nothing(Config) ->
    Node = ?config(node, Config),
    _ = start_server(Node, ?NAME),
    [begin
        set(Node, [{allow, Wrong}]),
        ?assertEqual({ok, x}, teleport:gs_call({?NAME, Node}, {echo, x})),
        ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_call, [{secrets, Node}, x]))
     end || Wrong <- [everything, [{'_', [everything]}], [{"_", all}], [{'_', all} | x], [{'_', [{name, "open"}]}],
                      [{'_', [pids | system]}], [{'_', [{apply, {lists, reverse, 256}}]}], [{'_', [{apply, {lists, "reverse"}}]}]]],
    ?assertMatch({error, {bad_value, allow, _}}, erpc:call(Node, teleport_config, check, [])),
    may(Node, [{name, secrets}]),
    ?assertMatch({exit, {{rejected, _}, _}}, teleport_test:outcome(teleport, gs_call, [{?NAME, Node}, x])).

info_and_report_have_what_was_refused(Config) ->
    Node = ?config(node, Config),
    ok = teleport:send({secrets, Node}, x, [{ack, sent}]),
    ?assertMatch({teleport, sent, _}, teleport_test:receive_one()),
    #{messages := Messages} = refused(Config),
    ?assert(Messages > 0),
    {ok, Leader} = printer(),
    Self = node(),
    ok = erpc:call(Node, fun() -> true = group_leader(Leader, self()), teleport:report(Self) end),
    Printed = printed(Leader),
    ?assertMatch({match, _}, re:run(Printed, "not_allowed_messages +" ++ integer_to_list(Messages))).

%% Distributed Erlang itself has no lists.
lists_and_the_carrier_do_not_go_together(_Config) ->
    teleport_test_carrier:with([teleport_test_carrier:carrier()], fun([Node]) ->
        Start = fun(Allow) ->
            ok = teleport_test_carrier:at(Node, application, set_env, [[{teleport, [{allow, Allow}]}]]),
            teleport_test_carrier:at(Node, teleport, start, [])
        end,
        {error, {bad_value, allow, Text}} = Start([{'worker@*', [{name, ?NAME}]}, {'_', all}]),
        ?assertNotEqual(nomatch, string:find(Text, "-proto_dist teleport")),
        %% Other peers match no rule, so they may reach nothing.
        ?assertMatch({error, {bad_value, allow, _}}, Start([{'worker@*', all}])),
        ?assertMatch({error, {bad_value, allow, _}}, Start([])),
        [begin
             ?assertEqual({Peers, ok}, {Peers, Start([{Peers, all}])}),
             ok = teleport_test_carrier:at(Node, application, stop, [teleport])
         end || Peers <- ['_', '*@*', '*']]
    end).

%% A group leader that keeps what is printed.
printer() ->
    {ok, spawn_link(fun() -> keep([]) end)}.

printed(Leader) ->
    Leader ! {text, self()},
    receive {Leader, Text} -> Text end.

keep(Printed) ->
    receive
        {io_request, From, As, {put_chars, unicode, Chars}} ->
            From ! {io_reply, As, ok},
            keep([Printed, Chars]);
        {io_request, From, As, _Other} ->
            From ! {io_reply, As, {error, enotsup}},
            keep(Printed);
        {text, From} ->
            From ! {self(), unicode:characters_to_list(Printed)}
    end.
