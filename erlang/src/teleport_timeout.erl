%% @private
%% Timeouts and deadlines.
-module(teleport_timeout).

-export([deadline/1, left/1]).

-export_type([response_timeout/0]).

-type response_timeout() :: timeout() | {abs, integer()}.

-include("teleport_timeout.hrl").

%% The deadline of a timeout. A timeout beyond the longest possible one, which `gen_server:multi_call/4'
%% takes, is shortened to it.
-spec deadline(timeout()) -> infinity | {abs, integer()}.
deadline(infinity) -> infinity;
deadline(Timeout) -> {abs, erlang:monotonic_time(millisecond) + min(Timeout, ?MOST_MILLISECONDS)}.

%% The milliseconds until a timeout or a deadline; `badarg' if it is neither.
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
