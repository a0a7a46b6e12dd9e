%% A small run of the benchmark: nothing is lost, doubled or out of order, and the results are what others read. `make ring-erlang'
%% runs the large one.
-module(teleport_ring_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([a_small_ring_loses_nothing/1, terms_of_every_kind_arrive/1]).

-spec suite() -> [ct_suite:ct_info()].
suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [a_small_ring_loses_nothing, terms_of_every_kind_arrive].

a_small_ring_loses_nothing(_Config) ->
    Report = teleport_ring:measure(#{size => 64 bsl 10, warmup => 1, rounds => 2, rate_milliseconds => 50,
                                     terms_milliseconds => 50, calls => 20, sizes => [1 bsl 10, 1 bsl 20],
                                     progress => fun ct:log/2}),
    ct:log("~ts", [teleport_ring:table(Report)]),
    Read = read(teleport_ring:json(Report)),
    [begin
         %% Three rounds of a message per worker.
         ?assertMatch(#{"messages" := 108, "lost" := 0, "doubled" := 0, "out_of_order" := 0,
                         "pings_unanswered" := 0}, Figures),
         [?assert(maps:get(Name, Figures) > 0)
          || Name <- ["megabytes_per_second", "mean_sender_seconds", "pings"]],
         %% So little takes less than the kernel counts.
         ?assert(maps:get("cpu_seconds_per_gigabyte", Figures) >= 0),
         #{"ping_ms" := #{"p50" := Median, "p99" := High, "max" := Max}, "peak_rss_mib" := Memory} = Figures,
         ?assert(0 < Median andalso Median =< High andalso High =< Max),
         ?assertEqual(6, length(Memory)),
         ?assert(lists:min(Memory) > 1)
     end || Transport <- ["disterl", "teleport", "carrier"], Figures <- [maps:get(Transport, Read)]],
    [?assert(maps:get(Transport, maps:get(Name, Read)) > 0)
     || Name <- ["rate_64b", "call_us"], Transport <- ["disterl", "teleport", "carrier"]],
    #{"terms" := #{"binaries_80000x128" := Binaries, "term_1mb" := Term}, "sizes" := Sizes, "ranges" := Ranges} = Read,
    [?assertMatch(#{"disterl" := Disterl, "teleport" := Teleport, "carrier" := Carrier}
                     when Disterl > 0 andalso Teleport > 0 andalso Carrier > 0, Rates)
     || Rates <- [Binaries, Term | Sizes]],
    ?assertMatch([#{"bytes" := 1024}, #{"bytes" := 1048576}], Sizes),
    %% Two rounds: the median is between them.
    #{"terms" := #{"term_1mb" := #{"teleport" := [Least, Most]}}} = Ranges,
    ?assert(Least =< maps:get("teleport", Term) andalso maps:get("teleport", Term) =< Most).

%% As they were sent, which is checked before each round.
terms_of_every_kind_arrive(_Config) ->
    Shapes = [{Kind, Size} || Kind <- teleport_ring_stream:kinds(), Size <- [1 bsl 10, 70 bsl 10]] ++ [{binary, 64}],
    Rows = teleport_ring_shapes:measure(#{rounds => 1, milliseconds => 20, shapes => Shapes, progress => fun ct:log/2}),
    ?assertEqual(Shapes, [Shape || #{shape := Shape} <- Rows]),
    [?assertMatch([Least, Median, Most] when 0 < Least andalso Least =< Median andalso Median =< Most,
                  maps:get(Transport, maps:get(megabytes_per_second, Row)))
     || Row <- Rows, Transport <- [disterl, teleport]].

%% JSON without strings among its values is nearly a term.
read(Json) ->
    Text = lists:foldl(fun({From, To}, Before) -> string:replace(Before, From, To, all) end,
                       Json, [{"{", "#{"}, {"\":", "\"=>"}]),
    {ok, Tokens, _} = erl_scan:string(lists:flatten([unicode:characters_to_list(Text), "."])),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.
