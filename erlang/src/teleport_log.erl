%% @private
%% What the engine has to say goes to OTP's `logger', with the domain `[teleport]'. The metadata have the peer's name as `peer',
%% if it is about one, and all that is said with it as `teleport', a map of binaries.
-module(teleport_log).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Pid} -> {ok, Pid};
        ignore -> {error, ignore};
        {error, Reason} -> {error, Reason}
    end.

-spec init([]) -> {ok, []} | {stop, term()}.
init([]) ->
    process_flag(trap_exit, true),
    Level = application:get_env(teleport, log_level, warning),
    try teleport_nif:log_from(Level) of
        ok -> {ok, []};
        system -> {stop, {system, "no thread for the log"}}
    catch
        error:badarg -> {stop, {bad_config, <<"log_level">>}}
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
        logger:log(warning, "~b events of teleport were not logged: too many at once", [Dropped], #{domain => [teleport]}),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), []) -> ok.
terminate(_Reason, _State) ->
    teleport_nif:log_nothing().

-spec log(teleport_nif:log()) -> ok.
log({Level, Message, Fields}) ->
    Said = [[$\s, Key, $=, Value] || {Key, Value} <- Fields],
    Peer = [{peer, Value} || {<<"peer">>, Value} <- Fields],
    Metadata = maps:from_list([{domain, [teleport]}, {teleport, maps:from_list(Fields)} | Peer]),
    logger:log(Level, "~ts~ts", [Message, Said], Metadata).
