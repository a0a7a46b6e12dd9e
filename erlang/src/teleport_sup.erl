%% @private
%% Supervises the application. The other processes are started before the manager, which starts the engine
%% that needs them. Without the engine they are of no use, so all are restarted together. `teleport_apply' is
%% left out if the configuration says so.
-module(teleport_sup).
-behaviour(supervisor).

-export([start_link/1, begin_anew/0, init/1]).

%% For the application, or for distributed Erlang that goes over the engine.
-spec start_link(application | carrier) -> {ok, pid()} | {error, term()}.
start_link(For) ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, For) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, {failed_to_start_child, _Child, Reason}}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

%% Restarts all processes after the engine has ended by itself, as when the library was loaded from another file.
%% This does not count as a failure.
-spec begin_anew() -> ok.
begin_anew() ->
    try end_and_restart()
    catch exit:{Reason, {gen_server, call, _}} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal ->
        ok % the application is being stopped
    end.

-spec end_and_restart() -> ok.
end_and_restart() ->
    %% In reverse order of their start.
    Children = [Id || {Id, _Child, _Type, _Modules} <- supervisor:which_children(?MODULE)],
    lists:foreach(fun(Id) -> ok = supervisor:terminate_child(?MODULE, Id) end, Children),
    case restart(lists:reverse(Children)) of
        ok -> ok;
        %% The library was loaded again meanwhile.
        {error, library_was_loaded_anew} -> end_and_restart();
        {error, Reason} -> gen_server:stop(?MODULE, Reason, infinity)
    end.

-spec restart([term()]) -> ok | {error, term()}.
restart([]) ->
    ok;
restart([Id | Others]) ->
    case supervisor:restart_child(?MODULE, Id) of
        {ok, _Child} -> restart(Others);
        %% The supervisor has restarted it, or is about to.
        {error, Is} when Is =:= running; Is =:= restarting -> restart(Others);
        {error, Reason} -> {error, Reason}
    end.

-spec init(application | carrier) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(For) ->
    ok = teleport_route:table(),
    Apply = #{id => teleport_apply,
              start => {teleport_apply, start_link, []}},
    Manager = #{id => teleport_manager,
                start => {teleport_manager, start_link, [For]},
                %% It waits until pending messages are delivered, for `stop_timeout'.
                shutdown => infinity},
    Children = [#{id => teleport_log, start => {teleport_log, start_link, []}},
                %% One of the builders is for small terms.
                workers(teleport_builder_sup, teleport_builder,
                        min(1 + erlang:system_info(dirty_cpu_schedulers), teleport_config:most(relays))),
                workers(teleport_relay_sup, teleport_relays, teleport_config:get(relays)),
                #{id => teleport_alias, start => {teleport_alias, start_link, []}}]
        ++ [Apply || teleport_config:get(apply)]
        ++ [#{id => teleport_answers, start => {teleport_answers, start_link, []}}, Manager],
    {ok, {#{strategy => one_for_all, intensity => 5, period => 60}, Children}}.

-spec workers(atom(), module(), pos_integer()) -> supervisor:child_spec().
workers(Name, Worker, Count) ->
    #{id => Name,
      start => {teleport_places_sup, start_link, [Name, Worker, Count]},
      type => supervisor,
      shutdown => infinity}.
