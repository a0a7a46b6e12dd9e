%% Terms that the engine encodes itself, and those that it leaves to `term_to_iovec': all arrive as they were.
-module(teleport_encode_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_small_term_of_every_kind_arrives_as_it_was/1,
         strings_are_small_however_many_characters_they_have/1,
         large_binaries_in_small_terms_arrive_as_they_were/1,
         with_a_long_mailbox_everything_arrives_as_it_was/1,
         what_is_too_much_or_may_hide_anything_comes_encoded/1,
         a_large_binary_with_too_much_behind_it_is_freed_when_it_is_sent/1,
         around_the_bounds_everything_arrives_as_it_was/1,
         random_terms_arrive_as_they_were/1,
         requests_and_replies_of_every_kind_arrive_as_they_were/1,
         binaries_that_go_on_growing_arrive_as_they_were/1]).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(ECHO, encode_echo).
-define(PATIENCE, 30000).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [a_small_term_of_every_kind_arrives_as_it_was,
     strings_are_small_however_many_characters_they_have,
     large_binaries_in_small_terms_arrive_as_they_were,
     with_a_long_mailbox_everything_arrives_as_it_was,
     what_is_too_much_or_may_hide_anything_comes_encoded,
     a_large_binary_with_too_much_behind_it_is_freed_when_it_is_sent,
     around_the_bounds_everything_arrives_as_it_was,
     random_terms_arrive_as_they_were,
     requests_and_replies_of_every_kind_arrive_as_they_were,
     binaries_that_go_on_growing_arrive_as_they_were].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    ok = teleport:start(),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(teleport).

init_per_testcase(_Case, Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    ok = teleport_test:echo(Node, ?ECHO),
    ok = teleport:prime(Node),
    [{peer, Peer}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    teleport_test:stop_peer(?config(peer, Config)).

a_small_term_of_every_kind_arrives_as_it_was(Config) ->
    Node = ?config(node, Config),
    Terms = small_terms(Node),
    lists:foreach(fun(Term) ->
        ?assertEqual({Term, ok}, {Term, teleport_nif:send({?ECHO, Node}, {term, {self(), Term}}, 2, undefined)}),
        ?assert(same(Term, echoed()))
    end, Terms),
    Whole = lists:sublist(Terms, 40),
    ?assert(same(Whole, there_and_back(Node, Whole))),
    %% With an acknowledgement as without.
    ?assertEqual(ok, teleport_nif:send_acknowledged({?ECHO, Node}, {term, {self(), Whole}}, 2, undefined, whole)),
    ?assert(same(Whole, echoed())),
    receive
        {teleport, whole, Outcome} -> ?assertEqual(delivered, Outcome)
    after ?PATIENCE ->
        ct:fail("not acknowledged")
    end.

what_is_too_much_or_may_hide_anything_comes_encoded(Config) ->
    Node = ?config(node, Config),
    Large = binary:copy(<<1>>, 1 bsl 20),
    lists:foreach(fun(Term) ->
        ?assertEqual({Term, not_small}, {Term, teleport_nif:send({?ECHO, Node}, {term, {self(), Term}}, 2, undefined)}),
        ?assertEqual({Term, not_small},
                     {Term, teleport_nif:send_acknowledged({?ECHO, Node}, {term, {self(), Term}}, 2, undefined, never)}),
        ?assert(same(Term, there_and_back(Node, Term)))
    end, [fun lists:sort/1, fun() -> Large end, [fun erlang:self/0], 1 bsl 64, -(1 bsl 64), #{big => 1 bsl 30000},
          <<1:1>>, <<Large/binary, 5:3>>, lists:duplicate(9, Large),
          lists:seq(1, 100000), lists:duplicate(1024, $a), list_to_tuple(lists:seq(1, 100000)),
          nested(100000), [lists:seq(1, 300), lists:seq(1, 300)],
          [binary:copy(<<1>>, 200) || _ <- lists:seq(1, 100)], lists:seq(1, 1000) ++ improper]).

%% The engine has referred to the binary by the time that it gives the term up.
a_large_binary_with_too_much_behind_it_is_freed_when_it_is_sent(Config) ->
    To = {encode_nobody, ?config(node, Config)},
    Before = erlang:memory(binary),
    {_, Monitor} = spawn_monitor(fun() ->
        ok = teleport:send(To, {binary:copy(<<1>>, 100 bsl 20), lists:seq(1, 1000)})
    end),
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end,
    teleport_test:eventually(fun() -> erlang:memory(binary) < Before + (10 bsl 20) end).

strings_are_small_however_many_characters_they_have(Config) ->
    Node = ?config(node, Config),
    Bytes = lists:seq(0, 255),
    lists:foreach(fun(Term) ->
        ?assertEqual({Term, ok}, {Term, teleport_nif:send({?ECHO, Node}, {term, {self(), Term}}, 2, undefined)}),
        ?assert(same(Term, echoed()))
    end, [Bytes ++ Bytes ++ Bytes, lists:duplicate(1023, 0), [[Bytes, $a] || _ <- Bytes -- lists:seq(12, 255)], [Bytes | Bytes]]).

large_binaries_in_small_terms_arrive_as_they_were(Config) ->
    Node = ?config(node, Config),
    Large = rand:bytes(1 bsl 20),
    <<_:3, Unaligned:100000/binary, _/bitstring>> = Large,
    <<_:7/binary, Part:100000/binary, _/binary>> = Large,
    lists:foreach(fun(Term) ->
        ?assertEqual(ok, teleport_nif:send({?ECHO, Node}, {term, {self(), Term}}, 2, undefined)),
        ?assert(same(Term, echoed()))
    end, [Large, Unaligned, Part, [[Part], Large | Unaligned], {Large, Large}, #{Part => Part}, binary:copy(<<1>>, 4097),
          {Part, lists:seq(1, 400)}, [binary:copy(<<I>>, 3000) || I <- lists:seq(1, 8)]]).

%% Then it is all encoded by the engine, also what it leaves to `term_to_iovec' otherwise.
with_a_long_mailbox_everything_arrives_as_it_was(Config) ->
    Node = ?config(node, Config),
    Large = rand:bytes(1 bsl 17),
    Small = small_terms(Node),
    Terms = [Small, fun lists:sort/1, fun() -> {Large, Small} end, 1 bsl 64, -(1 bsl 30000), <<5:3>>, <<Large/binary, 5:3>>,
             lists:seq(1, 100000), nested(100000), [nested(200), Large], lists:seq(1, 1000) ++ improper,
             maps:from_list([{{I}, Large} || I <- lists:seq(1, 600)]), [binary:copy(<<I:32>>, 500) || I <- lists:seq(1, 1000)],
             list_to_tuple(lists:duplicate(1000, Large)), [rand:uniform() || _ <- lists:seq(1, 1000)]],
    {_, Monitor} = spawn_monitor(fun() ->
        [self() ! {number, I} || I <- lists:seq(1, 5000)],
        lists:foreach(fun(Term) ->
            {ok, Encoded} = teleport_encode:encode(Term),
            ?assert(is_reference(Encoded)),
            ?assert(same(Term, there_and_back(Node, Term)))
        end, Terms)
    end),
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end.

around_the_bounds_everything_arrives_as_it_was(Config) ->
    Node = ?config(node, Config),
    Around = fun(Bound) -> lists:seq(Bound - 8, Bound + 8) end,
    Terms = [binary:copy(<<1>>, N) || N <- Around(64) ++ Around(1024) ++ Around(4096 - 64) ++ Around(4096)]
        ++ [lists:seq(1, N) || N <- Around(500)]
        ++ [list_to_tuple(lists:seq(1, N)) || N <- Around(255) ++ Around(500)]
        ++ [maps:from_list([{I, I} || I <- lists:seq(1, N)]) || N <- Around(32)]
        ++ [nested(N) || N <- Around(32)]
        ++ [lists:duplicate(N, $a) || N <- Around(256) ++ Around(500) ++ Around(1024)]
        ++ [lists:duplicate(N, 255) ++ Rest || N <- Around(1024), Rest <- [[256], [-1], [a], b]],
    lists:foreach(fun(Term) -> ?assert(same(Term, there_and_back(Node, Term))) end, Terms).

random_terms_arrive_as_they_were(Config) ->
    Node = ?config(node, Config),
    _ = rand:seed(exsss, 20),
    lists:foreach(fun(_) ->
        Term = random_term(4),
        ?assert(same(Term, there_and_back(Node, Term)))
    end, lists:seq(1, 2000)).

requests_and_replies_of_every_kind_arrive_as_they_were(Config) ->
    Node = ?config(node, Config),
    {ok, _Server} = teleport_test:at(?config(peer, Config), teleport_test_server, start, [encode_server]),
    Large = [lists:seq(1, 100000), fun lists:sort/1, <<5:3>>, 1 bsl 100, binary:copy(<<1>>, 1 bsl 20)],
    lists:foreach(fun(Term) ->
        {ok, Echoed} = teleport:gs_call({encode_server, Node}, {echo, Term}),
        ?assert(same(Term, Echoed))
    end, small_terms(Node) ++ Large).

%% The virtual machine appends to a binary where it is, if there is room, and else moves it: not while a message refers to it.
binaries_that_go_on_growing_arrive_as_they_were(Config) ->
    To = {?ECHO, ?config(node, Config)},
    <<131, Self/binary>> = term_to_binary(self()),
    Rounds = lists:seq(0, 60),
    Grown = lists:foldl(fun(Round, Binary) ->
        Encoded = [<<131, 104, 2>>, Self, <<109, (byte_size(Binary)):32>>, Binary],
        Sent = teleport_nif:send(To, {encoded, Encoded}, 0, undefined),
        ?assert(lists:member(Sent, [ok, waiting])),
        <<Binary/binary, (binary:copy(<<Round>>, 10007))/binary>>
    end, <<>>, Rounds),
    [?assert(binary:part(Grown, 0, Round * 10007) =:= echoed()) || Round <- Rounds].

small_terms(Node) ->
    Port = hd(erlang:ports()),
    Bytes = binary:copy(<<"abc">>, 100),
    <<_:3, Unaligned:10/binary, _/bitstring>> = Bytes,
    <<_:7/binary, Part:100/binary, _/binary>> = Bytes,
    RemotePid = erpc:call(Node, erlang, whereis, [?ECHO]),
    RemoteRef = erpc:call(Node, erlang, make_ref, []),
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, normal} -> ok end,
    [a, '', ok, 'two words', 'Grüße', 'λόγος', list_to_atom(lists:duplicate(255, $a)), list_to_atom(lists:duplicate(255, 16#1F600)),
     0, 1, 255, 256, -1, -128, 1 bsl 31 - 1, 1 bsl 31, -(1 bsl 31), -(1 bsl 31) - 1, 1 bsl 59, 1 bsl 60 - 1, 1 bsl 60,
     -(1 bsl 59), -(1 bsl 59) - 1, 1 bsl 63 - 1, -(1 bsl 63),
     0.0, -0.0, 1.5, -1.0e308, 5.0e-324, 1.0,
     <<>>, <<0>>, binary:copy(<<255>>, 64), binary:copy(<<255>>, 65), binary:copy(<<7>>, 3000), Unaligned, Part,
     {}, {a}, {a, {b, {c}}}, list_to_tuple(lists:seq(1, 255)), list_to_tuple(lists:seq(1, 256)), list_to_tuple(lists:seq(1, 400)),
     [], [1], [a | b], [1, 2 | <<"tail">>], [[], [[]]], "text", [16#1F600], lists:seq(1, 400), [[alias | make_ref()] | 7],
     #{}, #{a => 1}, #{#{} => #{[] => {}}}, maps:from_list([{N, N} || N <- lists:seq(1, 32)]),
     maps:from_list([{{N}, [N]} || N <- lists:seq(1, 33)]), maps:from_list([{N, N} || N <- lists:seq(1, 128)]),
     #{1 => integer, 1.0 => float},
     self(), whereis(init), Dead, RemotePid, Monitor, RemoteRef, erlang:alias(), Port, nested(25),
     {'$gen_call', {self(), [alias | make_ref()]}, {get, <<"key">>}}].

nested(0) -> [];
nested(Depth) -> [nested(Depth - 1)].

random_term(0) ->
    random_leaf();
random_term(Depth) ->
    Terms = fun() -> [random_term(Depth - 1) || _ <- lists:seq(1, rand:uniform(6) - 1)] end,
    case rand:uniform(6) of
        1 -> list_to_tuple(Terms());
        2 -> Terms();
        3 -> [random_leaf() | random_leaf()];
        4 -> maps:from_list([{random_term(Depth - 1), Value} || Value <- Terms()]);
        _ -> random_leaf()
    end.

random_leaf() ->
    Size = rand:uniform(70) - 1,
    case rand:uniform(9) of
        1 -> list_to_atom([$a + rand:uniform(26) - 1]);
        2 -> rand:uniform(1 bsl Size);
        3 -> -rand:uniform(1 bsl Size);
        4 -> rand:normal() * 1.0e10;
        5 -> rand:bytes(Size * rand:uniform(40));
        6 -> binary_to_list(rand:bytes(Size));
        7 -> make_ref();
        8 -> self();
        9 -> Bits = rand:uniform(70) - 1, <<(rand:uniform(1 bsl 60)):Bits>>
    end.

there_and_back(Node, Term) ->
    ok = teleport:send({?ECHO, Node}, {self(), Term}),
    echoed().

echoed() ->
    receive {echo, Term} -> Term after ?PATIENCE -> error(nothing_came) end.

%% Also where `=:=' is not strict: zero has two signs.
same(Sent, Arrived) ->
    Sent =:= Arrived andalso (not is_float(Sent) orelse <<Sent/float>> =:= <<Arrived/float>>).
