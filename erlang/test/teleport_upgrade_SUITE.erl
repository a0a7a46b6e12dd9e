%% Code that is loaded anew while it runs: the library's module from the same file, and from another one; a release that is
%% upgraded, and one that is restarted in the same process of the system.
-module(teleport_upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_same_library_keeps_the_engine/1, another_library_restarts_the_engine/1, from_another_file_after_a_purge/1,
         modules_loaded_anew_kill_no_process/1]).
-export([a_release_upgrade_loses_nothing/1, every_module_is_in_the_appup/1, a_carrier_is_upgraded_twice/1]).
-export([a_release_that_restarts_comes_back/1, a_carrier_that_restarts_comes_back/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [the_same_library_keeps_the_engine, another_library_restarts_the_engine, from_another_file_after_a_purge,
     modules_loaded_anew_kill_no_process, a_release_upgrade_loses_nothing, every_module_is_in_the_appup,
     a_carrier_is_upgraded_twice, a_release_that_restarts_comes_back, a_carrier_that_restarts_comes_back].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    Config.

end_per_suite(_Config) ->
    ok.

%% Two nodes that have the application each in a directory of its own, and traffic both ways.
init_per_testcase(Case, Config) when Case =:= every_module_is_in_the_appup; Case =:= a_release_that_restarts_comes_back;
                                     Case =:= a_carrier_that_restarts_comes_back ->
    [{nodes, []} | Config];
init_per_testcase(a_carrier_is_upgraded_twice = Case, Config) ->
    Directory = filename:join(?config(priv_dir, Config), Case),
    [{nodes, [start_carrier(filename:join([Directory, Name, "teleport"])) || Name <- ["a", "b"]]} | Config];
init_per_testcase(Case, Config) ->
    Directory = filename:join(?config(priv_dir, Config), Case),
    A = case Case of
        a_release_upgrade_loses_nothing -> start_release(filename:join([Directory, "a", "lib"]));
        _ -> start(filename:join([Directory, "a", "teleport"]))
    end,
    traffic([A, start(filename:join([Directory, "b", "teleport"]))], Config).

traffic([#{node := A}, #{node := B}] = Nodes, Config) ->
    ServerA = teleport_test_server:start_at(A, server),
    ServerB = teleport_test_server:start_at(B, server),
    Traffic = [teleport_test_traffic:start(Node, Server) || {Node, Server} <- [{A, ServerB}, {B, ServerA}], _ <- lists:seq(1, 3)],
    goes_on(Traffic),
    [{nodes, Nodes}, {traffic, Traffic} | Config].

end_per_testcase(_Case, Config) ->
    [teleport_test:stop_peer(Peer) || #{peer := Peer} <- ?config(nodes, Config)].

start(Root) ->
    copy(Root),
    Of = start_peer(Root, ["-pa", filename:join(Root, "ebin"), filename:dirname(code:which(?MODULE))]),
    ok = erpc:call(maps:get(node, Of), teleport, start, []),
    Of.

%% At a port that nobody else may have meanwhile: it has to be free again in time.
start_peer(Root, Args) ->
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), connection => standard_io, args => Args ++
        ["-kernel", "prevent_overlapping_partitions", "false",
         "-teleport", "listen", lists:flatten(io_lib:format("{{127,0,0,1},~b}", [teleport_test:free_port()]))]}),
    true = net_kernel:connect_node(Node),
    #{node => Node, peer => Peer, root => Root}.

copy(Root) ->
    From = filename:dirname(filename:dirname(code:which(teleport))),
    [begin
        To = filename:join([Root, Directory, filename:basename(File)]),
        ok = filelib:ensure_dir(To),
        {ok, _} = file:copy(File, To)
    end || Directory <- ["ebin", "priv"], File <- filelib:wildcard(filename:join([From, Directory, "*"]))].

%% Users do not notice.
the_same_library_keeps_the_engine(Config) ->
    Nodes = [Node || #{node := Node} <- ?config(nodes, Config)],
    Managers = [manager(Node) || Node <- Nodes],
    Libraries = [library(Node) || Node <- Nodes],
    [begin
        {module, teleport_nif} = erpc:call(Node, c, l, [teleport_nif]),
        {module, teleport_nif} = erpc:call(Node, c, l, [teleport_nif]),
        purge(Node),
        collect(Node),
        goes_on(?config(traffic, Config))
    end || _ <- [1, 2, 3], Node <- Nodes],
    Reports = [teleport_test_traffic:stop(Traffic) || Traffic <- ?config(traffic, Config)],
    [?assertMatch(#{exits := [], refused := [], downs := [], left := [], acks := #{delivered := Sent}, sent := Sent}, Report)
     || Report <- Reports],
    ?assertEqual(Managers, [manager(Node) || Node <- Nodes]),
    ?assertEqual(Libraries, [library(Node) || Node <- Nodes]).

%% All callers are told, and all goes on. Three times in a row, sooner than the engine has begun anew.
another_library_restarts_the_engine(Config) ->
    upgrade(Config, fun(#{node := Node, root := Root}) ->
        [begin
            replace(Root),
            {module, teleport_nif} = erpc:call(Node, c, l, [teleport_nif])
        end || _ <- [1, 2, 3]]
    end).

%% The library of before learns it from the one after it, though no version of the module has both.
from_another_file_after_a_purge(Config) ->
    upgrade(Config, fun(#{node := Node, root := Root}) ->
        replace(Root),
        purge(Node)
    end).

upgrade(Config, Upgrade) ->
    [begin
        {Manager, Library} = {manager(Node), library(Node)},
        Upgrade(Of),
        teleport_test:eventually(fun() -> is_other(Node, Manager) andalso library(Node) =/= Library end),
        goes_on(?config(traffic, Config)),
        collect(Node)
    end || #{node := Node} = Of <- ?config(nodes, Config)],
    everybody_was_told(Config).

everybody_was_told(Config) ->
    Nodes = [Node || #{node := Node} <- ?config(nodes, Config)],
    Reports = [teleport_test_traffic:stop(Traffic) || Traffic <- ?config(traffic, Config)],
    ct:log("~p", [Reports]),
    [begin
        #{exits := Exits, sent := Sent, refused := Refused, acks := Acks, downs := Downs, left := Left} = Report,
        ?assertEqual([], Exits -- [{nodedown, Node} || Node <- Nodes]),
        ?assertEqual([], [Reason || Reason <- Refused, not is_end(Reason)]),
        ?assertEqual(Sent, lists:sum(maps:values(Acks))),
        ?assertEqual([], maps:keys(Acks) -- [delivered, {unconfirmed, nodedown}]),
        ?assertEqual([noconnection], Downs),
        ?assertEqual([], Left)
    end || Report <- Reports],
    [?assertEqual(0, maps:get(waiting_for, erpc:call(Node, teleport, info, []))) || Node <- Nodes].

is_end(not_running) -> true;
is_end(nodedown) -> true;
is_end({not_running, _Node}) -> true;
is_end({connect, _Text}) -> true;
is_end(_Other) -> false.

%% All of the application's modules, three times, with what lingers in old code killed: no process of the application's does.
modules_loaded_anew_kill_no_process(Config) ->
    [#{node := A}, #{node := B}] = ?config(nodes, Config),
    {ok, Modules} = erpc:call(A, application, get_key, [teleport, modules]),
    Processes = fun() -> [erpc:call(Node, fun processes_of_application/0) || Node <- [A, B]] end,
    First = Processes(),
    goes_on(?config(traffic, Config)),
    %% Those that come and go with what they do are not meant.
    Before = lists:zipwith(fun(One, Next) -> One -- (One -- Next) end, First, Processes()),
    [begin
        ?assertEqual([], [Module || Module <- Modules, not erpc:call(Node, code, soft_purge, [Module])]),
        [{module, Module} = erpc:call(Node, code, load_file, [Module]) || Module <- Modules],
        goes_on(?config(traffic, Config))
    end || _ <- [1, 2, 3], Node <- [A, B]],
    ?assertEqual([[], []], lists:zipwith(fun(Were, Are) -> Were -- Are end, Before, Processes())),
    [?assertMatch(#{exits := [], refused := [], downs := [], left := []}, teleport_test_traffic:stop(Traffic))
     || Traffic <- ?config(traffic, Config)].

%% To the next version and back, three times, as `release_handler' does it, in a node that loads no module of itself.
a_release_upgrade_loses_nothing(Config) ->
    [#{node := Node, root := Lib, versions := [This, Next]} | _] = ?config(nodes, Config),
    [begin
        {Manager, Library} = {manager(Node), library(Node)},
        {ok, _, _} = erpc:call(Node, release_handler, install_release, [Version]),
        ok = erpc:call(Node, release_handler, make_permanent, [Version]),
        teleport_test:eventually(fun() -> is_other(Node, Manager) andalso library(Node) =/= Library end),
        goes_on(?config(traffic, Config)),
        {ok, Modules} = erpc:call(Node, application, get_key, [teleport, modules]),
        Ebin = filename:join(root_of(Version, Lib), "ebin"),
        [?assertEqual(filename:join(Ebin, atom_to_list(Module) ++ ".beam"), erpc:call(Node, code, which, [Module]))
         || Module <- Modules],
        ?assertEqual({ok, Version}, erpc:call(Node, application, get_key, [teleport, vsn]))
    end || Version <- [Next, This, Next, This]],
    everybody_was_told(Config).

%% Its connections end with the engine, and others come. Of a module that is loaded no process may be in the version before it.
a_carrier_is_upgraded_twice(Config) ->
    [#{peer := A, node := NodeA, root := Root}, #{peer := B}] = ?config(nodes, Config),
    ?assertEqual(pong, teleport_test:at(B, net_adm, ping, [NodeA])),
    [begin
        [begin
            teleport_test:eventually(fun() -> teleport_test:at(A, code, soft_purge, [Module]) end),
            {module, Module} = teleport_test:at(A, code, load_file, [Module])
        end || Module <- [teleport_dist, teleport_dist_channel, teleport_manager]],
        Library = teleport_test:at(A, teleport_nif, library, []),
        replace(Root),
        {module, teleport_nif} = teleport_test:at(A, c, l, [teleport_nif]),
        teleport_test:eventually(fun() -> teleport_test:at(A, teleport_nif, library, []) =/= Library end),
        _ = teleport_test:at(B, erlang, disconnect_node, [NodeA]),
        teleport_test:eventually(fun() -> peer:call(B, net_adm, ping, [NodeA], 20000) =:= pong end)
    end || _ <- [1, 2, 3]].

start_carrier(Root) ->
    copy(Root),
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), connection => standard_io,
                                    args => ["-proto_dist", "teleport", "-pa", filename:join(Root, "ebin"),
                                             filename:dirname(code:which(?MODULE))]}),
    #{node => Node, peer => Peer, root => Root}.

%% By `init:restart/0': all code is unloaded and booted again, and the library's threads and statics are those of before. The port
%% at which it listens has to be free in time.
a_release_that_restarts_comes_back(Config) ->
    Listen = lists:flatten(io_lib:format("{{127,0,0,1},~b}", [teleport_test:free_port()])),
    comes_back(Config, ?FUNCTION_NAME, ["-teleport", "listen", Listen], fun(_Node) -> ok end).

a_carrier_that_restarts_comes_back(Config) ->
    Flags = ["-proto_dist", "teleport"],
    Cookie = ["-setcookie", atom_to_list(erlang:get_cookie())],
    teleport_test_carrier:with([teleport_test_carrier:start(Flags ++ Cookie)], fun([Other]) ->
        comes_back(Config, ?FUNCTION_NAME, Flags, fun(Node) ->
            teleport_test:eventually(fun() -> teleport_test_carrier:at(Other, net_adm, ping, [Node]) =:= pong end),
            ?assert(teleport_test_carrier:is_carried(Other, {none, Node})),
            Named = teleport_test_carrier:name(Other),
            ?assertEqual(Named, erpc:call(Node, erpc, call, [Named, erlang, node, []]))
        end)
    end).

comes_back(Config, Case, Flags, Check) ->
    Directory = filename:join(?config(priv_dir, Config), Case),
    {ok, This} = vsn(),
    Rel = make_release(filename:join(Directory, "releases"), filename:join(Directory, "lib"), This, This),
    ok = teleport:start(),
    Here = teleport_test_server:start_at(node(), undefined),
    {Port, Node} = boot(["-mode", "embedded", "-boot", Rel | Flags]),
    Program = erpc:call(Node, os, getpid, []),
    Works = fun() ->
        load_tests(Node),
        Server = teleport_test_server:start_at(Node, server),
        ?assertEqual({ok, there}, teleport:gs_call(Server, {echo, there}, 20000)),
        ?assertEqual({ok, back}, erpc:call(Node, teleport, gs_call, [Here, {echo, back}, 20000])),
        Check(Node),
        Server
    end,
    [begin
        Server = Works(),
        Monitor = teleport:monitor(Server),
        Creation = erpc:call(Node, erlang, system_info, [creation]),
        ok = erpc:cast(Node, init, restart, []),
        receive {'DOWN', Monitor, process, Server, _Reason} -> ok after 30000 -> error(nothing_told) end,
        teleport_test:eventually(fun() -> is_back(Node, Creation) end)
    end || _ <- [1, 2]],
    _ = Works(),
    ?assertEqual(Program, erpc:call(Node, os, getpid, [])),
    exit(Here, kill),
    true = port_close(Port),
    ok = application:stop(teleport).

%% A node of its own, without `peer', whose connection ends with the boot that it is of. The node ends with the port.
boot(Args) ->
    Name = peer:random_name(),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Node = list_to_atom(Name ++ "@" ++ Host),
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    All = [Erl, "-noinput", "-sname", Name, "-setcookie", atom_to_list(erlang:get_cookie()),
           "-kernel", "prevent_overlapping_partitions", "false" | Args],
    Shell = "\"$@\" </dev/null & cat >/dev/null; kill -9 $!",
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Shell, "sh" | All]}, stderr_to_stdout, binary]),
    teleport_test:eventually(fun() -> is_back(Node, none) end),
    {Port, Node}.

%% Whether it runs in another life than that, with the application.
is_back(Node, Creation) ->
    try
        erpc:call(Node, erlang, system_info, [creation], 5000) =/= Creation andalso
            lists:keymember(teleport, 1, erpc:call(Node, application, which_applications, [], 5000))
    catch _:_ -> false
    end.

%% It has no path to them.
load_tests(Node) ->
    [begin
        {Module, Binary, File} = code:get_object_code(Module),
        {module, Module} = erpc:call(Node, code, load_binary, [Module, File, Binary])
    end || Module <- [teleport_test, teleport_test_server, teleport_test_traffic]],
    ok.

%% The list is kept by hand.
every_module_is_in_the_appup(_Config) ->
    Root = filename:dirname(filename:dirname(code:which(teleport))),
    {ok, [{application, teleport, Keys}]} = file:consult(filename:join([Root, "ebin", "teleport.app"])),
    {ok, [{Version, Up, Down}]} = file:consult(filename:join([Root, "ebin", "teleport.appup"])),
    ?assertEqual(proplists:get_value(vsn, Keys), Version),
    Modules = lists:sort(proplists:get_value(modules, Keys)),
    [?assertEqual(Modules, lists:sort([element(2, Instruction) || Instruction <- Instructions]))
     || {_From, Instructions} <- Up ++ Down].

%% A node of a release with this version of the application, which knows of a release with the next one.
start_release(Lib) ->
    {ok, This} = vsn(),
    Versions = [This, This ++ ".1"],
    Releases = filename:join(filename:dirname(Lib), "releases"),
    Rels = [make_release(Releases, Lib, Version, This) || Version <- Versions],
    [relup(Rel, Other, Lib) || [Rel, Other] <- [Rels, lists:reverse(Rels)]],
    [Rel, Next] = Rels,
    ok = release_handler:create_RELEASES(Releases, Rel ++ ".rel", [{teleport, This, Lib}]),
    Of = start_peer(Lib, ["-mode", "embedded", "-boot", Rel, "-sasl", "releases_dir", lists:flatten(io_lib:format("~p", [Releases]))]),
    Node = maps:get(node, Of),
    {ok, _} = erpc:call(Node, release_handler, set_unpacked, [Next ++ ".rel", [{teleport, lists:last(Versions), Lib}]]),
    ok = load_tests(Node),
    Of#{versions => Versions}.

vsn() ->
    _ = application:load(teleport),
    application:get_key(teleport, vsn).

root_of(Version, Lib) ->
    filename:join(Lib, "teleport-" ++ Version).

%% Returns the name of its files, without their extensions.
make_release(Releases, Lib, Version, This) ->
    Root = root_of(Version, Lib),
    copy(Root),
    [begin
        File = filename:join([Root, "ebin", Name]),
        {ok, Text} = file:read_file(File),
        ok = file:write_file(File, string:replace(Text, "\"" ++ This ++ "\"", "\"" ++ Version ++ "\""))
    end || Name <- ["teleport.app", "teleport.appup"]],
    Rel = filename:join([Releases, Version, "start"]),
    ok = filelib:ensure_dir(Rel),
    Applications = [{Name, begin _ = application:load(Name), {ok, Vsn} = application:get_key(Name, vsn), Vsn end}
                    || Name <- [kernel, stdlib, sasl]],
    ok = file:write_file(Rel ++ ".rel", io_lib:format("~p.~n", [{release, {"upgraded", Version}, {erts, erlang:system_info(version)},
                                                                 Applications ++ [{teleport, Version}]}])),
    {ok, _, _} = systools:make_script(Rel, [{path, [filename:join(Root, "ebin")]}, local, silent]),
    ok = file:write_file(filename:join([Releases, Version, "sys.config"]), "[].\n"),
    Rel.

relup(Rel, Other, Lib) ->
    Path = filelib:wildcard(filename:join([Lib, "teleport-*", "ebin"])),
    {ok, _, _, _} = systools:make_relup(Rel, [Other], [Other], [{path, Path}, {outdir, filename:dirname(Rel)}, silent]).

%% Its children and theirs, with the relays, which are linked to those who start them.
processes_of_application() ->
    {links, Linked} = process_info(whereis(teleport_sup), links),
    lists:sort(below(Linked, [whereis(teleport_sup)])).

below([], Seen) -> Seen;
below([Process | Rest], Seen) ->
    case lists:member(Process, Seen) orelse application:get_application(Process) =/= {ok, teleport} of
        true ->
            below(Rest, Seen);
        false ->
            case process_info(Process, links) of
                {links, Linked} -> below(Linked ++ Rest, [Process | Seen]);
                undefined -> below(Rest, Seen) % it has just ended by itself
            end
    end.

%% Each of them gets answers.
goes_on(Traffic) ->
    [begin
        Before = teleport_test_traffic:count(One),
        teleport_test:eventually(fun() -> teleport_test_traffic:count(One) >= Before + 5 end)
    end || One <- Traffic].

%% No version of the module is left.
purge(Node) ->
    _ = erpc:call(Node, code, purge, [teleport_nif]),
    true = erpc:call(Node, code, delete, [teleport_nif]),
    _ = erpc:call(Node, code, purge, [teleport_nif]).

%% Another file in place of the library, as an installation makes it.
replace(Root) ->
    File = filename:join([Root, "priv", "teleport_nif.so"]),
    {ok, _} = file:copy(File, File ++ ".new"),
    ok = file:rename(File ++ ".new", File).

manager(Node) ->
    erpc:call(Node, erlang, whereis, [teleport_manager]).

is_other(Node, Manager) ->
    Now = manager(Node),
    is_pid(Now) andalso Now =/= Manager.

library(Node) ->
    erpc:call(Node, teleport_nif, library, []).

%% Drops what terms held of a library.
collect(Node) ->
    erpc:call(Node, fun() -> [garbage_collect(Process) || Process <- processes()] end).
