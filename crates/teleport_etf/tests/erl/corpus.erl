%% Writes a corpus of documents: terms of every type and edge size, with every option that this release has.
-module(program).
-export([main/0]).

main() ->
    rand:seed(exsss, {20, 15, 7}),
    Edges = edges(),
    Random = [term(4) || _ <- lists:seq(1, 2500)],
    All = options(),
    Count = length(All),
    Documents = [document(Term, Options) || Term <- Edges, Options <- All]
        ++ [document(Term, lists:nth(N rem Count + 1, All)) || {N, Term} <- lists:enumerate(Random)],
    ok = file:write_file("corpus", [[<<(byte_size(D)):32>>, D] || D <- Documents]).

document(Term, Options) -> term_to_binary(Term, Options).

%% Options that this release knows.
options() ->
    Candidates = [[], [{minor_version, 0}], [{minor_version, 1}], [{minor_version, 2}], [compressed],
                  [{compressed, 1}], [{compressed, 9}, {minor_version, 1}], [deterministic], [local]],
    [Options || Options <- Candidates, is_binary(catch term_to_binary(x, Options))].

edges() ->
    Self = self(),
    Ref = make_ref(),
    Alias = try alias() catch error:undef -> make_ref() end,
    Port = hd(erlang:ports()),
    Binary = rand:bytes(3_000),
    Fun = fun(X) -> {X, Self, Binary} end,
    Integers = [I + D || I <- [0, 1 bsl 7, 1 bsl 8, 1 bsl 15, 1 bsl 16, 1 bsl 27, 1 bsl 28, 1 bsl 31, 1 bsl 32, 1 bsl 59,
                               1 bsl 60, 1 bsl 63, 1 bsl 64, 1 bsl 127, 1 bsl 128, 1 bsl (8 * 254), 1 bsl (8 * 255),
                               1 bsl (8 * 256), 1 bsl 20_000], D <- [-1, 0, 1]],
    Sizes = [0, 1, 2, 254, 255, 256, 257, 300],
    [Integers, [-I || I <- Integers],
     [0.0, -0.0, 1.0, -1.5, 1.0e-300, 1.0e300, 5.0e-324, 1.7976931348623157e308, 0.1, 1.0e22, 123456789.125],
     [list_to_tuple(lists:seq(1, N)) || N <- Sizes],
     [lists:duplicate(N, x) || N <- Sizes],
     [lists:duplicate(N, $s) || N <- Sizes],
     [binary:copy(<<"b">>, N) || N <- Sizes],
     [maps:from_list([{I, {I}} || I <- lists:seq(1, N)]) || N <- [0, 1, 31, 32, 33, 300]],
     [<<Binary:N/binary, 5:Bits>> || N <- [0, 1, 255, 1024], Bits <- lists:seq(1, 8)],
     lists:duplicate(65535, $a), lists:duplicate(65536, $a), lists:duplicate(65535, 256), lists:seq(1, 65536),
     binary:copy(<<0>>, 70_000), Binary, {Binary, [Binary, <<1>>]}, binary:part(Binary, 10, 1000),
     [list_to_atom(lists:duplicate(N, C)) || N <- [1, 63, 64, 85, 127, 128, 254, 255], C <- [$a, 255, 256, 16#1F980]],
     ['', 'two words', 'it\'s', "text\n\"quoted\"", <<"text\\">>, 'end', true, false, undefined, 'Ok', '\n', '_', a@b],
     [Self, Ref, Alias, Port, {Self, [alias | Alias]}, [[alias | Alias] | make_ref()]],
     [a | b], [a, b | #{}], [1, 2, 3 | 4], [[] | <<>>], ["x" | "y"],
     Fun, fun(A, B) -> A + B end, fun() -> Fun end, fun lists:map/2, fun erlang:self/0, [fun edges/0],
     nested(400, fun(T) -> {T} end), nested(400, fun(T) -> [T] end), nested(400, fun(T) -> #{T => T} end, 12),
     nested(100, fun(T) -> [T | tail] end), nested(20, fun(T) -> <<(term_to_binary(T))/binary>> end),
     #{1 => a, 1.0 => b, [] => c, #{} => d, {} => e, <<>> => f, "" => g, a => #{b => #{c => []}}},
     #{[1, 2 | 3] => <<1:1>>, [1, 2] => x, {1, 2} => y, Self => Self, Ref => Fun}
    ].

nested(Depth, Wrap) -> nested(Depth, Wrap, Depth).
nested(_, Wrap, Levels) -> lists:foldl(fun(_, T) -> Wrap(T) end, [], lists:seq(1, Levels)).

term(0) -> leaf(rand:uniform(13));
term(Depth) ->
    Below = fun() -> [term(Depth - 1) || _ <- lists:seq(1, rand:uniform(6) - 1)] end,
    case rand:uniform(9) of
        1 -> list_to_tuple(Below());
        2 -> Below();
        3 -> maps:from_list([{term(Depth - 1), T} || T <- Below()]);
        4 -> lists:foldr(fun(T, Tail) -> [T | Tail] end, term(Depth - 1), Below());
        5 -> fun lists:append/1;
        6 -> Env = Below(), fun() -> Env end;
        _ -> term(0)
    end.

leaf(1) -> rand:uniform(256) - 1;
leaf(2) -> rand:uniform(1 bsl 33) - (1 bsl 32);
leaf(3) -> rand:uniform(1 bsl 66) - (1 bsl 65);
leaf(4) -> (rand:uniform(1 bsl 2200) - (1 bsl 2199)) div (1 bsl rand:uniform(2200));
leaf(5) -> rand:normal() * math:pow(10, rand:uniform(600) - 300);
leaf(6) -> list_to_atom([rand:uniform(400) || _ <- lists:seq(1, rand:uniform(3))]);
leaf(7) -> rand:bytes(rand:uniform(100) - 1);
leaf(8) -> <<(rand:bytes(rand:uniform(9) - 1))/binary, 0:(rand:uniform(7))>>;
leaf(9) -> [rand:uniform(256) - 1 || _ <- lists:seq(1, rand:uniform(20))];
leaf(10) -> lists:seq($a, $a + rand:uniform(20));
leaf(11) -> make_ref();
leaf(12) -> self();
leaf(13) -> [].
