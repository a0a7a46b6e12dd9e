%% What terms take on a heap, in bytes, one a line.
-module(program).
-export([main/0]).

main() ->
    {ok, Bytes} = file:read_file("documents"),
    [io:format("~b~n", [8 * erts_debug:flat_size(binary_to_term(Item))]) || <<Len:32, Item:Len/binary>> <= Bytes].
