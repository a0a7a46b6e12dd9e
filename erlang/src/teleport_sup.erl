%% @private
%% Builders work for the engine as long as there is one. The manager owns it; relays are of no use without it, and begin anew
%% when it does. What applies functions for other nodes is not there if it is configured so.
-module(teleport_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, {failed_to_start_child, teleport_manager, Reason}}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Builders = #{id => teleport_builder_sup,
                 start => {teleport_builder_sup, start_link, []},
                 type => supervisor,
                 shutdown => infinity},
    Manager = #{id => teleport_manager,
                start => {teleport_manager, start_link, []},
                shutdown => 10000},
    Relays = #{id => teleport_relay_sup,
               start => {teleport_relay_sup, start_link, []},
               type => supervisor,
               shutdown => infinity},
    Apply = #{id => teleport_apply,
              start => {teleport_apply, start_link, []}},
    Optional = [Apply || application:get_env(teleport, apply, true)],
    {ok, {#{strategy => rest_for_one, intensity => 5, period => 60}, [Builders, Manager, Relays | Optional]}}.
