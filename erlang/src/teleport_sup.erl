%% @private
%% Builders and relays are there before the manager starts the engine, so that what comes first finds them; and of no use
%% without it. So when one ends all begin anew. What applies functions for other nodes is not there if it is configured so.
-module(teleport_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, {failed_to_start_child, _Child, Reason}}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Log = #{id => teleport_log,
            start => {teleport_log, start_link, []}},
    Builders = #{id => teleport_builder_sup,
                 start => {teleport_builder_sup, start_link, []},
                 type => supervisor,
                 shutdown => infinity},
    Relays = #{id => teleport_relay_sup,
               start => {teleport_relay_sup, start_link, []},
               type => supervisor,
               shutdown => infinity},
    Apply = #{id => teleport_apply,
              start => {teleport_apply, start_link, []}},
    Optional = [Apply || application:get_env(teleport, apply, true)],
    Manager = #{id => teleport_manager,
                start => {teleport_manager, start_link, []},
                %% It waits for what is under way.
                shutdown => infinity},
    {ok, {#{strategy => one_for_all, intensity => 5, period => 60}, [Log, Builders, Relays] ++ Optional ++ [Manager]}}.
