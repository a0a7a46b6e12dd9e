%% The longest timeout of a `receive', in milliseconds.
-define(MOST_MILLISECONDS, 16#ffffffff).

-define(IS_TIMEOUT(Timeout),
        (Timeout =:= infinity orelse is_integer(Timeout) andalso Timeout >= 0 andalso Timeout =< ?MOST_MILLISECONDS)).
