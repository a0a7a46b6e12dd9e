%% What arrives is what was sent, whatever the term: those with large binaries are put together by the NIF, and have to be what
%% `binary_to_term' makes of them.
-module(teleport_codec_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2]).
-export([large_binaries_arrive_at_every_position/1, hard_terms_arrive_as_they_were/1, random_terms_arrive_as_they_were/1,
         documents_of_other_encoders_are_read/1, documents_that_are_none_vanish_alone/1, what_cannot_be_read_is_counted/1,
         terms_of_many_atoms_arrive_as_they_were/1, atoms_that_are_new_are_counted/1,
         a_new_atom_counts_once_however_often_it_occurs/1, new_atoms_of_messages_at_once_count_once/1,
         requests_and_replies_carry_large_binaries/1, large_maps_arrive_though_builders_die/1,
         large_maps_need_builders_only_on_older_releases/1, releases_that_make_large_maps_on_any_thread/1,
         native_records_arrive_as_they_were/1]).
-export([large_binaries_are_not_copied/1, relayed_messages_reuse_memory/1, a_large_binary_takes_its_own_memory_once/1,
         memory_is_reused_only_when_free/1, binaries_are_valid_after_a_stop/1]).

%% Run on the peer.
-export([judge/0, keeper/0]).

%% From this size on binaries stay where they were received.
-define(LARGE, 65536).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [large_binaries_arrive_at_every_position,
     hard_terms_arrive_as_they_were,
     random_terms_arrive_as_they_were,
     documents_of_other_encoders_are_read,
     documents_that_are_none_vanish_alone,
     what_cannot_be_read_is_counted,
     terms_of_many_atoms_arrive_as_they_were,
     atoms_that_are_new_are_counted,
     a_new_atom_counts_once_however_often_it_occurs,
     new_atoms_of_messages_at_once_count_once,
     requests_and_replies_carry_large_binaries,
     large_maps_arrive_though_builders_die, large_maps_need_builders_only_on_older_releases,
     releases_that_make_large_maps_on_any_thread]
    ++ [native_records_arrive_as_they_were || native_record() =/= none]
    ++ [large_binaries_are_not_copied,
        relayed_messages_reuse_memory,
        a_large_binary_takes_its_own_memory_once,
        memory_is_reused_only_when_free,
        binaries_are_valid_after_a_stop].

init_per_suite(Config) ->
    Pair = teleport_test:init_pair(Config),
    [{judge, spawn(?config(node, Pair), ?MODULE, judge, [])} | Pair].

end_per_suite(Config) ->
    teleport_test:end_pair(Config).

init_per_testcase(_Case, Config) ->
    [{test, self()} | Config].

%% The same terms.

large_binaries_arrive_at_every_position(Config) ->
    L = binary(?LARGE),
    {Map129, Map128} = {numbers(129), numbers(128)},
    M = binary(3 * ?LARGE + 1),
    S = binary(?LARGE - 1),
    Ints = lists:seq(1, 1000),
    Map = maps:from_list([{I, {I}} || I <- Ints]),
    Terms = [L, S, {L}, {L, M}, {a, L, b, M, c}, [L], [L, M], [a, L], [L, a], [a, L | b], [L | a], [a | L], [a, b | L],
             [[a | L] | M], [S, L, S | S], {Ints, L, Ints}, [Ints, L, Ints], Ints ++ [L | Ints], [L | Ints],
             "text" ++ [L], [L | "text"], [L, <<>>, <<1>>, M, <<1:1>>], {{}, [], #{}, L, {}, [], #{}},
             #{L => M}, #{a => L}, #{L => a}, Map#{L => M, {L} => [M]}, #{1 => #{2 => #{3 => {L, Map}}}},
             #{k => [L, #{L => {M, self(), make_ref()}}]}, list_to_tuple(lists:duplicate(300, L)),
             lists:foldl(fun(_, Nested) -> {Nested} end, L, Ints),
             lists:foldl(fun(I, Nested) -> [I, Nested] end, L, Ints),
             lists:foldl(fun(I, Nested) -> [I | [Nested]] end, {L, M}, Ints),
             lists:foldl(fun(I, Nested) -> #{I => Nested, x => y} end, L, Ints),
             lists:foldl(fun(_, Nested) -> #{Nested => x} end, L, lists:seq(1, 10)),
             lists:foldl(fun(I, Nested) -> {I, Nested, I} end, [L], lists:seq(1, 100000)),
             fun() -> L end, {fun() -> {L, M} end, M}, [fun(X) -> fun() -> {X, L} end end, L, fun lists:map/2],
             {Map128, L}, {Map129, L}, [L, Map129 | L], Map128#{1 := L}, Map129#{1 := L}, #{Map129 => L, L => Map129},
             {L, fun() -> Map129 end}, (numbers(33))#{L => M}, (numbers(31))#{L => M}, (numbers(70000))#{L => M},
             bits(?LARGE), {bits(?LARGE), L, bits(1)}, [bits(?LARGE) | L],
             binary:part(M, 1, ?LARGE), [binary:part(M, I, ?LARGE) || I <- lists:seq(0, 20)]],
    [same(Config, Term) || Term <- Terms].

hard_terms_arrive_as_they_were(Config) ->
    L = binary(?LARGE),
    Terms = [<<>>, <<0>>, [], {}, #{}, -(1 bsl 200), 1 bsl 70, 1 bsl 3000, -0.0, 1.5e300, <<5:3>>, make_ref(), self(),
             hd(erlang:ports()), fun lists:map/2, fun() -> Config end, 'ж', list_to_atom(lists:duplicate(255, $я)), '',
             list_to_tuple(lists:seq(1, 255)), list_to_tuple(lists:seq(1, 256)), list_to_tuple(lists:seq(1, 70000)),
             lists:seq(1, 65535), lists:duplicate(65535, $a), lists:duplicate(65536, $a), [a | b], [[] | []], [[[]]],
             maps:from_list([{I, I} || I <- lists:seq(1, 32)]), maps:from_list([{I, I} || I <- lists:seq(1, 33)]),
             maps:from_list([{{I}, [I]} || I <- lists:seq(1, 100000)]), #{1 => a, 1.0 => b, -0.0 => c},
             numbers(128), numbers(129), fun() -> [numbers(129), Config] end, #{numbers(500) => #{numbers(1000) => 1}},
             maps:from_list([{binary(I), I} || I <- lists:seq(1, 300)]), lists:duplicate(80000, binary(128)),
             #{self() => #{make_ref() => 'ж'}}],
    [begin
         same(Config, Term),
         same(Config, {Term, L, [Term, L | Term], #{Term => L, L => Term}}),
         same(Config, [Term, Term | atoms(Term)])
     end || Term <- Terms].

random_terms_arrive_as_they_were(Config) ->
    {A, B, C} = Seed = {erlang:phash2(node()), erlang:unique_integer([positive]), 4},
    ct:log("seed ~p", [Seed]),
    rand:seed(exsss, {A, B, C}),
    Large = [binary(?LARGE + rand:uniform(50000)) || _ <- lists:seq(1, 5)],
    [begin
         Term = random(rand:uniform(6), Large),
         same(Config, Term),
         same(Config, atoms(Term))
     end || _ <- lists:seq(1, 300)].

%% `enif_term_type' has no number for them, and ends the virtual machine.
native_records_arrive_as_they_were(Config) ->
    case list_to_integer(erpc:call(?config(node, Config), erlang, system_info, [otp_release])) >= 29 of
        true ->
            records_arrive(Config);
        false ->
            %% That node cannot read one, which vanishes alone.
            ok = teleport:send(?config(judge, Config), native_record()),
            same(Config, behind_it)
    end.

records_arrive(Config) ->
    {Record, L} = {native_record(), binary(?LARGE)},
    Terms = [Record, {Record, 1}, [Record | Record], #{Record => Record}, {Record, binary(300)}, {Record, lists:seq(1, 1000)},
             {Record, L}, [L, Record, L], {Record, numbers(129)}, {Record, numbers(200), L}, fun() -> {Record, L} end,
             list_to_tuple(lists:duplicate(1000, Record)), {Record, lists:duplicate(1000, [a, L])}],
    [same(Config, Term) || Term <- Terms],
    %% With an atom that is new there.
    Self = self(),
    Pid = spawn(?config(node, Config), fun() -> receive Term -> Self ! {got, Term} end end),
    New = {Record, binary_to_atom(<<"new_", (integer_to_binary(rand:uniform(1 bsl 60)))/binary>>), binary(300)},
    ok = teleport:send(Pid, New),
    ?assertEqual({got, New}, teleport_test:receive_one()).

%% Of OTP 29 on, made from what one encodes to.
native_record() ->
    Atom = fun(Name) -> <<119, (byte_size(Name)), Name/binary>> end,
    try binary_to_term(iolist_to_binary([<<131, 67, 2:32, 0>>, [Atom(Name) || Name <- [<<"rec">>, <<"point">>, <<"x">>, <<"y">>]],
                                         <<97, 1, 97, 2>>]))
    catch error:badarg -> none
    end.

%% What other encoders may write, or OTP with other options.
documents_of_other_encoders_are_read(Config) ->
    L = binary(?LARGE),
    B = [<<109, (byte_size(L)):32>>, L],
    Term = {1.5, [a, L, 'ж'], #{<<"k">> => [L | 2]}, self(), make_ref(), fun lists:map/2},
    Documents = [term_to_binary(Term, Options)
                 || Options <- [[{minor_version, 0}], [{minor_version, 1}], [{minor_version, 2}]]]
        ++ [document(Parts)
            || Parts <- [[<<108, 0:32>>, B],
                         [<<108, 1:32>>, B, <<106>>],
                         [<<108, 0:32, 108, 0:32>>, B],
                         [<<108, 1:32>>, B, <<108, 1:32>>, B, <<108, 0:32, 97, 1>>],
                         [<<108, 2:32>>, B, <<108, 0:32, 107, 0:16, 107, 3:16, "abc">>],
                         [<<105, 2:32>>, B, <<104, 0>>],
                         [<<77, (byte_size(L)):32, 8>>, L],
                         [<<104, 2, 77, (byte_size(L)):32, 8>>, L, <<77, 1:32, 1, 128>>],
                         [<<104, 3>>, B, <<100, 1:16, "a", 115, 1, 233>>],
                         [<<104, 3>>, B, <<110, 2, 0, 1, 0, 111, 3:32, 1, 5, 0, 0>>],
                         [<<104, 2, 99, "1.50000000000000000000e+00", 0:40>>, B],
                         [<<116, 2:32, 98, 1:32>>, B, <<97, 2, 97, 3>>]]],
    [same_document(Config, Document) || Document <- Documents].

what_cannot_be_read_is_counted(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, ?FUNCTION_NAME),
    Before = unreadable(Config),
    Bomb = term_to_binary({self(), lists:duplicate(1000000, a)}, [compressed]),
    [ok = teleport_nif:send({?FUNCTION_NAME, Node}, {encoded, [Document]}, 0, undefined) || Document <- [Bomb, <<131, 104>>]],
    ok = teleport:send({?FUNCTION_NAME, Node}, {self(), last}),
    ?assertEqual({echo, last}, teleport_test:receive_one()),
    ?assertEqual(Before + 2, unreadable(Config)).

unreadable(Config) ->
    maps:get(unreadable, erpc:call(?config(node, Config), teleport, info, [])).

%% They vanish, and nothing else does.
documents_that_are_none_vanish_alone(Config) ->
    {Judge, Before} = {?config(judge, Config), unreadable(Config)},
    L = binary(?LARGE),
    B = [<<109, (byte_size(L)):32>>, L],
    Documents = [document(Parts)
                 || Parts <- [[<<104, 2>>, B], [<<108, 1:32>>, B],
                              [<<104, 2>>, B, <<255>>], [<<104, 2, 255>>, B],
                              [<<104, 3, 97, 1>>, B, <<109, 5:32, "four">>],
                              [<<116, 2:32, 97, 1, 97, 2, 97, 1>>, B],
                              [<<116, 2:32, 97, 1>>, B, <<97, 1>>, B],
                              [<<116, 2:32>>, B, <<97, 1>>, B, <<97, 1>>],
                              [<<104, 3>>, B, <<119, 1, 255>>, <<97, 1>>],
                              [<<104, 2>>, B, <<112, 30:32, 0:200>>]]],
    [begin
         ?assertError(badarg, binary_to_term(Document)),
         ok = teleport_nif:send(Judge, {encoded, [Document]}, 0, undefined)
     end || Document <- Documents],
    %% Nor is what has more behind its end.
    [ok = teleport_nif:send(Judge, {encoded, [document(Parts)]}, 0, undefined) || Parts <- [[B, <<0>>], [<<104, 1>>, B, B]]],
    same(Config, {still, L, there}),
    ?assertEqual(Before + length(Documents) + 2, unreadable(Config)).

%% Terms with many atoms are built by the NIF itself.
terms_of_many_atoms_arrive_as_they_were(Config) ->
    L = binary(?LARGE),
    Names = [list_to_atom("teleport_codec_" ++ integer_to_list(I)) || I <- lists:seq(1, 5000)],
    Long = [list_to_atom(lists:duplicate(Length, Char)) || Length <- [1, 20, 42, 43, 44, 45, 46, 47, 254, 255], Char <- [$a, 233, $ж]],
    Terms = [Names, Names ++ Names, lists:reverse(Names ++ Long), Long ++ Names, Long ++ L, {Long, L, Long},
             maps:from_list([{Name, true} || Name <- Names]), maps:from_list([{Name, Names} || Name <- lists:sublist(Names, 33)]),
             [#{name => <<"n">>, id => I, price => I / 7, sub => #{ok => true, I => -I}} || I <- lists:seq(1, 3000)],
             [{entry, I bsl 40, -I, -(I bsl 50), I bsl 56, 1 bsl 63 - I, -(1 bsl 63) + I, 1 bsl 64 + I} || I <- lists:seq(1, 500)],
             [{ok, self(), make_ref(), fun lists:map/2, fun() -> I end, 1 bsl (I * 8), <<I:7>>, -0.0, a} || I <- lists:seq(1, 100)],
             lists:foldl(fun(I, Nested) -> {a, I, [b, Nested | c]} end, [], lists:seq(1, 1000)),
             lists:foldl(fun(_, Nested) -> [a | {b, Nested}] end, [], lists:seq(1, 60000)),
             lists:foldl(fun(I, Nested) -> #{a => Nested, I => b} end, [], lists:seq(1, 500)),
             {lists:duplicate(2000, ok), lists:seq(1, 100000), binary(1000), "text", [], {}, #{}}],
    [same(Config, Term) || Term <- Terms],
    A = <<119, 1, "a">>,
    Atoms = binary:copy(A, 300),
    [same_document(Config, document([<<108, 302:32>>, Atoms, Encoded, A, <<106>>]))
     || Encoded <- [<<118, 0, 1, "b">>, <<100, 0, 1, "b">>, <<115, 1, 233>>, <<100, 0, 1, 233>>, <<118, 0, 2, "ж"/utf8>>,
                    <<110, 0, 0>>, <<110, 0, 1>>, <<110, 1, 0, 5>>, <<110, 1, 1, 0>>, <<110, 7, 1, -1:56>>, <<110, 8, 1, -1:64>>,
                    <<111, 2:32, 1, 5, 0>>, <<70, (1 bsl 63):64>>, <<99, "1.50000000000000000000e+00", 0:40>>,
                    <<107, 0:16>>, <<107, 2:16, 0, 255>>, <<108, 0:32, 106>>, <<77, 1:32, 8, 7>>, <<77, 1:32, 7, 254>>,
                    <<105, 1:32, A/binary>>, <<104, 0>>, <<116, 0:32>>, <<109, 0:32>>]],
    Before = unreadable(Config),
    Broken = [<<119, 1, 255>>, <<70, -1:64>>, <<110, 1, 0>>, <<116, 2:32, A/binary, 97, 1, A/binary, 97, 2>>,
              <<104, 200>>, <<108, -1:32>>, <<107, -1:16>>, <<109, -1:32>>, <<255>>],
    [begin
         Document = document([<<108, 302:32>>, Atoms, Encoded, A, <<106>>]),
         ?assertError(badarg, binary_to_term(Document)),
         ok = teleport_nif:send(?config(judge, Config), {encoded, [Document]}, 0, undefined)
     end || Encoded <- Broken],
    same(Config, Names),
    ?assertEqual(Before + length(Broken), unreadable(Config)).

atoms_that_are_new_are_counted(Config) ->
    L = binary(?LARGE),
    NewAtoms = fun() -> maps:get(new_atoms, erpc:call(?config(node, Config), teleport, info, [])) end,
    Before = NewAtoms(),
    Name = integer_to_binary(erlang:unique_integer([positive])),
    Encoded = <<119, (byte_size(Name) + 2), "a-", Name/binary>>,
    B = [<<109, (byte_size(L)):32>>, L],
    same_document(Config, document([<<104, 4>>, Encoded, B, <<97, 1>>, Encoded])),
    ?assertEqual(Before + 1, NewAtoms()),
    same_document(Config, document([<<104, 2>>, Encoded, B])),
    ?assertEqual(Before + 1, NewAtoms()).

%% Of far more terms with an atom that is new there than a peer may add atoms.
a_new_atom_counts_once_however_often_it_occurs(Config) ->
    Before = maps:get(new_atoms, erpc:call(?config(node, Config), teleport, info, [])),
    Name = <<"new-", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    Encoded = <<119, (byte_size(Name)), Name/binary>>,
    Count = 50000,
    same_document(Config, document([<<108, Count:32>>, lists:duplicate(Count, Encoded), <<106>>])),
    ?assertEqual(Before + 1, maps:get(new_atoms, erpc:call(?config(node, Config), teleport, info, []))).

%% Messages that wait for a builder bring the same new atoms before the first of them is built.
new_atoms_of_messages_at_once_count_once(Config) ->
    Node = ?config(node, Config),
    Anywhere = erpc:call(Node, fun() -> teleport_nif:makes_maps_anywhere(erlang:system_info(version)) end),
    ok = erpc:call(Node, teleport_nif, make_maps_anywhere, [false]),
    Names = [list_to_atom(lists:concat([?FUNCTION_NAME, I])) || I <- lists:seq(1, 30)],
    [ok = teleport_test:echo(Node, Name) || Name <- Names],
    NewAtoms = fun() -> maps:get(new_atoms, erpc:call(Node, teleport, info, [])) end,
    Before = NewAtoms(),
    New = [{list_to_atom(lists:concat([new, erlang:unique_integer([positive]), I])), I} || I <- lists:seq(1, 10)],
    Map = maps:merge(numbers(200), maps:from_list(New)),
    Builders = builders(Node),
    lists:foreach(fun sys:suspend/1, Builders),
    [ok = teleport:send({Name, Node}, {?config(test, Config), Map}) || Name <- Names],
    %% All of them are there.
    teleport_test:eventually(fun() ->
        #{undelivered_bytes := Bytes} = erpc:call(Node, teleport, info, [node()]),
        Bytes >= length(Names) * (byte_size(term_to_binary(Map)) - 100)
    end),
    lists:foreach(fun sys:resume/1, Builders),
    [?assertEqual({echo, Map}, teleport_test:receive_one()) || _ <- Names],
    ?assertEqual(Before + length(New), NewAtoms()),
    ok = erpc:call(Node, teleport_nif, make_maps_anywhere, [Anywhere]).

requests_and_replies_carry_large_binaries(Config) ->
    Node = ?config(node, Config),
    {ok, _} = erpc:call(Node, gen_server, start, [{local, server}, teleport_test_server, [], []]),
    Term = {binary(5 * ?LARGE), [binary(?LARGE)], #{self() => binary(?LARGE)}},
    ?assertEqual({ok, Term}, teleport:gs_call({server, Node}, {echo, Term})).

%% Large maps are built by processes; without one the engine waits for the next.
large_maps_arrive_though_builders_die(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, builders),
    Messages = [{I, numbers(10000)} || I <- lists:seq(1, 30)],
    Sender = spawn_link(fun() ->
        receive go -> ok end,
        [ok = teleport:send({builders, Node}, {?config(test, Config), Message}) || Message <- Messages]
    end),
    Sender ! go,
    [begin
         ?assertEqual({echo, Message}, teleport_test:receive_one()),
         %% The supervisor takes this many in a minute.
         [exit(Builder, kill) || I rem 10 =:= 0, Builder <- lists:sublist(builders(Node), 3)]
     end || {I, _} = Message <- Messages],
    same(Config, numbers(500)).

large_maps_need_builders_only_on_older_releases(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, suspended),
    Builders = builders(Node),
    lists:foreach(fun sys:suspend/1, Builders),
    Messages = [numbers(Count) || Count <- [129, 100000]],
    [ok = teleport:send({suspended, Node}, {?config(test, Config), Message}) || Message <- Messages],
    Wait = fun() ->
        teleport_test:eventually(fun() ->
            [] =/= [B || B <- Builders, erpc:call(Node, erlang, process_info, [B, message_queue_len]) =/= {message_queue_len, 0}]
        end)
    end,
    teleport_nif:makes_maps_anywhere(erpc:call(Node, erlang, system_info, [version])) orelse
        begin Wait(), lists:foreach(fun sys:resume/1, Builders) end,
    [?assertEqual({echo, Message}, teleport_test:receive_one()) || Message <- Messages],
    lists:foreach(fun sys:resume/1, Builders).

releases_that_make_large_maps_on_any_thread(_Config) ->
    [?assertEqual({Version, Expected}, {Version, teleport_nif:makes_maps_anywhere(Version)})
     || {Expected, Versions} <- [{false, ["13.0", "13.1.5", "13.2.2.13", "14.0", "14.2.5.7", "15.0", "15.2.2.5"]},
                                 {true, ["13.2.2.14", "13.2.3", "14.2.5.8", "14.3", "15.2.3", "15.2.7", "16.0", "17.1.1"]}],
        Version <- Versions].

builders(Node) ->
    [Pid || {_, Pid, worker, _} <- supervisor:which_children({teleport_builder_sup, Node}), is_pid(Pid)].

%% No copies.

%% What a process was sent holds on to the message that was received, and takes no memory of the virtual machine's.
large_binaries_are_not_copied(Config) ->
    Node = ?config(node, Config),
    Keeper = spawn(Node, ?MODULE, keeper, []),
    Binary = binary(10 bsl 20),
    ?assertEqual(ok, ask(Keeper, {keep, {small, Binary}})),
    %% A resource's binary: as large as the resource, which from OTP 27 on is made a little larger than what it holds.
    Referenced = ask(Keeper, fun([{small, Kept}]) -> binary:referenced_byte_size(Kept) end),
    ?assertNotEqual(10485760, Referenced),
    ?assert(Referenced < 10485760 + 1024, Referenced),
    %% Each is the only memory that its message takes.
    ?assertEqual(ok, ask(Keeper, {keep, {0, Binary}})),
    Memory = memory(Node, "VmRSS"),
    [?assertEqual(ok, ask(Keeper, {keep, {I, Binary}})) || I <- lists:seq(1, 20)],
    Grown = memory(Node, "VmRSS") - Memory,
    ?assert(Grown < 20 * 10485760 * 1.2, Grown),
    %% A copy that would be one.
    ?assertEqual(10485760, ask(Keeper, fun([{_, Kept} | _]) -> binary:referenced_byte_size(binary:copy(Kept)) end)),
    stop(Keeper).

%% 100 messages on their way through a node cost it no fresh memory, which would be 2,560 page faults for each: what was received
%% goes back to the pool of buffers as soon as it is garbage.
relayed_messages_reuse_memory(Config) ->
    Node = ?config(node, Config),
    ok = teleport_test:echo(Node, relay),
    Binary = binary(10 bsl 20),
    Relay = fun(I) ->
        ok = teleport:send({relay, Node}, {self(), {I, Binary}}),
        ?assertEqual({echo, {I, Binary}}, teleport_test:receive_one())
    end,
    %% The pool fills.
    lists:foreach(Relay, lists:seq(1, 20)),
    Before = page_faults(Node),
    lists:foreach(Relay, lists:seq(1, 100)),
    PerMessage = (page_faults(Node) - Before) / 100,
    ct:log("~p page faults per message", [PerMessage]),
    ?assert(PerMessage < 500, PerMessage).

%% The most that a node ever takes for a binary of 100 MB is little more than that.
a_large_binary_takes_its_own_memory_once(_Config) ->
    {Peer, Node} = teleport_test:start_peer(),
    Keeper = spawn(Node, ?MODULE, keeper, []),
    ?assertEqual(ok, ask(Keeper, {keep, small})),
    Before = memory(Node, "VmRSS"),
    ?assertEqual(ok, ask(Keeper, {keep, binary(100000000)})),
    Grown = memory(Node, "VmHWM") - Before,
    ct:log("~p bytes", [Grown]),
    ?assert(Grown < 120000000, Grown),
    %% It is there.
    ?assert(Grown > 90000000, Grown),
    teleport_test:stop_peer(Peer).

memory_is_reused_only_when_free(Config) ->
    Keeper = spawn(?config(node, Config), ?MODULE, keeper, []),
    Binaries = [binary(1 bsl 20) || _ <- lists:seq(1, 20)],
    [?assertEqual(ok, ask(Keeper, {keep, Binary})) || Binary <- Binaries],
    %% Every other one is freed, and as many come.
    Odd = fun(Kept) -> [Binary || {I, Binary} <- lists:enumerate(Kept), I rem 2 =:= 1] end,
    ?assertEqual(ok, ask(Keeper, {change, Odd})),
    More = [binary(1 bsl 20) || _ <- lists:seq(1, 20)],
    [?assertEqual(ok, ask(Keeper, {keep, Binary})) || Binary <- More],
    Expected = lists:reverse(More) ++ Odd(lists:reverse(Binaries)),
    ?assertEqual([erlang:md5(Binary) || Binary <- Expected],
                 ask(Keeper, fun(Kept) -> [erlang:md5(Binary) || Binary <- Kept] end)),
    stop(Keeper).

binaries_are_valid_after_a_stop(Config) ->
    Node = ?config(node, Config),
    Keeper = spawn(Node, ?MODULE, keeper, []),
    Binaries = [binary(Size) || Size <- [?LARGE, 1 bsl 20, 50 bsl 20]],
    [?assertEqual(ok, ask(Keeper, {keep, Binary})) || Binary <- Binaries],
    ok = erpc:call(Node, application, stop, [teleport]),
    Sums = fun(Kept) -> [erlang:md5(Binary) || Binary <- Kept] end,
    Keeper ! {self(), Sums},
    ?assertEqual(Sums(lists:reverse(Binaries)), receive {Keeper, Result} -> Result end),
    %% Freed without an engine, and again with one.
    Keeper ! {self(), {change, fun([_ | Rest]) -> Rest end}},
    ?assertEqual(ok, receive {Keeper, Freed} -> Freed end),
    ok = erpc:call(Node, teleport, start, []),
    ?assertEqual(ok, ask(Keeper, {keep, hd(Binaries)})),
    ?assertEqual(Sums([hd(Binaries) | lists:reverse(lists:droplast(Binaries))]), ask(Keeper, Sums)),
    stop(Keeper),
    same(Config, {all, hd(Binaries), well}).

%% A term goes to the peer and back, and on its own, and the peer compares it with what distributed Erlang made of it.
same(Config, Term) ->
    Judge = ?config(judge, Config),
    ok = teleport:send(Judge, {self(), Term}),
    Judge ! {self(), expected, Term},
    receive
        {Judge, true, Back} -> ?assert(Back =:= Term, {came_back_as, summary(Back), summary(Term)});
        {Judge, false, _} -> error({arrived_as_another_term, summary(Term)})
    after 30000 ->
        error({did_not_arrive, summary(Term)})
    end.

same_document(Config, Document) ->
    Judge = ?config(judge, Config),
    Self = binary:part(term_to_binary(self()), 1, byte_size(term_to_binary(self())) - 1),
    Judge ! {self(), expected_of, Document},
    <<131, Rest/binary>> = Document,
    ok = teleport_nif:send(Judge, {encoded, [<<131, 104, 2>>, Self, Rest]}, 0, undefined),
    receive
        {Judge, Same, _} -> ?assert(Same, binary:part(Document, 0, min(50, byte_size(Document))))
    after 30000 ->
        error({did_not_arrive, binary:part(Document, 0, min(50, byte_size(Document)))})
    end.

judge() ->
    receive
        {From, expected, Term} ->
            receive {From, Came} -> ok = teleport:send(From, {self(), Came =:= Term, Came}) end;
        {From, expected_of, Document} ->
            Term = receive {From, Came} -> Came end,
            From ! {self(), Term =:= binary_to_term(Document), none}
    end,
    judge().

%% So that the NIF builds it itself.
atoms(Term) ->
    [lists:duplicate(200, a), Term | b].

%% A process that keeps terms.
keeper() ->
    keeper([]).

keeper(Kept) ->
    receive
        {From, {keep, Term}} ->
            From ! {self(), ok},
            keeper([Term | Kept]);
        {From, {change, Change}} ->
            Changed = Change(Kept),
            true = erlang:garbage_collect(),
            From ! {self(), ok},
            keeper(Changed);
        {From, Fun} when is_function(Fun) ->
            From ! {self(), Fun(Kept)},
            keeper(Kept);
        stop ->
            ok
    end.

ask(Keeper, Question) ->
    ok = teleport:send(Keeper, {self(), Question}),
    receive {Keeper, Answer} -> Answer after 30000 -> error(no_answer) end.

stop(Keeper) ->
    Monitor = erlang:monitor(process, Keeper),
    Keeper ! stop,
    receive {'DOWN', Monitor, process, Keeper, normal} -> ok end.

page_faults(Node) ->
    {ok, Stat} = erpc:call(Node, file, read_file, ["/proc/self/stat"]),
    [_, Fields] = string:split(Stat, ") ", trailing),
    binary_to_integer(lists:nth(8, string:lexemes(Fields, " "))).

numbers(Count) ->
    maps:from_list([{I, {I}} || I <- lists:seq(1, Count)]).

%% In bytes.
memory(Node, Field) ->
    {ok, Status} = erpc:call(Node, file, read_file, ["/proc/self/status"]),
    {match, [KiB]} = re:run(Status, Field ++ ":\\s*([0-9]+) kB", [{capture, all_but_first, list}]),
    1024 * list_to_integer(KiB).

binary(Size) ->
    Part = rand:bytes(min(Size, 5003)),
    binary:part(binary:copy(Part, Size div byte_size(Part) + 1), 0, Size).

bits(Size) ->
    <<(binary(Size))/binary, 5:3>>.

document(Parts) ->
    iolist_to_binary([131 | Parts]).

random(Depth, Large) ->
    case rand:uniform(12) of
        1 when Depth > 0 -> list_to_tuple(randoms(Depth, Large));
        2 when Depth > 0 -> randoms(Depth, Large);
        3 when Depth > 0 -> lists:foldl(fun(Term, Tail) -> [Term | Tail] end, random(Depth - 1, Large), randoms(Depth, Large));
        4 when Depth > 0 ->
            maps:from_list([{Key, random(Depth - 1, Large)} || Key <- randoms(Depth, Large)]);
        5 when Depth > 0 -> {random(Depth - 1, Large), random(Depth - 1, Large)};
        6 -> lists:nth(rand:uniform(length(Large)), Large);
        7 -> binary(rand:uniform(2 * ?LARGE));
        8 -> rand:uniform(1 bsl 40) - (1 bsl 39);
        9 -> rand:uniform();
        10 -> lists:nth(rand:uniform(4), [a, [], 'ж', <<1:5>>]);
        11 -> lists:nth(rand:uniform(4), ["text", {}, #{}, self()]);
        _ -> rand:bytes(rand:uniform(10))
    end.

randoms(Depth, Large) ->
    [random(Depth - 1, Large) || _ <- lists:seq(1, rand:uniform(5))].

summary(Term) ->
    io_lib:format("~P", [Term, 30]).
