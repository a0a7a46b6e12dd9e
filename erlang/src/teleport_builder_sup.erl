%% @private
-module(teleport_builder_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Count = erlang:system_info(dirty_cpu_schedulers),
    Builder = fun(Place) ->
        #{id => {teleport_builder, Place}, start => {teleport_builder, start_link, [Place, Count]}}
    end,
    {ok, {#{strategy => one_for_one, intensity => 10, period => 60}, [Builder(Place) || Place <- lists:seq(0, Count - 1)]}}.
