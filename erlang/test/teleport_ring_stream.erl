%% Terms of one shape from a process of one node to a process of another, several under way: what `teleport_ring' calls.
-module(teleport_ring_stream).

-export([start/0, kinds/0, check/3, stream/4]).

-export_type([shape/0, kind/0]).

-type shape() :: binaries_80000x128 | term_1mb | {binary | kind(), Bytes :: pos_integer()}.
%% With a number of bytes: a list, or a map, that takes about as many in the external term format.

-type kind() :: atoms | integers | words | floats | pids | references | strings | tuples | lists | small_maps | large_map | records
              | structs | small_binaries.

%% Groups of terms under way, and the bytes from which on one term is a group: so that small ones do not wait for answers.
-define(GROUPS, 4).
-define(GROUP_BYTES, 262144).

%% @doc The kinds of terms.
-spec kinds() -> [kind()].
kinds() ->
    [atoms, integers, words, floats, pids, references, strings, tuples, lists, small_maps, large_map, records, structs,
     small_binaries].

%% @doc Starts the process that receives.
-spec start() -> ok.
start() ->
    true = register(?MODULE, spawn(fun sink/0)),
    ok.

%% @doc A term of the shape arrives as it is; this also sets up the way.
-spec check(teleport_ring_node:transport(), node(), shape()) -> ok.
check(Transport, Node, Shape) ->
    Term = term(Shape),
    Tag = make_ref(),
    send(Transport, {?MODULE, Node}, {check, Transport, self(), Tag, Term}),
    Hash = hash(Term),
    receive
        {Tag, Hash} -> ok;
        {Tag, _Other} -> error({damaged, Transport})
    end.

%% @doc Sends for so long to the process on that node; how many bytes in the external term format, and the seconds until the last
%% term is there.
-spec stream(teleport_ring_node:transport(), node(), shape(), pos_integer()) -> {pos_integer(), float()}.
stream(Transport, Node, Shape, Milliseconds) ->
    Term = term(Shape),
    Bytes = erlang:external_size(Term),
    Group = max(1, ?GROUP_BYTES div Bytes),
    Start = erlang:monotonic_time(),
    End = Start + erlang:convert_time_unit(Milliseconds, millisecond, native),
    Sent = groups(Transport, {?MODULE, Node}, Term, Group, make_ref(), End, 0, 0),
    Nanoseconds = erlang:convert_time_unit(erlang:monotonic_time() - Start, native, nanosecond),
    {Sent * Group * Bytes, Nanoseconds / 1.0e9}.

groups(Transport, To, Term, Group, Tag, End, Sent, Arrived) ->
    case erlang:monotonic_time() < End of
        true when Sent - Arrived < ?GROUPS ->
            [send(Transport, To, {term, Term}) || _ <- lists:seq(2, Group)],
            send(Transport, To, {last, Transport, self(), Tag, Term}),
            groups(Transport, To, Term, Group, Tag, End, Sent + 1, Arrived);
        false when Sent =:= Arrived ->
            Sent;
        _WaitsForAnAnswer ->
            receive Tag -> groups(Transport, To, Term, Group, Tag, End, Sent, Arrived + 1) end
    end.

sink() ->
    receive
        {term, _Term} -> ok;
        {last, Transport, From, Tag, _Term} -> send(Transport, From, Tag);
        {check, Transport, From, Tag, Term} -> send(Transport, From, {Tag, hash(Term)})
    end,
    sink().

%% A local pid or reference hashes otherwise where it is of another node.
hash(Term) ->
    erlang:crc32(term_to_binary(Term, [deterministic])).

send(teleport, To, Message) -> ok = teleport:send(To, Message);
send(_Transport, To, Message) -> _ = erlang:send(To, Message), ok.

term(binaries_80000x128) ->
    [<<Number:32, 0:(124 * 8)>> || Number <- lists:seq(1, 80000)];
term(term_1mb) ->
    [{entry, Number, {Number bsl 20, Number / 3}, [ok, {value, Number rem 251}, "text"]} || Number <- lists:seq(1, 15750)];
term({binary, Bytes}) ->
    binary:copy(<<7>>, Bytes);
term({large_map, Bytes}) ->
    maps:from_list(terms(fun(Number) -> {{key, Number}, Number * 7} end, Bytes));
term({Kind, Bytes}) ->
    terms(fun(Number) -> one(Kind, Number) end, Bytes).

%% As many messages as take that many bytes, at least one.
terms(Make, Bytes) ->
    Each = erlang:external_size([Make(Number) || Number <- lists:seq(1000, 1099)]) div 100,
    [Make(Number) || Number <- lists:seq(1, max(1, Bytes div Each))].

%% Of a few hundred atoms, as programs have.
one(atoms, Number) -> atom(Number);
one(integers, Number) -> Number * 7919 rem 100000;
%% Of 32 to 64 bits.
one(words, Number) -> Number bsl (20 + Number rem 32);
one(floats, Number) -> Number / 7;
one(pids, Number) -> list_to_pid(lists:concat(["<0.", Number rem 30000, ".0>"]));
one(references, _Number) -> make_ref();
one(strings, Number) -> "some text that is a list, " ++ integer_to_list(Number);
one(tuples, Number) -> {Number, {Number + 1, {Number + 2, {}}}, {{Number}, {Number + 3, Number + 4}}};
one(lists, Number) -> [Number, [Number + 1, [Number + 1000], []], [[Number + 3000, Number + 4000]]];
one(small_maps, Number) -> #{id => Number, count => Number * 3, {key, Number} => Number rem 10};
one(records, Number) -> {order, Number, <<"customer">>, open, 12.5, [{item, Number * 3, 2}, {item, Number * 5, 1}], undefined};
one(structs, Number) -> #{'__struct__' => 'Elixir.Shop.Order', id => Number, state => open, name => <<"customer">>, lines => []};
one(small_binaries, Number) -> <<Number:32, 0:(124 * 8)>>.

atom(Number) -> list_to_atom("ring_atom_" ++ integer_to_list(Number * 31 rem 300)).
