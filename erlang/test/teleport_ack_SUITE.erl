%% What the sender is told of its messages that were sent with `{ack, Tag}'.
-module(teleport_ack_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_delivered_message_is_acknowledged/1, messages_of_any_size_are_acknowledged/1,
         a_message_to_nobody_is_unconfirmed/1, a_message_to_a_process_of_this_node_is_acknowledged/1,
         tags_may_be_any_terms/1, acknowledgements_go_with_all_options/1,
         what_a_sender_that_has_ended_sent_is_delivered/1, a_stopped_peer_leaves_sends_unconfirmed/1,
         what_is_not_sent_is_not_acknowledged/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [a_delivered_message_is_acknowledged, messages_of_any_size_are_acknowledged, a_message_to_nobody_is_unconfirmed,
     a_message_to_a_process_of_this_node_is_acknowledged, tags_may_be_any_terms, acknowledgements_go_with_all_options,
     what_a_sender_that_has_ended_sent_is_delivered, a_stopped_peer_leaves_sends_unconfirmed,
     what_is_not_sent_is_not_acknowledged].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(Case, Config) ->
    [{server, teleport_test_server:start_at(?config(node, Config), Case)} | Config].

%% No sender is told of anything twice.
end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        exit(?config(server, Config), kill),
        teleport_test:nothing_is_left()
    end).

a_delivered_message_is_acknowledged(Config) ->
    {Node, Server} = {?config(node, Config), ?config(server, Config)},
    %% Names are not lost to the nodes' getting to know each other.
    ok = global:sync(),
    yes = global:register_name(teleport_ack, Server),
    [begin
         ok = teleport:send(Ref, {note, I}, [{ack, I}]),
         ?assertEqual({teleport, I, delivered}, teleport_test:receive_one()),
         %% It is in the mailbox, so that a signal by another way finds it there.
         ?assertEqual(lists:seq(1, I), gen_server:call(Server, notes, infinity))
     end || {I, Ref} <- [{1, Server}, {2, {?FUNCTION_NAME, Node}}, {3, {global, teleport_ack}}, {4, {via, global, teleport_ack}}]],
    _ = global:unregister_name(teleport_ack).

messages_of_any_size_are_acknowledged(Config) ->
    Server = ?config(server, Config),
    Sizes = [0, 100, 70000, 3000000, 10, 20000000],
    [ok = teleport:send(Server, {note, binary:copy(<<1>>, Size)}, [{ack, Size}]) || Size <- Sizes],
    ?assertEqual(lists:sort([{teleport, Size, delivered} || Size <- Sizes]),
                 lists:sort([teleport_test:receive_one() || _ <- Sizes])),
    ?assertEqual(Sizes, [byte_size(Note) || Note <- gen_server:call(Server, notes)]).

a_message_to_nobody_is_unconfirmed(Config) ->
    Node = ?config(node, Config),
    Dead = erpc:call(Node, erlang, spawn, [erlang, is_atom, [x]]),
    [begin
         ok = teleport:send(Ref, hello, [{ack, Ref}]),
         ?assertEqual({teleport, Ref, {unconfirmed, noproc}}, teleport_test:receive_one())
     end || Ref <- [{nobody, Node}, Dead]].

a_message_to_a_process_of_this_node_is_acknowledged(_Config) ->
    {ok, Here} = teleport_test_server:start(ack_here),
    [begin
         ok = teleport:send(Ref, {note, Ref}, [{ack, Ref}]),
         ?assertEqual({teleport, Ref, delivered}, teleport_test:receive_one())
     end || Ref <- [Here, ack_here, {ack_here, node()}]],
    ?assertEqual([Here, ack_here, {ack_here, node()}], gen_server:call(Here, notes)),
    ok = gen_server:stop(Here),
    [begin
         ok = teleport:send(Ref, hello, [{ack, Ref}]),
         ?assertEqual({teleport, Ref, {unconfirmed, noproc}}, teleport_test:receive_one())
     end || Ref <- [Here, ack_here, {ack_here, node()}, {global, nobody}, {via, global, nobody}]].

tags_may_be_any_terms(Config) ->
    Tags = [#{self() => make_ref()}, [a | b], fun lists:map/2, binary:copy(<<"x">>, 100000), 1 bsl 100, 1.5, []],
    [begin
         ok = teleport:send(?config(server, Config), {note, x}, [{ack, Tag}]),
         ?assertEqual({teleport, Tag, delivered}, teleport_test:receive_one())
     end || Tag <- Tags].

acknowledgements_go_with_all_options(Config) ->
    Server = ?config(server, Config),
    [begin
         ok = teleport:send(Server, {note, Options}, [{ack, Options} | Options]),
         ?assertEqual({teleport, Options, delivered}, teleport_test:receive_one())
     end || Options <- [[unordered], [nosuspend], [nosuspend, unordered]]].

%% What it has sent is delivered all the same.
what_a_sender_that_has_ended_sent_is_delivered(Config) ->
    Server = ?config(server, Config),
    Send = fun(I) -> fun() -> exit(teleport:send(Server, {note, I}, [{ack, I}])) end end,
    Senders = [spawn_monitor(Send(I)) || I <- lists:seq(1, 50)],
    [receive {'DOWN', Monitor, process, Sender, Result} -> ?assertEqual(ok, Result) end || {Sender, Monitor} <- Senders],
    teleport_test:eventually(fun() -> lists:sort(gen_server:call(Server, notes)) =:= lists:seq(1, 50) end).

%% It takes no more than there is room for, and when it is gone nobody knows what became of that.
a_stopped_peer_leaves_sends_unconfirmed(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, undefined),
    ok = teleport:send(Server, {note, x}, [{ack, first}]),
    ?assertEqual({teleport, first, delivered}, teleport_test:receive_one()),
    Pid = erpc:call(Node, os, getpid, []),
    ok = teleport_test:signal(stop, Pid),
    Message = {note, binary:copy(<<1>>, 1 bsl 20)},
    Count = fill(Server, Message, 0),
    ?assert(Count > 0),
    %% One more waits for room, and is never accepted.
    Self = self(),
    Waiting = spawn(fun() -> Self ! {result, teleport:send(Server, Message, [{ack, never}]), teleport_test:mailbox()} end),
    Waits = fun() -> process_info(Waiting, current_function) =:= {current_function, {teleport_send, accepted, 2}} end,
    teleport_test:eventually(Waits),
    ?assertEqual([], teleport_test:mailbox()),
    ok = teleport_test:signal(kill, Pid),
    {result, Result, Told} = receive {result, _, _} = Message1 -> Message1 end,
    ?assertEqual({{error, nodedown}, []}, {Result, Told}),
    ?assertEqual([{teleport, I, {unconfirmed, nodedown}} || I <- lists:seq(1, Count)],
                 lists:sort([teleport_test:receive_one() || _ <- lists:seq(1, Count)])),
    ?assertMatch(#{unconfirmed := Count}, teleport:info()),
    ?assertEqual({error, no_session}, teleport:info(Node)),
    teleport_test:stop_peer(Peer).

%% Sends until there is no room; returns how many were accepted, whose tags are numbers from 1.
fill(Server, Message, Count) ->
    case teleport:send(Server, Message, [{ack, Count + 1}, nosuspend]) of
        ok -> fill(Server, Message, Count + 1);
        {error, busy} -> Count
    end.

%% An error is all that one is told.
what_is_not_sent_is_not_acknowledged(_Config) ->
    ?assertEqual({error, busy}, teleport:send({x, nobody@nowhere}, hello, [{ack, x}, nosuspend])),
    ?assertEqual({error, {not_running, nobody@nowhere}}, teleport:send({x, nobody@nowhere}, hello, [{ack, x}])),
    ?assertError(badarg, teleport:send(nobody_here, hello, [])),
    ?assertError(badarg, teleport:send("no reference", hello, [{ack, x}])).
