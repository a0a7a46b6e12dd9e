%% An event handler as anybody would write it: it knows nothing of teleport.
-module(teleport_test_handler).
-behaviour(gen_event).

-export([start_at/2, start/1, init/1, handle_event/2, handle_call/2]).

%% An event manager with this handler.
-spec start_at(node(), atom()) -> pid().
start_at(Node, Name) ->
    {ok, Pid} = erpc:call(Node, ?MODULE, start, [Name]),
    Pid.

-spec start(atom()) -> {ok, pid()}.
start(Name) ->
    {ok, Pid} = case Name of
        undefined -> gen_event:start();
        _ -> gen_event:start({local, Name})
    end,
    ok = gen_event:add_handler(Pid, ?MODULE, []),
    {ok, Pid}.

init([]) -> {ok, []}.

handle_event({exit, Reason}, _Events) -> exit(Reason);
handle_event(Event, Events) -> {ok, [Event | Events]}.

handle_call(events, Events) -> {ok, lists:reverse(Events), Events};
handle_call({echo, Term}, Events) -> {ok, {ok, Term}, Events};
handle_call({sleep, Milliseconds}, Events) -> timer:sleep(Milliseconds), {ok, slept, Events};
handle_call({exit, Reason}, _Events) -> exit(Reason).
