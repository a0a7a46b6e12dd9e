%% @private
%% Collections of requests: maps of their ids to labels, like those of OTP's behaviours.
-module(teleport_reqids).

-export([new/0, size/1, add/3, to_list/1, receive_response/3, wait_response/3, check_response/3]).

-export_type([collection/0]).

-type collection() :: #{teleport_request:request_id() => Label :: term()}.
-type result() :: {teleport_request:response(), Label :: term(), collection()}.

-spec new() -> collection().
new() ->
    #{}.

-spec size(collection()) -> non_neg_integer() | badarg.
size(Collection) when is_map(Collection) -> map_size(Collection);
size(_Other) -> badarg.

-spec add(teleport_request:request_id(), term(), collection()) -> collection() | badarg.
add(Id, Label, Collection) when is_reference(Id), is_map(Collection), not is_map_key(Id, Collection) ->
    Collection#{Id => Label};
add(_Id, _Label, _Collection) ->
    badarg.

-spec to_list(collection()) -> [{teleport_request:request_id(), term()}] | badarg.
to_list(Collection) when is_map(Collection) -> maps:to_list(Collection);
to_list(_Other) -> badarg.

%% After `timeout' no response to any of the requests comes any more.
-spec receive_response(collection(), teleport_timeout:response_timeout(), boolean()) ->
    result() | timeout | no_request | badarg.
receive_response(Collection, Timeout, Delete) ->
    case wait_response(Collection, Timeout, Delete) of
        timeout ->
            case lists:all(fun is_reference/1, maps:keys(Collection)) of
                true ->
                    maps:foreach(fun(Id, _Label) -> ok = teleport_request:give_up(Id) end, Collection),
                    timeout;
                false ->
                    badarg
            end;
        Other ->
            Other
    end.

-spec wait_response(collection(), teleport_timeout:response_timeout(), boolean()) ->
    result() | timeout | no_request | badarg.
wait_response(Collection, Timeout, Delete) when is_map(Collection), is_boolean(Delete) ->
    case teleport_timeout:left(Timeout) of
        badarg -> badarg;
        _Milliseconds when map_size(Collection) =:= 0 -> no_request;
        Milliseconds -> wait(Collection, Milliseconds, Delete)
    end;
wait_response(_Collection, _Timeout, _Delete) ->
    badarg.

-spec check_response(Message :: term(), collection(), boolean()) -> result() | no_reply | no_request | badarg.
check_response(_Message, Collection, Delete) when is_map(Collection), map_size(Collection) =:= 0, is_boolean(Delete) ->
    no_request;
check_response(Message, Collection, Delete) when is_map(Collection), is_boolean(Delete) ->
    case Message of
        {[alias | Id], _} when is_map_key(Id, Collection) -> result(Id, Message, Collection, Delete, 0);
        {[_, _, [alias | Id], _Secret | _], _} when is_map_key(Id, Collection) -> result(Id, Message, Collection, Delete, 0);
        {'DOWN', Id, _, _, _} when is_map_key(Id, Collection) -> result(Id, Message, Collection, Delete, 0);
        _ -> no_reply
    end;
check_response(_Message, _Collection, _Delete) ->
    badarg.

-spec wait(collection(), timeout(), boolean()) -> result() | timeout.
wait(Collection, Milliseconds, Delete) ->
    Deadline = teleport_timeout:deadline(Milliseconds),
    Left = fun() -> teleport_timeout:left(Deadline) end,
    receive
        {[alias | Id], _} = Message when is_map_key(Id, Collection) -> result(Id, Message, Collection, Delete, Left());
        {[_, _, [alias | Id], _Secret | _], _} = Message when is_map_key(Id, Collection) -> result(Id, Message, Collection, Delete, Left());
        {'DOWN', Id, _, _, _} = Message when is_map_key(Id, Collection) -> result(Id, Message, Collection, Delete, Left())
    after Milliseconds ->
        timeout
    end.

%% For at most `Milliseconds' more a reply that was sent before the end may come behind it.
-spec result(teleport_request:request_id(), tuple(), collection(), boolean(), timeout()) -> result().
result(Id, Message, Collection, Delete, Milliseconds) ->
    Response = teleport_request:check_response(Message, Id, Milliseconds),
    #{Id := Label} = Collection,
    case Delete of
        true -> {Response, Label, maps:remove(Id, Collection)};
        false -> {Response, Label, Collection}
    end.
