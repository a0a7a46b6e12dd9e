%% @private
%% Routes: whether messages to a node go over the pool or, if it has no teleport, over distributed Erlang
%% (`fallback').
%%
%% The manager decides once for a node: over the pool if teleport runs there. That holds until the node goes
%% down, or until teleport is started or stopped there, which is announced.
%%
%% When teleport is started at a node its route changes, and later messages must not overtake earlier ones. So
%% a process that has sent over distributed Erlang first spawns a process there and waits for its answer:
%% signals of one process to one node arrive in order, so all earlier messages are in their mailboxes then.
%% When teleport is stopped at a node, its sessions have ended before the route changes.
-module(teleport_route).

-export([of_node/2, known_first/2]).
-export([table/0, start/1, stop/0, new/0, known/1, ask/3, changed/3, answered/3, failed/2, forget/1]).
-export([asking/1]).

-export_type([route/0, patience/0, questions/0]).

-type route() :: pool | disterl.

%% How long a process waits for the route. `connected': not at all for a node that distributed Erlang is not
%% connected to.
-type patience() :: timeout() | {connected, timeout()}.

%% The nodes that are being asked for their route, each with the monitor of the process that asks, the callers
%% that wait, and whether the answer is outdated already.
-type questions() :: #{node() => {Monitor :: reference(), [gen_server:from()], IsOutdated :: boolean()}}.

%% How long a node may take to answer, in milliseconds.
-define(TIMEOUT, 5000).

%% The persistent term that says that there are routes: without it all messages go over pools. And the table
%% that has them. They cannot be in the term: each change of one has the heaps of all processes searched.
-define(TABLE, teleport_route).

%% In the dictionary of a process that has sent to the node over distributed Erlang.
-define(MARK(Node), {teleport_route, Node}).

%% The route for the calling process. `late': it is not known in time.
-spec of_node(node(), patience()) -> route() | late | noconnect.
of_node(Node, Patience) ->
    case is_on() andalso known(Node) of
        false -> pool;
        {ok, Route} -> take(Route, Node, Patience);
        error -> find_out(Node, Patience)
    end.

-spec find_out(node(), patience()) -> route() | late | noconnect.
find_out(Node, {connected, Timeout}) ->
    case lists:member(Node, nodes(connected)) orelse is_configured(Node) of
        true -> find_out(Node, Timeout);
        false -> noconnect
    end;
find_out(Node, Timeout) ->
    Deadline = teleport_timeout:deadline(Timeout),
    case teleport_manager:route(Node, Timeout) of
        late -> late;
        Route -> take(Route, Node, teleport_timeout:left(Deadline))
    end.

-spec take(route(), node(), patience()) -> route() | late.
take(disterl, Node, _Patience) ->
    _ = get(?MARK(Node)) =:= undefined andalso mark(Node),
    disterl;
take(pool, Node, Patience) ->
    case {get(?MARK(Node)), Patience} of
        {undefined, _} -> pool;
        {true, {connected, Timeout}} -> change_over(Node, Timeout);
        {true, Timeout} -> change_over(Node, Timeout)
    end.

%% What went to a node over a connection that is no more is overtaken by nothing: its mark would stay for ever.
-spec mark(node()) -> ok.
mark(Node) ->
    Connected = nodes(connected),
    _ = [erase(Mark) || {?MARK(Other) = Mark, true} <- get(), not lists:member(Other, Connected)],
    _ = put(?MARK(Node), true),
    ok.

%% Waits until earlier messages have arrived. Without time to wait, the message takes the old route.
-spec change_over(node(), timeout()) -> route() | late.
change_over(_Node, 0) ->
    disterl;
change_over(Node, Timeout) ->
    try erpc:call(Node, erlang, node, [], Timeout) of
        _ -> changed_over(Node)
    catch
        error:{erpc, timeout} -> late;
        %% The connection is gone, and with it the earlier messages.
        _:_ -> changed_over(Node)
    end.

-spec changed_over(node()) -> pool.
changed_over(Node) ->
    _ = erase(?MARK(Node)),
    pool.

%% Calls a function for each node: first for those whose route is known. The others are asked for their route
%% at the same time.
-spec known_first([node()], fun((node()) -> Result)) -> [{node(), Result}].
known_first(Nodes, Do) ->
    case is_on() of
        false ->
            [{Node, Do(Node)} || Node <- Nodes];
        true ->
            Routes = [{Node, Node =:= node() orelse known(Node)} || Node <- Nodes],
            lists:foreach(fun teleport_manager:find_route/1, [Node || {Node, error} <- Routes]),
            IsReady = fun(Node, Route) -> Route =/= error andalso get(?MARK(Node)) =:= undefined end,
            Done = [{Node, IsReady(Node, Route) andalso {done, Do(Node)}} || {Node, Route} <- Routes],
            [case Result of
                 {done, Known} -> {Node, Known};
                 false -> {Node, Do(Node)}
             end || {Node, Result} <- Done]
    end.

%% Makes the table, which the supervisor has: senders need it while the manager is restarted.
-spec table() -> ok.
table() ->
    _ = ets:whereis(?TABLE) =/= undefined orelse ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% The functions below are called by the manager.

%% Begins to use routes, if nodes without teleport are reached over distributed Erlang.
-spec start(error | disterl) -> ok.
start(disterl) ->
    ok = table(),
    true = ets:delete_all_objects(?TABLE),
    %% A map, as in versions that had the routes in it: one of those may be loaded next.
    persistent_term:put(?TABLE, #{});
start(error) ->
    stop().

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?TABLE),
    try ets:delete_all_objects(?TABLE) of
        true -> ok
    catch
        error:badarg -> ok % there is no table any more
    end.

-spec is_on() -> boolean().
is_on() ->
    persistent_term:get(?TABLE, off) =/= off.

-spec new() -> questions().
new() ->
    #{}.

-spec known(node()) -> {ok, route()} | error.
known(Node) ->
    try ets:lookup(?TABLE, Node) of
        [{Node, Route}] -> {ok, Route};
        [] -> error
    catch
        error:badarg -> error % the application has just ended
    end.

%% Callers want the route to a node. Unless it is known, the node is asked.
-spec ask(node(), [gen_server:from()], questions()) -> {known, route()} | {asked, questions()}.
ask(Node, Who, Questions) ->
    case {known(Node), Questions} of
        {{ok, Route}, _} ->
            {known, Route};
        {error, #{Node := {Monitor, Others, IsOutdated}}} ->
            {asked, Questions#{Node := {Monitor, Who ++ Others, IsOutdated}}};
        {error, #{}} ->
            {asked, Questions#{Node => {begin_asking(Node), Who, false}}}
    end.

%% Teleport was started or stopped at a node, or the node is down. A pending answer of the node may be
%% outdated.
-spec changed(teleport_up | teleport_down, node(), questions()) -> questions().
changed(What, Node, Questions) ->
    ok = update(What, Node),
    case Questions of
        #{Node := {Monitor, Waiting, _}} -> Questions#{Node := {Monitor, Waiting, true}};
        #{} -> Questions
    end.

%% A node has answered with its route, or has failed to (`unknown').
-spec answered(reference(), {route, node(), route() | unknown}, questions()) -> questions().
answered(Monitor, {route, Node, Route}, Questions) ->
    case Questions of
        #{Node := {Monitor, Waiting, true}} ->
            Questions#{Node := {begin_asking(Node), Waiting, false}};
        #{Node := {Monitor, Waiting, false}} ->
            Answer = case Route of
                unknown ->
                    %% Senders do not wait again for a node that does not answer, for some seconds.
                    _ = erlang:send_after(?TIMEOUT, self(), {forget_route, Node}),
                    pool;
                _ ->
                    Route
            end,
            ok = set(Node, Answer),
            lists:foreach(fun(From) -> gen_server:reply(From, Answer) end, Waiting),
            maps:remove(Node, Questions);
        #{} ->
            Questions
    end.

%% A process that asks a node, maybe, has ended without an answer.
-spec failed(reference(), questions()) -> questions().
failed(Monitor, Questions) ->
    case [Node || {Node, {Asking, _Waiting, _IsOutdated}} <- maps:to_list(Questions), Asking =:= Monitor] of
        [Node] -> answered(Monitor, {route, Node, unknown}, Questions);
        [] -> Questions
    end.

-spec begin_asking(node()) -> reference().
begin_asking(Node) ->
    try spawn_monitor(?MODULE, asking, [Node]) of
        {_Pid, Monitor} -> Monitor
    catch
        error:system_limit ->
            %% As if it had ended without an answer.
            Monitor = make_ref(),
            self() ! {'DOWN', Monitor, process, self(), {route, Node, unknown}},
            Monitor
    end.

%% Forgets the route to a node: the next sender asks for it again.
-spec forget(node()) -> ok.
forget(Node) ->
    _ = is_on() andalso table() =:= ok andalso ets:delete(?TABLE, Node),
    ok.

%% Asks a node in the calling process, which exits with the answer.
-spec asking(node()) -> no_return().
asking(Node) ->
    exit({route, Node, find(Node)}).

%% `unknown': the node cannot be reached. Its messages are sent to the pool, where they fail.
-spec find(node()) -> route() | unknown.
find(Node) ->
    case is_configured(Node) orelse teleport_dist:connection(Node) =:= carried of
        true ->
            pool;
        false ->
            try erpc:call(Node, teleport_manager, address, [], ?TIMEOUT) of
                {ok, _Address} -> pool;
                %% It may be about to stop: then what is on its way over the pool must not be overtaken.
                {error, not_running} ->
                    case teleport_nif:peer(atom_to_binary(Node)) of
                        none -> disterl;
                        _ -> unknown
                    end
            catch
                error:{exception, undef, _Stack} -> disterl;
                _:_ -> unknown
            end
    end.

-spec is_configured(node()) -> boolean().
is_configured(Node) ->
    teleport_address:configured(Node) =/= error.

%% A node where teleport was started is reached over the pool from now on; one where it was stopped is asked
%% again.
-spec update(teleport_up | teleport_down, node()) -> ok.
update(teleport_up, Node) ->
    case known(Node) of
        {ok, disterl} -> set(Node, pool);
        _ -> ok
    end;
update(teleport_down, Node) ->
    forget(Node).

-spec set(node(), route()) -> ok.
set(Node, Route) ->
    _ = is_on() andalso table() =:= ok andalso ets:insert(?TABLE, {Node, Route}),
    ok.
