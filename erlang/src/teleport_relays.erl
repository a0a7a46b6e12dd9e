%% @private
%% Starts a relay for each process that peers begin to call or monitor, and ends relays that are no longer
%% needed.
-module(teleport_relays).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    place :: non_neg_integer(),
    %% The relays by their processes, and the processes by their relays.
    relays = #{} :: #{pid() => pid()},
    processes = #{} :: #{pid() => pid()}
}).

%% Milliseconds between two sweeps. A relay outlives its last call for one to two of them, so that the next
%% call need not wait for a new one.
-define(SWEEP, 30000).

-spec start_link(non_neg_integer(), pos_integer()) -> gen_server:start_ret().
start_link(Place, Count) ->
    gen_server:start_link(?MODULE, {Place, Count}, []).

-spec init({non_neg_integer(), pos_integer()}) -> {ok, #state{}}.
init({Place, Count}) ->
    process_flag(trap_exit, true),
    ok = teleport_nif:relays(Place, Count),
    _ = erlang:send_after(?SWEEP, self(), sweep),
    {ok, #state{place = Place}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({watch, Process}, #state{relays = Relays, processes = Processes} = State) ->
    try teleport_relay:start_link(Process) of
        Relay -> {noreply, State#state{relays = Relays#{Process => Relay}, processes = Processes#{Relay => Process}}}
    catch
        %% There are too many processes: the calls and monitors that wait for the relay fail.
        error:system_limit ->
            _ = teleport_nif:unwatched(Process),
            {noreply, State}
    end;
handle_info({'EXIT', Relay, Reason}, #state{relays = Relays, processes = Processes} = State) ->
    case maps:take(Relay, Processes) of
        {Process, Others} ->
            Rest = case Relays of
                #{Process := Relay} ->
                    %% A killed relay has not told its callers.
                    Reason =:= normal orelse teleport_nif:unwatched(Process),
                    maps:remove(Process, Relays);
                #{} ->
                    Relays % there is another one by now
            end,
            {noreply, State#state{relays = Rest, processes = Others}};
        error ->
            {noreply, State}
    end;
handle_info(sweep, #state{place = Place, relays = Relays} = State) ->
    _ = erlang:send_after(?SWEEP, self(), sweep),
    %% The engine asks for these relays again when it needs them.
    lists:foreach(fun(Process) ->
        case Relays of
            #{Process := Relay} -> teleport_relay:forget(Relay);
            #{} -> ok
        end
    end, teleport_nif:sweep(Place)),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% Relays are linked to this process and end with it.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    ok.
