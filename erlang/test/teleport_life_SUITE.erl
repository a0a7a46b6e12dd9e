%% The application begins and ends, is started again, and cannot be started.
-module(teleport_life_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([a_stop_ends_what_is_under_way/1, a_hundred_starts_leave_nothing_behind/1, a_killed_manager_is_replaced/1,
         the_first_calls_after_a_start_are_answered/1, all_modules_are_loaded/1]).
-export([a_node_without_room_for_processes_goes_on/1]).
-export([a_supervisor_that_gives_up/1, calls_that_begin_at_the_end/1, stopped_before_there_is_a_session/1]).
-export([a_missing_library_is_named_in_the_error/1, a_file_that_is_no_library_is_named/1,
         a_library_of_another_version_is_refused/1, older_releases_are_refused/1,
         the_resolver_runs_before_it_is_needed/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [a_stop_ends_what_is_under_way, a_hundred_starts_leave_nothing_behind, a_killed_manager_is_replaced,
     the_first_calls_after_a_start_are_answered, all_modules_are_loaded,
     a_node_without_room_for_processes_goes_on, a_supervisor_that_gives_up, calls_that_begin_at_the_end,
     stopped_before_there_is_a_session, a_missing_library_is_named_in_the_error, a_file_that_is_no_library_is_named,
     a_library_of_another_version_is_refused,
     older_releases_are_refused, the_resolver_runs_before_it_is_needed].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    _ = application:stop(teleport),
    ok.

%% All that is under way ends, with what says so.
a_stop_ends_what_is_under_way(_Config) ->
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Monitor = teleport:monitor(Server),
    Callers = [begin_process(fun() -> teleport:gs_call(Server, never, infinity) end) || _ <- lists:seq(1, 50)],
    Senders = [begin_process(fun() -> send_for_ever(Server) end) || _ <- lists:seq(1, 10)],
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 51 end),
    ok = application:stop(teleport),
    [?assertMatch({'EXIT', {{nodedown, Node}, {gen_server, call, [Server, never, infinity]}}}, outcome(Caller))
     || Caller <- Callers],
    [?assertMatch({error, Reason} when Reason =:= not_running; Reason =:= nodedown, outcome(Sender)) || Sender <- Senders],
    ?assertEqual({'DOWN', Monitor, process, Server, noconnection}, teleport_test:receive_one()),
    ?assertEqual({error, not_running}, teleport:send(Server, {note, x})),
    %% And the other way round: it is stopped at the servers' node.
    ok = teleport:start(),
    Others = [begin_process(fun() -> teleport:gs_call(Server, never, infinity) end) || _ <- lists:seq(1, 50)],
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 50 end),
    ok = erpc:call(Node, application, stop, [teleport]),
    [?assertMatch({'EXIT', {_Reason, {gen_server, call, _}}}, outcome(Caller)) || Caller <- Others],
    ?assertEqual([], teleport_test:mailbox()),
    teleport_test:stop_peer(Peer).

%% What waits for a session ends like what waits for an answer.
stopped_before_there_is_a_session(_Config) ->
    {ok, Mute} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Mute),
    Node = 'mute@127.0.0.1',
    Server = {server, Node},
    ok = teleport_test:start_here([{peers, #{Node => {{127, 0, 0, 1}, Port}}}]),
    Caller = begin_process(fun() -> teleport:gs_call(Server, never, infinity) end),
    Client = begin_process(fun() -> teleport:receive_response(teleport:send_request(Server, never), infinity) end),
    Watcher = begin_process(fun() -> {teleport:monitor(Server), teleport_test:receive_one()} end),
    teleport_test:eventually(fun() -> maps:get(waiting_for, teleport:info()) =:= 3 end),
    ok = teleport_test:stop_here(),
    ?assertMatch({'EXIT', {{nodedown, Node}, {gen_server, call, [Server, never, infinity]}}}, outcome(Caller)),
    ?assertEqual({error, {noconnection, Server}}, outcome(Client)),
    ?assertMatch({Monitor, {'DOWN', Monitor, process, Server, noconnection}}, outcome(Watcher)),
    ok = gen_tcp:close(Mute).

send_for_ever(To) ->
    case teleport:send(To, {note, binary:copy(<<1>>, 10000)}) of
        ok -> send_for_ever(To);
        Error -> Error
    end.

begin_process(Fun) ->
    Self = self(),
    spawn(fun() -> Self ! {outcome, self(), teleport_test:caught(Fun)} end).

outcome(Process) ->
    receive {outcome, Process, Outcome} -> Outcome
    after 30000 -> error({hangs, Process, process_info(Process)})
    end.

%% With a session each time: no thread and no descriptor is left.
a_hundred_starts_leave_nothing_behind(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Cycle = fun(I) ->
        ok = teleport:start(),
        ?assertEqual({ok, I}, teleport:gs_call(Server, {echo, I}, 30000)),
        ok = application:stop(teleport)
    end,
    ok = application:stop(teleport),
    Cycle(0),
    Before = resources(),
    lists:foreach(Cycle, lists:seq(1, 100)),
    %% Those of the last cycle may take a moment to go.
    teleport_test:eventually(fun() ->
        lists:all(fun({Now, Then}) -> Now =< Then + 2 end, lists:zip(resources(), Before))
    end),
    teleport_test:stop_peer(Peer).

%% Threads and descriptors of this process.
resources() ->
    [begin
        {ok, Names} = file:list_dir("/proc/self/" ++ Directory),
        length(Names)
    end || Directory <- ["task", "fd"]].

%% Both here and there, again and again: nothing hangs, and all works again.
a_killed_manager_is_replaced(_Config) ->
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    [begin
        Calls = [begin_process(fun() -> teleport:gs_call(Server, never, infinity) end) || _ <- lists:seq(1, 20)],
        %% Those that still wait for a session would go to the engine of the next manager.
        teleport_test:eventually(fun() -> erpc:call(Node, teleport_test, watched, []) =:= 20 end),
        Manager = erpc:call(At, erlang, whereis, [teleport_manager]),
        exit(Manager, kill),
        [?assertMatch({'EXIT', {_Reason, {gen_server, call, _}}}, outcome(Call)) || Call <- Calls],
        %% Until the next manager is there the engine of before may be.
        teleport_test:eventually(fun() -> erpc:call(At, fun() -> has_other_manager(Manager) end) end),
        teleport_test:eventually(fun() -> works(Server) end),
        ?assertMatch(#{waiting_for := 0}, teleport:info())
    end || At <- [Node, node(), Node, node()]],
    ?assertEqual([], teleport_test:mailbox()),
    teleport_test:stop_peer(Peer).

has_other_manager(Before) ->
    Now = whereis(teleport_manager),
    %% It has its name before it has ended the engine of before, and answers after that.
    Answers = fun() -> try gen_server:call(Now, anything) of _ -> true catch exit:_ -> false end end,
    is_pid(Now) andalso Now =/= Before andalso Answers() andalso element(1, teleport_manager:address()) =:= ok.

%% What needs a process fails, and nothing else.
a_node_without_room_for_processes_goes_on(_Config) ->
    {OtherPeer, Other} = teleport_test:start_peer(),
    {Peer, Node} = teleport_test:start_peer(peer:random_name(), [{setup_timeout, 500}, {fallback, disterl}], ["+P", "1024"]),
    %% Distributed Erlang would need a process to connect, and end the node without one.
    true = erpc:call(Node, net_kernel, connect_node, [Other]),
    %% As `global' does, for each new node.
    ok = erpc:call(Node, global, sync, []),
    Sup = erpc:call(Node, erlang, whereis, [teleport_sup]),
    Children = fun() -> lists:sort([Pid || {_Id, Pid, _Type, _Modules} <- supervisor:which_children({teleport_sup, Node})]) end,
    Before = Children(),
    Sent = erpc:call(Node, fun() ->
        {Filler, Monitor} = spawn_monitor(fun() -> fill([]) end),
        teleport_test:eventually(fun() -> erlang:system_info(process_count) >= erlang:system_info(process_limit) end),
        Results = [teleport:send({init, Other}, hello) || _ <- [1, 2, 3]],
        Filler ! stop,
        receive {'DOWN', Monitor, process, Filler, normal} -> Results end
    end),
    [?assertMatch({error, {connect, _Text}}, Result) || Result <- Sent],
    ?assertEqual({Sup, Before}, {erpc:call(Node, erlang, whereis, [teleport_sup]), Children()}),
    teleport_test:eventually(fun() -> erpc:call(Node, teleport, send, [{init, Other}, hello]) =:= ok end),
    [teleport_test:stop_peer(Some) || Some <- [Peer, OtherPeer]].

%% Until it is told to stop.
fill(Fillers) ->
    try spawn(fun() -> receive stop -> ok end end) of
        Filler -> fill([Filler | Fillers])
    catch
        error:system_limit ->
            %% Each attempt is an error in the log of the virtual machine, whose logger must not be killed for their number.
            receive
                stop -> [exit(Filler, kill) || Filler <- Fillers], ok
            after 1 -> fill(Fillers)
            end
    end.

%% Managers are killed until the application ends: the engine ends too.
a_supervisor_that_gives_up(_Config) ->
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    ?assert(works(Server)),
    kill_managers(whereis(teleport_sup)),
    teleport_test:eventually(fun() -> teleport:info() =:= {error, not_running} end),
    ok = teleport:start(),
    teleport_test:eventually(fun() -> works(Server) end),
    teleport_test:stop_peer(Peer),
    ok = application:stop(teleport).

kill_managers(Supervisor) ->
    Monitor = erlang:monitor(process, Supervisor),
    Kill = fun() ->
        Manager = whereis(teleport_manager),
        is_pid(Manager) andalso exit(Manager, kill),
        receive {'DOWN', Monitor, process, Supervisor, _} -> true after 0 -> false end
    end,
    teleport_test:eventually(Kill),
    %% The application controller tells when it has seen to the rest.
    teleport_test:eventually(fun() -> not lists:keymember(teleport, 1, application:which_applications()) end).

%% Each call ends once, also when the session ends while it begins: no message about it comes then.
calls_that_begin_at_the_end(_Config) ->
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    Callers = [begin_process(fun() -> call_until_told(Server) end) || _ <- lists:seq(1, 300)],
    [begin
         teleport_test:eventually(fun() -> works(Server) end),
         ok = erpc:call(Node, fun() -> start_after_a_kill() end)
     end || _ <- lists:seq(1, 20)],
    [Caller ! stop || Caller <- Callers],
    ?assertEqual([[]], lists:usort([outcome(Caller) || Caller <- Callers])),
    teleport_test:stop_peer(Peer),
    ok = application:stop(teleport).

start_after_a_kill() ->
    Killed = whereis(teleport_sup),
    exit(Killed, kill),
    %% The application may count as started for a while.
    teleport_test:eventually(fun() ->
        teleport:start() =:= ok andalso not lists:member(whereis(teleport_sup), [Killed, undefined])
    end).

call_until_told(Server) ->
    receive
        stop -> teleport_test:mailbox()
    after 0 ->
        _ = works(Server), % a call that never ended would be an outcome that never comes
        call_until_told(Server)
    end.

works(Server) ->
    try teleport:gs_call(Server, {echo, x}, infinity) =:= {ok, x}
    catch exit:{_Reason, {gen_server, call, _}} -> false
    end.

%% A node that has no descriptors left answers peers as before.
all_modules_are_loaded(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    {ok, Modules} = erpc:call(Node, application, get_key, [teleport, modules]),
    ?assertEqual([], [Module || Module <- Modules, erpc:call(Node, code, is_loaded, [Module]) =:= false]),
    teleport_test:stop_peer(Peer).

%% A call as soon as there is an address is answered: relays are there before the engine listens.
the_first_calls_after_a_start_are_answered(_Config) ->
    ok = teleport:start(),
    {Peer, Node} = teleport_test:start_peer(),
    Server = teleport_test_server:start_at(Node, server),
    ?assertEqual({ok, 0}, teleport:gs_call(Server, {echo, 0})),
    [begin
        ok = erpc:call(Node, application, stop, [teleport]),
        Self = self(),
        Starter = spawn_link(fun() -> ok = erpc:call(Node, teleport, start, []), Self ! {self(), started} end),
        %% Until then it is not connected: but never rejected, which would mean that no relay was there.
        ?assertEqual({ok, I}, first_answer(Server, I)),
        receive {Starter, started} -> ok end
    end || I <- lists:seq(1, 20)],
    teleport_test:stop_peer(Peer).

first_answer(Server, Term) ->
    try teleport:gs_call(Server, {echo, Term}, 30000)
    catch exit:{{nodedown, _}, _} -> first_answer(Server, Term)
    end.

%% What stands in the way of a start.

a_missing_library_is_named_in_the_error(Config) ->
    {error, {nif_not_loaded, File, Text}} = start_from(copy(Config, ?FUNCTION_NAME)),
    ?assertNotEqual(nomatch, string:find(File, atom_to_list(?FUNCTION_NAME))),
    ?assertNotEqual(nomatch, string:find(Text, "teleport_nif")).

a_file_that_is_no_library_is_named(Config) ->
    Root = copy(Config, ?FUNCTION_NAME),
    Library = filename:join([Root, "priv", "teleport_nif.so"]),
    ok = filelib:ensure_dir(Library),
    ok = file:write_file(Library, <<"no library at all">>),
    ?assertMatch({error, {nif_not_loaded, _File, _Text}}, start_from(Root)).

%% Such a library is loaded, and would fail at the first call of what it has not got.
a_library_of_another_version_is_refused(Config) ->
    Root = copy(Config, ?FUNCTION_NAME),
    Library = filename:join([Root, "priv", "teleport_nif.so"]),
    ok = filelib:ensure_dir(Library),
    {ok, _} = file:copy(filename:join(code:priv_dir(teleport), "teleport_nif.so"), Library),
    File = proplists:get_value(source, teleport_nif:module_info(compile)),
    {ok, Source} = file:read_file(File),
    Newer = [string:replace(Source, "-nifs([", "-export([new_one/0]).\n-nifs([new_one/0]).\n-nifs(["),
             "\nnew_one() -> erlang:nif_error(not_loaded).\n"],
    Copy = filename:join(Root, "teleport_nif.erl"),
    ok = file:write_file(Copy, Newer),
    {ok, teleport_nif} = compile:file(Copy, [{outdir, filename:join(Root, "ebin")}, {i, filename:dirname(File)}]),
    {error, {nif_not_loaded, Named, Text}} = start_from(Root),
    ?assertEqual(filename:rootname(Library), Named),
    ?assertNotEqual(nomatch, string:find(Text, "new_one/0")).

%% The application without its library, in a directory of its own.
copy(Config, Name) ->
    Root = filename:join([?config(priv_dir, Config), atom_to_list(Name), "teleport"]),
    Ebin = filename:dirname(code:which(teleport)),
    [begin
        To = filename:join([Root, "ebin", filename:basename(File)]),
        ok = filelib:ensure_dir(To),
        {ok, _} = file:copy(File, To)
    end || File <- filelib:wildcard(filename:join(Ebin, "*"))],
    Root.

start_from(Root) ->
    Args = ["-pa", filename:join(Root, "ebin")],
    {ok, Peer, _Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => Args}),
    Result = teleport_test:at(Peer, teleport, start, []),
    %% Nothing of it is left, and the node goes on.
    ?assertEqual(Result, teleport_test:at(Peer, teleport, start, [])),
    teleport_test:stop_peer(Peer),
    Result.

older_releases_are_refused(_Config) ->
    [?assertEqual(ok, teleport_app:supported(Release)) || Release <- ["25", "26", "27.1", "30-rc1", "100"]],
    [?assertMatch({error, {unsupported_otp, Release, _}}, teleport_app:supported(Release))
     || Release <- ["24", "24.3", "9", "R16B03", ""]].

%% Without descriptors it could not be started later, and OTP would halt the node.
the_resolver_runs_before_it_is_needed(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    teleport_test:eventually(fun() -> is_pid(erpc:call(Node, erlang, whereis, [inet_gethost_native])) end),
    teleport_test:stop_peer(Peer).
