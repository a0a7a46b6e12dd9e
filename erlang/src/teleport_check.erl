%% @private
%% Says why there is a pool to a node, or why there is none: goes the way that a first message goes, step by step.
-module(teleport_check).

-export([node/1, nodes/1, exit_with/1]).

-export_type([step/0, outcome/0, result/0]).

-compile({no_auto_import, [node/1, nodes/1]}).

-type step() :: running | node | peer | address | tcp | handshake | session | pool.
-type outcome() :: ok | skipped | {error, term()}.
-type result() :: {ok | error, [{step(), outcome(), Text :: binary()}]}.

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
    exit({checked, node(Node)}).

-spec node(node()) -> result().
node(Node) ->
    Steps = running(Node),
    Done = [Step || {Step, _, _} <- Steps],
    Left = [{Step, skipped, <<"not looked at, since an earlier step failed">>} || Step <- ?STEPS -- Done],
    All = Steps ++ Left,
    case [Reason || {_, {error, Reason}, _} <- All] of
        [] -> {ok, All};
        _ -> {error, All}
    end.

%% Each step goes on to the next one if it is of use.
-spec running(node()) -> [{step(), outcome(), binary()}].
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
    case teleport_manager:rests() of
        {true, Why} -> {rests, text("teleport rests: ~ts", [Why])};
        false -> {not_running, <<"teleport does not run here: call teleport:start()">>}
    end.

known(Node) ->
    case teleport_address:configured(Node) of
        {ok, Places} ->
            At = lists:join(", ", [address(Place) || Place <- Places]),
            [{node, ok, text("~ts is configured in `peers', at ~ts", [Node, At])},
             {peer, skipped, <<"not asked, since a configured node need not be in the Erlang cluster">>}
             | way(Node)];
        error ->
            case lists:member(Node, erlang:nodes(connected)) orelse net_kernel:connect_node(Node) of
                true ->
                    [{node, ok, text("~ts is connected by distributed Erlang", [Node])} | peer(Node)];
                _ ->
                    [{node, {error, noconnection},
                      text("distributed Erlang has no connection to ~ts: check the name, that the node runs, and that both have"
                           " the same cookie; or say in `peers' where it listens, if it is not an Erlang node", [Node])}]
            end
    end.

peer(Node) ->
    try erpc:call(Node, teleport_manager, about, [], ?TIMEOUT) of
        {ok, #{version := Version, address := {_Ip, Port} = Address} = About} ->
            [{peer, ok, text("teleport ~ts runs there, and listens at ~ts~ts",
                             [Version, address(Address), advertised(maps:get(advertise, About, undefined), Port)])}
             | way(Node)];
        {error, not_running} ->
            [{peer, {error, not_running},
              text("teleport is installed there, but does not run: call teleport:start() on ~ts~ts", [Node, meanwhile()])}]
    catch
        error:{exception, undef, _Stack} ->
            [{peer, {error, not_installed},
              text("~ts has no teleport, or an older one: put it into the node's release or code path~ts", [Node, meanwhile()])}];
        Class:Reason ->
            [{peer, {error, Reason}, text("~ts does not say whether teleport runs there: ~0tp:~0tp", [Node, Class, Reason])}]
    end.

advertised(undefined, _Port) -> "";
advertised(Other, _Port) when is_integer(Other) -> io_lib:format("; it is to be reached at port ~b (`advertise')", [Other]);
advertised({Host, Other}, _Port) -> io_lib:format("; it is to be reached at ~ts (`advertise')", [address({Host, Other})]);
advertised(Host, Port) -> advertised({Host, Port}, Port).

meanwhile() ->
    case teleport_config:get(fallback) of
        disterl -> ". Until then messages go by distributed Erlang, as configured (`fallback')";
        error -> ""
    end.

way(Node) ->
    Tag = make_ref(),
    case teleport_nif:check(Node, Tag) of
        waiting ->
            receive
                {teleport_sent, Tag, {ok, Report}} -> report(Node, Report);
                {teleport_sent, Tag, {error, Reason}} -> [stopped(Reason)]
            end;
        {error, Reason} ->
            [stopped(Reason)]
    end.

stopped(Reason) ->
    {address, {error, Reason}, text("the engine has been stopped meanwhile: ~0tp", [Reason])}.

-spec report(node(), teleport_nif:report()) -> [{step(), outcome(), binary()}].
report(Node, {Addresses, WasUp, Session}) ->
    addresses(Node, Addresses, WasUp) ++ tcp(Addresses, WasUp) ++ session(Addresses, WasUp, Session).

addresses(Node, [], false) ->
    [{address, {error, not_running}, text("nobody knows where ~ts listens", [Node])}];
addresses(Node, [], true) ->
    [{address, skipped, text("nobody knows any more where ~ts listens, but there is a session", [Node])}];
addresses(_Node, Addresses, _WasUp) ->
    [{address, ok, text("it is looked for at ~ts", [lists:join(", ", [address(Address) || {Address, _} <- Addresses])])}].

tcp([], _WasUp) ->
    [];
tcp(Addresses, WasUp) ->
    Texts = lists:join("; ", [connected(Address) || Address <- Addresses]),
    Reasons = [Reason || {_, {error, Reason, _}} <- Addresses],
    Outcome = case length(Reasons) < length(Addresses) of
        true -> ok;
        false when WasUp -> skipped;
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
    {{error, no_answer}, "its control connection stands, but nothing comes back over it: something on the way drops what is sent"};
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
