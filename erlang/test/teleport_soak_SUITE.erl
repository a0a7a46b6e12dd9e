%% The soak, for a short time. `make soak-erlang' runs it for long.
-module(teleport_soak_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, some_rounds_have_no_violation/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [some_rounds_have_no_violation].

some_rounds_have_no_violation(_Config) ->
    ok = teleport_test:distribute(),
    #{violations := Violations, rounds := Rounds} = teleport_soak:run(#{rounds => 3, seed => 9, seconds => 4}),
    ?assertEqual([], Violations),
    [?assert(Sent > 0 andalso Calls > 0 andalso Monitors > 0) || #{sent := Sent, calls := Calls, monitors := Monitors} <- Rounds].
