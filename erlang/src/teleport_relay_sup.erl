%% @private
-module(teleport_relay_sup).
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
    Count = application:get_env(teleport, relays, erlang:system_info(schedulers)),
    Relay = fun(Place) ->
        #{id => {teleport_relay, Place}, start => {teleport_relay, start_link, [Place, Count]}}
    end,
    {ok, {#{strategy => one_for_one, intensity => 10, period => 60}, [Relay(Place) || Place <- lists:seq(0, Count - 1)]}}.
