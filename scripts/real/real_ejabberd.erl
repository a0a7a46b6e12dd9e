%% Loads a cluster of ejabberd by XMPP, and says how long small messages took from a user of one node to a user of the other, beside
%% messages of 10 MiB of others.
-module(real_ejabberd).

-export([main/1]).

-define(LARGE, 10485760).
-define(STREAM, "<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' "
                "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>").
%% After this many milliseconds a message is lost.
-define(PATIENCE, 5000).

%% Arguments: the carrier, the ports of both nodes, for how many seconds.
main([Carrier, Port1, Port2, Seconds]) ->
    From = login(Port1, "small_from"),
    To = login(Port2, "small_to"),
    ok = meet(From, To, "small_to"),
    Quiet = small(From, To, until(3), []),
    Until = until(list_to_integer(Seconds)),
    Self = self(),
    Large = [spawn_link(fun() ->
        Sender = login(Port1, "large_from" ++ N),
        Receiver = login(Port2, "large_to" ++ N),
        ok = meet(Sender, Receiver, "large_to" ++ N),
        Self ! {self(), large(Sender, Receiver, "large_to" ++ N, Until, {0, 0})}
    end) || N <- ["1", "2"]],
    Loaded = small(From, To, Until, []),
    {Counts, Lost} = lists:unzip([receive {Pid, Sent} -> Sent end || Pid <- Large]),
    Came = [Took || Took <- Loaded, Took =/= lost],
    io:format("| ejabberd | ~ts | user to user | ~b (~b lost) | ~.1f / ~.1f | ~b (~b lost) | ~.1f / ~.1f / ~.1f |~n",
              [Carrier, lists:sum(Counts), lists:sum(Lost), percentile(Quiet, 50), percentile(Quiet, 99),
               length(Came), length(Loaded) - length(Came),
               percentile(Came, 50), percentile(Came, 99), percentile(Came, 100)]),
    erlang:halt(0).

until(Seconds) ->
    erlang:monotonic_time(millisecond) + Seconds * 1000.

login(Port, User) ->
    {ok, Socket} = gen_tcp:connect("127.0.0.1", list_to_integer(Port), [binary, {active, false}, {nodelay, true}]),
    ok = ask(Socket, ?STREAM, <<"</stream:features>">>),
    Secret = base64:encode(<<0, (list_to_binary(User))/binary, 0, "secret">>),
    ok = ask(Socket, ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>", Secret, "</auth>"], <<"<success">>),
    ok = ask(Socket, ?STREAM, <<"</stream:features>">>),
    ok = ask(Socket, "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>",
             <<"</iq>">>),
    ok = ask(Socket, "<presence/>", <<"<presence">>),
    Socket.

ask(Socket, Text, Answer) ->
    ok = gen_tcp:send(Socket, Text),
    await(Socket, Answer, <<>>).

await(Socket, Answer, Before) ->
    case gen_tcp:recv(Socket, 0, ?PATIENCE) of
        {ok, Data} ->
            Come = <<Before/binary, Data/binary>>,
            case binary:match(Come, Answer) of
                nomatch -> await(Socket, Answer, binary:part(Come, byte_size(Come), -min(byte_size(Come), 100)));
                _ -> ok
            end;
        {error, timeout} ->
            lost
    end.

send(Socket, To, Body) ->
    ok = gen_tcp:send(Socket, ["<message type='chat' to='", To, "@localhost/r'><body>", Body, "</body></message>"]).

%% ejabberd sends to the other node with `nosuspend', and drops what it cannot send at once.
small(From, To, Until, Times) ->
    Begin = erlang:monotonic_time(microsecond),
    case Begin div 1000 > Until of
        true ->
            Times;
        false ->
            Text = integer_to_binary(Begin),
            ok = send(From, "small_to", Text),
            Took = case await(To, <<">", Text/binary, "</body></message>">>, <<>>) of
                ok -> erlang:monotonic_time(microsecond) - Begin;
                lost -> lost
            end,
            receive after 10 -> ok end,
            small(From, To, Until, [Took | Times])
    end.

%% A user who has just come is not known to the other node at once, and what is sent then is dropped.
meet(From, To, Name) ->
    ok = send(From, Name, "are you there"),
    case gen_tcp:recv(To, 0, 500) of
        {error, timeout} -> meet(From, To, Name);
        {ok, _} -> drain(To)
    end.

drain(Socket) ->
    case gen_tcp:recv(Socket, 0, 500) of
        {error, timeout} -> ok;
        {ok, _} -> drain(Socket)
    end.

large(From, To, Name, Until, {Count, Lost}) ->
    case erlang:monotonic_time(millisecond) > Until of
        true ->
            {Count, Lost};
        false ->
            ok = send(From, Name, binary:copy(<<"x">>, ?LARGE)),
            case await(To, <<"</message>">>, <<>>) of
                ok -> large(From, To, Name, Until, {Count + 1, Lost});
                lost -> large(From, To, Name, Until, {Count, Lost + 1})
            end
    end.

percentile(Times, Percent) ->
    lists:nth(max(1, ceil(length(Times) * Percent / 100)), lists:sort(Times)) / 1000.
