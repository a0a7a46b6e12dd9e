%% @private
%% Watches processes of this node on behalf of peers: holds the monitor, and gets the replies of calls.
%%
%% A request is delivered to its server by the engine, with `From = {Caller, [[alias|Alias]|Watch]}', where Alias is this
%% process's. So an unmodified server's reply comes here, and its DOWN behind it; both go back over the pool.
-module(teleport_relay).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    alias :: reference(),
    %% By number: the engine's handle, and the monitor on the process.
    watches = #{} :: #{pos_integer() => {teleport_nif:watch(), reference()}},
    monitors = #{} :: #{reference() => pos_integer()}
}).

-spec start_link(non_neg_integer()) -> {ok, pid()} | {error, term()}.
start_link(Place) ->
    case gen_server:start_link(?MODULE, Place, []) of
        {ok, Pid} -> {ok, Pid};
        ignore -> {error, ignore};
        {error, Reason} -> {error, Reason}
    end.

-spec init(non_neg_integer()) -> {ok, #state{}} | {stop, not_running}.
init(Place) ->
    Alias = erlang:alias(),
    case teleport_nif:relay(Place, Alias) of
        ok -> {ok, #state{alias = Alias}};
        not_running -> {stop, not_running}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({watch, Number, Watch, Process}, #state{watches = Watches, monitors = Monitors} = State) ->
    Monitor = erlang:monitor(process, Process),
    {noreply, State#state{watches = Watches#{Number => {Watch, Monitor}}, monitors = Monitors#{Monitor => Number}}};
handle_info({[[alias | Alias] | Number], Reply}, #state{alias = Alias} = State) ->
    case take(Number, State) of
        {Watch, Rest} ->
            %% If it is too large the caller is told.
            _ = teleport_nif:reply(Watch, teleport:term_to_iolist(Reply)),
            {noreply, Rest};
        error ->
            {noreply, State}
    end;
handle_info({'DOWN', Monitor, process, _Process, Reason}, #state{monitors = Monitors} = State) ->
    case Monitors of
        #{Monitor := Number} ->
            {Watch, Rest} = take(Number, State),
            ok = teleport_nif:down(Watch, teleport:term_to_iolist(Reason)),
            {noreply, Rest};
        #{} ->
            {noreply, State}
    end;
handle_info({unwatch, Number}, State) ->
    case take(Number, State) of
        {_Watch, Rest} -> {noreply, Rest};
        error -> {noreply, State}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

%% Ends a watch here.
-spec take(term(), #state{}) -> {teleport_nif:watch(), #state{}} | error.
take(Number, #state{watches = Watches, monitors = Monitors} = State) ->
    case maps:take(Number, Watches) of
        {{Watch, Monitor}, Rest} ->
            true = erlang:demonitor(Monitor, [flush]),
            {Watch, State#state{watches = Rest, monitors = maps:remove(Monitor, Monitors)}};
        error ->
            error
    end.
