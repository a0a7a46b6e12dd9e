%% @private
%% The keys of the application's configuration: which values each takes, and its default. docs/erlang.md has
%% their meaning. A new key is a line in keys/0 and a line there.
-module(teleport_config).

-export([check/0, check_again/1, get/1, peer/1, engine/0, most/1, held/1, check_held/2]).

-compile({no_auto_import, [get/1]}).

-include("teleport_nif.hrl").

-export_type([error/0]).

-type form() ::
    boolean
    | {one_of, [atom()]}
    | {integer, Least :: non_neg_integer(), Most :: non_neg_integer(), Of :: string()}
    | listen
    | advertise
    | peers
    | tls
    | allow
    | name.
%% Where the key is read: on the Erlang side, with this default, or by the engine, which has its own default, or by both.
-type reader() :: {default, term()} | engine | {both, term()}.
-type key() :: {Key :: atom(), form(), reader(), Example :: term()}.
-type error() :: {bad_value, Key :: atom(), Text :: string()} | {unknown_key, Key :: term(), Text :: string()}.

-define(MIB, (1 bsl 20)).
-define(BYTES(Least), {integer, Least, 1 bsl 62, "bytes"}).
-define(COUNT(Least, Most, Of), {integer, Least, Most, Of}).

%% The longest time that a `receive' can wait, less the time to say goodbye to peers.
-define(MOST_MILLISECONDS, 16#fffff000).

%% The time for a step of a connection: up to a day.
-define(STEP, {integer, 1, 86400000, "milliseconds"}).

-spec keys() -> [key()].
keys() ->
    [{advertise, advertise, {default, undefined}, {"store.example.org", 4371}},
     {allow, allow, {default, undefined}, teleport_allow:example()},
     {allow_mode, {one_of, [enforce, log]}, {default, enforce}, log},
     {allow_plain, boolean, {default, false}, true},
     {apply, boolean, {default, true}, false},
     {fallback, {one_of, [error, disterl]}, {default, error}, disterl},
     {listen, listen, {default, undefined}, {{0, 0, 0, 0}, 4371}},
     {log_level, {one_of, [none, error, warning, info, debug]}, {default, warning}, info},
     {peers, peers, {default, #{}}, #{'bank@10.0.0.7' => {{10, 0, 0, 7}, 4370}}},
     {relays, ?COUNT(1, ?MOST_PLACES, "processes"), {default, erlang:system_info(schedulers)}, 8},
     {stop_timeout, ?COUNT(0, ?MOST_MILLISECONDS, "milliseconds"), {default, 5000}, 2000},
     {tls, tls, {default, undefined}, teleport_tls:example()},
     {answers_window, ?BYTES(1), engine, 128 * ?MIB},
     {buffer_pool, ?BYTES(0), engine, 128 * ?MIB},
     {bulk_connections, ?COUNT(1, 100, "connections"), engine, 4},
     {bulk_idle, ?STEP, engine, 60000},
     {congestion, name, engine, "cubic"},
     {express_connections, ?COUNT(1, 100, "connections"), engine, 1},
     {fragment_size, ?COUNT(16384, 16 * ?MIB, "bytes"), engine, ?MIB},
     {handshake_timeout, ?STEP, engine, 5000},
     {max_handshakes, ?COUNT(1, 1000000, "connections"), engine, 1024},
     {max_message, ?BYTES(1), engine, 1024 * ?MIB},
     {max_new_atoms, ?COUNT(0, 1 bsl 32, "atoms"), engine, 65536},
     {max_new_atoms_per_peer, ?COUNT(0, 1 bsl 32, "atoms"), engine, 16384},
     {max_pacing_rate, ?BYTES(1), engine, 100 * ?MIB},
     {max_sessions, ?COUNT(1, 1000000, "sessions"), engine, 2048},
     {max_term, ?BYTES(2 * ?MIB), engine, 256 * ?MIB},
     {max_watches, ?COUNT(2, 1 bsl 32, "calls and monitors"), engine, 65536},
     {most_bulk_connections, ?COUNT(1, 100, "connections"), engine, 8},
     {net_ticktime, ?COUNT(1, 30 * 86400, "seconds"), engine, 60},
     {node_window, ?BYTES(1), engine, 1024 * ?MIB},
     {peer_window, ?BYTES(1), engine, 32 * ?MIB},
     {receive_window, ?BYTES(1), engine, 96 * ?MIB},
     {setup_timeout, ?STEP, {both, 7000}, 5000},
     {stall_timeout, ?STEP, engine, 5000},
     {worker_threads, ?COUNT(1, 1024, "threads"), engine, 4}].

%% Checks that everything that is set is a known key with a valid value.
-spec check() -> ok | {error, error()}.
check() ->
    case errors() of
        [] -> ok;
        [First | _] -> {error, First}
    end.

%% Like check/0, of a node that runs, where values may be set at any time: logs each error that is not among those of before.
-spec check_again([error()]) -> [error()].
check_again(Before) ->
    Errors = errors(),
    Say = fun({_, _Key, Text}) ->
        teleport_log:say(error, "~ts; until it is corrected teleport does without it", [Text], #{})
    end,
    ok = lists:foreach(Say, Errors -- Before),
    Errors.

%% What is wrong with the keys that are set, in their order.
-spec errors() -> [error()].
errors() ->
    %% OTP adds this to the keys of every application.
    Set = application:get_all_env(teleport) -- [{included_applications, []}],
    lists:flatmap(fun({Key, Value}) -> errors(Key, Value) end, lists:keysort(1, Set)).

-spec errors(term(), term()) -> [error()].
errors(Key, Value) ->
    case lists:keyfind(Key, 1, keys()) of
        {Key, Form, _Reader, Example} ->
            [{bad_value, Key, refusal(Key, Value, Form, Example)} || not takes(Form, Value)];
        false ->
            [{unknown_key, Key, unknown(lists:flatten(io_lib:format("~0tp", [Key])))}]
    end.

%% The value of a key that the Erlang side reads. If a running node was given one that the key does not take, its default, unless that
%% would open what was closed: who reads these keys refuses what they do not take.
-spec get(atom()) -> term().
get(Key) ->
    {Key, Form, {_Reader, Default}, _Example} = lists:keyfind(Key, 1, keys()),
    case application:get_env(teleport, Key) of
        undefined -> Default;
        {ok, Value} when Form =:= allow; Form =:= tls; Form =:= listen -> Value;
        {ok, Value} when Form =:= peers, is_map(Value) -> Value; % see peer/1
        {ok, Value} ->
            case takes(Form, Value) of
                true -> Value;
                false -> Default
            end
    end.

%% Where a node is that is among the `peers'. What is not right of others does not matter.
-spec peer(node()) -> {ok, [teleport_address:place()]} | error.
peer(Node) ->
    case get(peers) of
        #{Node := Places} ->
            case is_peer({Node, Places}) of
                true when is_list(Places) -> {ok, Places};
                true -> {ok, [Places]};
                false -> error
            end;
        #{} ->
            error
    end.

%% The keys of the engine that are set, with their values; without those that they do not take, so that the engine has its defaults.
-spec engine() -> #{atom() => term()}.
engine() ->
    maps:from_list([{Key, given(Form, Value)} || {Key, Form, Reader, _Example} <- keys(),
                                                 Reader =:= engine orelse element(1, Reader) =:= both,
                                                 {ok, Value} <- [application:get_env(teleport, Key)],
                                                 takes(Form, Value)]).

%% What is set of the keys that hold from the start of an engine on, with what comes of `tls'.
-spec held(term()) -> #{atom() => term()}.
held(Tls) ->
    ReadAgain = [advertise, allow, allow_mode, peers, stop_timeout, included_applications],
    Held = maps:without(ReadAgain, maps:from_list(application:get_all_env(teleport))),
    Held#{tls => Tls}.

%% Whether what was set when an engine began is what is set now. Distributed Erlang that goes over teleport begins before Mix has read
%% `runtime.exs'. Without `tls' everything would go unencrypted, so that is an error.
-spec check_held(#{atom() => term()}, #{atom() => term()}) -> ok | {error, error()}.
check_held(Begun, Now) ->
    Keys = lists:usort(maps:keys(Begun) ++ maps:keys(Now)),
    Early = "before the node starts: in sys.config; with Mix in config.exs, or in runtime.exs with reboot_system_after_config",
    case [Key || Key <- Keys, maps:find(Key, Begun) =/= maps:find(Key, Now)] of
        [] ->
            ok;
        Late ->
            case lists:member(tls, Late) of
                true ->
                    Text = "tls is not what distributed Erlang, which goes over teleport, has begun with; set it " ++ Early,
                    {error, {bad_value, tls, Text}};
                false ->
                    teleport_log:say(warning, "set after distributed Erlang, which goes over teleport, had begun, and so without effect:"
                                              " ~0tp; set them ~ts", [Late, Early], #{})
            end
    end.

%% The largest number that a key takes.
-spec most(atom()) -> non_neg_integer().
most(Key) ->
    {Key, {integer, _Least, Most, _Of}, _Reader, _Example} = lists:keyfind(Key, 1, keys()),
    Most.

%% A value in the form that the engine takes.
-spec given(form(), term()) -> term().
given(name, Value) -> iolist_to_binary(Value);
given(_Form, Value) -> Value.

-spec takes(form(), term()) -> boolean().
takes(boolean, Value) -> is_boolean(Value);
takes({one_of, Atoms}, Value) -> lists:member(Value, Atoms);
takes({integer, Least, Most, _Of}, Value) -> is_integer(Value) andalso Least =< Value andalso Value =< Most;
takes(listen, Value) -> is_address(Value);
takes(advertise, Value) when is_integer(Value) -> 0 < Value andalso Value < 65536;
takes(advertise, Value) -> teleport_address:is_host(Value) orelse teleport_address:is_place(Value);
takes(peers, Value) -> is_map(Value) andalso lists:all(fun is_peer/1, maps:to_list(Value));
takes(tls, Value) -> teleport_tls:is_valid(Value);
takes(allow, Value) -> teleport_allow:is_valid(Value);
takes(name, Value) -> is_binary(Value) andalso Value =/= <<>> orelse Value =/= [] andalso io_lib:printable_latin1_list(Value).

-spec is_address(term()) -> boolean().
is_address({Ip, Port}) -> inet:is_ip_address(Ip) andalso is_integer(Port) andalso 0 =< Port andalso Port < 65536;
is_address(_Other) -> false.

-spec is_peer({term(), term()}) -> boolean().
is_peer({Node, Places}) when length(Places) > 0 ->
    is_node(Node) andalso lists:all(fun teleport_address:is_place/1, Places);
is_peer({Node, Place}) ->
    is_node(Node) andalso teleport_address:is_place(Place).

-spec is_node(term()) -> boolean().
is_node(Node) ->
    is_atom(Node) andalso case string:split(atom_to_list(Node), "@", all) of
        [[_ | _], [_ | _]] -> true;
        _ -> false
    end.

%% What a key takes, in words.
-spec form(form()) -> iolist().
form(boolean) -> "true or false";
form({one_of, Atoms}) -> ["one of ", lists:join(", ", [atom_to_list(Atom) || Atom <- Atoms])];
form({integer, Least, Most, Of}) -> io_lib:format("~b to ~b ~s", [Least, Most, Of]);
form(listen) -> "{Address, Port}: an IP address as a tuple of numbers, and a port of 0 (any free one) to 65535";
form(advertise) ->
    "Host, {Host, Port} or Port: a host name or an IP address as a tuple of numbers, but not that of all interfaces (0.0.0.0, ::), and a"
    " port of 1 to 65535";
form(peers) ->
    "a map of nodes, name@host, to {Host, Port}, or a list of those: a host name or an IP address as a tuple of numbers, but not that of"
    " all interfaces (0.0.0.0, ::), and a port of 1 to 65535";
form(tls) -> teleport_tls:form();
form(allow) -> teleport_allow:form();
form(name) -> "a string".

-spec refusal(atom(), term(), form(), term()) -> string().
refusal(Key, Value, Form, Example) ->
    Shown = case Form of
        tls -> teleport_tls:shown(Value);
        _ -> Value
    end,
    Text = io_lib:format("teleport's key ~ts cannot be ~0tP: it takes ~ts; for example {~ts, ~0tp}",
                         [Key, Shown, 30, form(Form), Key, Example]),
    unicode:characters_to_list(Text).

-spec unknown(string()) -> string().
unknown(Key) ->
    Names = [atom_to_list(Name) || {Name, _Form, _Reader, _Example} <- keys()],
    {Distance, Nearest} = lists:min([{distance(Key, Name), Name} || Name <- Names]),
    Advice = case Distance =< length(Nearest) div 3 of
        true -> ["did you mean ", Nearest, $?];
        false -> ["its keys are ", lists:join(", ", Names)]
    end,
    unicode:characters_to_list(["teleport has no key ", Key, "; ", Advice]).

%% Levenshtein's distance: how many characters have to be added, removed or replaced to get from one text to
%% the other.
-spec distance(string(), string()) -> non_neg_integer().
distance(From, To) ->
    lists:last(lists:foldl(fun(Char, Row) -> row(Char, To, Row) end, lists:seq(0, length(To)), From)).

-spec row(char(), string(), [non_neg_integer()]) -> [non_neg_integer()].
row(Char, To, [First | _] = Above) ->
    [First + 1 | cells(Char, To, Above, First + 1)].

-spec cells(char(), string(), [non_neg_integer()], non_neg_integer()) -> [non_neg_integer()].
cells(_Char, [], [_Corner], _Left) ->
    [];
cells(Char, [Other | To], [Corner, Up | Above], Left) ->
    Replaced = if Char =:= Other -> Corner; true -> Corner + 1 end,
    Cell = lists:min([Replaced, Up + 1, Left + 1]),
    [Cell | cells(Char, To, [Up | Above], Cell)].
