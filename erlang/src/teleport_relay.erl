%% @private
%% Watches processes of this node on behalf of peers: holds the monitor, and gets the replies of calls.
%%
%% A request is delivered to its server by the engine, with `From = {Caller, [[alias|Alias]|Watch]}', where Alias is this
%% process's. So an unmodified server's reply comes here, and its DOWN behind it; both go back over the pool.
-module(teleport_relay).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    alias :: reference(),
    %% Every process that is monitored, and who waits for it: by number, the engine's handle.
    processes = #{} :: #{pid() => {Monitor :: reference(), #{pos_integer() => teleport_nif:watch()}}},
    numbers = #{} :: #{pos_integer() => pid()},
    %% Processes that nobody waited for at the last sweep.
    idle = #{} :: #{pid() => []}
}).

%% A process for which nobody waits is monitored for another while, in milliseconds: the next one who calls it then has
%% nothing to wait for.
-define(SWEEP, 30000).

-spec start_link(non_neg_integer(), pos_integer()) -> gen_server:start_ret().
start_link(Place, Count) ->
    gen_server:start_link(?MODULE, {Place, Count}, []).

-spec init({non_neg_integer(), pos_integer()}) -> {ok, #state{}}.
init({Place, Count}) ->
    Alias = erlang:alias(),
    ok = teleport_nif:relay(Place, Count, Alias),
    _ = erlang:send_after(?SWEEP, self(), sweep),
    {ok, #state{alias = Alias}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({watch, Number, Watch, Process, IsAwaited}, State) ->
    {noreply, watch(Number, Watch, Process, IsAwaited, State)};
handle_info({[[alias | Alias] | Number], Reply}, #state{alias = Alias} = State) ->
    case take(Number, State) of
        {Watch, Rest} ->
            reply(Watch, Reply),
            {noreply, Rest};
        error ->
            {noreply, State}
    end;
handle_info({'DOWN', _Monitor, process, Process, Reason}, State) ->
    {noreply, down(Process, Reason, State)};
handle_info({unwatch, Number}, State) ->
    case take(Number, State) of
        {_Watch, Rest} -> {noreply, Rest};
        error -> {noreply, State}
    end;
handle_info({reject, Number}, State) ->
    case take(Number, State) of
        {Watch, Rest} ->
            %% Not left to the collector of garbage: the caller waits.
            ok = teleport_nif:reject(Watch),
            {noreply, Rest};
        error ->
            {noreply, State}
    end;
handle_info(sweep, State) ->
    _ = erlang:send_after(?SWEEP, self(), sweep),
    {noreply, sweep(State)};
handle_info({forget, Process}, State) ->
    {noreply, forget(Process, State)};
handle_info(_Other, State) ->
    {noreply, State}.

-spec watch(pos_integer(), teleport_nif:watch(), pid(), boolean(), #state{}) -> #state{}.
watch(Number, Watch, Process, IsAwaited, #state{processes = Processes, numbers = Numbers, idle = Idle} = State) ->
    {Monitor, Watches} = case Processes of
        #{Process := Known} -> Known;
        #{} -> {erlang:monitor(process, Process), #{}}
    end,
    IsAwaited andalso begin
        %% The virtual machine may keep a monitor's signal back, to send it with another one, until a process yields.
        true = erlang:yield(),
        teleport_nif:watching(Process)
    end,
    State#state{processes = Processes#{Process => {Monitor, Watches#{Number => Watch}}},
                numbers = Numbers#{Number => Process},
                idle = maps:remove(Process, Idle)}.

%% If it is too large the caller is told.
-spec reply(teleport_nif:watch(), term()) -> ok.
reply(Watch, Reply) ->
    _ = case teleport_nif:reply(Watch, {term, Reply}) of
        not_small -> teleport_nif:reply(Watch, {encoded, teleport_send:encode(Reply)});
        Answered -> Answered
    end,
    ok.

%% Ends a watch here.
-spec take(term(), #state{}) -> {teleport_nif:watch(), #state{}} | error.
take(Number, #state{processes = Processes, numbers = Numbers} = State) ->
    case maps:take(Number, Numbers) of
        {Process, Rest} ->
            #{Process := {Monitor, Watches}} = Processes,
            {Watch, Others} = maps:take(Number, Watches),
            {Watch, State#state{processes = Processes#{Process := {Monitor, Others}}, numbers = Rest}};
        error ->
            error
    end.

-spec down(pid(), term(), #state{}) -> #state{}.
down(Process, Reason, #state{processes = Processes, numbers = Numbers, idle = Idle} = State) ->
    case maps:take(Process, Processes) of
        {{_Monitor, Watches}, Rest} ->
            _ = teleport_nif:unwatching(Process),
            Encoded = teleport_send:encode(Reason),
            maps:foreach(fun(_Number, Watch) -> ok = teleport_nif:down(Watch, Encoded) end, Watches),
            State#state{processes = Rest,
                        numbers = maps:without(maps:keys(Watches), Numbers),
                        idle = maps:remove(Process, Idle)};
        error ->
            State
    end.

%% The engine is told first that a process is not monitored any more. What it has sent here before it knew is in the
%% mailbox then, in front of `forget'.
-spec sweep(#state{}) -> #state{}.
sweep(#state{processes = Processes, idle = Idle} = State) ->
    Unwatched = maps:filtermap(fun(_Process, {_Monitor, Watches}) -> map_size(Watches) =:= 0 andalso {true, []} end,
                               Processes),
    Forgotten = maps:with(maps:keys(Idle), Unwatched),
    maps:foreach(fun(Process, []) ->
        _ = teleport_nif:unwatching(Process),
        self() ! {forget, Process}
    end, Forgotten),
    State#state{idle = maps:without(maps:keys(Forgotten), Unwatched)}.

-spec forget(pid(), #state{}) -> #state{}.
forget(Process, #state{processes = Processes} = State) ->
    case Processes of
        #{Process := {Monitor, Watches}} when map_size(Watches) =:= 0 ->
            true = erlang:demonitor(Monitor, [flush]),
            State#state{processes = maps:remove(Process, Processes)};
        #{} ->
            State
    end.
