%% @private
%% How long to wait.
-module(teleport_timeout).

-export([deadline/1, left/1]).

-export_type([response_timeout/0]).

-type response_timeout() :: timeout() | {abs, integer()}.

-include("teleport_timeout.hrl").

%% For those who take longer times than one can wait, as `gen_server:multi_call/4' does, the longest that one can.
-spec deadline(timeout()) -> infinity | {abs, integer()}.
deadline(infinity) -> infinity;
deadline(Timeout) -> {abs, erlang:monotonic_time(millisecond) + min(Timeout, ?MOST_MILLISECONDS)}.

%% In milliseconds; `badarg' if it is no time.
-spec left(response_timeout()) -> timeout() | badarg.
left(Timeout) when ?IS_TIMEOUT(Timeout) ->
    Timeout;
left({abs, Time}) when is_integer(Time) ->
    case Time - erlang:monotonic_time(millisecond) of
        Left when Left > ?MOST_MILLISECONDS -> badarg;
        Left -> max(0, Left)
    end;
left(_Other) ->
    badarg.
