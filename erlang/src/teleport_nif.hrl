%% Numbers that the NIF uses too: crates/teleport_nif/src/nifs/shared.rs has the same names and values.

%% Flags of teleport_nif:send/4 and send_acknowledged/5, which are passed as their sum.
-define(UNORDERED, 1).
-define(NOSUSPEND, 2).
-define(ASYNC, 4).
-define(NOCONNECT, 8).

-define(ALL_FLAGS, (?UNORDERED bor ?NOSUSPEND bor ?ASYNC bor ?NOCONNECT)).

%% A flag that the NIF does not get.
-define(PRIORITY, (1 bsl 16)).

%% The largest number of processes that start relays, and of builders.
-define(MOST_PLACES, 1024).
