%% Decodes documents and encodes them again.
-module(program).
-export([main/0]).

main() ->
    {ok, Bytes} = file:read_file("documents"),
    Echoed = [echo(Document) || <<Len:32, Document:Len/binary>> <= Bytes],
    ok = file:write_file("echoed", [[<<(byte_size(D)):32>>, D] || D <- Echoed]).

echo(Document) ->
    try term_to_binary(binary_to_term(Document), [{minor_version, 2}])
    catch error:badarg -> error({refused, Document})
    end.
