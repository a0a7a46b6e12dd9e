%% @private
%% Supervises several workers of a kind. Each has a place, a number by which the engine finds it.
-module(teleport_places_sup).
-behaviour(supervisor).

-export([start_link/3, init/1]).

%% Starts `Count' workers, each by its `start_link(Place, Count)', from place 0 on.
-spec start_link(atom(), module(), pos_integer()) -> supervisor:startlink_ret().
start_link(Name, Worker, Count) ->
    supervisor:start_link({local, Name}, ?MODULE, {Worker, Count}).

-spec init({module(), pos_integer()}) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({Worker, Count}) ->
    Places = [#{id => {Worker, Place}, start => {Worker, start_link, [Place, Count]}} || Place <- lists:seq(0, Count - 1)],
    {ok, {#{strategy => one_for_one, intensity => 10, period => 60}, Places}}.
