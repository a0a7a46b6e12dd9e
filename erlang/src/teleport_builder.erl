%% @private
%% Builds terms that only schedulers can build, on a dirty one: those with large maps. The engine waits for them.
-module(teleport_builder).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-spec start_link(non_neg_integer(), pos_integer()) -> gen_server:start_ret().
start_link(Place, Count) ->
    gen_server:start_link(?MODULE, {Place, Count}, []).

-spec init({non_neg_integer(), pos_integer()}) -> {ok, []}.
init({Place, Count}) ->
    ok = teleport_nif:builder(Place, Count),
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {noreply, []}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), []) -> {noreply, []}.
handle_info({teleport_build, Job}, State) ->
    ok = teleport_nif:build(Job),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.
