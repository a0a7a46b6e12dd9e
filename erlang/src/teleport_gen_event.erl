%% @doc What {@link //stdlib/gen_event} does with event managers, for those on other nodes too.
-module(teleport_gen_event).

-export([notify/2, sync_notify/2, call/3, call/4]).

%% @doc Tells an event manager of an event, like `gen_event:notify/2': `ok', unless the name is not registered on this node.
-spec notify(teleport:ref(), term()) -> ok.
notify(Ref, Event) ->
    case teleport_ref:where(Ref) of
        {local, Process} ->
            gen_event:notify(Process, Event);
        {remote, To} ->
            _ = teleport_send:message(To, {notify, Event}, 0),
            ok;
        undefined ->
            ok
    end.

%% @doc Tells an event manager of an event, and waits until its handlers have got it, like `gen_event:sync_notify/2'.
-spec sync_notify(teleport:ref(), term()) -> ok.
sync_notify(Ref, Event) ->
    case teleport_ref:where(Ref) of
        {local, Process} ->
            gen_event:sync_notify(Process, Event);
        {remote, To} ->
            case teleport_call:remote(To, self(), {sync_notify, Event}, infinity) of
                {reply, ok} -> ok;
                {exit, Reason} -> exit(Reason)
            end;
        undefined ->
            exit(noproc)
    end.

%% @doc Calls a handler of an event manager, like `gen_event:call/3'.
-spec call(teleport:ref(), Handler :: module() | {module(), term()}, term()) -> term().
call(Ref, Handler, Query) ->
    teleport_call:server(Ref, self(), {call, Handler, Query}, 5000, {gen_event, call, [Ref, Handler, Query]}).

%% @doc Calls a handler of an event manager, like `gen_event:call/4', and with its exits. A late reply never gets into the
%% mailbox.
-spec call(teleport:ref(), Handler :: module() | {module(), term()}, term(), timeout()) -> term().
call(Ref, Handler, Query, Timeout) ->
    teleport_call:server(Ref, self(), {call, Handler, Query}, Timeout, {gen_event, call, [Ref, Handler, Query, Timeout]}).
