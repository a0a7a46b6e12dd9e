%% @private
%% Has the manager end the engine before `net_kernel:stop/0' takes the node's name: to decode terms outside of
%% the schedulers while the name changes would crash the virtual machine. The process is the last child of
%% distributed Erlang's supervisor, so that it is terminated first. It is temporary, so its end does not
%% affect the others; the manager starts it anew.
-module(teleport_guard).
-behaviour(gen_server).

-export([start/0, start_link/0, stop/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% How long distributed Erlang waits for this process to terminate, in milliseconds.
-define(PATIENCE, 5000).

%% Starts the process, if distributed Erlang has a supervisor.
-spec start() -> ok.
start() ->
    Spec = #{id => ?MODULE, start => {?MODULE, start_link, []}, restart => temporary, shutdown => ?PATIENCE},
    try supervisor:start_child(net_sup, Spec) of
        _ -> ok
    catch
        exit:_ -> ok % distributed Erlang is ending
    end.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Ends the process: the manager need not be told any more.
-spec stop() -> ok.
stop() ->
    gen_server:cast(?MODULE, stop).

-spec init([]) -> {ok, []}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {reply, term(), []}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

-spec handle_cast(term(), []) -> {noreply, []} | {stop, normal, []}.
handle_cast(stop, State) -> {stop, normal, State};
handle_cast(_Request, State) -> {noreply, State}.

-spec handle_info(term(), []) -> {noreply, []}.
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), []) -> ok.
terminate(shutdown, _State) -> teleport_manager:name_goes(?PATIENCE - 500);
terminate(_Reason, _State) -> ok.
