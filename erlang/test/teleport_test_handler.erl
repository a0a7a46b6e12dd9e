%% An event handler as anybody would write it: it knows nothing of teleport.
-module(teleport_test_handler).
-behaviour(gen_event).

-export([start_at/2, start/1, held/1, release/1, init/1, handle_event/2, handle_call/2, terminate/2]).

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

%% Returns when a handler was asked to hold its manager.
-spec held(pid()) -> ok.
held(Manager) ->
    IsHeld = fun() ->
        erpc:call(node(Manager), erlang, process_info, [Manager, current_function])
            =:= {current_function, {?MODULE, handle_call, 2}}
    end,
    teleport_test:eventually(IsHeld).

%% Lets it go on.
-spec release(pid()) -> ok.
release(Manager) ->
    ok = held(Manager),
    Manager ! release,
    ok.

%% In the place of another it goes on with what that one had.
init({Args, Events}) -> init(Args ++ Events);
init(Events) when is_list(Events) -> {ok, Events};
init(Reason) -> {error, Reason}.

handle_event({exit, Reason}, _Events) -> exit(Reason);
handle_event(Event, Events) -> {ok, [Event | Events]}.

handle_call(events, Events) -> {ok, lists:reverse(Events), Events};
handle_call({echo, Term}, Events) -> {ok, {ok, Term}, Events};
handle_call(held, Events) -> receive release -> {ok, released, Events} end;
handle_call({exit, Reason}, _Events) -> exit(Reason).

terminate(_Reason, Events) -> Events.
