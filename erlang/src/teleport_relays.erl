%% @private
%% Starts a relay for each process that peers begin to call or monitor, and ends those that nobody needs.
-module(teleport_relays).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    place :: non_neg_integer(),
    %% By the processes that they are for, and the other way round.
    relays = #{} :: #{pid() => pid()},
    processes = #{} :: #{pid() => pid()}
}).

%% A process that nobody calls or monitors keeps its relay for another while, in milliseconds: the next request to it then has
%% nothing to wait for.
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
        %% There are too many processes: those who wait are told that nobody answers.
        error:system_limit ->
            _ = teleport_nif:unwatched(Process),
            {noreply, State}
    end;
handle_info({'EXIT', Relay, Reason}, #state{relays = Relays, processes = Processes} = State) ->
    case maps:take(Relay, Processes) of
        {Process, Others} ->
            Rest = case Relays of
                #{Process := Relay} ->
                    %% One that was killed has told nobody.
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
    %% From now on the engine asks for them anew.
    lists:foreach(fun(Process) ->
        case Relays of
            #{Process := Relay} -> teleport_relay:forget(Relay);
            #{} -> ok
        end
    end, teleport_nif:sweep(Place)),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% Relays are linked to this process, and need no more than that to end.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    ok.
