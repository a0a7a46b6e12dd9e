%% @private
%% Says why there is a pool to a node, or why there is none: goes the way that a first message goes, step by step.
-module(teleport_check).

-export([node/1, nodes/1, exit_with/1]).

-export_type([step/0, outcome/0, result/0]).

-compile({no_auto_import, [node/1, nodes/1]}).

-type step() :: running | node | peer | address | tcp | handshake | session | pool.
%% `warning': it failed, and does not matter as long as there is a session.
-type outcome() :: ok | skipped | {warning, term()} | {error, term()}.
-type step_result() :: {step(), outcome(), Text :: binary()}.
-type result() :: {ok | error, [step_result()]}.

%% How long a node may take to answer over distributed Erlang, in milliseconds.
-define(TIMEOUT, 5000).

-define(STEPS, [running, node, peer, address, tcp, handshake, session, pool]).

%% Several at the same time: one that is not there takes its time.
-spec nodes([node()]) -> [{node(), result()}].
nodes(Nodes) ->
    Checks = [{Node, spawn_monitor(?MODULE, exit_with, [Node])} || Node <- Nodes],
    [{Node, receive {'DOWN', Monitor, process, Process, {checked, Check}} -> Check end}
     || {Node, {Process, Monitor}} <- Checks].

%% A process that ends with the answer.
-spec exit_with(node()) -> no_return().
exit_with(Node) ->
    exit({checked, look(Node)}).

%% In a process of its own, whose mailbox is empty.
-spec node(node()) -> result().
node(Node) ->
    {_Process, Monitor} = spawn_monitor(?MODULE, exit_with, [Node]),
    receive
        {'DOWN', Monitor, process, _, {checked, Check}} -> Check;
        {'DOWN', Monitor, process, _, Reason} -> exit(Reason)
    end.

-spec look(node()) -> result().
look(Node) ->
    Steps = running(Node),
    Done = [Step || {Step, _, _} <- Steps],
    Left = [{Step, skipped, <<"not looked at, since an earlier step failed">>} || Step <- ?STEPS -- Done],
    All = Steps ++ Left,
    case [Reason || {_, {error, Reason}, _} <- All] of
        [] -> {ok, All};
        _ -> {error, All}
    end.

%% Each step goes on to the next one if it is of use.
-spec running(node()) -> [step_result()].
running(Node) ->
    case teleport_app:library() =:= ok andalso teleport_nif:info() of
        #{address := Address} when Node =:= node() ->
            [{running, ok, text("teleport runs here, and listens at ~ts", [address(Address)])},
             {node, {error, own_node}, text("~ts is this node itself: what is sent to it goes no way at all", [Node])}];
        #{address := Address} ->
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

%% What a failed start has as its reason ends with a text, as a rule.
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
            case lists:member(Node, erlang:nodes(connected)) orelse net_kernel:connect_node(Node) of
                true ->
                    [{node, ok, text("~ts is connected by distributed Erlang", [Node])} | peer(Node)];
                _ ->
                    [{node, {error, noconnection},
                      text("distributed Erlang has no connection to ~ts: check the name, that the node runs, and that both have"
                           " the same cookie; or say in `peers' where it listens, if it is not an Erlang node~ts",
                           [Node, host_of(Node)])}]
            end
    end.

%% With an epmd module of one's own the host in a name may mean something to that alone.
host_of(Node) ->
    case {string:split(atom_to_list(Node), "@"), net_kernel:epmd_module()} of
        {[_Name, [_ | _] = Host], erl_epmd} ->
            names(teleport_address:unresolved([Host]));
        {[_Name, [_ | _]], _} ->
            "";
        _ ->
            "; the name of a node is name@host"
    end.

%% Where there is a session that says more than the peer, who may not answer.
peer(Node) ->
    case lists:member(Node, teleport:nodes()) of
        true ->
            Way = begin_way(Node), % while it is asked
            {Hosts, Step} = ask(Node),
            [Step | way(Way, Hosts)];
        false ->
            case ask(Node) of
                {Hosts, {peer, ok, _} = Step} -> [Step | way(begin_way(Node), Hosts)];
                {_Hosts, Step} -> [Step]
            end
    end.

%% What the peer says, and the names of hosts in it.
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
                  text("teleport is installed there, but does not run: call teleport:start() on ~ts~ts", [Node, meanwhile()])}}
    catch
        error:{exception, undef, _Stack} ->
            {[], {peer, {error, not_installed},
                  text("~ts has no teleport, or an older one: put it into the node's release or code path~ts", [Node, meanwhile()])}};
        error:{erpc, timeout} ->
            {[], {peer, {error, timeout},
                  text("~ts has not answered over distributed Erlang for ~b ms: its virtual machine is stopped or hangs, or the way there"
                       " is full or cut", [Node, ?TIMEOUT])}};
        Class:Reason ->
            {[], {peer, {error, Reason}, text("~ts does not say whether teleport runs there: ~0tp:~0tp", [Node, Class, Reason])}}
    end.

hosts({Host, Port}) when is_integer(Port) -> [Host];
hosts(Host) when is_list(Host); is_binary(Host) -> [Host];
hosts(_Other) -> [].

advertised(undefined, _Port) -> "";
advertised(Other, _Port) when is_integer(Other) -> io_lib:format("; it is to be reached at port ~b (`advertise')", [Other]);
advertised({Host, Other}, _Port) -> io_lib:format("; it is to be reached at ~ts (`advertise')", [address({Host, Other})]);
advertised(Host, Port) -> advertised({Host, Port}, Port).

meanwhile() ->
    case teleport_config:get(fallback) of
        disterl -> ". Until then messages go by distributed Erlang, as configured (`fallback')";
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
    {address, {error, Reason}, text("the engine has been stopped meanwhile: ~0tp", [Reason])}.

-spec report(node(), teleport_nif:report(), [teleport_address:unresolved()]) -> [step_result()].
report(Node, {Addresses, WasUp, Session}, Unresolved) ->
    [addresses(Node, [Address || {Address, _} <- Addresses], WasUp, Unresolved)
     | tcp(Addresses, WasUp orelse element(1, Session) =:= ok) ++ session(Addresses, WasUp, Session)].

addresses(Node, [], WasUp, Unresolved) ->
    Reason = fun(Otherwise) -> hd([Reason || {_Host, Reason} <- Unresolved] ++ [Otherwise]) end,
    case WasUp of
        false ->
            {address, {error, Reason(not_running)}, text("nobody knows where ~ts listens~ts", [Node, names(Unresolved)])};
        true ->
            {address, {warning, Reason(unknown)},
             text("nobody knows now where ~ts listens, but there is a session~ts", [Node, names(Unresolved)])}
    end;
addresses(_Node, Addresses, _WasUp, Unresolved) ->
    Outcome = case Unresolved of
        [] -> ok;
        [{_Host, Reason} | _] -> {warning, Reason}
    end,
    At = lists:join(", ", [address(Address) || Address <- Addresses]),
    {address, Outcome, text("it is looked for at ~ts~ts", [At, names(Unresolved)])}.

names(Unresolved) ->
    [["; ", teleport_address:unresolved_to_text(Name)] || Name <- Unresolved].

tcp([], false) ->
    [];
tcp([], true) ->
    [{tcp, skipped, <<"no address is known that could be tried">>}];
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
        true -> <<"it was there before">>;
        false -> <<"it has just been set up">>
    end,
    {Outcome, Control} = control(Info, proplists:get_value(control, Connections)),
    Session = text("there is a session with its life ~b, ~ts; ~ts; ~ts", [Creation, Old, Control, heard(Info)]),
    [{handshake, ok, <<"version, cookie, name and incarnation fit">>},
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
    {{error, no_answer}, "its control connection stands, but nothing comes back over it: something on the way drops what is sent, or"
                         " the node is stopped"};
control(#{control_connected := false}, _) ->
    {{error, no_control_connection}, "its control connection is gone, and is being opened again"}.

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
        Silent -> io_lib:format("~b without an answer: what is sent over it waits", [Silent])
    end,
    [io_lib:format("~b for ~s messages, ~ts", [length(Answers), Of, Said])].

%% As people write it.
-spec address(teleport_address:place()) -> iolist().
address(Place) ->
    teleport_address:to_text(Place).

text(Format, Args) ->
    unicode:characters_to_binary(io_lib:format(Format, Args)).
