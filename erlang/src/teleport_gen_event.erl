%% @doc The functions of {@link //stdlib/gen_event} for event managers on this and on other nodes, with the
%% same names, results and exits.
%%
%% Supervised handlers: the event manager links to the process that calls {@link add_sup_handler/3} or
%% {@link swap_sup_handler/3}, and sends it `{gen_event_EXIT, Handler, Reason}' when the handler is removed.
%% Both the link and the message use distributed Erlang. An event manager that distributed Erlang does not
%% connect to the caller's node takes the caller for dead: it answers `ok', and removes the handler at once.
-module(teleport_gen_event).
-compile({parse_transform, teleport_docs}).

-export([notify/2, sync_notify/2, call/3, call/4]).
-export([send_request/3, send_request/5, receive_response/2, receive_response/3, wait_response/2, wait_response/3,
         check_response/2, check_response/3]).
-export([reqids_new/0, reqids_size/1, reqids_add/3, reqids_to_list/1]).
-export([add_handler/3, add_sup_handler/3, delete_handler/3, swap_handler/3, swap_sup_handler/3, which_handlers/1]).
-export([stop/1, stop/3]).

-export_type([handler/0]).

-type collected() :: {{reply, term()} | {error, term()}, Label :: term(), teleport:request_id_collection()}.

-type handler() :: module() | {module(), term()}.
%% An event handler, with an id if a module has several handlers.

%% @doc Notifies an event manager of an event, like `gen_event:notify/2'.
-spec notify(teleport:ref(), term()) -> ok.
notify(Ref, Event) ->
    teleport_call:tell(Ref, {notify, Event}, {gen_event, notify, [Ref, Event]}).

%% @doc Notifies an event manager of an event, and waits until its handlers have handled it, like
%% `gen_event:sync_notify/2'.
-spec sync_notify(teleport:ref(), term()) -> ok.
sync_notify(Ref, Event) ->
    teleport_call:manager(Ref, {sync_notify, Event}, {gen_event, sync_notify, [Ref, Event]}).

%% @doc Calls a handler of an event manager, like `gen_event:call/3'.
-spec call(teleport:ref(), handler(), term()) -> term().
call(Ref, Handler, Query) ->
    teleport_call:server(Ref, self(), {call, Handler, Query}, 5000, {gen_event, call, [Ref, Handler, Query]}).

%% @doc Calls a handler of an event manager, with the results and exits of `gen_event:call/4'. A late reply
%% never gets into the mailbox.
-spec call(teleport:ref(), handler(), term(), timeout()) -> term().
call(Ref, Handler, Query, Timeout) ->
    teleport_call:server(Ref, self(), {call, Handler, Query}, Timeout, {gen_event, call, [Ref, Handler, Query, Timeout]}).

%% @doc Sends a query to a handler, like `gen_event:send_request/3'; see {@link teleport:send_request/2}.
-spec send_request(teleport:ref(), handler(), term()) -> teleport:request_id().
send_request(Ref, Handler, Query) ->
    case teleport_request:send(Ref, self(), {call, Handler, Query}) of
        badarg -> erlang:error(badarg, [Ref, Handler, Query]);
        Id -> Id
    end.

%% @doc Sends a query to a handler and adds it to a collection, with a label, like `gen_event:send_request/5'.
-spec send_request(teleport:ref(), handler(), term(), Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
send_request(Ref, Handler, Query, Label, Collection) when is_map(Collection) ->
    Collection#{send_request(Ref, Handler, Query) => Label};
send_request(Ref, Handler, Query, Label, Collection) ->
    erlang:error(badarg, [Ref, Handler, Query, Label, Collection]).

%% @doc Like {@link teleport:receive_response/2}. The error of a handler is an error, not a reply, as in `gen_event'.
-spec receive_response(teleport:request_id(), teleport:response_timeout()) ->
    {reply, term()} | timeout | {error, term()}.
receive_response(Id, Timeout) ->
    in_words_of_otp(teleport:receive_response(Id, Timeout)).

%% @doc Like {@link teleport:wait_response/2}. The error of a handler is an error, not a reply, as in `gen_event'.
-spec wait_response(teleport:request_id(), teleport:response_timeout()) ->
    {reply, term()} | timeout | {error, term()}.
wait_response(Id, Timeout) ->
    in_words_of_otp(teleport:wait_response(Id, Timeout)).

%% @doc Like {@link teleport:check_response/2}. The error of a handler is an error, not a reply, as in `gen_event'.
-spec check_response(Message :: term(), teleport:request_id()) -> {reply, term()} | no_reply | {error, term()}.
check_response(Message, Id) ->
    in_words_of_otp(teleport:check_response(Message, Id)).

%% @doc Returns an empty collection of requests, like `gen_event:reqids_new/0'.
-spec reqids_new() -> teleport:request_id_collection().
reqids_new() ->
    teleport_reqids:new().

%% @doc Returns the number of requests in a collection, like `gen_event:reqids_size/1'.
-spec reqids_size(teleport:request_id_collection()) -> non_neg_integer().
reqids_size(Collection) ->
    teleport_gen_server:reqids_size(Collection).

%% @doc Adds a request to a collection, with a label, like `gen_event:reqids_add/3'.
-spec reqids_add(teleport:request_id(), Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
reqids_add(Id, Label, Collection) ->
    teleport_gen_server:reqids_add(Id, Label, Collection).

%% @doc Returns the requests of a collection and their labels, like `gen_event:reqids_to_list/1'.
-spec reqids_to_list(teleport:request_id_collection()) -> [{teleport:request_id(), Label :: term()}].
reqids_to_list(Collection) ->
    teleport_gen_server:reqids_to_list(Collection).

%% @doc Waits for the response to any request of a collection, like `gen_event:receive_response/3'. After
%% `timeout' no response to any of them comes any more.
-spec receive_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    collected() | timeout | no_request.
receive_response(Collection, Timeout, Delete) ->
    in_words_of_otp(teleport_gen_server:receive_response(Collection, Timeout, Delete)).

%% @doc Waits for the response to any request of a collection, like `gen_event:wait_response/3'. After
%% `timeout' it can be called again.
-spec wait_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    collected() | timeout | no_request.
wait_response(Collection, Timeout, Delete) ->
    in_words_of_otp(teleport_gen_server:wait_response(Collection, Timeout, Delete)).

%% @doc Returns the response to a request of a collection if the message is one, like
%% `gen_event:check_response/3'.
-spec check_response(Message :: term(), teleport:request_id_collection(), Delete :: boolean()) ->
    collected() | no_reply | no_request.
check_response(Message, Collection, Delete) ->
    in_words_of_otp(teleport_gen_server:check_response(Message, Collection, Delete)).

%% @doc Adds a handler, like `gen_event:add_handler/3'.
-spec add_handler(teleport:ref(), handler(), term()) -> term().
add_handler(Ref, Handler, Args) ->
    teleport_call:manager(Ref, {add_handler, Handler, Args}, {gen_event, add_handler, [Ref, Handler, Args]}).

%% @doc Adds a supervised handler, which is removed when the calling process ends, like
%% `gen_event:add_sup_handler/3'. The description of the module has the limits.
-spec add_sup_handler(teleport:ref(), handler(), term()) -> term().
add_sup_handler(Ref, Handler, Args) ->
    teleport_call:manager(Ref, {add_sup_handler, Handler, Args, self()},
                          {gen_event, add_sup_handler, [Ref, Handler, Args]}).

%% @doc Removes a handler, like `gen_event:delete_handler/3'.
-spec delete_handler(teleport:ref(), handler(), term()) -> term().
delete_handler(Ref, Handler, Args) ->
    teleport_call:manager(Ref, {delete_handler, Handler, Args}, {gen_event, delete_handler, [Ref, Handler, Args]}).

%% @doc Replaces a handler by another one, like `gen_event:swap_handler/3'.
-spec swap_handler(teleport:ref(), {handler(), term()}, {handler(), term()}) -> ok | {error, term()}.
swap_handler(Ref, {Old, OldArgs}, {New, NewArgs}) ->
    teleport_call:manager(Ref, {swap_handler, Old, OldArgs, New, NewArgs},
                          {gen_event, swap_handler, [Ref, {Old, OldArgs}, {New, NewArgs}]}).

%% @doc Replaces a handler by a supervised one, which is removed when the calling process ends, like
%% `gen_event:swap_sup_handler/3'. The description of the module has the limits.
-spec swap_sup_handler(teleport:ref(), {handler(), term()}, {handler(), term()}) -> ok | {error, term()}.
swap_sup_handler(Ref, {Old, OldArgs}, {New, NewArgs}) ->
    teleport_call:manager(Ref, {swap_sup_handler, Old, OldArgs, New, NewArgs, self()},
                          {gen_event, swap_sup_handler, [Ref, {Old, OldArgs}, {New, NewArgs}]}).

%% @doc Returns the handlers of an event manager, like `gen_event:which_handlers/1'.
-spec which_handlers(teleport:ref()) -> [handler()].
which_handlers(Ref) ->
    teleport_call:manager(Ref, which_handlers, {gen_event, which_handlers, [Ref]}).

%% @equiv stop(Ref, normal, infinity)
-spec stop(teleport:ref()) -> ok.
stop(Ref) ->
    stop(Ref, normal, infinity).

%% @doc Stops an event manager, with the exits of `gen_event:stop/3'.
-spec stop(teleport:ref(), term(), timeout()) -> ok.
stop(Ref, Reason, Timeout) ->
    teleport_call:stop(Ref, Reason, Timeout, {gen_event, stop, [Ref, Reason, Timeout]}).

%% What a manager replies if the handler is not there, or has crashed.
in_words_of_otp({reply, {error, _} = Error}) -> Error;
in_words_of_otp({{reply, {error, _} = Error}, Label, Collection}) -> {Error, Label, Collection};
in_words_of_otp(Other) -> Other.
