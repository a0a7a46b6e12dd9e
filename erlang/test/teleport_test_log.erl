%% A handler of `logger' that tells a process.
-module(teleport_test_log).

-export([log/2]).

-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := Process}) ->
    Process ! {logged, Event}.
