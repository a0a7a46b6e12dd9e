%% Stands between this node and a peer, and does to the connections what networks do.
%%
%% Peers are told to come here by the application's configuration (`peers').
-module(teleport_test_proxy).

-export([start/1, lives/2, sever/1, hold/2, release/1, counts/1]).

-export_type([counts/0]).

-type counts() :: #{accepted := non_neg_integer(), cut := non_neg_integer(), held := non_neg_integer()}.

-record(state, {
    %% Of each direction of a new connection: bytes after which it is cut.
    lives = infinity :: infinity | {pos_integer(), pos_integer()},
    %% Bytes of one direction of a connection after which nothing more of it is passed on.
    hold = infinity :: infinity | pos_integer(),
    pumps = #{} :: #{pid() => [gen_tcp:socket()]},
    held = [] :: [pid()],
    accepted = 0 :: non_neg_integer(),
    cut = 0 :: non_neg_integer()
}).

%% @doc Where to connect to, instead of there. Ends with the calling process.
-spec start(teleport_nif:address()) -> {pid(), teleport_nif:address()}.
start(Target) ->
    Caller = self(),
    Proxy = spawn_link(fun() ->
        {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {nodelay, true}, {ip, {127, 0, 0, 1}}]),
        {ok, Address} = inet:sockname(Listen),
        Self = self(),
        _ = spawn_link(fun() -> accept(Listen, Target, Self) end),
        _ = erlang:monitor(process, Caller),
        Caller ! {self(), Address},
        loop(#state{})
    end),
    receive {Proxy, Address} -> {Proxy, Address} end.

%% @doc New connections are cut after a number of bytes between these two.
-spec lives(pid(), {pos_integer(), pos_integer()} | infinity) -> ok.
lives(Proxy, Lives) -> ask(Proxy, {lives, Lives}).

%% @doc Cuts all connections, now.
-spec sever(pid()) -> ok.
sever(Proxy) -> ask(Proxy, sever).

%% @doc What a connection has carried in one direction is all it carries, from this many bytes on, until release/1.
-spec hold(pid(), pos_integer()) -> ok.
hold(Proxy, Bytes) -> ask(Proxy, {hold, Bytes}).

-spec release(pid()) -> ok.
release(Proxy) -> ask(Proxy, release).

%% @doc Connections that were made, that were cut, and directions of them that are held.
-spec counts(pid()) -> counts().
counts(Proxy) -> ask(Proxy, counts).

ask(Proxy, Question) ->
    Tag = make_ref(),
    Proxy ! {Question, self(), Tag},
    receive {Tag, Answer} -> Answer end.

loop(State) ->
    receive
        {connected, Sockets} ->
            loop(connected(Sockets, State));
        {{lives, Lives}, From, Tag} ->
            From ! {Tag, ok},
            loop(State#state{lives = Lives});
        {sever, From, Tag} ->
            All = lists:usort(lists:append(maps:values(State#state.pumps))),
            lists:foreach(fun reset/1, All),
            From ! {Tag, ok},
            loop(State#state{cut = State#state.cut + length(All) div 2});
        {{hold, Bytes}, From, Tag} ->
            [Pump ! {hold, Bytes} || Pump <- maps:keys(State#state.pumps)],
            From ! {Tag, ok},
            loop(State#state{hold = Bytes});
        {release, From, Tag} ->
            [Pump ! release || Pump <- maps:keys(State#state.pumps)],
            From ! {Tag, ok},
            loop(State#state{hold = infinity, held = []});
        {held, Pump} ->
            loop(State#state{held = [Pump | State#state.held]});
        {counts, From, Tag} ->
            From ! {Tag, #{accepted => State#state.accepted, cut => State#state.cut,
                           held => length(State#state.held)}},
            loop(State);
        {ended, Pump, How} ->
            loop(ended(Pump, How, State));
        {'DOWN', _, process, _Caller, _} ->
            exit(shutdown)
    end.

connected([A, B] = Sockets, #state{lives = Lives, hold = Hold, pumps = Pumps, accepted = Accepted} = State) ->
    Proxy = self(),
    New = [{spawn_link(fun() -> pump(Proxy, From, To, life(Lives), Hold, 0) end), Sockets}
           || {From, To} <- [{A, B}, {B, A}]],
    State#state{pumps = maps:merge(Pumps, maps:from_list(New)), accepted = Accepted + 1}.

ended(Pump, How, #state{pumps = Pumps, cut = Cut} = State) ->
    {Sockets, Rest} = maps:take(Pump, Pumps),
    %% The other direction may still carry something: closed before it has ended, the connection would be reset, and what
    %% this one was given last be lost.
    lists:member(Sockets, maps:values(Rest)) orelse lists:foreach(fun gen_tcp:close/1, Sockets),
    State#state{pumps = Rest, cut = Cut + case How of cut -> 1; closed -> 0 end}.

life(infinity) -> infinity;
life({Least, Most}) -> Least + rand:uniform(Most - Least + 1) - 1.

accept(Listen, Target, Proxy) ->
    {ok, A} = gen_tcp:accept(Listen),
    {Ip, Port} = Target,
    case gen_tcp:connect(Ip, Port, [binary, {active, false}, {nodelay, true}]) of
        {ok, B} -> Proxy ! {connected, [A, B]};
        {error, _} -> gen_tcp:close(A)
    end,
    accept(Listen, Target, Proxy).

%% One direction of a connection.
pump(Proxy, From, To, Life, Hold, Carried) ->
    case gen_tcp:recv(From, 0) of
        {ok, Data} ->
            NewHold = pass(Proxy, Hold, Carried),
            case byte_size(Data) < Life of % numbers are before atoms
                true ->
                    _ = gen_tcp:send(To, Data),
                    pump(Proxy, From, To, less(Life, byte_size(Data)), NewHold, Carried + byte_size(Data));
                false ->
                    _ = gen_tcp:send(To, binary:part(Data, 0, Life)),
                    reset(From),
                    reset(To),
                    Proxy ! {ended, self(), cut}
            end;
        {error, _} ->
            _ = gen_tcp:shutdown(To, write),
            Proxy ! {ended, self(), closed}
    end.

less(infinity, _Bytes) -> infinity;
less(Life, Bytes) -> Life - Bytes.

%% Waits while this direction is held.
pass(Proxy, Hold, Carried) ->
    receive
        {hold, Bytes} -> pass(Proxy, Bytes, Carried);
        release -> pass(Proxy, infinity, Carried)
    after 0 ->
        case Carried < Hold of
            true ->
                Hold;
            false ->
                Proxy ! {held, self()},
                receive release -> infinity end
        end
    end.

%% Without what is left in its buffers.
reset(Socket) ->
    _ = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).
