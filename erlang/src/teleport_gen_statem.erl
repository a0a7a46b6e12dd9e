%% @doc The functions of {@link //stdlib/gen_statem} for state machines on this and on other nodes, with the
%% same names, results and exits.
-module(teleport_gen_statem).
-compile({parse_transform, teleport_docs}).

-export([call/2, call/3, cast/2]).
-export([send_request/2, send_request/4, receive_response/1, receive_response/2, receive_response/3, wait_response/1,
         wait_response/2, wait_response/3, check_response/2, check_response/3]).
-export([reqids_new/0, reqids_size/1, reqids_add/3, reqids_to_list/1]).
-export([stop/1, stop/3]).

%% @equiv call(Ref, Request, infinity)
-spec call(teleport:ref(), term()) -> term().
call(Ref, Request) ->
    call(Ref, Request, infinity).

%% @doc Calls a state machine, with the results and exits of `gen_statem:call/3'. A late reply never gets into
%% the mailbox, with either form of timeout, and without a process to catch it.
-spec call(teleport:ref(), term(), timeout() | {clean_timeout | dirty_timeout, timeout()}) -> term().
call(Ref, Request, Timeout) ->
    teleport_call:server(Ref, '$gen_call', Request, plain(Timeout), {gen_statem, call, [Ref, Request, Timeout]}).

%% @doc Sends an event to a state machine, like `gen_statem:cast/2'. Returns `ok' in any case.
-spec cast(teleport:ref(), term()) -> ok.
cast(Ref, Event) ->
    teleport_call:tell(Ref, {'$gen_cast', Event}, {gen_statem, cast, [Ref, Event]}).

%% @doc Sends a request to a state machine, like `gen_statem:send_request/2'; see
%% {@link teleport:send_request/2}.
-spec send_request(teleport:ref(), term()) -> teleport:request_id().
send_request(Ref, Request) ->
    teleport:send_request(Ref, Request).

%% @doc Sends a request and adds it to a collection, with a label, like `gen_statem:send_request/4'.
-spec send_request(teleport:ref(), term(), Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
send_request(Ref, Request, Label, Collection) ->
    teleport_gen_server:send_request(Ref, Request, Label, Collection).

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

%% @doc Returns an empty collection of requests, like `gen_statem:reqids_new/0'.
-spec reqids_new() -> teleport:request_id_collection().
reqids_new() ->
    teleport_reqids:new().

%% @doc Returns the number of requests in a collection, like `gen_statem:reqids_size/1'.
-spec reqids_size(teleport:request_id_collection()) -> non_neg_integer().
reqids_size(Collection) ->
    teleport_gen_server:reqids_size(Collection).

%% @doc Adds a request to a collection, with a label, like `gen_statem:reqids_add/3'.
-spec reqids_add(teleport:request_id(), Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
reqids_add(Id, Label, Collection) ->
    teleport_gen_server:reqids_add(Id, Label, Collection).

%% @doc Returns the requests of a collection and their labels, like `gen_statem:reqids_to_list/1'.
-spec reqids_to_list(teleport:request_id_collection()) -> [{teleport:request_id(), Label :: term()}].
reqids_to_list(Collection) ->
    teleport_gen_server:reqids_to_list(Collection).

%% @doc Waits for the response to any request of a collection, like `gen_statem:receive_response/3'. After
%% `timeout' no response to any of them comes any more.
-spec receive_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    teleport:collected() | timeout | no_request.
receive_response(Collection, Timeout, Delete) ->
    teleport_gen_server:receive_response(Collection, Timeout, Delete).

%% @doc Waits for the response to any request of a collection, like `gen_statem:wait_response/3'. After
%% `timeout' it can be called again.
-spec wait_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    teleport:collected() | timeout | no_request.
wait_response(Collection, Timeout, Delete) ->
    teleport_gen_server:wait_response(Collection, Timeout, Delete).

%% @doc Returns the response to a request of a collection if the message is one, like
%% `gen_statem:check_response/3'.
-spec check_response(Message :: term(), teleport:request_id_collection(), Delete :: boolean()) ->
    teleport:collected() | no_reply | no_request.
check_response(Message, Collection, Delete) ->
    teleport_gen_server:check_response(Message, Collection, Delete).

%% @equiv stop(Ref, normal, infinity)
-spec stop(teleport:ref()) -> ok.
stop(Ref) ->
    stop(Ref, normal, infinity).

%% @doc Stops a state machine, with the exits of `gen_statem:stop/3'.
-spec stop(teleport:ref(), term(), timeout()) -> ok.
stop(Ref, Reason, Timeout) ->
    teleport_call:stop(Ref, Reason, Timeout, {gen_statem, stop, [Ref, Reason, Timeout]}).

%% Late replies never arrive, so both forms of timeout mean the same.
-spec plain(timeout() | {clean_timeout | dirty_timeout, timeout()}) -> timeout().
plain({clean_timeout, Timeout}) -> Timeout;
plain({dirty_timeout, Timeout}) -> Timeout;
plain(Timeout) -> Timeout.
