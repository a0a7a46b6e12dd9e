%% A gen_server as anybody would write it.
-module(kv).
-behaviour(gen_server).

-export([start_link/0, init/1, handle_call/3, handle_cast/2]).

start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    {ok, #{}}.

handle_call({get, Key}, _From, Values) ->
    {reply, maps:find(Key, Values), Values}.

handle_cast({put, Key, Value}, Values) ->
    {noreply, Values#{Key => Value}}.
