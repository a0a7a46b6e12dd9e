%% Loads a cluster of RabbitMQ by AMQP, and says how long small messages took: a quorum queue takes messages of 10 MiB, while small ones
%% are published, each confirmed, into a quorum queue and into a queue of the other node.
-module(real_rabbitmq).

-export([main/1]).

-include_lib("amqp_client/include/amqp_client.hrl").

-define(LARGE, 10485760).

%% How long one confirmation may take, in seconds.
-define(PATIENCE, 60).

%% Arguments: the carrier, the ports of both nodes, for how many seconds.
main([Carrier, Port1, Port2, Seconds]) ->
    {ok, _} = application:ensure_all_started(amqp_client),
    logger:set_primary_config(level, error),
    First = connect(Port1),
    Second = connect(Port2),
    Setup = channel(First),
    Quorum = [{<<"x-queue-type">>, longstr, <<"quorum">>}],
    [#'queue.declare_ok'{} = amqp_channel:call(Setup, #'queue.declare'{queue = Queue, durable = true, arguments = Arguments})
     || {Queue, Arguments} <- [{<<"large">>, Quorum}, {<<"small_quorum">>, Quorum}, {<<"small">>, []}]],
    [consume(First, Queue) || Queue <- [<<"large">>, <<"small_quorum">>, <<"small">>]],
    Idle = [small(Second, Queue, 3000) || Queue <- [<<"small">>, <<"small_quorum">>]],
    Until = erlang:monotonic_time(millisecond) + list_to_integer(Seconds) * 1000,
    Content = binary:copy(<<"x">>, ?LARGE),
    Publishers = [async(fun() -> publish(channel(Second), <<"large">>, Content, 0, Until, []) end) || _ <- [1, 2]],
    Loaded = both([async(fun() -> small(Second, Queue, list_to_integer(Seconds) * 1000) end)
                   || Queue <- [<<"small">>, <<"small_quorum">>]]),
    Large = lists:append(both(Publishers)),
    true = length(Large) > 0,
    [io:format("| RabbitMQ | ~ts | ~ts | ~b | ~.1f / ~.1f | ~b | ~.1f / ~.1f / ~.1f |~n",
               [Carrier, Name, length(Large), percentile(Quiet, 50), percentile(Quiet, 99), length(Times),
                percentile(Times, 50), percentile(Times, 99), percentile(Times, 100)])
     || {Name, Quiet, Times} <- lists:zip3(["classic queue", "quorum queue"], Idle, Loaded)],
    erlang:halt(0).

connect(Port) ->
    {ok, Connection} = amqp_connection:start(#amqp_params_network{port = list_to_integer(Port), frame_max = 0}),
    Connection.

channel(Connection) ->
    {ok, Channel} = amqp_connection:open_channel(Connection),
    Channel.

consume(Connection, Queue) ->
    spawn_link(fun() ->
        Channel = channel(Connection),
        #'basic.qos_ok'{} = amqp_channel:call(Channel, #'basic.qos'{prefetch_count = 4}),
        _ = amqp_channel:subscribe(Channel, #'basic.consume'{queue = Queue}, self()),
        consume(Channel)
    end).

consume(Channel) ->
    receive
        {#'basic.deliver'{delivery_tag = Tag}, _} -> amqp_channel:cast(Channel, #'basic.ack'{delivery_tag = Tag});
        _ -> ok
    end,
    consume(Channel).

%% How long each confirmation took.
small(Connection, Queue, Milliseconds) ->
    publish(channel(Connection), Queue, <<0:1024>>, 10, erlang:monotonic_time(millisecond) + Milliseconds, []).

publish(Channel, Queue, Payload, Pause, Until, Times) ->
    Times =:= [] andalso (#'confirm.select_ok'{} = amqp_channel:call(Channel, #'confirm.select'{})),
    Begin = erlang:monotonic_time(microsecond),
    case Begin div 1000 > Until of
        true ->
            Times;
        false ->
            ok = amqp_channel:cast(Channel, #'basic.publish'{routing_key = Queue},
                                   #amqp_msg{props = #'P_basic'{delivery_mode = 2}, payload = Payload}),
            true = amqp_channel:wait_for_confirms(Channel, ?PATIENCE),
            Took = erlang:monotonic_time(microsecond) - Begin,
            receive after Pause -> ok end,
            publish(Channel, Queue, Payload, Pause, Until, [Took | Times])
    end.

async(Fun) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), Fun()} end).

both(Pids) ->
    [receive {Pid, Result} -> Result end || Pid <- Pids].

percentile(Times, Percent) ->
    lists:nth(max(1, ceil(length(Times) * Percent / 100)), lists:sort(Times)) / 1000.
