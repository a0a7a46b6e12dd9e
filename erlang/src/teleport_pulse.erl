%% @private
%% A process that answers the engine, so that the engine knows that this virtual machine lives. The engine's
%% threads go on when no scheduler runs, and while a crash dump is written: the port here is closed before.
%% Without five answers in a row, of four in a ticktime, or with the port closed, the engine ends, and peers see a nodedown.
-module(teleport_pulse).

-export([start/0, open/1, answer/2]).

%% Begins to answer the engine that has been started.
-spec start() -> ok.
start() ->
    case teleport_nif:pulse() of
        {ok, Descriptor} ->
            %% Of no supervisor: it ends with the engine, also one that a killed manager has left.
            _ = try spawn_opt(?MODULE, open, [Descriptor], [{priority, max}]) catch error:system_limit -> none end,
            ok;
        {error, _Reason} ->
            ok % the engine has ended, or there are no descriptors or threads to be had
    end.

-spec open(teleport_nif:plain()) -> ok.
open(Descriptor) ->
    case gen_tcp:fdopen(teleport_nif:plain_descriptor(Descriptor), [{inet_backend, inet}, local, binary, {active, true}]) of
        {ok, Socket} ->
            _ = gen_tcp:send(Socket, <<1>>),
            %% So it is in no version of this module.
            erlang:hibernate(?MODULE, answer, [Descriptor, Socket]);
        {error, _Reason} ->
            ok % the engine asks for nothing then
    end.

-spec answer(teleport_nif:plain(), gen_tcp:socket()) -> ok.
answer(Descriptor, Socket) ->
    receive
        {tcp, Socket, _Asked} ->
            _ = gen_tcp:send(Socket, <<1>>),
            erlang:hibernate(?MODULE, answer, [Descriptor, Socket]);
        {tcp_closed, Socket} ->
            close(Descriptor, Socket);
        {tcp_error, Socket, _Reason} ->
            close(Descriptor, Socket);
        _Other ->
            erlang:hibernate(?MODULE, answer, [Descriptor, Socket])
    end.

%% A port that was opened with a descriptor does not close it.
-spec close(teleport_nif:plain(), gen_tcp:socket()) -> ok.
close(Descriptor, Socket) ->
    ok = gen_tcp:close(Socket),
    try teleport_nif:plain_close(Descriptor)
    catch error:badarg -> ok % it is of a library that was loaded before, and closed when this process has ended
    end.
