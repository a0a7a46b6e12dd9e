%% Throughput against message size, drawn with characters.
-module(teleport_ring_plot).

-export([bars/1]).

-define(WIDTH, 48).

%% @doc A bar for each transport and size.
-spec bars([#{bytes := pos_integer(), disterl := float(), teleport := float()}]) -> iolist().
bars(Sizes) ->
    Most = lists:max([max(Disterl, Teleport) || #{disterl := Disterl, teleport := Teleport} <- Sizes]),
    ["\nMB/s by message size, one pair:\n",
     [[bar(size_text(Bytes), disterl, $-, Disterl, Most), bar("", teleport, $=, Teleport, Most)]
      || #{bytes := Bytes, disterl := Disterl, teleport := Teleport} <- Sizes]].

bar(Label, Transport, Character, Value, Most) ->
    Length = max(1, round(Value / Most * ?WIDTH)),
    io_lib:format("~8s ~-8s |~-" ++ integer_to_list(?WIDTH) ++ "s ~8.1f~n",
                  [Label, Transport, lists:duplicate(Length, Character), Value]).

size_text(Bytes) when Bytes >= 1 bsl 20 -> io_lib:format("~w MiB", [Bytes bsr 20]);
size_text(Bytes) -> io_lib:format("~w KiB", [Bytes bsr 10]).
