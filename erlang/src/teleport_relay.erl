%% @private
%% Monitors processes of this node on behalf of peers, and gets the replies of calls.
%%
%% A request is delivered to its server by the engine, with `From = {Caller, [[alias|Alias]|Watch]}', where Alias is this
%% process's. So an unmodified server's reply comes here, and its DOWN behind it; both go back over the pool. Who waits for
%% what is known to the engine alone.
%%
%% Relays are shared by all servers, so nothing that may take long is done here: what is not small is encoded by a process of
%% its own. The engine keeps its place meanwhile.
-module(teleport_relay).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    place :: non_neg_integer(),
    alias :: reference(),
    %% The processes that are monitored.
    processes = #{} :: #{pid() => Monitor :: reference()},
    %% What is being encoded: the monitor of the process that does it, and for whom.
    encoders = #{} :: #{reference() => answer()}
}).

%% The answer of a watch, or the reason of a process's end.
-type answer() :: {reply, pos_integer(), term()} | {down, pid(), term()}.

%% A process for which nobody waits is monitored for another while, in milliseconds: the next request to it then has
%% nothing to wait for.
-define(SWEEP, 30000).

-spec start_link(non_neg_integer(), pos_integer()) -> gen_server:start_ret().
start_link(Place, Count) ->
    gen_server:start_link(?MODULE, {Place, Count}, []).

-spec init({non_neg_integer(), pos_integer()}) -> {ok, #state{}}.
init({Place, Count}) ->
    %% What is large is only passed on: it should not be moved by a collection of garbage here.
    _ = process_flag(message_queue_data, off_heap),
    Alias = erlang:alias(),
    ok = teleport_nif:relay(Place, Count, Alias),
    _ = erlang:send_after(?SWEEP, self(), sweep),
    {ok, #state{place = Place, alias = Alias}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({watch, Process}, #state{processes = Processes} = State) ->
    Monitor = erlang:monitor(process, Process),
    %% The virtual machine may keep a monitor's signal back, to send it with another one, until a process yields.
    true = erlang:yield(),
    _ = teleport_nif:watching(Process),
    {noreply, State#state{processes = Processes#{Process => Monitor}}};
handle_info({[[alias | Alias] | Number], Reply}, #state{alias = Alias} = State) ->
    {noreply, reply(Number, Reply, State)};
handle_info({'DOWN', Monitor, process, _Encoder, Result}, #state{encoders = Encoders} = State)
  when is_map_key(Monitor, Encoders) ->
    {Answer, Others} = maps:take(Monitor, Encoders),
    Result =:= normal orelse not_encoded(Answer),
    {noreply, State#state{encoders = Others}};
handle_info({'DOWN', Monitor, process, Process, Reason}, #state{processes = Processes} = State) ->
    case Processes of
        #{Process := Monitor} ->
            {noreply, down(Process, Reason, State#state{processes = maps:remove(Process, Processes)})};
        #{} ->
            {noreply, State}
    end;
handle_info(sweep, #state{place = Place, processes = Processes} = State) ->
    _ = erlang:send_after(?SWEEP, self(), sweep),
    %% From now on the engine asks for them anew.
    Idle = teleport_nif:sweep(Place),
    lists:foreach(fun(Process) -> forget(Process, Processes) end, Idle),
    {noreply, State#state{processes = maps:without(Idle, Processes)}};
handle_info(_Other, State) ->
    {noreply, State}.

-spec reply(term(), term(), #state{}) -> #state{}.
reply(Number, Reply, State) when is_integer(Number), Number > 0, Number < 1 bsl 64 ->
    case teleport_nif:reply(Number, {term, Reply}) of
        not_small ->
            case teleport_nif:answering(Number) of
                true -> encode({reply, Number, Reply}, State);
                false -> State
            end;
        %% If it is too large the caller is told.
        _Answered ->
            State
    end;
reply(_NoNumber, _Reply, State) ->
    State.

-spec down(pid(), term(), #state{}) -> #state{}.
down(Process, Reason, State) ->
    _ = teleport_nif:ended(Process),
    case teleport_nif:down(Process, {term, Reason}) of
        not_small -> encode({down, Process, Reason}, State);
        ok -> State
    end.

-spec forget(pid(), #{pid() => reference()}) -> true.
forget(Process, Processes) ->
    case Processes of
        #{Process := Monitor} -> erlang:demonitor(Monitor, [flush]);
        #{} -> true
    end.

%% Has it encoded and sent. What is kept of it has no part of the term.
-spec encode(answer(), #state{}) -> #state{}.
encode(Answer, #state{encoders = Encoders} = State) ->
    {_Encoder, Monitor} = spawn_monitor(fun() -> send(Answer) end),
    State#state{encoders = Encoders#{Monitor => setelement(3, Answer, [])}}.

-spec send(answer()) -> ok.
send({reply, Number, Reply}) ->
    try teleport_send:encode(Reply) of
        Encoded ->
            _ = teleport_nif:reply(Number, {encoded, Encoded}),
            ok
    catch
        %% It may be expensive to print.
        _:_ -> exit(no_form)
    end;
send({down, Process, Reason}) ->
    try teleport_send:encode(Reason) of
        Encoded -> ok = teleport_nif:down(Process, {encoded, Encoded})
    catch
        _:_ -> exit(no_form)
    end.

%% It has no form, or its process was killed.
-spec not_encoded(answer()) -> ok.
not_encoded({reply, Number, _}) -> teleport_nif:reject(Number);
not_encoded({down, Process, _}) -> teleport_nif:down(Process, {encoded, teleport_send:encode(too_large)}).
