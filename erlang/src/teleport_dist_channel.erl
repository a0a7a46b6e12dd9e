%% @private
%% The two processes of a connection of distributed Erlang: one pulls what goes to the peer out of the virtual machine, and one puts in what
%% comes from it. Both are linked with the process that looks after the connection, and with each other.
%%
%% When this module is loaded anew they go on in the new version with the next message; those that have nothing to do hibernate, and so are
%% in none. Else the second time would end all connections.
-module(teleport_dist_channel).

-export([start_link/1, up/2]).
-export([init/2, pull/2, pull_all/2, wait_for_room/2, take/2, take_all/2, take_all/3]).

%% What is garbage refers to messages, and hardly anything else is on their heaps.
-define(OPTIONS, [link, {message_queue_data, off_heap}, {fullsweep_after, 0}]).

%% Words. What is received is freed when garbage is collected, and the fewer times that is the better: it wakes a thread of the virtual
%% machine's.
-define(TAKER_HEAP, 4096).

%% Milliseconds without a message until a process hibernates.
-define(IDLE, 1000).

%% The most messages, and the most bytes, that are handed on at once.
-define(MESSAGES, 256).
-define(BYTES, 262144).

%% So many times in a row something is put in with priority.
-define(BURST, 256).

%% The process that pulls, which waits for up/2.
-spec start_link(teleport_nif:channel()) -> pid().
start_link(Channel) ->
    spawn_opt(?MODULE, init, [Channel, self()], ?OPTIONS).

%% The virtual machine has the connection.
-spec up(pid(), erlang:dist_handle()) -> ok.
up(Controller, Handle) ->
    Monitor = erlang:monitor(process, Controller),
    Controller ! {up, self(), Monitor, Handle},
    receive
        {Monitor, ok} ->
            true = erlang:demonitor(Monitor, [flush]),
            ok;
        {'DOWN', Monitor, process, Controller, Reason} ->
            exit(Reason)
    end.

-spec init(teleport_nif:channel(), pid()) -> no_return().
init(Channel, Owner) ->
    receive
        {up, Owner, Tag, Handle} ->
            %% What has come goes before what is to be done about it. What pulls has no priority: it would pull each message alone.
            Taker = spawn_opt(?MODULE, take, [Channel, Handle], [{priority, high}, {min_heap_size, ?TAKER_HEAP} | ?OPTIONS]),
            true = erlang:link(Taker),
            ok = erlang:dist_ctrl_input_handler(Handle, Taker),
            Taker ! {self(), up},
            false = erlang:dist_ctrl_set_opt(Handle, get_size, true),
            Owner ! {Tag, ok},
            ok = erlang:dist_ctrl_get_data_notification(Handle),
            pull(Channel, Handle)
    end.

-spec pull(teleport_nif:channel(), erlang:dist_handle()) -> no_return().
pull(Channel, Handle) ->
    receive
        dist_data -> pull_all(Channel, Handle);
        {teleport_carrier, room} -> pull_all(Channel, Handle);
        %% OTP's own suites, and nothing else, have messages of their making sent.
        {send, From, Tag, Message} ->
            From ! {Tag, ok},
            case put_out(Channel, [[iolist_to_binary(Message)]]) of
                ok -> ?MODULE:pull(Channel, Handle);
                busy -> wait_for_room(Channel, Handle)
            end;
        _Other -> ?MODULE:pull(Channel, Handle)
    after ?IDLE ->
        erlang:hibernate(?MODULE, pull, [Channel, Handle])
    end.

-spec pull_all(teleport_nif:channel(), erlang:dist_handle()) -> no_return().
pull_all(Channel, Handle) ->
    {Messages, IsAll} = pulled(Handle, [], 0, 0),
    case {put_out(Channel, Messages), IsAll} of
        {ok, true} ->
            ok = erlang:dist_ctrl_get_data_notification(Handle),
            ?MODULE:pull(Channel, Handle);
        {ok, false} ->
            ?MODULE:pull_all(Channel, Handle);
        %% The virtual machine suspends those who send more than it is to keep.
        {busy, true} ->
            ok = erlang:dist_ctrl_get_data_notification(Handle),
            wait_for_room(Channel, Handle);
        {busy, false} ->
            wait_for_room(Channel, Handle)
    end.

-spec put_out(teleport_nif:channel(), [[binary()]]) -> ok | busy.
put_out(Channel, Messages) ->
    Put = case teleport_nif:carrier_put(Channel, Messages) of
        not_small -> teleport_nif:carrier_put_many(Channel, Messages);
        Done -> Done
    end,
    case Put of
        closed -> exit(connection_closed);
        {error, Text} -> exit({no_message, Text});
        _ -> Put
    end.

-spec wait_for_room(teleport_nif:channel(), erlang:dist_handle()) -> no_return().
wait_for_room(Channel, Handle) ->
    receive
        {teleport_carrier, room} -> pull_all(Channel, Handle)
    after ?IDLE ->
        erlang:hibernate(?MODULE, wait_for_room, [Channel, Handle])
    end.

pulled(_Handle, Messages, Count, Bytes) when Count >= ?MESSAGES; Bytes >= ?BYTES ->
    {lists:reverse(Messages), false};
pulled(Handle, Messages, Count, Bytes) ->
    case erlang:dist_ctrl_get_data(Handle) of
        none -> {lists:reverse(Messages), true};
        {Size, Message} -> pulled(Handle, [Message | Messages], Count + 1, Bytes + Size)
    end.

-spec take(teleport_nif:channel(), erlang:dist_handle()) -> no_return().
take(Channel, Handle) ->
    receive
        {_Controller, up} -> take_all(Channel, Handle)
    end.

-spec take_all(teleport_nif:channel(), erlang:dist_handle()) -> no_return().
take_all(Channel, Handle) ->
    take_all(Channel, Handle, 0).

%% In a flood that does not end it has no priority, or the receivers would not run.
-spec take_all(teleport_nif:channel(), erlang:dist_handle(), non_neg_integer()) -> no_return().
take_all(Channel, Handle, Batches) ->
    case teleport_nif:carrier_take(Channel) of
        waiting ->
            _ = Batches > ?BURST andalso process_flag(priority, high),
            receive
                {teleport_carrier, data} -> ?MODULE:take_all(Channel, Handle)
            after ?IDLE ->
                erlang:hibernate(?MODULE, take_all, [Channel, Handle])
            end;
        closed ->
            exit(connection_closed);
        Messages ->
            %% The connection may be gone.
            try put_all(Messages, Handle)
            catch error:badarg -> exit(connection_closed)
            end,
            _ = Batches =:= ?BURST andalso process_flag(priority, normal),
            ?MODULE:take_all(Channel, Handle, Batches + 1)
    end.

put_all([], _Handle) ->
    ok;
put_all([Message | Messages], Handle) ->
    ok = erlang:dist_ctrl_put_data(Handle, Message),
    put_all(Messages, Handle).
