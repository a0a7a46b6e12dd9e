%% Each node has a store, `kv'; demo/1 uses that of another node.
-module(erlang_app).
-behaviour(application).
-behaviour(supervisor).

-export([start/2, stop/1, init/1, demo/1]).

start(_Type, _Args) ->
    supervisor:start_link({local, erlang_app_sup}, ?MODULE, []).

stop(_State) ->
    ok.

init([]) ->
    {ok, {#{}, [#{id => kv, start => {kv, start_link, []}}]}}.

%% @doc Puts a large value into the store of another node, and reads it back.
-spec demo(node()) -> ok.
demo(Node) ->
    Scan = binary:copy(<<"scan">>, 8 bsl 20),
    %% gen_server:cast/2 and gen_server:call/2, but for the module. A cast and a call of one process keep their order.
    ok = teleport:cast({kv, Node}, {put, scan, Scan}),
    {ok, Scan} = teleport:gs_call({kv, Node}, {get, scan}),
    error = teleport:gs_call({kv, Node}, {get, nothing}),
    io:format("~w bytes went to ~s and back, by teleport: ~p~n", [byte_size(Scan), Node, teleport:nodes()]).
