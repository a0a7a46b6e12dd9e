%% A process that calls, sends acknowledged messages and monitors until it is told to stop, and then says what came of it.
-module(teleport_test_traffic).

-export([start/2, count/1, stop/1]).
-export([init/1]).

-type report() :: #{calls := non_neg_integer(), exits := [term()], sent := non_neg_integer(), refused := [term()],
                    acks := #{term() => pos_integer()}, downs := [term()], left := [term()]}.

-define(PATIENCE, 30000).
%% Of a call. Less than that, so that one which is lost is told of.
-define(ANSWERED, 20000).

%% At that node, to a `teleport_test_server'.
-spec start(node(), pid() | {atom(), node()}) -> pid().
start(Node, Server) ->
    spawn(Node, ?MODULE, init, [Server]).

%% How many calls have been answered, if it lives.
-spec count(pid()) -> non_neg_integer().
count(Traffic) ->
    maps:get(calls, ask(Traffic, report)).

%% What came of all, when all that was acknowledged has its answer.
-spec stop(pid()) -> report().
stop(Traffic) ->
    ask(Traffic, stop).

ask(Traffic, What) ->
    Monitor = erlang:monitor(process, Traffic),
    Traffic ! {What, self()},
    receive
        {report, Traffic, Report} -> erlang:demonitor(Monitor, [flush]), Report;
        {'DOWN', Monitor, process, Traffic, Reason} -> error({traffic_ended, Reason})
    after ?PATIENCE ->
        error({traffic_hangs, erpc:call(node(Traffic), erlang, process_info, [Traffic, [current_stacktrace, messages]])})
    end.

-spec init(pid() | {atom(), node()}) -> ok.
init(Server) ->
    loop(Server, teleport:monitor(Server), 1, #{calls => 0, exits => [], sent => 0, refused => [], acks => #{}, downs => [], left => []}).

loop(Server, Monitor, Number, State) ->
    receive
        {teleport, {ack, _}, Outcome} ->
            loop(Server, Monitor, Number, acknowledged(Outcome, State));
        {'DOWN', Monitor, process, _Object, Reason} ->
            loop(Server, teleport:monitor(Server), Number, note(downs, Reason, State));
        {report, From} ->
            From ! {report, self(), State},
            loop(Server, Monitor, Number, State);
        {stop, From} ->
            true = teleport:demonitor(Monitor),
            Ended = answers(State),
            From ! {report, self(), Ended#{left := teleport_test:mailbox()}},
            ok
    after 0 ->
        loop(Server, Monitor, Number + 1, act(Server, Number, State))
    end.

%% Calls one after the other. Some take longer than their callers wait.
act(Server, Number, State) ->
    case Number rem 6 of
        0 -> call(Server, {echo, binary:copy(<<Number:32>>, 25000)}, ?ANSWERED, State);
        1 -> call(Server, {echo, Number}, ?ANSWERED, State);
        2 -> send(Server, {note, Number}, State);
        3 -> call(Server, {echo, maps:from_list([{I, Number} || I <- lists:seq(1, 1000)])}, ?ANSWERED, State);
        4 -> send(Server, {note, binary:copy(<<Number:32>>, 25000)}, State);
        5 -> late(Server, Number, State)
    end.

call(Server, {echo, Term} = Request, Timeout, State) ->
    try teleport:gs_call(Server, Request, Timeout) of
        {ok, Term} -> State#{calls := maps:get(calls, State) + 1}
    catch
        exit:{Reason, {gen_server, call, _}} -> note(exits, Reason, State)
    end.

late(Server, Number, State) ->
    try teleport:gs_call(Server, {later, 5, Number}, 1) of
        {ok, Number} -> State
    catch
        exit:{timeout, {gen_server, call, _}} -> State;
        exit:{Reason, {gen_server, call, _}} -> note(exits, Reason, State)
    end.

send(Server, Message, State) ->
    case teleport:send(Server, Message, [{ack, {ack, make_ref()}}]) of
        ok -> State#{sent := maps:get(sent, State) + 1};
        {error, Reason} -> note(refused, Reason, State)
    end.

answers(#{sent := Sent, acks := Acks} = State) ->
    case lists:sum(maps:values(Acks)) of
        Sent -> State;
        _ ->
            receive {teleport, {ack, _}, Outcome} -> answers(acknowledged(Outcome, State))
            after ?PATIENCE -> State
            end
    end.

acknowledged(Outcome, #{acks := Acks} = State) ->
    State#{acks := maps:update_with(Outcome, fun(Count) -> Count + 1 end, 1, Acks)}.

%% Each reason once.
note(Key, Reason, State) ->
    State#{Key := lists:usort([Reason | maps:get(Key, State)])}.
