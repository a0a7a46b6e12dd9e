%% Terms of every kind and size, and binaries of every size, between two nodes: distributed Erlang and teleport in turn.
-module(teleport_ring_shapes).

-export([main/0, measure/1, table/1]).

-export_type([options/0, row/0]).

-type options() :: #{rounds => pos_integer(), milliseconds => pos_integer(), shapes => [teleport_ring_stream:shape()],
                     flags => [string()], before => string(), progress => fun((io:format(), [term()]) -> ok)}.

-type row() :: #{shape := teleport_ring_stream:shape(), megabytes_per_second := each(), cpu_seconds_per_gigabyte := each()}.

-type each() :: #{disterl | teleport | before => [float()]}.
%% Least, median and most of the rounds. Before: with another build of teleport.

-define(SIZES, [1 bsl 10, 64 bsl 10, 1 bsl 20]).
%% Of binaries: 64 B to 64 MiB.
-define(BINARIES, [64 bsl (2 * N) || N <- lists:seq(0, 10)]).

%% @doc Measures, prints a table, and ends this virtual machine. From the environment: TELEPORT_RING_ROUNDS, timed rounds;
%% TELEPORT_RING_MS, the milliseconds of each; TELEPORT_RING_FLAGS, flags for the nodes; TELEPORT_RING_KINDS, the kinds to
%% measure, `binary' among them; TELEPORT_RING_BEFORE, the ebin of another build to compare with; TELEPORT_RING_JSON, the
%% file for the results.
-spec main() -> no_return().
main() ->
    Kinds = string:lexemes(os:getenv("TELEPORT_RING_KINDS", ""), " "),
    Before = [{before, Ebin} || Ebin <- [os:getenv("TELEPORT_RING_BEFORE", "")], Ebin =/= ""],
    Given = maps:from_list(Before),
    Rows = measure(Given#{rounds => list_to_integer(os:getenv("TELEPORT_RING_ROUNDS", "5")),
                     milliseconds => list_to_integer(os:getenv("TELEPORT_RING_MS", "700")),
                     flags => string:lexemes(os:getenv("TELEPORT_RING_FLAGS", ""), " "),
                     shapes => [Shape || {Kind, _} = Shape <- shapes(), Kinds =:= [] orelse lists:member(atom_to_list(Kind), Kinds)],
                     progress => fun(Format, Values) -> io:format(standard_error, Format, Values) end}),
    io:put_chars(table(Rows)),
    case os:getenv("TELEPORT_RING_JSON") of
        false -> ok;
        File -> ok = file:write_file(File, json(Rows))
    end,
    halt(0).

-spec shapes() -> [teleport_ring_stream:shape()].
shapes() ->
    [{Kind, Size} || Kind <- teleport_ring_stream:kinds(), Size <- ?SIZES] ++ [{binary, Size} || Size <- ?BINARIES].

%% @doc Starts the nodes, measures every shape, ends the nodes.
-spec measure(options()) -> [row()].
measure(Given) ->
    Options = maps:merge(#{rounds => 5, milliseconds => 700, shapes => shapes(), flags => [],
                           progress => fun(_Format, _Values) -> ok end}, Given),
    Nodes = #{nodes => 2, workers => 1, size => 1024, tls => false, flags => maps:get(flags, Options)},
    Sides = [{disterl, disterl, []}, {teleport, teleport, []}] ++ [{before, teleport, ["-pa", Ebin]} || #{before := Ebin} <- [Options]],
    teleport_ring:with_rings([{Transport, Flags} || {_, Transport, Flags} <- Sides], Nodes, fun(Rings) ->
        [row(Shape, [Side || {Side, _, _} <- Sides], Rings, Options) || Shape <- maps:get(shapes, Options)]
    end).

%% The first round is for warming up.
row(Shape, Sides, Rings, #{rounds := Rounds, milliseconds := Milliseconds, progress := Progress}) ->
    Stream = fun(Ring) ->
        teleport_ring:stream(Shape, Ring, #{terms_milliseconds => Milliseconds, progress => fun(_Format, _Values) -> ok end})
    end,
    [_ | Timed] = [lists:zip(Sides, teleport_ring:in_turn(Round, Rings, Stream)) || Round <- lists:seq(0, Rounds)],
    Of = fun(N, Side) -> spread([element(N, proplists:get_value(Side, Round)) || Round <- Timed]) end,
    Each = fun(N) -> maps:from_list([{Side, Of(N, Side)} || Side <- Sides]) end,
    Row = #{shape => Shape, megabytes_per_second => Each(1), cpu_seconds_per_gigabyte => Each(2)},
    Progress("~ts", [line(Row)]),
    Row.

spread(Values) ->
    [lists:min(Values), teleport_ring:median(Values), lists:max(Values)].

%% @doc The figures side by side: MB/s, and CPU seconds per GB. Ratios are of teleport to distributed Erlang.
-spec table([row()]) -> iolist().
table(Rows) ->
    lists:map(fun line/1, Rows).

line(#{shape := {Kind, Bytes}, megabytes_per_second := Rates, cpu_seconds_per_gigabyte := Cpu}) ->
    Ratio = fun(Figures) -> io_lib:format("  ratio ~.2f", [ratio(middle(disterl, Figures), middle(teleport, Figures))]) end,
    Sides = [disterl, teleport] ++ [before || is_map_key(before, Rates)],
    [io_lib:format("~-23s MB/s", [[atom_to_list(Kind), " ", size_text(Bytes)]]),
     [io_lib:format(" ~s ~8.1f (~.1f - ~.1f)", [Side, Median, Least, Most])
      || Side <- Sides, [Least, Median, Most] <- [maps:get(Side, Rates)]],
     Ratio(Rates), "; CPU", [io_lib:format(" ~.2f", [middle(Side, Cpu)]) || Side <- Sides], Ratio(Cpu),
     [io_lib:format("; against before ~.2f", [ratio(middle(before, Rates), middle(teleport, Rates))]) || is_map_key(before, Rates)], $\n].

middle(Side, Figures) ->
    [_, Median, _] = maps:get(Side, Figures),
    Median.

ratio(A, _) when A == 0 -> 0.0;
ratio(A, B) -> B / A.

size_text(Bytes) when Bytes >= 1 bsl 20 -> io_lib:format("~w MiB", [Bytes bsr 20]);
size_text(Bytes) when Bytes >= 1 bsl 10 -> io_lib:format("~w KiB", [Bytes bsr 10]);
size_text(Bytes) -> io_lib:format("~w B", [Bytes]).

json(Rows) ->
    [$[, lists:join(",\n", [teleport_ring:value((maps:remove(shape, Row))#{kind => Kind, bytes => Bytes})
                            || #{shape := {Kind, Bytes}} = Row <- Rows]), "]\n"].
