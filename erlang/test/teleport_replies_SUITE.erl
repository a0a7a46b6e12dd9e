%% Servers that answer in other ways than their behaviour does.
-module(teleport_replies_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, a_term_without_a_form_harms_its_sender_only/0, init_per_suite/1, end_per_suite/1,
         init_per_testcase/2, end_per_testcase/2]).
-export([replies_by_hand_end_calls/1, answers_by_hand_end_requests_in_all_ways/1, a_reply_by_hand_comes_before_the_end/1,
         another_process_may_reply/1, a_late_reply_by_hand_ends_nothing_else/1, the_tag_of_the_caller/1,
         a_term_without_a_form_harms_its_sender_only/1, callers_are_told_of_a_killed_relay/1,
         a_reply_that_is_being_encoded_holds_up_its_caller_only/1, callers_are_told_of_a_killed_encoder/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [replies_by_hand_end_calls, answers_by_hand_end_requests_in_all_ways, a_reply_by_hand_comes_before_the_end,
     another_process_may_reply, a_late_reply_by_hand_ends_nothing_else, the_tag_of_the_caller,
     a_term_without_a_form_harms_its_sender_only, callers_are_told_of_a_killed_relay,
     a_reply_that_is_being_encoded_holds_up_its_caller_only, callers_are_told_of_a_killed_encoder].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(Case, Config) ->
    [{server, teleport_test_server:start_at(?config(node, Config), Case)} | Config].

%% Nothing is left of any case, on either node.
end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        exit(?config(server, Config), kill),
        teleport_test:eventually(fun() -> erpc:call(?config(node, Config), teleport_test, watched, []) =:= 0 end),
        teleport_test:nothing_is_left()
    end).

replies_by_hand_end_calls(Config) ->
    Server = ?config(server, Config),
    Large = binary:copy(<<1>>, 1000000),
    [?assertEqual({ok, Term}, teleport:gs_call(To, {by_hand, Term}))
     || To <- [Server, {?FUNCTION_NAME, node(Server)}], Term <- [x, Large]],
    ?assertEqual({ok, x}, teleport:gs_call(Server, {echo, x})).

answers_by_hand_end_requests_in_all_ways(Config) ->
    Server = ?config(server, Config),
    {ok, Here} = teleport_test_server:start(?FUNCTION_NAME),
    Id = fun() -> teleport:send_request(Server, {by_hand, x}) end,
    ?assertEqual({reply, {ok, x}}, teleport:receive_response(Id(), 30000)),
    ?assertEqual({reply, {ok, x}}, teleport:wait_response(Id(), infinity)),
    Checked = Id(),
    ?assertEqual({reply, {ok, x}}, teleport:check_response(teleport_test:receive_one(), Checked)),
    Nodes = [node(Server), node()],
    ?assertEqual({[{Node, {ok, x}} || Node <- Nodes], []}, teleport:multi_call(Nodes, ?FUNCTION_NAME, {by_hand, x})),
    ?assertEqual({ok, x}, teleport_gen_statem:call(Server, {by_hand, x}, 30000)),
    exit(Here, kill).

%% Its end does not come before its answer.
a_reply_by_hand_comes_before_the_end(Config) ->
    Node = ?config(node, Config),
    [begin
         Server = teleport_test_server:start_at(Node, undefined),
         ?assertEqual({ok, I}, teleport:gs_call(Server, {by_hand_and_end, I, Reason})),
         teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Server]) end)
     end || I <- lists:seq(1, 30), Reason <- [normal, shutdown, {shutdown, x}]],
    Server = teleport_test_server:start_at(Node, ending),
    Pair = [Node, node()],
    ?assertEqual({[{Node, {ok, x}}], [node()]}, teleport:multi_call(Pair, ending, {by_hand_and_end, x, normal})),
    %% One that has ended without an answer has not.
    Silent = teleport_test_server:start_at(Node, undefined),
    ?assertExit({normal, _}, teleport:gs_call(Silent, {exit, normal})),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Server]) end).

another_process_may_reply(Config) ->
    Server = ?config(server, Config),
    {Peer, Third} = teleport_test:start_peer(),
    Here = self(),
    There = spawn(Third, fun() -> receive stop -> ok end end),
    [?assertEqual({ok, x}, teleport:gs_call(Server, {by_hand_of, Process, x})) || Process <- [Server, Here, There]],
    %% With OTP's function, and with whatever of this node.
    Id = teleport:send_request(Server, {from, Here}),
    {from, From} = teleport_test:receive_one(),
    ok = erpc:call(Third, gen_server, reply, [From, {ok, y}]),
    ?assertEqual({reply, {ok, y}}, teleport:receive_response(Id, 30000)),
    Second = teleport:send_request(Server, {from, Here}),
    {from, {Here, Tag}} = teleport_test:receive_one(),
    ok = erpc:call(Third, teleport, send, [Here, {Tag, z}]),
    ?assertEqual({reply, z}, teleport:receive_response(Second, 30000)),
    teleport_test:stop_peer(Peer).

%% It cannot be kept from the mailbox, as it cannot by OTP; but it ends nothing else.
a_late_reply_by_hand_ends_nothing_else(Config) ->
    Server = ?config(server, Config),
    ?assertExit({timeout, _}, teleport:gs_call(Server, {by_hand_later, late}, 1)),
    ?assertEqual(released, teleport:gs_call(Server, release_by_hand)),
    ?assertMatch({[_, _, [alias | _], _Secret], {ok, late}}, teleport_test:receive_one()),
    ?assertEqual({ok, x}, teleport:gs_call(Server, {by_hand, x})).

%% It has the caller's own reference, which only that knows.
the_tag_of_the_caller(Config) ->
    Id = teleport:send_request(?config(server, Config), {from, self()}),
    {from, {Caller, Tag}} = teleport_test:receive_one(),
    ?assertEqual(self(), Caller),
    ?assertMatch([[alias | Relay], Number, [alias | Id], Secret]
                 when is_reference(Relay) andalso is_integer(Number) andalso is_integer(Secret), Tag),
    ?assertEqual(timeout, teleport:receive_response(Id, 0)).

%% A binary of more than 4 GiB has no form in the external term format: the sender or caller is told, and others do not notice.
a_term_without_a_form_harms_its_sender_only() ->
    [{timetrap, {minutes, 5}}].

a_term_without_a_form_harms_its_sender_only(_Config) ->
    case {available_memory() > 8 bsl 30, os:getenv("TELEPORT_TEST_MEMORY")} of
        {true, _} -> huge_terms();
        {false, "required"} -> error("8 GiB of memory have to be free");
        {false, _} -> {skip, "8 GiB of memory have to be free"}
    end.

huge_terms() ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, undefined),
    {Self, Size} = {self(), 1 bsl 32},
    Results = erpc:call(Node, fun() ->
        Huge = binary:copy(<<0>>, Size),
        persistent_term:put(huge, Huge),
        [teleport:send(Self, Huge), teleport:send(Self, [x, {Huge}], [{ack, x}]), teleport:cast(Self, Huge),
         element(1, teleport_test:outcome(teleport, gs_call, [Self, Huge])),
         teleport:receive_response(teleport:send_request(Self, Huge), 30000)]
    end),
    TooLarge = {too_large, Size, Size - 1},
    ?assertEqual([{error, TooLarge}, {error, TooLarge}, ok, exit, {error, {TooLarge, Self}}], Results),
    %% A reply, and a reason. Others are answered meanwhile and afterwards.
    Others = [teleport:send_request(Server, {echo, I}) || I <- [1, 2]],
    ?assertExit({{rejected, _}, _}, teleport:gs_call(Server, {run, fun() -> persistent_term:get(huge) end}, infinity)),
    ?assertEqual([{reply, {ok, 1}}, {reply, {ok, 2}}], [teleport:receive_response(Id, 30000) || Id <- Others]),
    ?assertEqual({ok, x}, teleport:gs_call(Server, {echo, x})),
    Monitor = teleport:monitor(Server),
    ?assertExit({too_large, _}, teleport:gs_call(Server, {run, fun() -> exit({persistent_term:get(huge), x}) end}, infinity)),
    ?assertEqual({'DOWN', Monitor, process, Server, too_large}, teleport_test:receive_one()),
    teleport_test:stop_peer(Peer).

available_memory() ->
    case file:read_file("/proc/meminfo") of
        {ok, Text} ->
            {match, [Kilobytes]} = re:run(Text, "MemAvailable: *([0-9]+)", [{capture, all_but_first, list}]),
            list_to_integer(Kilobytes) * 1024;
        {error, _} ->
            0
    end.

%% Those who wait are told, and what comes next is answered.
callers_are_told_of_a_killed_relay(Config) ->
    {Node, Server} = {?config(node, Config), ?config(server, Config)},
    Ids = [teleport:send_request(Server, never) || _ <- [1, 2]],
    {ok, x} = teleport:gs_call(Server, {echo, x}),
    Relays = erpc:call(Node, fun() ->
        [Relay || {links, Links} <- [process_info(Starter, links) || {_, Starter, _, _} <- supervisor:which_children(teleport_relay_sup)],
                  Relay <- Links, is_pid(Relay), process_info(Relay, monitors) =:= {monitors, [{process, Server}]}]
    end),
    ?assertMatch([_], Relays),
    [exit(Relay, kill) || Relay <- Relays],
    [?assertMatch({error, {{rejected, _}, Server}}, teleport:receive_response(Id, 30000)) || Id <- Ids],
    ?assertEqual({ok, y}, teleport:gs_call(Server, {echo, y})).

%% Of one server, which answers a small one, the next of the same caller, and one of another caller, and ends: all while its first
%% reply is being encoded.
a_reply_that_is_being_encoded_holds_up_its_caller_only(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    {Server, Self} = {teleport_test_server:start_at(Node, undefined), self()},
    Large = lists:seq(1, 1000),
    Monitor = teleport:monitor(Server),
    {First, Encoder} = being_encoded(Server, Large),
    Second = teleport:send_request(Server, {run, fun() -> Self ! served, second end}),
    ?assertEqual(served, teleport_test:receive_one()),
    %% It has answered when it answers distributed Erlang.
    ?assertEqual({ok, answered}, gen_server:call(Server, {echo, answered}, 30000)),
    _ = spawn_link(fun() -> Self ! {other, teleport_test:outcome(teleport, gs_call, [Server, {echo, other}, 30000])} end),
    ?assertEqual({other, {returned, {ok, other}}}, teleport_test:receive_one()),
    %% Nothing comes of it before what it has answered.
    exit(Server, kill),
    teleport_test:eventually(fun() -> not erpc:call(Node, erlang, is_process_alive, [Server]) end),
    ?assertEqual([timeout, timeout], [teleport:wait_response(Id, 0) || Id <- [First, Second]]),
    Encoder ! go_on,
    ?assertEqual({reply, Large}, teleport:check_response(teleport_test:receive_one(), First)),
    ?assertEqual({reply, second}, teleport:check_response(teleport_test:receive_one(), Second)),
    ?assertEqual({'DOWN', Monitor, process, Server, killed}, teleport_test:receive_one()),
    teleport_test:stop_peer(Peer).

callers_are_told_of_a_killed_encoder(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, undefined),
    {Id, Encoder} = being_encoded(Server, lists:seq(1, 1000)),
    exit(Encoder, kill),
    ?assertMatch({error, {{rejected, _}, Server}}, teleport:receive_response(Id, 30000)),
    ?assertEqual({ok, x}, teleport:gs_call(Server, {echo, x}, 30000)),
    teleport_test:stop_peer(Peer).

%% A request whose reply is being encoded, by a process that waits to be told to go on: on that node all that is not small is encoded so.
being_encoded(Server, Reply) ->
    Node = node(Server),
    {ok, x} = teleport:gs_call(Server, {echo, x}, 30000),
    ok = erpc:call(Node, persistent_term, put, [encoding, self()]),
    Forms = [begin
        {ok, Tokens, _} = erl_scan:string(Text),
        {ok, Form} = erl_parse:parse_form(Tokens),
        Form
    end || Text <- ["-module(teleport_encode).",
                    "-export([encode/1, parts/1]).",
                    "encode(Term) -> persistent_term:get(encoding) ! {encoding, self()},"
                    "    receive go_on -> {ok, parts(Term)} end.",
                    "parts(Term) -> [term_to_binary(Term)]."]],
    {ok, Module, Code} = erpc:call(Node, compile, forms, [Forms]),
    {module, Module} = erpc:call(Node, code, load_binary, [Module, "teleport_encode", Code]),
    Id = teleport:send_request(Server, {run, fun() -> Reply end}),
    {encoding, Encoder} = teleport_test:receive_one(),
    {Id, Encoder}.
