%% @private
%% What the Erlang side reads of the application's configuration; see `teleport_manager' for what the keys mean. The engine
%% checks its own.
-module(teleport_config).

-export([check/0, get/1]).

-compile({no_auto_import, [get/1]}).

-type key() :: apply | fallback | log_level | peers | relays | stop_timeout.

-define(KEYS, [apply, fallback, log_level, peers, relays, stop_timeout]).

%% The most relays that the engine has places for.
-define(MOST_RELAYS, 1024).

%% The longest time to wait, less what the goodbyes take.
-define(MOST_MILLISECONDS, 16#fffff000).

%% Names a key that has no meaning as it is set.
-spec check() -> ok | {error, {bad_config, binary()}}.
check() ->
    case [Key || Key <- ?KEYS, not is_valid(Key, get(Key))] of
        [] -> ok;
        [Key | _] -> {error, {bad_config, atom_to_binary(Key)}}
    end.

-spec get(key()) -> term().
get(Key) ->
    application:get_env(teleport, Key, default(Key)).

-spec default(key()) -> term().
default(apply) -> true;
default(fallback) -> error;
default(log_level) -> warning;
default(peers) -> #{};
default(relays) -> erlang:system_info(schedulers);
default(stop_timeout) -> 5000.

-spec is_valid(key(), term()) -> boolean().
is_valid(apply, Value) -> is_boolean(Value);
is_valid(fallback, Value) -> lists:member(Value, [error, disterl]);
is_valid(log_level, Value) -> lists:member(Value, [none, error, warning, info, debug]);
is_valid(peers, Value) -> is_map(Value) andalso lists:all(fun is_peer/1, maps:to_list(Value));
is_valid(relays, Value) -> is_integer(Value) andalso Value > 0 andalso Value =< ?MOST_RELAYS;
is_valid(stop_timeout, Value) -> is_integer(Value) andalso Value >= 0 andalso Value =< ?MOST_MILLISECONDS.

-spec is_peer(term()) -> boolean().
is_peer({Node, {Ip, Port}}) ->
    is_atom(Node) andalso inet:is_ip_address(Ip) andalso is_integer(Port) andalso Port > 0 andalso Port < 65536;
is_peer(_Other) ->
    false.
