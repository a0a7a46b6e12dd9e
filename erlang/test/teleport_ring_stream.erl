%% Terms of one shape from a process of one node to a process of another, several under way: what `teleport_ring' calls.
-module(teleport_ring_stream).

-export([start/0, stream/4]).

-export_type([shape/0]).

-type shape() :: binaries_80000x128 | term_1mb | {binary, Bytes :: pos_integer()}.

%% Groups of terms under way, and the bytes from which on one term is a group: so that small ones do not wait for answers.
-define(GROUPS, 4).
-define(GROUP_BYTES, 262144).

%% @doc Starts the process that receives.
-spec start() -> ok.
start() ->
    true = register(?MODULE, spawn(fun sink/0)),
    ok.

%% @doc Sends for this long to the process on that node; megabytes per second in the external term format, until the last term is
%% there.
-spec stream(teleport_ring_node:transport(), node(), shape(), pos_integer()) -> float().
stream(Transport, Node, Shape, Milliseconds) ->
    Term = term(Shape),
    Bytes = erlang:external_size(Term),
    To = {?MODULE, Node},
    check(Transport, To, Term),
    Group = max(1, ?GROUP_BYTES div Bytes),
    Tag = make_ref(),
    Start = erlang:monotonic_time(),
    End = Start + erlang:convert_time_unit(Milliseconds, millisecond, native),
    Sent = groups(Transport, To, Term, Group, Tag, End, 0, 0),
    Nanoseconds = erlang:convert_time_unit(erlang:monotonic_time() - Start, native, nanosecond),
    Sent * Group * Bytes * 1000 / Nanoseconds.

%% It arrives as it is; this also sets up the way.
check(Transport, To, Term) ->
    Tag = make_ref(),
    send(Transport, To, {check, Transport, self(), Tag, Term}),
    Hash = erlang:phash2(Term),
    receive
        {Tag, Hash} -> ok;
        {Tag, _Other} -> error({damaged, Transport})
    end.

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
        {check, Transport, From, Tag, Term} -> send(Transport, From, {Tag, erlang:phash2(Term)})
    end,
    sink().

send(teleport, To, Message) -> ok = teleport:send(To, Message);
send(_Transport, To, Message) -> _ = erlang:send(To, Message), ok.

term(binaries_80000x128) ->
    [<<Number:32, 0:(124 * 8)>> || Number <- lists:seq(1, 80000)];
term(term_1mb) ->
    [{entry, Number, {Number bsl 20, Number / 3}, [ok, {value, Number rem 251}, "text"]} || Number <- lists:seq(1, 15750)];
term({binary, Bytes}) ->
    binary:copy(<<7>>, Bytes).
