%% @private
%% Builders, what starts relays and what answers are there before the manager starts the engine, so that what comes first finds them;
%% and of no use without it. So when one ends all begin anew. What applies functions for other nodes is not there if it is configured so.
-module(teleport_sup).
-behaviour(supervisor).

-export([start_link/0, begin_anew/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, {failed_to_start_child, _Child, Reason}}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

%% Ends all, and starts them again: in the library that was loaded from another file. That is no failure, and counts for none.
-spec begin_anew() -> ok.
begin_anew() ->
    try end_and_restart()
    catch exit:{Reason, {gen_server, call, _}} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal ->
        ok % the application stops
    end.

-spec end_and_restart() -> ok.
end_and_restart() ->
    %% The last one to be started comes first.
    Children = [Id || {Id, _Child, _Type, _Modules} <- supervisor:which_children(?MODULE)],
    lists:foreach(fun(Id) -> ok = supervisor:terminate_child(?MODULE, Id) end, Children),
    case restart(lists:reverse(Children)) of
        ok -> ok;
        %% From another one meanwhile.
        {error, library_was_loaded_anew} -> end_and_restart();
        {error, Reason} -> gen_server:stop(?MODULE, Reason, infinity)
    end.

-spec restart([term()]) -> ok | {error, term()}.
restart([]) ->
    ok;
restart([Id | Others]) ->
    case supervisor:restart_child(?MODULE, Id) of
        {ok, _Child} -> restart(Others);
        %% By somebody else, or it is about to be.
        {error, Is} when Is =:= running; Is =:= restarting -> restart(Others);
        {error, Reason} -> {error, Reason}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Apply = #{id => teleport_apply,
              start => {teleport_apply, start_link, []}},
    Manager = #{id => teleport_manager,
                start => {teleport_manager, start_link, []},
                %% It waits for what is under way.
                shutdown => infinity},
    Children = [#{id => teleport_log, start => {teleport_log, start_link, []}},
                %% One of them for small terms.
                workers(teleport_builder_sup, teleport_builder, 1 + erlang:system_info(dirty_cpu_schedulers)),
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
