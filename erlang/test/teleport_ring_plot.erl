%% Throughput against message size, drawn with characters.
-module(teleport_ring_plot).

-export([bars/2]).

-define(WIDTH, 48).
-define(CHARACTERS, "-=#").

%% @doc A bar for each size and transport.
-spec bars([teleport_ring_node:transport()], [#{bytes := pos_integer(), teleport_ring_node:transport() => float()}]) -> iolist().
bars(Transports, Sizes) ->
    Most = lists:max([maps:get(Transport, Size) || Size <- Sizes, Transport <- Transports]),
    Drawn = lists:zip(Transports, lists:sublist(?CHARACTERS, length(Transports))),
    ["\nMB/s by message size, one pair:\n", [bars_of(Drawn, Size, Most) || Size <- Sizes]].

bars_of(Drawn, #{bytes := Bytes} = Size, Most) ->
    Labels = [size_text(Bytes) | lists:duplicate(length(Drawn) - 1, "")],
    [bar(Label, Transport, Character, maps:get(Transport, Size), Most)
     || {Label, {Transport, Character}} <- lists:zip(Labels, Drawn)].

bar(Label, Transport, Character, Value, Most) ->
    Length = max(1, round(Value / Most * ?WIDTH)),
    io_lib:format("~8s ~-8s |~-" ++ integer_to_list(?WIDTH) ++ "s ~8.1f~n",
                  [Label, Transport, lists:duplicate(Length, Character), Value]).

size_text(Bytes) when Bytes >= 1 bsl 20 -> io_lib:format("~w MiB", [Bytes bsr 20]);
size_text(Bytes) -> io_lib:format("~w KiB", [Bytes bsr 10]).
