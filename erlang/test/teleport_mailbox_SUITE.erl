%% Waiting calls do not look through a full mailbox, and sends do not look at it at all.
-module(teleport_mailbox_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([calls_do_not_look_through_the_mailbox/1, calls_that_wait_for_a_session/1, requests_that_wait_for_a_session/1,
         responses_do_not_look_through_the_mailbox/1, collections_do_not_look_through_the_mailbox/1,
         multi_calls_do_not_look_through_the_mailbox/1, monitors_do_not_look_through_the_mailbox/1,
         stops_do_not_look_through_the_mailbox/1, applied_functions_do_not_look_through_the_mailbox/1,
         calls_of_servers_that_end_do_not_look_through_the_mailbox/1, what_cannot_connect_does_not_look_through_the_mailbox/1,
         sends_that_wait_do_not_look_through_the_mailbox/1, checks_do_not_look_through_the_mailbox/1,
         what_is_sent_leaves_no_garbage_behind/1]).

%% Messages in the mailbox. To look at one of them is a reduction.
-define(MANY, 200000).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [calls_do_not_look_through_the_mailbox, calls_that_wait_for_a_session, requests_that_wait_for_a_session,
     responses_do_not_look_through_the_mailbox, collections_do_not_look_through_the_mailbox,
     multi_calls_do_not_look_through_the_mailbox, monitors_do_not_look_through_the_mailbox,
     stops_do_not_look_through_the_mailbox, applied_functions_do_not_look_through_the_mailbox,
     calls_of_servers_that_end_do_not_look_through_the_mailbox, what_cannot_connect_does_not_look_through_the_mailbox,
     sends_that_wait_do_not_look_through_the_mailbox, checks_do_not_look_through_the_mailbox,
     what_is_sent_leaves_no_garbage_behind].

init_per_suite(Config) ->
    teleport_test:init_pair(Config).

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(Case, Config) ->
    [{server, teleport_test_server:start_at(?config(node, Config), Case)} | Config].

end_per_testcase(_Case, Config) ->
    teleport_test:ended(fun() ->
        exit(?config(server, Config), kill),
        teleport_test:nothing_waits()
    end).

calls_do_not_look_through_the_mailbox(Config) ->
    {Server, Large} = {?config(server, Config), large()},
    cheap([fun() -> {ok, Term} = teleport:gs_call(Server, {echo, Term}) end || Term <- [small, Large]]
        ++ [fun() -> {ok, _} = teleport:gs_call(Server, {bytes, 1000000}) end,
            fun() -> {ok, Large} = teleport_gen_statem:call(Server, {echo, Large}) end,
            fun() -> ?assertExit({timeout, _}, teleport:gs_call(Server, never, 1)) end,
            fun() -> ?assertExit({noproc, _}, teleport:gs_call({nobody, node(Server)}, x)) end]).

calls_that_wait_for_a_session(Config) ->
    Server = ?config(server, Config),
    Call = fun(Term) -> {ok, Term} = teleport:gs_call(Server, {echo, Term}) end,
    cheap([fun() -> true = disconnect(Server), Call(Term) end || Term <- [x, large()]]).

requests_that_wait_for_a_session(Config) ->
    Server = ?config(server, Config),
    cheap([fun() -> true = disconnect(Server), put(id, teleport:send_request(Server, {echo, x})) end]),
    {reply, {ok, x}} = teleport:receive_response(get(id), 30000).

%% The reference was made by another function: before OTP 26 the mailbox is looked through, as by OTP's own functions.
responses_do_not_look_through_the_mailbox(Config) ->
    Server = ?config(server, Config),
    One = [{Receive, Ref, fun(Module) ->
                {reply, {ok, Request}} = Module:Receive(Module:send_request(Ref, {echo, Request}), 30000)
            end}
           || Receive <- [receive_response, wait_response], Request <- [small, large()], Ref <- [Server, {?FUNCTION_NAME, node(Server)}]],
    Ended = {noproc, nobody, fun(Module) ->
        {error, {noproc, _}} = Module:receive_response(Module:send_request({nobody, node(Server)}, small), 30000)
    end},
    Late = {timeout, never, fun(Module) -> timeout = Module:receive_response(Module:send_request(Server, never), 1) end},
    no_dearer_than_otp([Ended, Late | One]).

%% More than a process has receive markers.
collections_do_not_look_through_the_mailbox(Config) ->
    Server = ?config(server, Config),
    Ask = fun(Module, Count) ->
        Add = fun(I, Collection) -> Module:send_request(Server, {echo, I}, I, Collection) end,
        Collection = lists:foldl(Add, Module:reqids_new(), lists:seq(1, Count)),
        lists:foldl(fun(_, Left) ->
            {{reply, {ok, I}}, I, Others} = Module:receive_response(Left, 30000, true), Others
        end, Collection, lists:seq(1, Count))
    end,
    no_dearer_than_otp([{collection, Count, fun(Module) -> Ask(Module, Count) end} || Count <- [1, 10]]).

%% In reductions, of which to look at a message costs one: no more than half as many again.
no_dearer_than_otp(Functions) ->
    Modules = [gen_server, teleport_gen_server],
    _ = [Function(Module) || {_What, _Of, Function} <- Functions, Module <- Modules],
    with_many_messages(fun() ->
        [begin
             [Otp, Ours] = [reductions(fun() -> Function(Module) end) || Module <- Modules],
             ct:log("~p of ~p: ~p, of OTP ~p", [What, Of, Ours, Otp]),
             Ours =< 1.5 * Otp + ?MANY div 10 orelse exit({expensive, What, Of, Ours, {of_otp, Otp}})
         end || {What, Of, Function} <- Functions]
    end).

%% Of any number, also of nodes where nobody answers.
multi_calls_do_not_look_through_the_mailbox(Config) ->
    Node = ?config(node, Config),
    Calls = fun(Name, Request, Timeout) -> teleport:multi_call(lists:duplicate(20, Node), Name, Request, Timeout) end,
    cheap([fun() -> {[_ | _], []} = Calls(?FUNCTION_NAME, {echo, x}, 30000) end,
           fun() -> {[], [_ | _]} = Calls(nobody, x, infinity) end,
           fun() -> {[], [_ | _]} = Calls(?FUNCTION_NAME, never, 1) end,
           fun() -> {[_], [nobody@nowhere]} = teleport:multi_call([nobody@nowhere, Node], ?FUNCTION_NAME, {echo, x}) end]).

%% Whether or not they wait for a session.
monitors_do_not_look_through_the_mailbox(Config) ->
    Server = ?config(server, Config),
    Monitor = fun(Options) -> true = teleport:demonitor(teleport:monitor(Server, Options)) end,
    cheap([fun() -> Monitor([]) end,
           fun() -> true = disconnect(Server), Monitor([]) end,
           fun() -> true = disconnect(Server), Monitor([{alias, demonitor}]) end]).

stops_do_not_look_through_the_mailbox(Config) ->
    Node = ?config(node, Config),
    Stop = fun() -> ok = teleport:gs_stop(teleport_test_server:start_at(Node, undefined)) end,
    Nobody = fun() -> ?assertExit(noproc, teleport:gs_stop({nobody, Node})) end,
    cheap([Stop, Nobody]
        ++ [fun() -> true = disconnect_from(Node), Again() end || Again <- [Stop, Nobody]]
        %% Of one for which there is no time.
        ++ [fun() -> true = disconnect_from(Node), ?assertExit(timeout, teleport:gs_stop({nobody, Node}, normal, 0)) end]).

%% An end in order may have overtaken a reply that was sent by hand, so it is waited for what has gone over distributed Erlang.
calls_of_servers_that_end_do_not_look_through_the_mailbox(Config) ->
    Node = ?config(node, Config),
    cheap([fun() -> ?assertExit({Reason, _}, teleport:gs_call(teleport_test_server:start_at(Node, undefined), {exit, Reason})) end
           || Reason <- [normal, shutdown, {shutdown, x}, tired]]).

%% Nothing listens there. Each has a node of its own, since the next attempt at one waits a while.
what_cannot_connect_does_not_look_through_the_mailbox(_Config) ->
    Begin = [fun(Shut) -> ?assertMatch({error, {connect, _}}, teleport:send(Shut, x)) end,
             fun({x, Node} = Shut) -> ?assertExit({{nodedown, Node}, _}, teleport:gs_call(Shut, x)) end,
             fun(Shut) -> ?assertExit(_, teleport:gs_stop(Shut)) end,
             %% The ends of these are left in the mailbox.
             fun(Shut) -> ?assert(is_reference(teleport:send_request(Shut, x))) end,
             fun(Shut) -> ?assert(is_reference(teleport:monitor(Shut))) end],
    Nodes = [list_to_atom("shut_" ++ integer_to_list(Number) ++ "@nowhere") || Number <- lists:seq(1, length(Begin))],
    ok = application:set_env(teleport, peers, maps:from_list([{Node, {{127, 0, 0, 1}, 1}} || Node <- Nodes])),
    try
        cheap([fun() -> Do({x, Node}) end || {Do, Node} <- lists:zip(Begin, Nodes)])
    after
        application:unset_env(teleport, peers)
    end.

applied_functions_do_not_look_through_the_mailbox(Config) ->
    Node = ?config(node, Config),
    cheap([fun() -> Node = teleport_erpc:call(Node, erlang, node, []) end,
           fun() -> Large = large(), Large = teleport_erpc:call(Node, erlang, hd, [[Large]]) end]).

sends_that_wait_do_not_look_through_the_mailbox(Config) ->
    Server = ?config(server, Config),
    cheap([fun() -> true = disconnect(Server), ok = Send() end
           || Send <- [fun() -> teleport:send(Server, {note, x}) end,
                       fun() -> teleport:send(Server, {note, large()}) end,
                       fun() -> teleport:send(Server, {note, x}, [{ack, x}]) end,
                       fun() -> teleport:send(Server, {note, x}, [{timeout, 30000}]) end,
                       fun() -> teleport:cast(Server, {note, x}) end,
                       fun() -> [{_, Sent}] = teleport:abcast([node(Server)], ?FUNCTION_NAME, {note, x}, []), Sent end,
                       fun() -> abcast = teleport:abcast([node(Server)], ?FUNCTION_NAME, {note, x}), ok end,
                       fun() -> teleport:prime(node(Server)) end]]),
    {teleport, x, _} = teleport_test:receive_one(), % its session may have been ended at once
    ?assertEqual([], teleport_test:mailbox()).

checks_do_not_look_through_the_mailbox(Config) ->
    Node = ?config(node, Config),
    cheap([fun() -> {ok, _} = teleport:check(Node) end,
           fun() -> {Node, {ok, _}} = lists:keyfind(Node, 1, teleport:check()) end]).

%% Each time the sender collects garbage it looks at its whole mailbox.
what_is_sent_leaves_no_garbage_behind(Config) ->
    Server = ?config(server, Config),
    {Binary, Many} = {binary:copy(<<1>>, 100000), [binary:copy(<<I>>, 2000) || I <- lists:seq(1, 20)]},
    Terms = [large(), Binary, {Binary, Binary}, [Many | large()], fun() -> {Binary, large()} end],
    Send = fun(Way) -> fun() -> [ok = Way({note, Term}) || _ <- lists:seq(1, 200), Term <- Terms] end end,
    Ways = [fun(Message) -> gen_server:cast(Server, Message) end,
            fun(Message) -> teleport:cast(Server, Message) end,
            fun(Message) -> teleport:send(Server, Message) end,
            fun(Message) -> teleport:send(Server, Message, [{timeout, 30000}]) end],
    [Otp | Ours] = [collections_of_garbage(Send(Way)) || Way <- Ways],
    ct:log("~p, with OTP ~p", [Ours, Otp]),
    ?assertEqual([], [Count || Count <- Ours, Count > Otp + 5]).

%% What the function does by itself; of one with an empty mailbox it would be the same.
collections_of_garbage(Function) ->
    Counter = spawn_link(fun() -> count_collections(0) end),
    {_, Monitor} = spawn_monitor(fun() ->
        [self() ! {number, I} || I <- lists:seq(1, 2000)],
        true = garbage_collect(),
        1 = erlang:trace(self(), true, [garbage_collection, {tracer, Counter}]),
        Function(),
        1 = erlang:trace(self(), false, [garbage_collection])
    end),
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end,
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok end,
    Counter ! {count, self()},
    receive {collections, Count} -> Count end.

count_collections(Count) ->
    receive
        {trace, _, Begun, _} when Begun =:= gc_minor_start; Begun =:= gc_major_start -> count_collections(Count + 1);
        {count, Pid} -> Pid ! {collections, Count};
        _ -> count_collections(Count)
    end.

%% Each, with a full mailbox, does not look through it once.
cheap(Functions) ->
    _ = [Function() || Function <- Functions], % whatever is done once
    with_many_messages(fun() ->
        [begin
             Reductions = reductions(Function),
             ct:log("~p: ~p reductions", [Number, Reductions]),
             Reductions < ?MANY div 2 orelse exit({expensive, Number, Reductions})
         end || {Number, Function} <- lists:zip(lists:seq(1, length(Functions)), Functions)]
    end).

with_many_messages(Function) ->
    %% To collect garbage would be counted too.
    {_, Monitor} = spawn_opt(fun() ->
        [self() ! {number, I} || I <- lists:seq(1, ?MANY)],
        Function()
    end, [monitor, {message_queue_data, off_heap}, {min_heap_size, 1 bsl 20}]),
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end.

reductions(Function) ->
    {reductions, Before} = process_info(self(), reductions),
    _ = Function(),
    {reductions, After} = process_info(self(), reductions),
    After - Before.

%% The next one waits for a session.
disconnect(Server) ->
    disconnect_from(node(Server)).

disconnect_from(Node) ->
    Disconnected = teleport_nif:disconnect(Node),
    teleport_test:eventually(fun() -> not lists:member(Node, teleport:nodes()) end),
    Disconnected.

%% No small term, without being expensive to encode.
large() ->
    list_to_tuple(lists:seq(1, 2000)).
