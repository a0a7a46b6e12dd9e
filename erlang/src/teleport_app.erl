%% @private
-module(teleport_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    teleport_sup:start_link().

%% While the relays are there: peers get the replies that still come, and are told that this node goes, not that its relays went.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    ok = teleport_manager:stop(),
    State.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
