%% A state machine in the old manner, as anybody would have written it: it knows nothing of teleport.
-module(teleport_test_fsm).
-behaviour(gen_fsm).
-compile([nowarn_deprecated_function, nowarn_deprecated_callback]).

-export([start_at/2, start/1, init/1, idle/2, idle/3, busy/2, busy/3, handle_event/3, handle_sync_event/4]).

-spec start_at(node(), atom()) -> pid().
start_at(Node, Name) ->
    {ok, Pid} = erpc:call(Node, ?MODULE, start, [Name]),
    Pid.

-spec start(atom()) -> {ok, pid()}.
start(Name) -> gen_fsm:start({local, Name}, ?MODULE, [], []).

init([]) ->
    {ok, idle, []}.

idle(Event, Log) -> {next_state, busy, [{idle, Event} | Log]}.

busy(Event, Log) -> {next_state, idle, [{busy, Event} | Log]}.

idle({exit, Reason}, _From, _Log) -> exit(Reason);
idle(never, _From, Log) -> {next_state, idle, Log};
idle(Event, _From, Log) -> {reply, {idle, Event}, idle, Log}.

busy(Event, {Caller, _Tag}, Log) -> {reply, {busy, Event, Caller}, idle, Log}.

handle_event(Event, State, Log) ->
    {next_state, State, [{all, Event} | Log]}.

handle_sync_event(log, _From, State, Log) -> {reply, {State, lists:reverse(Log)}, State, Log};
handle_sync_event(never, _From, State, Log) -> {next_state, State, Log};
handle_sync_event({stop, Reason}, _From, _State, Log) -> {stop, Reason, stopped, Log}.
