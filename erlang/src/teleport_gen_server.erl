%% @doc The functions of {@link //stdlib/gen_server} for servers on this and on other nodes, with the same
%% names, results and exits. {@link teleport} has some of them under other names.
-module(teleport_gen_server).
-compile({parse_transform, teleport_docs}).

-export([call/2, call/3, cast/2, abcast/2, abcast/3, multi_call/2, multi_call/3, multi_call/4, stop/1, stop/3]).
-export([send_request/2, send_request/4, receive_response/2, receive_response/3, wait_response/2, wait_response/3,
         check_response/2, check_response/3]).
-export([reqids_new/0, reqids_size/1, reqids_add/3, reqids_to_list/1]).

%% @equiv teleport:gs_call(Ref, Request)
-spec call(teleport:ref(), term()) -> term().
call(Ref, Request) ->
    teleport:gs_call(Ref, Request).

%% @equiv teleport:gs_call(Ref, Request, Timeout)
-spec call(teleport:ref(), term(), timeout()) -> term().
call(Ref, Request, Timeout) ->
    teleport:gs_call(Ref, Request, Timeout).

%% @equiv teleport:cast(Ref, Request)
-spec cast(teleport:ref(), term()) -> ok.
cast(Ref, Request) ->
    teleport:cast(Ref, Request).

%% @equiv teleport:abcast(Name, Request)
-spec abcast(atom(), term()) -> abcast.
abcast(Name, Request) ->
    teleport:abcast(Name, Request).

%% @equiv teleport:abcast(Nodes, Name, Request)
-spec abcast([node()], atom(), term()) -> abcast.
abcast(Nodes, Name, Request) ->
    teleport:abcast(Nodes, Name, Request).

%% @equiv teleport:multi_call(Name, Request)
-spec multi_call(atom(), term()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Name, Request) ->
    teleport:multi_call(Name, Request).

%% @equiv teleport:multi_call(Nodes, Name, Request)
-spec multi_call([node()], atom(), term()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Nodes, Name, Request) ->
    teleport:multi_call(Nodes, Name, Request).

%% @equiv teleport:multi_call(Nodes, Name, Request, Timeout)
-spec multi_call([node()], atom(), term(), timeout()) -> {Replies :: [{node(), term()}], BadNodes :: [node()]}.
multi_call(Nodes, Name, Request, Timeout) ->
    teleport:multi_call(Nodes, Name, Request, Timeout).

%% @equiv teleport:gs_stop(Ref)
-spec stop(teleport:ref()) -> ok.
stop(Ref) ->
    teleport:gs_stop(Ref).

%% @equiv teleport:gs_stop(Ref, Reason, Timeout)
-spec stop(teleport:ref(), term(), timeout()) -> ok.
stop(Ref, Reason, Timeout) ->
    teleport:gs_stop(Ref, Reason, Timeout).

%% @equiv teleport:send_request(Ref, Request)
-spec send_request(teleport:ref(), term()) -> teleport:request_id().
send_request(Ref, Request) ->
    teleport:send_request(Ref, Request).

%% @doc Sends a request and adds it to a collection, with a label, like `gen_server:send_request/4'.
-spec send_request(teleport:ref(), term(), Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
send_request(Ref, Request, Label, Collection) when is_map(Collection) ->
    case teleport_request:send(Ref, '$gen_call', Request) of
        badarg -> erlang:error(badarg, [Ref, Request, Label, Collection]);
        Id -> Collection#{Id => Label}
    end;
send_request(Ref, Request, Label, Collection) ->
    erlang:error(badarg, [Ref, Request, Label, Collection]).

%% @equiv teleport:receive_response(Id, Timeout)
-spec receive_response(teleport:request_id(), teleport:response_timeout()) ->
    {reply, term()} | timeout | {error, {term(), term()}}.
receive_response(Id, Timeout) ->
    teleport:receive_response(Id, Timeout).

%% @equiv teleport:wait_response(Id, Timeout)
-spec wait_response(teleport:request_id(), teleport:response_timeout()) ->
    {reply, term()} | timeout | {error, {term(), term()}}.
wait_response(Id, Timeout) ->
    teleport:wait_response(Id, Timeout).

%% @equiv teleport:check_response(Message, Id)
-spec check_response(Message :: term(), teleport:request_id()) -> {reply, term()} | no_reply | {error, {term(), term()}}.
check_response(Message, Id) ->
    teleport:check_response(Message, Id).

%% @doc Returns an empty collection of requests, like `gen_server:reqids_new/0'.
-spec reqids_new() -> teleport:request_id_collection().
reqids_new() ->
    teleport_reqids:new().

%% @doc Returns the number of requests in a collection, like `gen_server:reqids_size/1'.
-spec reqids_size(teleport:request_id_collection()) -> non_neg_integer().
reqids_size(Collection) ->
    case teleport_reqids:size(Collection) of
        badarg -> erlang:error(badarg, [Collection]);
        Result -> Result
    end.

%% @doc Adds a request to a collection, with a label, like `gen_server:reqids_add/3'.
-spec reqids_add(teleport:request_id(), Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
reqids_add(Id, Label, Collection) ->
    case teleport_reqids:add(Id, Label, Collection) of
        badarg -> erlang:error(badarg, [Id, Label, Collection]);
        Result -> Result
    end.

%% @doc Returns the requests of a collection and their labels, like `gen_server:reqids_to_list/1'.
-spec reqids_to_list(teleport:request_id_collection()) -> [{teleport:request_id(), Label :: term()}].
reqids_to_list(Collection) ->
    case teleport_reqids:to_list(Collection) of
        badarg -> erlang:error(badarg, [Collection]);
        Result -> Result
    end.

%% @doc Waits for the response to any request of a collection, like `gen_server:receive_response/3'. After
%% `timeout' no response to any of them comes any more.
-spec receive_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    teleport:collected() | timeout | no_request.
receive_response(Collection, Timeout, Delete) ->
    case teleport_reqids:receive_response(Collection, Timeout, Delete) of
        badarg -> erlang:error(badarg, [Collection, Timeout, Delete]);
        Result -> Result
    end.

%% @doc Waits for the response to any request of a collection, like `gen_server:wait_response/3'. After
%% `timeout' it can be called again.
-spec wait_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    teleport:collected() | timeout | no_request.
wait_response(Collection, Timeout, Delete) ->
    case teleport_reqids:wait_response(Collection, Timeout, Delete) of
        badarg -> erlang:error(badarg, [Collection, Timeout, Delete]);
        Result -> Result
    end.

%% @doc Returns the response to a request of a collection if the message is one, like
%% `gen_server:check_response/3'.
-spec check_response(Message :: term(), teleport:request_id_collection(), Delete :: boolean()) ->
    teleport:collected() | no_reply | no_request.
check_response(Message, Collection, Delete) ->
    case teleport_reqids:check_response(Message, Collection, Delete) of
        badarg -> erlang:error(badarg, [Message, Collection, Delete]);
        Result -> Result
    end.
