%% @private
%% Starts the application if nothing prevents it: the release of OTP, the NIF library, the configuration, an
%% encrypted distribution whose options cannot be taken over.
-module(teleport_app).
-behaviour(application).
-behaviour(supervisor).

-export([start/2, prep_stop/1, stop/1, init/1, is_starting/0, start_error/0, failed/1, supported/1, library/0, load/0]).

%% The persistent term with the reason why the last start failed; `starting' while it is under way.
-define(START_ERROR, {teleport, start_error}).

%% Modules of OTP that a node without connections may not have loaded yet.
-define(OF_OTP, [dist_util, inet_tcp_dist, inet_tcp, inet6_tcp, erl_epmd, erpc, logger_formatter, string, calendar, io_lib,
                 io_lib_format, io_lib_pretty, erl_error]).

%% The oldest release of OTP that is supported.
-define(OTP, 25).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    ok = persistent_term:put(?START_ERROR, starting),
    Started = maybe_start([fun() -> supported(erlang:system_info(otp_release)) end, fun library/0, fun teleport_config:check/0,
                           fun teleport_tls:check/0, fun teleport_allow:check/0,
                           fun teleport_address:check/0]),
    ok = failed(case Started of {error, Reason} -> Reason; {ok, _} -> none end),
    Started.

-spec is_starting() -> boolean().
is_starting() ->
    persistent_term:get(?START_ERROR, none) =:= starting.

%% Why the last start failed: that of the application, or, while it runs, of the engine.
-spec start_error() -> none | term().
start_error() ->
    case persistent_term:get(?START_ERROR, none) of
        starting -> none;
        Reason -> Reason
    end.

-spec failed(none | term()) -> ok.
failed(Reason) ->
    persistent_term:put(?START_ERROR, Reason).

%% Not called if the supervisor has given up: then the reason stays known.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    ok = failed(none),
    State.

-spec stop(term()) -> ok.
stop(_State) ->
    case whereis(teleport_sup) of
        undefined ->
            %% A manager that was killed and not restarted has left the engine running, without processes to serve
            %% peers.
            ok = teleport_manager:abandoned(),
            teleport_dist:goes_on();
        %% It is distributed Erlang's.
        _Pid ->
            teleport_manager:application(stopped)
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), []}}.
init([]) ->
    {ok, {#{}, []}}.

%% Starts the supervisor if all conditions hold.
-spec maybe_start([fun(() -> ok | {error, term()})]) -> {ok, pid()} | {error, term()}.
maybe_start([]) ->
    ok = load(),
    case teleport_sup:start_link(application) of
        %% It is distributed Erlang's, which goes over it, and ends with that.
        {error, {already_started, _Pid}} ->
            case teleport_manager:application(started) of
                ok -> supervisor:start_link({local, ?MODULE}, ?MODULE, []);
                {error, Reason} -> {error, Reason}
            end;
        Started -> Started
    end;
maybe_start([Condition | Conditions]) ->
    case Condition() of
        ok -> maybe_start(Conditions);
        {error, Reason} -> {error, Reason}
    end.

%% Loads all modules, and those of OTP that connections of distributed Erlang and the log need. Later there may be no descriptors left
%% for their files: then `net_kernel' would end with the first of these connections, and the node with it.
-spec load() -> ok.
load() ->
    Own = case application:get_key(teleport, modules) of
        {ok, Modules} -> Modules;
        undefined -> [] % the path has the modules, and no application
    end,
    _ = code:ensure_modules_loaded(?OF_OTP ++ Own),
    ok.

%% Whether a release of OTP is supported.
-spec supported(string()) -> ok | {error, {unsupported_otp, string(), string()}}.
supported(Release) ->
    case string:to_integer(Release) of
        {Number, _Rest} when is_integer(Number), Number >= ?OTP ->
            ok;
        _ ->
            Text = "teleport needs Erlang/OTP " ++ integer_to_list(?OTP) ++ " or newer",
            {error, {unsupported_otp, Release, Text}}
    end.

%% Loads the NIF library, or returns why that failed.
-spec library() -> ok | {error, {nif_not_loaded, file:filename(), string()} | term()}.
library() ->
    Loaded = case code:ensure_loaded(teleport_nif) of
        %% While a node boots the module is loaded even if its library is not.
        {module, teleport_nif} -> is_library_loaded() orelse code:load_file(teleport_nif);
        Failed -> Failed
    end,
    case {is_library_loaded(), Loaded} of
        {true, _} -> complete(missing());
        {false, {error, Reason}} -> {error, persistent_term:get({teleport_nif, load_error}, Reason)};
        {false, _} -> {error, persistent_term:get({teleport_nif, load_error}, not_loaded)}
    end.

%% Of another version of the modules, it lacks some functions: `erlang:load_nif/2' refuses only those that are too many.
-spec complete([{atom(), arity()}]) -> ok | {error, {nif_not_loaded, file:filename(), string()}}.
complete([]) ->
    ok;
complete([{Name, Arity} | _]) ->
    Text = io_lib:format("it is of another version than the modules, and has no ~ts/~b: build it anew", [Name, Arity]),
    {error, {nif_not_loaded, teleport_nif:file(), lists:flatten(Text)}}.

-spec missing() -> [{atom(), arity()}].
missing() ->
    (teleport_nif:module_info(exports) -- teleport_nif:module_info(nifs)) -- teleport_nif:in_erlang().

-spec is_library_loaded() -> boolean().
is_library_loaded() ->
    try teleport_nif:library() of
        _Number -> true
    catch
        error:_ -> false
    end.
