%% @private
%% Finds out why there is a pool of connections to a node, or why there is none, by doing what a first message
%% does, step by step.
-module(teleport_check).

-export([node/1, nodes/1, exit_with/1, exit_with_all/1, said/1]).

-export_type([step/0, outcome/0, result/0]).

-compile({no_auto_import, [node/1, nodes/1]}).

-type step() :: running | node | peer | address | tcp | handshake | session | pool.
%% `warning': the step failed, but there is a session or another address.
-type outcome() :: ok | skipped | {warning, term()} | {error, term()}.
-type step_result() :: {step(), outcome(), Text :: binary()}.
-type result() :: {ok | error, [step_result()]}.

%% How long a node may take to answer over distributed Erlang, in milliseconds.
-define(TIMEOUT, 5000).

%% A name that is not registered on any node.
-define(NOBODY, 'teleport nobody').

%% All steps, in their order.
-define(STEPS, [running, node, peer, address, tcp, handshake, session, pool]).

%% Checks several nodes in a process of its own, whose mailbox is empty.
-spec nodes([node()]) -> [{node(), result()}].
nodes(Nodes) ->
    {_Process, Monitor} = spawn_monitor(?MODULE, exit_with_all, [Nodes]),
    receive
        {'DOWN', Monitor, process, _Pid, {checked, Checks}} -> Checks;
        {'DOWN', Monitor, process, _Pid, Reason} -> [{Node, ended(Reason)} || Node <- Nodes]
    end.

%% Checks them at the same time, since an unreachable one takes seconds. Exits with the results.
-spec exit_with_all([node()]) -> no_return().
exit_with_all(Nodes) ->
    Checks = [{Node, spawn_monitor(?MODULE, exit_with, [Node])} || Node <- Nodes],
    exit({checked, [{Node, result(Monitor)} || {Node, {_Process, Monitor}} <- Checks]}).

%% What the process has found out. If it has ended otherwise, that is the result: the other nodes' are wanted too.
-spec result(reference()) -> result().
result(Monitor) ->
    receive
        {'DOWN', Monitor, process, _Process, {checked, Check}} ->
            Check;
        {'DOWN', Monitor, process, _Process, Reason} ->
            ended(Reason)
    end.

-spec ended(term()) -> result().
ended(Reason) ->
    complete([{running, {error, Reason}, text("the check has ended: ~0tP", [Reason, 20])}]).

%% Checks a node in the calling process, which exits with the result.
-spec exit_with(node()) -> no_return().
exit_with(Node) ->
    exit({checked, look(Node)}).

%% Checks a node in a process of its own, whose mailbox is empty.
-spec node(node()) -> result().
node(Node) ->
    {_Process, Monitor} = spawn_monitor(?MODULE, exit_with, [Node]),
    result(Monitor).

-spec look(node()) -> result().
look(Node) ->
    complete(running(Node)).

%% The steps with those that were not done.
-spec complete([step_result()]) -> result().
complete(Steps) ->
    Done = [Step || {Step, _, _} <- Steps],
    Left = [{Step, skipped, <<"not checked, since an earlier step failed">>} || Step <- ?STEPS -- Done],
    All = Steps ++ Left,
    case [Reason || {_, {error, Reason}, _} <- All] of
        [] -> {ok, All};
        _ -> {error, All}
    end.

%% Each step calls the next one if that makes sense after its outcome.
-spec running(node()) -> [step_result()].
running(Node) ->
    case teleport_app:library() =:= ok andalso teleport_nif:address() of
        {ok, Address} when Node =:= node() ->
            [{running, ok, text("teleport runs here, and listens at ~ts", [address(Address)])},
             {node, {error, own_node}, text("~ts is this node itself: its messages need no connection", [Node])}];
        {ok, Address} ->
            [{running, ok, text("teleport runs here, and listens at ~ts", [address(Address)])} | known(Node)];
        _ ->
            [{running, {error, Reason}, Text} || {Reason, Text} <- [not_running()]]
    end.

-spec not_running() -> {not_running | rests, binary()}.
not_running() ->
    case {teleport_manager:rests(), teleport_app:start_error()} of
        {{true, Why}, _} -> {rests, text("~ts", [Why])};
        {false, none} -> {not_running, <<"teleport does not run here: call teleport:start()">>};
        {false, Reason} -> {not_running, text("teleport did not start here: ~ts", [said(Reason)])}
    end.

%% The reason of a failed start as a text. Most reasons are tuples whose last element is one.
-spec said(term()) -> iolist().
said(Reason) when is_tuple(Reason), tuple_size(Reason) > 1 ->
    Last = element(tuple_size(Reason), Reason),
    case Last =/= [] andalso io_lib:printable_unicode_list(Last) of
        true -> Last;
        false -> io_lib:format("~0tp", [Reason])
    end;
said(Reason) ->
    io_lib:format("~0tp", [Reason]).

known(Node) ->
    case teleport_address:configured(Node) of
        {ok, Places} ->
            At = lists:join(", ", [address(Place) || Place <- Places]),
            [{node, ok, text("~ts is configured in `peers', at ~ts", [Node, At])},
             {peer, skipped, <<"not asked, since a configured node need not be in the Erlang cluster">>}
             | way(begin_way(Node), [Host || {Host, _Port} <- Places])];
        error ->
            case connect(Node) of
                true ->
                    Carried = case teleport_dist:connection(Node) of
                        carried -> ", which goes over teleport here";
                        _ -> ""
                    end,
                    [{node, ok, text("~ts is connected by distributed Erlang~ts", [Node, Carried])} | peer(Node)];
                false ->
                    [{node, {error, noconnection},
                      text("distributed Erlang has no connection to ~ts: check the name, that the node runs, and that both have"
                           " the same cookie; or say in `peers' where it listens, if it is not an Erlang node~ts~ts",
                           [Node, settings(Node), host_of(Node)])}]
            end
    end.

%% Whether distributed Erlang connects to a node when something is sent to it: `net_kernel:connect_node/1' does so even where
%% `dist_auto_connect' says that nothing else shall.
-spec connect(node()) -> boolean().
connect(Node) ->
    lists:member(Node, erlang:nodes(connected)) orelse begin
        Monitor = erlang:monitor(process, {?NOBODY, Node}),
        receive
            {'DOWN', Monitor, process, _Nobody, _Reason} -> lists:member(Node, erlang:nodes(connected))
        end
    end.

%% The settings of distributed Erlang by which it does not connect to a node.
-spec settings(node()) -> iolist().
settings(Node) ->
    [case application:get_env(kernel, dist_auto_connect) of
         {ok, never} ->
             "; with {dist_auto_connect, never} it is connected by net_kernel:connect_node/1 only";
         {ok, once} ->
             "; with {dist_auto_connect, once} a connection that was lost comes back by net_kernel:connect_node/1 only";
         _ ->
             ""
     end,
     case teleport_answers:is_let_in(atom_to_binary(Node)) of
         true -> "";
         false -> "; it is not among the nodes of net_kernel:allow/1"
     end].

%% Says if the host in a node's name cannot be resolved. Only the default epmd module is sure to resolve it.
host_of(Node) ->
    case {string:split(atom_to_list(Node), "@"), net_kernel:epmd_module()} of
        {[_Name, [_ | _] = Host], erl_epmd} ->
            names(teleport_address:unresolved([Host]));
        {[_Name, [_ | _]], _} ->
            "";
        _ ->
            "; a node's name has the form name@host"
    end.

%% If there is a session it is checked even if the peer does not answer over distributed Erlang.
peer(Node) ->
    case is_map(teleport:info(Node)) of
        true ->
            Way = begin_way(Node), % in parallel with the question
            {Hosts, Step} = ask(Node),
            [Step | way(Way, Hosts)];
        false ->
            case ask(Node) of
                {Hosts, {peer, ok, _} = Step} -> [Step | way(begin_way(Node), Hosts)];
                {_Hosts, Step} -> [Step]
            end
    end.

%% Asks the peer whether teleport runs there. Returns the host names in its answer too.
ask(Node) ->
    try erpc:call(Node, teleport_manager, about, [], ?TIMEOUT) of
        {ok, #{version := Version, address := {_Ip, Port} = Address} = About} ->
            Advertise = maps:get(advertise, About, undefined),
            Only = case teleport_address:is_of_host_only(Address) of
                true -> ", for its own host only (`listen' there)";
                false -> ""
            end,
            {hosts(Advertise), {peer, ok, text("teleport ~ts runs there, and listens at ~ts~ts~ts",
                                               [Version, address(Address), Only, advertised(Advertise, Port)])}};
        {error, not_running} ->
            {[], {peer, {error, not_running},
                  text("teleport is installed there but does not run: call teleport:start() on ~ts~ts", [Node, meanwhile()])}}
    catch
        error:{exception, undef, _Stack} ->
            {[], {peer, {error, not_installed},
                  text("~ts has no teleport, or an older one: put it into the node's release or code path~ts", [Node, meanwhile()])}};
        error:{erpc, timeout} ->
            {[], {peer, {error, timeout},
                  text("~ts has not answered over distributed Erlang for ~b ms: its virtual machine is stopped or hangs, or the"
                       " connection is congested or cut", [Node, ?TIMEOUT])}};
        Class:Reason ->
            {[], {peer, {error, Reason}, text("~ts could not be asked whether teleport runs there: ~0tp:~0tp", [Node, Class, Reason])}}
    end.

hosts({Host, Port}) when is_integer(Port) -> [Host];
hosts(Host) when is_list(Host); is_binary(Host) -> [Host];
hosts(_Other) -> [].

advertised(undefined, _Port) -> "";
advertised(Other, _Port) when is_integer(Other) -> io_lib:format("; it advertises port ~b (`advertise')", [Other]);
advertised({Host, Other}, _Port) -> io_lib:format("; it advertises ~ts (`advertise')", [address({Host, Other})]);
advertised(Host, Port) -> advertised({Host, Port}, Port).

meanwhile() ->
    case teleport_config:get(fallback) of
        disterl -> ". Until then messages go over distributed Erlang, as configured (`fallback')";
        error -> ""
    end.

-type way() :: {node(), reference()} | {error, term()}.

-spec begin_way(node()) -> way().
begin_way(Node) ->
    Tag = make_ref(),
    case teleport_nif:check(Node, Tag) of
        waiting -> {Node, Tag};
        {error, Reason} -> {error, Reason}
    end.

-spec way(way(), [teleport_address:host()]) -> [step_result()].
way({error, Reason}, _Hosts) ->
    [stopped(Reason)];
way({Node, Tag}, Hosts) ->
    receive
        {teleport_sent, Tag, {ok, Report}} -> report(Node, Report, teleport_address:unresolved(Hosts));
        {teleport_sent, Tag, {error, Reason}} -> [stopped(Reason)]
    end.

stopped(Reason) ->
    {address, {error, Reason}, text("the engine was stopped during the check: ~0tp", [Reason])}.

-spec report(node(), teleport_nif:report(), [teleport_address:unresolved()]) -> [step_result()].
report(Node, {Addresses, WasUp, Session}, Unresolved) ->
    [addresses(Node, [Address || {Address, _} <- Addresses], WasUp, Unresolved)
     | tcp(Addresses, WasUp orelse element(1, Session) =:= ok) ++ session(Addresses, WasUp, Session)].

addresses(Node, [], WasUp, Unresolved) ->
    Reason = fun(Otherwise) -> hd([Reason || {_Host, Reason} <- Unresolved] ++ [Otherwise]) end,
    case WasUp of
        false ->
            {address, {error, Reason(not_running)}, text("it is not known where ~ts listens~ts", [Node, names(Unresolved)])};
        true ->
            {address, {warning, Reason(unknown)},
             text("it is not known now where ~ts listens, but there is a session~ts", [Node, names(Unresolved)])}
    end;
addresses(_Node, Addresses, _WasUp, Unresolved) ->
    Outcome = case Unresolved of
        [] -> ok;
        [{_Host, Reason} | _] -> {warning, Reason}
    end,
    At = lists:join(", ", [address(Address) || Address <- Addresses]),
    {address, Outcome, text("its addresses are ~ts~ts", [At, names(Unresolved)])}.

names(Unresolved) ->
    [["; ", teleport_address:unresolved_to_text(Name)] || Name <- Unresolved].

tcp([], false) ->
    [];
tcp([], true) ->
    [{tcp, skipped, <<"no address is known">>}];
tcp(Addresses, IsUp) ->
    Texts = lists:join("; ", [connected(Address) || Address <- Addresses]),
    Reasons = [Reason || {_, {error, Reason, _}} <- Addresses],
    Outcome = case length(Reasons) < length(Addresses) of
        true -> ok;
        false when IsUp -> {warning, hd(Reasons)};
        false -> {error, hd(Reasons)}
    end,
    [{tcp, Outcome, text("~ts", [Texts])}].

connected({Address, {ok, Microseconds}}) ->
    io_lib:format("~ts can be reached: ~b us", [address(Address), Microseconds]);
connected({Address, {error, _Reason, Text}}) ->
    io_lib:format("~ts cannot be reached: ~ts", [address(Address), Text]).

session(_Addresses, WasUp, {ok, #{creation := Creation} = Info, Connections}) ->
    Old = case WasUp of
        true -> <<"it was up before">>;
        false -> <<"it has just been set up">>
    end,
    {Outcome, Control} = control(Info, proplists:get_value(control, Connections)),
    Session = text("there is a session with its incarnation ~b, ~ts, ~ts; ~ts; ~ts",
                   [Creation, Old, encrypted(Info), Control, heard(Info)]),
    [{handshake, ok, <<"version, cookie, name and incarnation match">>},
     {session, Outcome, Session},
     pool([Connection || {Kind, _} = Connection <- Connections, Kind =/= control])];
session(Addresses, _WasUp, {error, Reason, Text}) ->
    case [ok || {_, {ok, _}} <- Addresses] of
        [] -> [];
        _ -> [{handshake, {error, Reason}, Text}]
    end.

control(_Info, {ok, Microseconds}) ->
    {ok, io_lib:format("its control connection has answered after ~b us", [Microseconds])};
control(#{control_connected := true}, _) ->
    {{error, no_answer}, "its control connection is open, but no answer comes back: something on the path drops packets, or the node"
                         " is stopped"};
control(#{control_connected := false}, _) ->
    {{error, no_control_connection}, "its control connection is closed, and is being opened again"}.

encrypted(#{encrypted := true}) -> "encrypted";
encrypted(#{encrypted := false}) -> "not encrypted".

heard(#{last_heard_ms := Milliseconds}) ->
    io_lib:format("the node was last heard ~b ms ago", [Milliseconds]).

pool([]) ->
    {pool, {error, no_connections}, <<"the pool has no connections: messages wait until one can be opened">>};
pool(Connections) ->
    Text = lists:join("; ", [Said || {Kind, Of} <- [{express, "small"}, {bulk, "large"}],
                                     Said <- answers(Of, [Answer || {K, Answer} <- Connections, K =:= Kind])]),
    Outcome = case lists:keymember(no_answer, 2, Connections) of
        true -> {error, no_answer};
        false -> ok
    end,
    {pool, Outcome, text("~ts", [Text])}.

answers(_Of, []) ->
    [];
answers(Of, Answers) ->
    Times = [Microseconds || {ok, Microseconds} <- Answers],
    Said = case length(Answers) - length(Times) of
        0 -> io_lib:format("answered within ~b us", [lists:max(Times)]);
        Silent -> io_lib:format("~b without an answer: messages over it wait", [Silent])
    end,
    [io_lib:format("~b for ~s messages, ~ts", [length(Answers), Of, Said])].

%% An address as people write it.
-spec address(teleport_address:place()) -> iolist().
address(Place) ->
    teleport_address:to_text(Place).

text(Format, Args) ->
    unicode:characters_to_binary(io_lib:format(Format, Args)).
