%% @private
%% Passes the engine's log events to OTP's `logger'. The metadata have the fields of the event as `teleport',
%% a map of binaries, and the peer's name as `peer' if the event has one. They have no domain, since the
%% default handler drops domains other than OTP's own. For `log_level' below OTP's primary level (`notice')
%% this module sets a module level.
-module(teleport_log).
-behaviour(gen_server).

-export([start_link/0, say/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% What the Erlang side itself has to say, by the same key as the engine's events.
-spec say(error | warning, io:format(), [term()], logger:metadata()) -> ok.
say(Level, Format, Args, Metadata) ->
    case lists:member(teleport_config:get(log_level), silent(Level)) of
        true -> ok;
        false -> logger:log(Level, Format, Args, Metadata#{teleport => #{}})
    end.

%% With which values of `log_level' a level is not logged.
-spec silent(error | warning) -> [none | error].
silent(error) -> [none];
silent(warning) -> [none, error].

-spec init([]) -> {ok, []} | {stop, term()}.
init([]) ->
    process_flag(trap_exit, true),
    Level = teleport_config:get(log_level),
    case teleport_nif:log_from(Level) of
        ok -> ok = let_through(Level), {ok, []};
        system -> {stop, {system_limit, "the system did not give what a node needs (a thread for the log)"}}
    end.

-spec handle_call(term(), gen_server:from(), []) -> {reply, term(), []}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), []) -> {noreply, []}.
handle_info(teleport_logs, State) ->
    {Records, Dropped} = teleport_nif:logs(),
    lists:foreach(fun log/1, Records),
    Dropped > 0 andalso
        say(warning, "~b events of teleport were not logged: too many at once", [Dropped], #{}),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), []) -> ok.
terminate(_Reason, State) ->
    %% What the end of the engine has been said of, too.
    {noreply, _} = handle_info(teleport_logs, State),
    ok = logger:unset_module_level(?MODULE),
    teleport_nif:log_nothing().

%% OTP's primary level passes `error' and `warning', unless the user has raised it.
-spec let_through(none | error | warning | info | debug) -> ok.
let_through(Level) when Level =:= info; Level =:= debug ->
    logger:set_module_level(?MODULE, Level);
let_through(_Level) ->
    logger:unset_module_level(?MODULE).

-spec log(teleport_nif:log()) -> ok.
log({Level, Message, Fields}) ->
    case {lists:keytake(<<"advice">>, 1, Fields), lists:keyfind(<<"peer">>, 1, Fields)} of
        {{value, _OfRust, Others}, {<<"peer">>, Peer}} ->
            case is_expected(Peer) of
                true -> log(Level, Message, Others, ["; teleport:check('", Peer, "') says at which step it fails"]);
                %% OTP does not warn of nodes that cannot be reached either. Of sessions that were lost it does.
                false when Level =:= warning, Message =:= <<"cannot connect">> -> log(info, Message, Others, "");
                false -> log(Level, Message, Others, "")
            end;
        _ ->
            log(Level, Message, Fields, "")
    end.

%% Whether the peer should be reachable: distributed Erlang is connected to it, or it is configured.
-spec is_expected(binary()) -> boolean().
is_expected(Peer) ->
    try binary_to_existing_atom(Peer) of
        Node -> lists:member(Node, nodes(connected)) orelse teleport_address:configured(Node) =/= error
    catch
        error:badarg -> false
    end.

-spec log(logger:level(), binary(), [{binary(), binary()}], iodata()) -> ok.
log(Level, Message, Fields, Advice) ->
    Said = [[$\s, Key, $=, Value] || {Key, Value} <- Fields],
    Peer = [{peer, Value} || {<<"peer">>, Value} <- Fields],
    %% The module level applies to events whose metadata name the module.
    Module = {mfa, {?MODULE, log, 4}},
    Metadata = maps:from_list([{teleport, maps:from_list(Fields)}, Module | Peer]),
    logger:log(Level, "~ts~ts~ts", [Message, Said, Advice], Metadata).
