%% @doc What {@link //stdlib/gen_statem} does with state machines, for those on other nodes too: with the results and exits
%% of the functions of the same names.
-module(teleport_gen_statem).

-export([call/2, call/3, cast/2]).
-export([send_request/2, receive_response/1, receive_response/2, wait_response/1, wait_response/2, check_response/2]).
-export([stop/1, stop/3]).

%% @equiv call(Ref, Request, infinity)
-spec call(teleport:ref(), term()) -> term().
call(Ref, Request) ->
    call(Ref, Request, infinity).

%% @doc Calls a state machine, like `gen_statem:call/3', and with its exits. A late reply never gets into the mailbox, whatever
%% the form of the timeout; no process is started for that.
-spec call(teleport:ref(), term(), timeout() | {clean_timeout | dirty_timeout, timeout()}) -> term().
call(Ref, Request, Timeout) ->
    teleport_call:server(Ref, '$gen_call', Request, plain(Timeout), {gen_statem, call, [Ref, Request, Timeout]}).

%% @doc Sends an event to a state machine, like `gen_statem:cast/2': always `ok'.
-spec cast(teleport:ref(), term()) -> ok.
cast(Ref, Event) ->
    teleport_call:tell(Ref, {'$gen_cast', Event}, {gen_statem, cast, [Ref, Event]}).

%% @doc Sends a request to a state machine, like `gen_statem:send_request/2'; see {@link teleport:send_request/2}.
-spec send_request(teleport:ref(), term()) -> teleport:request_id().
send_request(Ref, Request) ->
    teleport:send_request(Ref, Request).

%% @equiv receive_response(Id, infinity)
-spec receive_response(teleport:request_id()) -> {reply, term()} | {error, {term(), term()}}.
receive_response(Id) ->
    case receive_response(Id, infinity) of
        {reply, Reply} -> {reply, Reply};
        {error, Reason} -> {error, Reason}
    end.

%% @equiv teleport:receive_response(Id, Timeout)
-spec receive_response(teleport:request_id(), teleport:response_timeout()) ->
    {reply, term()} | timeout | {error, {term(), term()}}.
receive_response(Id, Timeout) ->
    teleport:receive_response(Id, Timeout).

%% @equiv wait_response(Id, infinity)
-spec wait_response(teleport:request_id()) -> {reply, term()} | {error, {term(), term()}}.
wait_response(Id) ->
    case wait_response(Id, infinity) of
        {reply, Reply} -> {reply, Reply};
        {error, Reason} -> {error, Reason}
    end.

%% @equiv teleport:wait_response(Id, Timeout)
-spec wait_response(teleport:request_id(), teleport:response_timeout()) ->
    {reply, term()} | timeout | {error, {term(), term()}}.
wait_response(Id, Timeout) ->
    teleport:wait_response(Id, Timeout).

%% @equiv teleport:check_response(Message, Id)
-spec check_response(Message :: term(), teleport:request_id()) -> {reply, term()} | no_reply | {error, {term(), term()}}.
check_response(Message, Id) ->
    teleport:check_response(Message, Id).

%% @equiv stop(Ref, normal, infinity)
-spec stop(teleport:ref()) -> ok.
stop(Ref) ->
    stop(Ref, normal, infinity).

%% @doc Orders a state machine to end, like `gen_statem:stop/3', and with its exits.
-spec stop(teleport:ref(), term(), timeout()) -> ok.
stop(Ref, Reason, Timeout) ->
    teleport_call:stop(Ref, Reason, Timeout, {gen_statem, stop, [Ref, Reason, Timeout]}).

%% No late reply needs a process to catch it: both forms are the same here.
-spec plain(timeout() | {clean_timeout | dirty_timeout, timeout()}) -> timeout().
plain({clean_timeout, Timeout}) -> Timeout;
plain({dirty_timeout, Timeout}) -> Timeout;
plain(Timeout) -> Timeout.
