%% Aliases as destinations, and monitors with options.
-module(teleport_alias_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([messages_of_any_size_reach_an_alias/1, sends_to_an_alias_are_acknowledged/1,
         messages_to_an_alias_keep_their_order/1, priority_messages_come_first_from_otp_28_on/1,
         messages_to_an_inactive_alias_vanish/1, an_alias_of_a_gone_node_is_an_error/1]).
-export([monitors_take_tags_of_any_term/1, monitors_take_aliases_as_of_otp/1, monitors_take_priority_from_otp_28_on/1,
         monitors_take_names_of_any_registry/1, bad_monitor_options_are_a_badarg/1]).
-export([whereis_name/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [messages_of_any_size_reach_an_alias, sends_to_an_alias_are_acknowledged, messages_to_an_alias_keep_their_order,
     priority_messages_come_first_from_otp_28_on, messages_to_an_inactive_alias_vanish, an_alias_of_a_gone_node_is_an_error,
     monitors_take_tags_of_any_term, monitors_take_aliases_as_of_otp, monitors_take_priority_from_otp_28_on,
     monitors_take_names_of_any_registry, bad_monitor_options_are_a_badarg].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

end_per_testcase(_Case, _Config) ->
    teleport_test:ended(fun() ->
        teleport_test:nothing_is_left()
    end).

%% A process there with an alias, which sends on what comes to that.
relay(Node, Options) ->
    Self = self(),
    Relay = spawn(Node, fun() -> Self ! {alias, self(), erlang:alias(Options)}, relay_to(Self) end),
    receive {alias, Relay, Alias} -> {Relay, Alias} end.

relay_to(To) ->
    receive
        stop -> ok;
        {unalias, Alias} -> erlang:unalias(Alias), To ! unaliased, relay_to(To);
        Message -> To ! {relayed, Message}, relay_to(To)
    end.

messages_of_any_size_reach_an_alias(Config) ->
    {Relay, Alias} = relay(?config(node, Config), []),
    Large = binary:copy(<<1>>, 1000000),
    [begin
         ?assertEqual(ok, teleport:send(Alias, Message, Options)),
         ?assertEqual({relayed, Message}, teleport_test:receive_one())
     end || Message <- [hello, Large, list_to_tuple(lists:seq(1, 1000)), Alias], Options <- [[], [unordered], [nosuspend]]],
    Here = erlang:alias(),
    ?assertEqual(ok, teleport:send(Here, hello)),
    ?assertEqual(hello, teleport_test:receive_one()),
    %% From there to here.
    ?assertEqual(ok, erpc:call(?config(node, Config), teleport, send, [Here, back])),
    ?assertEqual(back, teleport_test:receive_one()),
    true = erlang:unalias(Here),
    Relay ! stop.

sends_to_an_alias_are_acknowledged(Config) ->
    {Relay, Alias} = relay(?config(node, Config), []),
    ?assertEqual(ok, teleport:send(Alias, hello, [{ack, tag}])),
    ?assertEqual([{relayed, hello}, {teleport, tag, delivered}], lists:sort([teleport_test:receive_one() || _ <- [1, 2]])),
    Here = erlang:alias(),
    ?assertEqual(ok, teleport:send(Here, hello, [{ack, tag}])),
    ?assertEqual([hello, {teleport, tag, delivered}], [teleport_test:receive_one() || _ <- [1, 2]]),
    true = erlang:unalias(Here),
    Relay ! stop.

messages_to_an_alias_keep_their_order(Config) ->
    {Relay, Alias} = relay(?config(node, Config), []),
    Messages = [{I, binary:copy(<<1>>, Size)} || I <- lists:seq(1, 50), Size <- [10, 100000]],
    [ok = teleport:send(Alias, Message) || Message <- Messages],
    ?assertEqual([{relayed, Message} || Message <- Messages], [teleport_test:receive_one() || _ <- Messages]),
    Relay ! stop.

%% From OTP 28 on: ahead of what waits already, if the alias is one for that.
priority_messages_come_first_from_otp_28_on(Config) ->
    HasPriority = list_to_integer(erlang:system_info(otp_release)) >= 28,
    [case HasPriority of
        false ->
            {Relay, Alias} = relay(Node, []),
            ?assertError(badarg, teleport:send(Alias, hello, [priority])),
            %% As from a later release.
            {teleport_alias, Node} ! {teleport_alias, Alias, urgent, priority},
            ?assertEqual({relayed, urgent}, teleport_test:receive_one()),
            Relay ! stop;
        true ->
            Self = self(),
            Pid = spawn(Node, fun() ->
                Self ! {alias, erlang:alias(Options)},
                receive go -> Self ! {came, teleport_test:mailbox()} end
            end),
            Alias = receive {alias, Created} -> Created end,
            [begin
                 ?assertEqual(ok, teleport:send(Alias, Message, [{ack, Message} | More])),
                 ?assertEqual({teleport, Message, delivered}, teleport_test:receive_one())
             end || {Message, More} <- [{first, []}, {urgent, [priority]}, {last, [unordered]}]],
            %% The forwarding process has sent all of them on.
            _ = erpc:call(Node, sys, get_state, [teleport_alias]),
            Pid ! go,
            Expected = case Options of [priority] -> [urgent, first, last]; [] -> [first, urgent, last] end,
            ?assertEqual({Node, {came, Expected}}, {Node, teleport_test:receive_one()})
     end || Node <- [?config(node, Config), node()], Options <- [[], [priority]], HasPriority orelse Options =:= []],
    ?assertError(badarg, teleport:send({nobody, ?config(node, Config)}, hello, [priority | nosuspend])).

%% What is sent to them vanishes.
messages_to_an_inactive_alias_vanish(Config) ->
    {Relay, Alias} = relay(?config(node, Config), []),
    Relay ! {unalias, Alias},
    ?assertEqual(unaliased, teleport_test:receive_one()),
    ?assertEqual(ok, teleport:send(Alias, vanishes)),
    {Once, OnceAlias} = relay(?config(node, Config), [reply]),
    [ok = teleport:send(OnceAlias, I) || I <- [1, 2]],
    ?assertEqual({relayed, 1}, teleport_test:receive_one()),
    %% Behind them.
    {Last, LastAlias} = relay(?config(node, Config), []),
    ok = teleport:send(LastAlias, last),
    ?assertEqual({relayed, last}, teleport_test:receive_one()),
    [Pid ! stop || Pid <- [Relay, Once, Last]].

an_alias_of_a_gone_node_is_an_error(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    {_Relay, Alias} = relay(Node, []),
    teleport_test:stop_peer(Peer),
    teleport_test:eventually(fun() -> not lists:member(Node, erlang:nodes()) end),
    ?assertMatch({error, _}, teleport:send(Alias, hello)).

monitors_take_tags_of_any_term(Config) ->
    Node = ?config(node, Config),
    Tags = [tag, {tag, make_ref()}, #{list_to_binary(lists:seq(1, 100)) => [self() | x]}, binary:copy(<<1>>, 100000),
            fun lists:map/2, 'DOWN'],
    [begin
         Server = teleport_test_server:start_at(N, undefined),
         Monitors = [{Tag, teleport:monitor(Server, [{tag, Tag}])} || Tag <- Tags],
         {ok, x} = teleport:gs_call(Server, {echo, x}),
         exit(Server, kill),
         ?assertEqual(lists:sort([{Tag, Monitor, process, Server, killed} || {Tag, Monitor} <- Monitors]),
                      lists:sort([teleport_test:receive_one() || _ <- Tags]))
     end || N <- [Node, node()]],
    %% Of nobody, and of a node that cannot be reached.
    [begin
         Monitor = teleport:monitor(Ref, [{tag, tag}]),
         ?assertEqual({tag, Monitor, process, Object, Reason}, teleport_test:receive_one())
     end || {Ref, Object, Reason} <- [{{nobody, Node}, {nobody, Node}, noproc}, {nobody, {nobody, node()}, noproc},
                                      {{global, nobody}, {{global, nobody}, node()}, noproc},
                                      {{x, nobody@nowhere}, {x, nobody@nowhere}, noconnection}]],
    Server = teleport_test_server:start_at(Node, undefined),
    Ended = teleport:monitor(Server, [{tag, tag}]),
    exit(Server, kill),
    teleport_test:eventually(fun() -> teleport_test:mailbox() =/= [] end),
    ?assertEqual(true, teleport:demonitor(Ended)).

monitors_take_aliases_as_of_otp(Config) ->
    [begin
         Server = teleport_test_server:start_at(Node, undefined),
         To = fun(Alias, Message) -> {run, fun() -> teleport:send(Alias, Message) end} end,
         Monitor = teleport:monitor(Server, [{alias, demonitor}, {tag, tag}]),
         ok = teleport:gs_call(Server, To(Monitor, first)),
         ?assertEqual(first, teleport_test:receive_one()),
         true = teleport:demonitor(Monitor),
         ok = teleport:gs_call(Server, To(Monitor, vanishes)),
         Explicit = teleport:monitor(Server, [{alias, explicit_unalias}]),
         true = teleport:demonitor(Explicit),
         ok = teleport:gs_call(Server, To(Explicit, second)),
         ?assertEqual(second, teleport_test:receive_one()),
         ?assertEqual(true, erlang:unalias(Explicit)),
         ok = teleport:gs_call(Server, To(Explicit, vanishes)),
         %% It ends.
         Ending = teleport:monitor(Server, [{alias, demonitor}]),
         {ok, x} = teleport:gs_call(Server, {echo, x}),
         exit(Server, kill),
         ?assertEqual({'DOWN', Ending, process, Server, killed}, teleport_test:receive_one()),
         true = teleport:demonitor(Ending),
         ?assertEqual(false, erlang:unalias(Ending))
     end || Node <- [?config(node, Config), node()]].

%% From OTP 28 on. What says that a process of this node has ended comes ahead of what was there before.
monitors_take_priority_from_otp_28_on(Config) ->
    HasPriority = list_to_integer(erlang:system_info(otp_release)) >= 28,
    [case HasPriority of
        false ->
            ?assertError(badarg, teleport:monitor({nobody, Node}, [priority]));
        true ->
            Server = teleport_test_server:start_at(Node, undefined),
            Monitor = teleport:monitor(Server, [priority | Alias]),
            self() ! ordinary,
            {ok, x} = teleport:gs_call(Server, {echo, x}), % behind the monitor
            exit(Server, kill),
            teleport_test:eventually(fun() -> length(teleport_test:mailbox()) =:= 2 end),
            Down = {'DOWN', Monitor, process, Server, killed},
            Expected = if Node =:= node() -> [Down, ordinary]; true -> [ordinary, Down] end,
            ?assertEqual({Node, Expected}, {Node, [teleport_test:receive_one() || _ <- [1, 2]]}),
            true = teleport:demonitor(Monitor),
            ?assertEqual(Alias =:= [{alias, explicit_unalias}], erlang:unalias(Monitor))
     end || Node <- [?config(node, Config), node()], Alias <- [[], [{alias, explicit_unalias}], [{alias, demonitor}]]].

%% This module is one.
whereis_name(Name) -> persistent_term:get({?MODULE, Name}, undefined).

monitors_take_names_of_any_registry(Config) ->
    [begin
         Server = teleport_test_server:start_at(Node, undefined),
         persistent_term:put({?MODULE, server}, Server),
         Ref = {via, ?MODULE, server},
         Monitor = teleport:monitor(Ref),
         Tagged = teleport:monitor(Ref, [{tag, tag}]),
         ?assertEqual({ok, x}, teleport:gs_call(Ref, {echo, x})),
         exit(Server, kill),
         ?assertEqual(lists:sort([{'DOWN', Monitor, process, Server, killed}, {tag, Tagged, process, Server, killed}]),
                      lists:sort([teleport_test:receive_one() || _ <- [1, 2]])),
         persistent_term:erase({?MODULE, server}),
         Nobody = teleport:monitor(Ref),
         ?assertEqual({'DOWN', Nobody, process, {Ref, node()}, noproc}, teleport_test:receive_one())
     end || Node <- [?config(node, Config), node()]].

bad_monitor_options_are_a_badarg(Config) ->
    To = {nobody, ?config(node, Config)},
    [?assertError(badarg, teleport:monitor(Ref, Options))
     || {Ref, Options} <- [{To, [tag]}, {To, [{alias, soon}]}, {To, [{alias, reply_demonitor}]}, {To, {tag, x}}, {To, [{tag, x} | y]},
                           {"no reference", []}, {"no reference", [{tag, x}]}]].
