%% A state machine as anybody would write it: it knows nothing of teleport.
-module(teleport_test_statem).
-behaviour(gen_statem).

-export([start_at/2, start/1, init/1, callback_mode/0, locked/3, open/3]).

-spec start_at(node(), atom()) -> pid().
start_at(Node, Name) ->
    {ok, Pid} = erpc:call(Node, ?MODULE, start, [Name]),
    Pid.

-spec start(atom()) -> {ok, pid()}.
start(Name) -> gen_statem:start({local, Name}, ?MODULE, [], []).

callback_mode() -> state_functions.

init([]) -> {ok, locked, []}.

%% Processes wait until it is open.
locked({call, From}, state, Log) -> {keep_state, Log, [{reply, From, {locked, lists:reverse(Log)}}]};
locked({call, _From}, pass, _Log) -> {keep_state_and_data, [postpone]};
locked(cast, unlock, Log) -> {next_state, open, [unlock | Log]};
locked(info, Info, Log) -> {keep_state, [Info | Log]}.

open({call, From}, state, Log) -> {keep_state, Log, [{reply, From, {open, lists:reverse(Log)}}]};
open({call, From}, pass, Log) -> {keep_state, Log, [{reply, From, passed}]};
open({call, _From}, {break, Reason}, _Log) -> {stop, Reason};
open(cast, lock, Log) -> {next_state, locked, [lock | Log]}.
