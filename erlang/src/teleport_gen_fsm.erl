%% @doc The functions of the deprecated {@link //stdlib/gen_fsm} for state machines on this and on other
%% nodes, with the same names, results and exits.
-module(teleport_gen_fsm).
-compile({parse_transform, teleport_docs}).

-export([send_event/2, send_all_state_event/2]).
-export([sync_send_event/2, sync_send_event/3, sync_send_all_state_event/2, sync_send_all_state_event/3]).
-export([stop/1, stop/3]).

%% @doc Sends an event to a state machine, like `gen_fsm:send_event/2'.
-spec send_event(teleport:ref(), term()) -> ok.
send_event(Ref, Event) ->
    teleport_call:tell(Ref, {'$gen_event', Event}, {gen_fsm, send_event, [Ref, Event]}).

%% @doc Sends an event for all states to a state machine, like `gen_fsm:send_all_state_event/2'.
-spec send_all_state_event(teleport:ref(), term()) -> ok.
send_all_state_event(Ref, Event) ->
    teleport_call:tell(Ref, {'$gen_all_state_event', Event}, {gen_fsm, send_all_state_event, [Ref, Event]}).

%% @doc Sends an event to a state machine and waits for its reply, like `gen_fsm:sync_send_event/2'.
-spec sync_send_event(teleport:ref(), term()) -> term().
sync_send_event(Ref, Event) ->
    teleport_call:server(Ref, '$gen_sync_event', Event, 5000, {gen_fsm, sync_send_event, [Ref, Event]}).

%% @doc Sends an event to a state machine and waits for its reply, with the results and exits of
%% `gen_fsm:sync_send_event/3'.
-spec sync_send_event(teleport:ref(), term(), timeout()) -> term().
sync_send_event(Ref, Event, Timeout) ->
    teleport_call:server(Ref, '$gen_sync_event', Event, Timeout, {gen_fsm, sync_send_event, [Ref, Event, Timeout]}).

%% @doc Sends an event for all states to a state machine and waits for its reply, like
%% `gen_fsm:sync_send_all_state_event/2'.
-spec sync_send_all_state_event(teleport:ref(), term()) -> term().
sync_send_all_state_event(Ref, Event) ->
    teleport_call:server(Ref, '$gen_sync_all_state_event', Event, 5000, {gen_fsm, sync_send_all_state_event, [Ref, Event]}).

%% @doc Sends an event for all states to a state machine and waits for its reply, with the results and exits
%% of `gen_fsm:sync_send_all_state_event/3'.
-spec sync_send_all_state_event(teleport:ref(), term(), timeout()) -> term().
sync_send_all_state_event(Ref, Event, Timeout) ->
    teleport_call:server(Ref, '$gen_sync_all_state_event', Event, Timeout,
                         {gen_fsm, sync_send_all_state_event, [Ref, Event, Timeout]}).

%% @equiv stop(Ref, normal, infinity)
-spec stop(teleport:ref()) -> ok.
stop(Ref) ->
    stop(Ref, normal, infinity).

%% @doc Stops a state machine, with the exits of `gen_fsm:stop/3'.
-spec stop(teleport:ref(), term(), timeout()) -> ok.
stop(Ref, Reason, Timeout) ->
    teleport_call:stop(Ref, Reason, Timeout, {gen_fsm, stop, [Ref, Reason, Timeout]}).
