%% @private
%% Prints the state of this node and of its peers for people, in lines of at most 80 columns. It needs no
%% shell.
-module(teleport_report).

-export([node/2, peer/3]).

-compile({no_auto_import, [node/2]}).

-define(COLUMNS, 80).

%% The column where the texts of steps begin.
-define(TEXT, 14).

-spec node(map() | {error, not_running}, [{node(), teleport_check:result()}]) -> ok.
node({error, not_running}, Checks) ->
    lists:foreach(fun({Node, Check}) -> peer(Node, Check, {error, no_session}) end, Checks);
node(#{name := Name, peers := Peers} = Info, Checks) ->
    say("~ts~n", [Name]),
    numbers(maps:without([name, peers], Info)),
    lists:foreach(fun({Node, Check}) -> peer(Node, Check, maps:get(Node, Peers, {error, no_session})) end, Checks).

-spec peer(node(), teleport_check:result(), map() | {error, term()}) -> ok.
peer(Node, {Outcome, Steps}, Info) ->
    say("~n~ts: ~ts~n", [Node, Outcome]),
    lists:foreach(fun step/1, Steps),
    is_map(Info) andalso numbers(Info),
    ok.

step({Step, Outcome, Text}) ->
    Said = case Outcome of
        {error, Reason} -> [io_lib:format("~0tp: ", [Reason]), Text];
        {warning, Reason} -> [io_lib:format("~0tp, though there is a way: ", [Reason]), Text];
        skipped -> ["skipped: ", Text];
        ok -> Text
    end,
    [First | Others] = wrapped(string:lexemes(unicode:characters_to_list(Said), " \n"), ?COLUMNS - ?TEXT),
    say("  ~ts ~ts~n", [string:pad(mark(Outcome, Step), ?TEXT - 3), First]),
    lists:foreach(fun(Line) -> say("~ts~ts~n", [lists:duplicate(?TEXT, $\s), Line]) end, Others).

mark({error, _Reason}, Step) -> "! " ++ atom_to_list(Step);
mark(_Outcome, Step) -> "  " ++ atom_to_list(Step).

%% Breaks words into lines of at most `Columns' characters; longer words stay whole.
-spec wrapped([string()], pos_integer()) -> [string()].
wrapped([], _Columns) -> [""];
wrapped([Word | Words], Columns) -> wrapped(Words, Word, Columns).

wrapped([], Line, _Columns) ->
    [Line];
wrapped([Word | Words], Line, Columns) ->
    case string:length(Line) + 1 + string:length(Word) =< Columns of
        true -> wrapped(Words, Line ++ " " ++ Word, Columns);
        false -> [Line | wrapped(Words, Word, Columns)]
    end.

%% A line for each item, in the order of their names.
numbers(Info) ->
    lists:foreach(fun({Key, Value}) -> say("    ~ts ~ts~n", [string:pad(Key, 24), shown(Value)]) end,
                  lists:append([number(Item) || Item <- lists:sort(maps:to_list(Info))])).

number({Key, #{} = Values}) ->
    [{lists:concat([Key, "_", Of]), Value} || {Of, Value} <- lists:sort(maps:to_list(Values))];
number({Key, Value}) ->
    [{atom_to_list(Key), Value}].

shown({Ip, Port}) when is_tuple(Ip) -> teleport_address:to_text({Ip, Port});
shown(Value) -> io_lib:format("~0tp", [Value]).

say(Format, Args) ->
    io:put_chars(io_lib:format(Format, Args)).
