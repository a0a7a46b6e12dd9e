%% @doc The functions of {@link //kernel/erpc}, over the pool: applies functions on other nodes.
%%
%% Names, arguments, results and exceptions are those of `erpc'. There are two more reasons of
%% `error:{erpc, Reason}': `{too_large, Size, Limit}', and `{rejected, Text}' if the node does not allow the
%% call, or call or result are too large to be kept or cannot be decoded. `notsup' means that the node does
%% not take such calls: its configuration has `{apply, false}'.
%%
%% Each function is applied in a process of its own. It goes on after a timeout, and if the caller ends.
-module(teleport_erpc).
-compile({parse_transform, teleport_docs}).

-export([call/2, call/3, call/4, call/5, cast/2, cast/4, multicall/2, multicall/3, multicall/4, multicall/5, multicast/2, multicast/4]).
-export([send_request/2, send_request/4, send_request/6, receive_response/1, receive_response/2, receive_response/3,
         wait_response/1, wait_response/2, wait_response/3, check_response/2, check_response/3]).
-export([reqids_new/0, reqids_size/1, reqids_add/3, reqids_to_list/1]).

-export_type([caught/0, timeout_or_options/0]).

-type caught() :: {throw, term()} | {exit, {exception | signal, term()}} | {error, {exception, term(), list()} | {erpc, term()}}.
%% The class and the reason of an exception that {@link call/4} would raise.

-type timeout_or_options() :: teleport:response_timeout() | #{timeout => teleport:response_timeout(), always_spawn => boolean()}.
%% A map, from OTP 28 on, as `erpc' takes it. Other nodes spawn a process for each function in any case.

-define(IS_CALL(Node, Module, Function, Args),
        is_atom(Node), is_atom(Module), is_atom(Function), is_list(Args)).

%% @equiv call(Node, Fun, infinity)
-spec call(node(), fun(() -> Result)) -> Result when Result :: term().
call(Node, Fun) ->
    call(Node, Fun, infinity).

%% @doc Applies a function without arguments on a node, like `erpc:call/3'.
-spec call(node(), fun(() -> Result), timeout_or_options()) -> Result when Result :: term().
call(Node, Fun, Timeout) when is_function(Fun, 0) ->
    call(Node, erlang, apply, [Fun, []], Timeout);
call(_Node, _Fun, _Timeout) ->
    error({erpc, badarg}).

%% @equiv call(Node, Module, Function, Args, infinity)
-spec call(node(), module(), atom(), [term()]) -> term().
call(Node, Module, Function, Args) ->
    call(Node, Module, Function, Args, infinity).

%% @doc Applies a function on a node, and returns what it returns, like `erpc:call/5'.
-spec call(node(), module(), atom(), [term()], timeout_or_options()) -> term().
call(Node, Module, Function, Args, Timeout) ->
    teleport_apply:call(Node, Module, Function, Args, Timeout).

%% @doc Applies a function without arguments on a node, like `erpc:cast/2', without waiting for the result.
-spec cast(node(), fun(() -> term())) -> ok.
cast(Node, Fun) when is_function(Fun, 0) ->
    cast(Node, erlang, apply, [Fun, []]);
cast(_Node, _Fun) ->
    error({erpc, badarg}).

%% @doc Applies a function on a node, like `erpc:cast/4', without waiting for the result.
-spec cast(node(), module(), atom(), [term()]) -> ok.
cast(Node, Module, Function, Args) when ?IS_CALL(Node, Module, Function, Args) ->
    teleport_apply:cast(Node, Module, Function, Args);
cast(_Node, _Module, _Function, _Args) ->
    error({erpc, badarg}).

%% @equiv multicall(Nodes, Fun, infinity)
-spec multicall([node()], fun(() -> term())) -> [{ok, term()} | caught()].
multicall(Nodes, Fun) ->
    multicall(Nodes, Fun, infinity).

%% @doc Applies a function without arguments on several nodes, like `erpc:multicall/3'.
-spec multicall([node()], fun(() -> term()), timeout_or_options()) -> [{ok, term()} | caught()].
multicall(Nodes, Fun, Timeout) when is_function(Fun, 0) ->
    multicall(Nodes, erlang, apply, [Fun, []], Timeout);
multicall(_Nodes, _Fun, _Timeout) ->
    error({erpc, badarg}).

%% @equiv multicall(Nodes, Module, Function, Args, infinity)
-spec multicall([node()], module(), atom(), [term()]) -> [{ok, term()} | caught()].
multicall(Nodes, Module, Function, Args) ->
    multicall(Nodes, Module, Function, Args, infinity).

%% @doc Applies a function on several nodes at the same time, like `erpc:multicall/5'. The results are in the
%% order of the nodes.
-spec multicall([node()], module(), atom(), [term()], timeout_or_options()) -> [{ok, term()} | caught()].
multicall(Nodes, Module, Function, Args, Timeout) ->
    Left = teleport_timeout:left(teleport_apply:timeout(Timeout)),
    Left =/= badarg andalso are_calls(Nodes, Module, Function, Args) orelse error({erpc, badarg}),
    Responses = teleport_apply:multicall(Nodes, Module, Function, Args, teleport_timeout:deadline(Left)),
    [caught(fun() -> result(Response) end) || {_Node, Response} <- Responses].

-spec result(teleport_request:response() | timeout) -> term().
result(timeout) -> error({erpc, timeout});
result(Response) -> teleport_apply:result(Response).

-spec caught(fun(() -> Result)) -> {ok, Result} | caught().
caught(Apply) ->
    try Apply() of
        Result -> {ok, Result}
    catch
        Class:Reason -> {Class, Reason}
    end.

%% @doc Applies a function without arguments on several nodes, like `erpc:multicast/2', without waiting for
%% the results.
-spec multicast([node()], fun(() -> term())) -> ok.
multicast(Nodes, Fun) when is_function(Fun, 0) ->
    multicast(Nodes, erlang, apply, [Fun, []]);
multicast(_Nodes, _Fun) ->
    error({erpc, badarg}).

%% @doc Applies a function on several nodes, like `erpc:multicast/4', without waiting for the results.
-spec multicast([node()], module(), atom(), [term()]) -> ok.
multicast(Nodes, Module, Function, Args) ->
    are_calls(Nodes, Module, Function, Args) orelse error({erpc, badarg}),
    teleport_apply:multicast(Nodes, Module, Function, Args).

%% Whether the arguments are valid for calls on several nodes.
-spec are_calls(term(), term(), term(), term()) -> boolean().
are_calls([Node | Nodes], Module, Function, Args) when ?IS_CALL(Node, Module, Function, Args) ->
    are_calls(Nodes, Module, Function, Args);
are_calls(Nodes, Module, Function, Args) ->
    Nodes =:= [] andalso is_atom(Module) andalso is_atom(Function) andalso is_list(Args).

%% @doc Begins to apply a function without arguments on a node, like `erpc:send_request/2'.
-spec send_request(node(), fun(() -> term())) -> teleport:request_id().
send_request(Node, Fun) when is_function(Fun, 0) ->
    send_request(Node, erlang, apply, [Fun, []]);
send_request(_Node, _Fun) ->
    error({erpc, badarg}).

%% @doc Begins to apply a function on a node, like `erpc:send_request/4'. Takes a module, a function and its
%% arguments; or a function without arguments, a label, and the collection to which the request is added.
-spec send_request(node(), module(), atom(), [term()]) -> teleport:request_id();
                  (node(), fun(() -> term()), Label :: term(), teleport:request_id_collection()) ->
                      teleport:request_id_collection().
send_request(Node, Fun, Label, Collection) when is_function(Fun, 0) ->
    send_request(Node, erlang, apply, [Fun, []], Label, Collection);
send_request(Node, Module, Function, Args) when ?IS_CALL(Node, Module, Function, Args) ->
    teleport_apply:send_request(Node, Module, Function, Args);
send_request(_Node, _Module, _Function, _Args) ->
    error({erpc, badarg}).

%% @doc Begins to apply a function on a node, and adds the request to a collection, with a label, like
%% `erpc:send_request/6'.
-spec send_request(node(), module(), atom(), [term()], Label :: term(), teleport:request_id_collection()) ->
    teleport:request_id_collection().
send_request(Node, Module, Function, Args, Label, Collection) when is_map(Collection) ->
    Collection#{send_request(Node, Module, Function, Args) => Label};
send_request(_Node, _Module, _Function, _Args, _Label, _Collection) ->
    error({erpc, badarg}).

%% @equiv receive_response(Id, infinity)
-spec receive_response(teleport:request_id()) -> term().
receive_response(Id) ->
    receive_response(Id, infinity).

%% @doc Waits for the result of a request, like `erpc:receive_response/2'. After `error:{erpc, timeout}' no
%% result comes any more.
-spec receive_response(teleport:request_id(), teleport:response_timeout()) -> term().
receive_response(Id, Timeout) ->
    case teleport_request:receive_response(Id, Timeout) of
        timeout -> error({erpc, timeout});
        Response -> teleport_apply:result(Response)
    end.

%% @doc Waits for the result of any request of a collection, like `erpc:receive_response/3'.
-spec receive_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    {Result :: term(), Label :: term(), teleport:request_id_collection()} | no_request.
receive_response(Collection, Timeout, Delete) ->
    case teleport_reqids:receive_response(Collection, Timeout, Delete) of
        timeout -> error({erpc, timeout});
        Other -> collected(Other, fun(Result) -> Result end)
    end.

%% @equiv wait_response(Id, 0)
-spec wait_response(teleport:request_id()) -> {response, term()} | no_response.
wait_response(Id) ->
    wait_response(Id, 0).

%% @doc Waits for the result of a request, like `erpc:wait_response/2'. After `no_response' it can be called
%% again.
-spec wait_response(teleport:request_id(), teleport:response_timeout()) -> {response, term()} | no_response.
wait_response(Id, Timeout) ->
    case teleport_request:wait_response(Id, Timeout) of
        timeout -> no_response;
        Response -> {response, teleport_apply:result(Response)}
    end.

%% @doc Waits for the result of any request of a collection, like `erpc:wait_response/3'.
-spec wait_response(teleport:request_id_collection(), teleport:response_timeout(), Delete :: boolean()) ->
    {{response, term()}, Label :: term(), teleport:request_id_collection()} | no_response | no_request.
wait_response(Collection, Timeout, Delete) ->
    case teleport_reqids:wait_response(Collection, Timeout, Delete) of
        timeout -> no_response;
        Other -> collected(Other, fun(Result) -> {response, Result} end)
    end.

%% @doc Returns the result of a request if the message has it, like `erpc:check_response/2'.
-spec check_response(Message :: term(), teleport:request_id()) -> {response, term()} | no_response.
check_response(Message, Id) ->
    case teleport_request:check_response(Message, Id) of
        no_reply -> no_response;
        Response -> {response, teleport_apply:result(Response)}
    end.

%% @doc Returns the result of a request of a collection if the message has one, like `erpc:check_response/3'.
-spec check_response(Message :: term(), teleport:request_id_collection(), Delete :: boolean()) ->
    {{response, term()}, Label :: term(), teleport:request_id_collection()} | no_response | no_request.
check_response(Message, Collection, Delete) ->
    case teleport_reqids:check_response(Message, Collection, Delete) of
        no_reply -> no_response;
        Other -> collected(Other, fun(Result) -> {response, Result} end)
    end.

%% Exceptions carry the label and the collection with their reason, like those of `erpc'.
collected(no_request, _Make) ->
    no_request;
collected(badarg, _Make) ->
    error({erpc, badarg});
collected({Response, Label, Collection}, Make) ->
    try teleport_apply:result(Response) of
        Result -> {Make(Result), Label, Collection}
    catch
        Class:Reason -> erlang:Class({Reason, Label, Collection})
    end.

%% @doc Returns an empty collection of requests, like `erpc:reqids_new/0'.
-spec reqids_new() -> teleport:request_id_collection().
reqids_new() ->
    teleport_reqids:new().

%% @doc Returns the number of requests in a collection, like `erpc:reqids_size/1'.
-spec reqids_size(teleport:request_id_collection()) -> non_neg_integer().
reqids_size(Collection) ->
    or_badarg(teleport_reqids:size(Collection)).

%% @doc Adds a request to a collection, with a label, like `erpc:reqids_add/3'.
-spec reqids_add(teleport:request_id(), Label :: term(), teleport:request_id_collection()) -> teleport:request_id_collection().
reqids_add(Id, Label, Collection) ->
    or_badarg(teleport_reqids:add(Id, Label, Collection)).

%% @doc Returns the requests of a collection and their labels, like `erpc:reqids_to_list/1'.
-spec reqids_to_list(teleport:request_id_collection()) -> [{teleport:request_id(), Label :: term()}].
reqids_to_list(Collection) ->
    or_badarg(teleport_reqids:to_list(Collection)).

or_badarg(badarg) -> error({erpc, badarg});
or_badarg(Result) -> Result.
