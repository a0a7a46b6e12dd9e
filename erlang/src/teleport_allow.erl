%% @private
%% What each peer may reach at this node: the keys `allow' and `allow_mode'. The engine judges; this has the form in which the lists
%% are written, and in which the engine takes them.
-module(teleport_allow).

-export([is_valid/1, form/0, example/0]).
-export([check/0, settings/1, everything/0, names/1]).

-export_type([settings/0]).

%% What the engine takes. In a pattern `*' stands for any characters.
-type item() :: {name | monitor, Pattern :: binary()}
              | {apply, Module :: binary(), Function :: binary(), any | 0..255}
              | pids
              | system.
-type settings() :: {enforce | log, [{Peers :: binary(), all | [item()]}]}.

%% Whether the key `allow' takes this value.
-spec is_valid(term()) -> boolean().
is_valid(Rules) when length(Rules) >= 0 -> lists:all(fun is_rule/1, Rules) andalso are_reached(Rules);
is_valid(_NoList) -> false.

%% Behind a rule for all peers no rule counts. It may have got there by a merge: the list is a keyword list to Elixir, of which
%% entries of an earlier file may come first.
-spec are_reached([{atom(), term()}]) -> boolean().
are_reached(Rules) ->
    case lists:dropwhile(fun({Peers, _Items}) -> not is_for_all(text(Peers)) end, Rules) of
        [_ForAll, _Behind | _] -> false;
        _ -> true
    end.

-spec is_for_all(binary()) -> boolean().
is_for_all(<<"*">>) -> true;
is_for_all(<<"*@*">>) -> true;
is_for_all(_Peers) -> false.

-spec is_rule(term()) -> boolean().
is_rule({Peers, all}) -> is_pattern(Peers);
is_rule({Peers, Items}) when length(Items) >= 0 -> is_pattern(Peers) andalso lists:all(fun is_item/1, Items);
is_rule(_Other) -> false.

-spec is_item(term()) -> boolean().
is_item(pids) -> true;
is_item(system) -> true;
is_item({name, Name}) -> is_pattern(Name);
is_item({monitor, Name}) -> is_pattern(Name);
is_item({apply, {Module, Function, Arity}}) ->
    is_pattern(Module) andalso is_pattern(Function)
        andalso (Arity =:= '_' orelse is_integer(Arity) andalso 0 =< Arity andalso Arity =< 255);
is_item({apply, {Module, Function}}) -> is_pattern(Module) andalso is_pattern(Function);
is_item({apply, Module}) -> is_pattern(Module);
is_item(_Other) -> false.

-spec is_pattern(term()) -> boolean().
is_pattern(Name) ->
    is_atom(Name) andalso Name =/= ''.

%% What it takes, in words.
-spec form() -> string().
form() ->
    "a list of {Peers, all} or {Peers, [Item, ...]}, of which the first counts whose Peers is the peer's name, so that '_' comes last;"
    " an item is {name, Name}, {monitor, Name}, {apply, Module}, {apply, {Module, Function}}, {apply, {Module, Function, Arity}},"
    " pids or system; all names are atoms, in which * stands for any characters, and '_' is any name or arity".

-spec example() -> term().
example() ->
    [{'worker@*', [{name, my_server}, {apply, {my_module, '_', '_'}}]}, {'_', all}].

%% Whether the application can start.
-spec check() -> ok | {error, {bad_value, allow, string()}}.
check() ->
    case settings(teleport_manager:carried() =/= none) of
        {ok, _Settings} -> ok;
        {error, Reason} -> {error, Reason}
    end.

%% What the engine is to be told; `none': peers may reach everything. Carries: distributed Erlang goes over the engine.
-spec settings(Carries :: boolean()) -> {ok, settings() | none} | {error, {bad_value, allow, string()}}.
settings(Carries) ->
    Rules = teleport_config:get(allow),
    %% It may have been changed since the application was started, or distributed Erlang, which goes over the engine.
    case Rules =:= undefined orelse is_valid(Rules) of
        false -> {error, unusable(["it takes ", form()])};
        true when Rules =:= undefined -> {ok, none};
        true ->
            case Carries andalso [Items || {_Peers, Items} <- Rules, Items =/= all] of
                false -> {ok, {mode(), [{text(Peers), items(Items)} || {Peers, Items} <- Rules]}};
                [] -> everybody_or_nothing(Rules);
                _ -> carried()
            end
    end.

%% Of rules that are all `all': whether some peer matches none of them, and so may reach nothing.
-spec everybody_or_nothing([{atom(), all}]) -> {ok, none} | {error, {bad_value, allow, string()}}.
everybody_or_nothing(Rules) ->
    case lists:any(fun({Peers, all}) -> is_for_all(text(Peers)) end, Rules) of
        true -> {ok, none};
        false -> carried()
    end.

-spec carried() -> {error, {bad_value, allow, string()}}.
carried() ->
    {error, unusable("distributed Erlang, which has no such lists, goes over teleport on this node (-proto_dist teleport), so by that"
                     " peers reach everything")}.

%% Whether a rule names a peer, be it by a pattern; one for all peers names none.
-spec names(binary()) -> boolean().
names(Peer) ->
    Rules = teleport_config:get(allow),
    %% Its value may have been set at any time.
    Rules =/= undefined andalso is_valid(Rules)
        andalso lists:any(fun({Peers, _Items}) -> not is_for_all(text(Peers)) andalso is_like(Peer, text(Peers)) end, Rules).

%% Whether a name is what a pattern stands for.
-spec is_like(binary(), binary()) -> boolean().
is_like(Name, Pattern) ->
    case binary:split(Pattern, <<"*">>, [global]) of
        [_Whole] ->
            Name =:= Pattern;
        [First | Others] ->
            Length = byte_size(First),
            case Name of
                <<First:Length/binary, Rest/binary>> -> has_in_order(Rest, Others);
                _ -> false
            end
    end.

%% Whether a text has these parts one after the other, the last one at its end.
-spec has_in_order(binary(), [binary()]) -> boolean().
has_in_order(Text, [Last]) ->
    Before = byte_size(Text) - byte_size(Last),
    Before >= 0 andalso binary:part(Text, Before, byte_size(Last)) =:= Last;
has_in_order(Text, [<<>> | Others]) ->
    has_in_order(Text, Others);
has_in_order(Text, [Part | Others]) ->
    case binary:split(Text, Part) of
        [_Before, Rest] -> has_in_order(Rest, Others);
        [_Text] -> false
    end.

%% A list by which peers may reach everything.
-spec everything() -> settings().
everything() ->
    {enforce, [{<<"*">>, all}]}.

-spec mode() -> enforce | log.
mode() ->
    case teleport_config:get(allow_mode) of
        log -> log;
        _ -> enforce
    end.

-spec items(all | [term()]) -> all | [item()].
items(all) -> all;
items(Items) -> lists:map(fun item/1, Items).

-spec item(term()) -> item().
item({apply, {Module, Function, '_'}}) -> {apply, text(Module), text(Function), any};
item({apply, {Module, Function, Arity}}) -> {apply, text(Module), text(Function), Arity};
item({apply, {Module, Function}}) -> {apply, text(Module), text(Function), any};
item({apply, Module}) -> {apply, text(Module), <<"*">>, any};
item({What, Name}) -> {What, text(Name)};
item(What) -> What.

-spec text(atom()) -> binary().
text('_') -> <<"*">>;
text(Name) -> atom_to_binary(Name).

-spec unusable(unicode:chardata()) -> {bad_value, allow, string()}.
unusable(Why) ->
    Text = io_lib:format("teleport's key allow cannot be used as it is set: ~ts; for example {allow, ~0tp}", [Why, example()]),
    {bad_value, allow, unicode:characters_to_list(Text)}.
