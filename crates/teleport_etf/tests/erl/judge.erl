%% Compares what came back with the corpus: the terms with =:=, and their text, read by Erlang's own parser, too.
-module(program).
-export([main/0]).

main() ->
    Corpus = read("corpus"),
    Encoded = read("encoded"),
    Texts = read("texts"),
    true = length(Corpus) =:= length(Encoded) andalso length(Corpus) =:= length(Texts),
    Compared = lists:zipwith3(fun compare/3, Corpus, Encoded, Texts),
    io:format("~b ~b", [length(Compared), length([parsed || parsed <- Compared])]).

%% Returns whether there was a text to be read. A term in local format is for the runtime that wrote it: byte for byte.
compare(<<131, 121, _/binary>> = Original, Encoded, _) ->
    same(Original, Encoded, local),
    no_text;
compare(Original, Encoded, Text) ->
    Term = binary_to_term(Original),
    same(Term, binary_to_term(Encoded), Encoded),
    case Text of
        <<>> -> no_text;
        _ -> same(Term, parse(Text), Text), parsed
    end.

same(Term, Term, _) -> ok;
same(Term, Other, Source) -> error({expected, Term, found, Other, in, Source}).

parse(Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Text, "."])),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.

read(Name) ->
    {ok, Bytes} = file:read_file(Name),
    [Item || <<Len:32, Item:Len/binary>> <= Bytes].
