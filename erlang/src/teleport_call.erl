%% @private
%% Calls, casts and stops, with the results and exits of the functions of OTP that they stand in for.
-module(teleport_call).

-export([server/5, manager/3, tell/3, stop/4]).

%% The function of OTP that is stood in for, with its arguments. It is called for processes on this node, for
%% nodes that are reached over distributed Erlang, and for bad arguments, to fail with its own errors.
-type otp() :: {module(), atom(), [term()]}.

-include("teleport_timeout.hrl").

%% Calls a server.
-spec server(teleport_ref:ref(), term(), term(), timeout(), otp()) -> term().
server(Ref, Kind, Request, Timeout, Otp) when ?IS_TIMEOUT(Timeout) ->
    Deadline = teleport_timeout:deadline(Timeout),
    case teleport_ref:resolve(Ref, Timeout) of
        {pool, To} ->
            case teleport_request:call(To, Kind, Request, Deadline) of
                {reply, Reply} -> Reply;
                {exit, Reason} -> exit({exit_reason(Ref, Reason), Otp})
            end;
        late ->
            exit({timeout, Otp});
        {otp, _Process} ->
            within(Deadline, Timeout, Otp);
        _Otherwise ->
            by_otp(Otp)
    end;
server(_Ref, _Kind, _Request, _Timeout, Otp) ->
    by_otp(Otp).

%% A call by OTP. To find the way may have taken some of its time.
-spec within(teleport_timeout:response_timeout(), timeout(), otp()) -> term().
within(Deadline, Timeout, {Module, Name, Args} = Otp) ->
    case teleport_timeout:left(Deadline) of
        Timeout ->
            by_otp(Otp);
        Left ->
            %% The timeout is the last argument of all these functions, and can be left out.
            Given = case Args of
                [Ref, Handler, Query | _] when Module =:= gen_event -> [Ref, Handler, Query];
                [Ref, Request | _] -> [Ref, Request]
            end,
            %% How `gen_statem' waits is said with it.
            Within = case lists:nthtail(length(Given), Args) of
                [{Kind, _Timeout}] -> {Kind, Left};
                _ -> Left
            end,
            try erlang:apply(Module, Name, Given ++ [Within])
            catch exit:{Reason, {Module, Name, _Args}} -> exit({Reason, Otp})
            end
    end.

-spec by_otp(otp()) -> term().
by_otp({Module, Name, Args}) ->
    erlang:apply(Module, Name, Args).

%% Calls an event manager, without a timeout. It exits with the reason alone, as `gen_event' does.
-spec manager(teleport_ref:ref(), term(), otp()) -> term().
manager(Ref, Request, Otp) ->
    case teleport_ref:resolve(Ref) of
        {pool, To} ->
            case teleport_request:call(To, self(), Request, infinity) of
                {reply, Reply} -> Reply;
                {exit, Reason} -> exit(exit_reason(Ref, Reason))
            end;
        _Otherwise ->
            by_otp(Otp)
    end.

%% Sends a message and ignores the outcome.
-spec tell(teleport_ref:ref(), term(), otp()) -> ok.
tell(Ref, Message, Otp) ->
    case teleport_ref:resolve(Ref) of
        {pool, To} ->
            _ = teleport_send:message(To, Message, 0),
            ok;
        _Otherwise ->
            by_otp(Otp)
    end.

%% Stops a process with a reason, and waits until it has terminated.
-spec stop(teleport_ref:ref(), term(), timeout(), otp()) -> ok.
stop(Ref, Reason, Timeout, Otp) when ?IS_TIMEOUT(Timeout) ->
    Deadline = teleport_timeout:deadline(Timeout),
    case teleport_ref:resolve(Ref, Timeout) of
        {pool, To} -> stop_remote(To, Reason, Timeout, Deadline);
        late -> exit(timeout);
        _Otherwise -> by_otp(Otp)
    end;
stop(_Ref, _Reason, _Timeout, Otp) ->
    by_otp(Otp).

%% Does what `proc_lib:stop/3' does, with the same exits.
-spec stop_remote(teleport_nif:destination(), term(), timeout(), teleport_timeout:response_timeout()) -> ok.
stop_remote(To, Reason, Timeout, Deadline) ->
    Mark = make_ref(),
    case teleport_request:monitor(To, Mark, [], Deadline) of
        timeout ->
            %% On OTP 25 a receive marker has to be used (see teleport_request).
            receive {Mark, _Monitor, process, _Object, _Reason} -> ok after 0 -> ok end,
            exit(timeout);
        Monitor ->
            %% In this function, or the marker of Mark is lost.
            Result = teleport_request:call(To, system, {terminate, Reason}, Deadline),
            case Result =:= {reply, ok} orelse has_ended_so(Result, Reason) of
                true ->
                    receive
                        {Mark, Monitor, process, _Object, Reason} -> ok;
                        {Mark, Monitor, process, _Object, Other} -> exit(Other)
                    after teleport_timeout:left(Deadline) ->
                        true = teleport_request:demonitor(Monitor),
                        exit(timeout)
                    end;
                false ->
                    {exit, Why} = Result,
                    receive
                        {Mark, Monitor, process, _Object, _Reason} -> ok
                    after 0 ->
                        true = teleport_request:demonitor(Monitor)
                    end,
                    exit(case Why of
                        noproc -> noproc;
                        timeout -> timeout;
                        _ -> {Why, {sys, terminate, [To, Reason, Timeout]}}
                    end)
            end
    end.

%% Whether the process has ended by itself meanwhile, with the reason it was to be stopped with. From OTP 28 on that is as good.
-spec has_ended_so({reply | exit, term()}, term()) -> boolean().
has_ended_so({exit, Reason}, Reason) when Reason =/= noproc, Reason =/= timeout ->
    list_to_integer(erlang:system_info(otp_release)) >= 28;
has_ended_so(_Result, _Reason) ->
    false.

%% A name whose registry has not noticed yet that its node is down counts as not registered, as in `gen'.
-spec exit_reason(teleport_ref:ref(), term()) -> term().
exit_reason({global, _Name}, {nodedown, _Node}) -> noproc;
exit_reason({via, _Module, _Name}, {nodedown, _Node}) -> noproc;
exit_reason(_Ref, Reason) -> Reason.
