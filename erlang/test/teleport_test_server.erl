%% A server as anybody would write it: it knows nothing of teleport.
-module(teleport_test_server).
-behaviour(gen_server).

-export([start_at/2, start/1, init/1, handle_call/3, handle_cast/2, handle_info/2]).

-spec start_at(node(), atom()) -> pid().
start_at(Node, Name) ->
    {ok, Pid} = erpc:call(Node, ?MODULE, start, [Name]),
    Pid.

-spec start(atom()) -> {ok, pid()}.
start(undefined) -> gen_server:start(?MODULE, [], []);
start(Name) -> gen_server:start({local, Name}, ?MODULE, [], []).

init([]) ->
    {ok, []}.

handle_call({echo, Term}, _From, State) ->
    {reply, {ok, Term}, State};
handle_call(caller, {Caller, _Tag}, State) ->
    {reply, Caller, State};
handle_call({later, Milliseconds, Term}, From, State) ->
    _ = spawn(fun() -> timer:sleep(Milliseconds), gen_server:reply(From, {ok, Term}) end),
    {noreply, State};
handle_call({slowly, Milliseconds, Term}, _From, State) ->
    timer:sleep(Milliseconds),
    {reply, {ok, Term}, State};
%% Answered when it is said so, ahead of who says it.
handle_call({held, Term}, From, State) ->
    _ = put(held, [{From, Term} | held()]),
    {noreply, State};
handle_call(release, _From, State) ->
    Held = lists:reverse(held()),
    _ = [gen_server:reply(From, {ok, Term}) || {From, Term} <- Held],
    _ = erase(held),
    {reply, {released, length(Held)}, State};
handle_call({bytes, Count}, _From, State) ->
    {reply, {ok, binary:copy(<<7>>, Count)}, State};
handle_call({last, Term}, _From, State) ->
    {stop, normal, {ok, Term}, State};
handle_call({exit, Reason}, _From, _State) ->
    exit(Reason);
handle_call({run, Fun}, _From, State) ->
    {reply, Fun(), State};
%% As some do, though `gen_server:reply/2' is there.
handle_call({by_hand, Term}, {Caller, Tag}, State) ->
    Caller ! {Tag, {ok, Term}},
    {noreply, State};
handle_call({by_hand_and_end, Term, Reason}, {Caller, Tag}, State) ->
    Caller ! {Tag, {ok, Term}},
    {stop, Reason, State};
handle_call({by_hand_of, Process, Term}, {Caller, Tag}, State) ->
    _ = spawn(node(Process), fun() -> Caller ! {Tag, {ok, Term}} end),
    {noreply, State};
handle_call({from, Process}, From, State) ->
    Process ! {from, From},
    {noreply, State};
handle_call({by_hand_later, Term}, From, State) ->
    _ = put(by_hand, {From, Term}),
    {noreply, State};
handle_call(release_by_hand, _From, State) ->
    {{Caller, Tag}, Term} = erase(by_hand),
    Caller ! {Tag, {ok, Term}},
    {reply, released, State};
handle_call(never, _From, State) ->
    {noreply, State};
handle_call({note, Term, _Padding}, _From, State) ->
    {reply, {ok, Term}, [Term | State]};
handle_call(notes, _From, State) ->
    {reply, lists:reverse(State), State}.

handle_cast(Note, State) ->
    {noreply, note(Note, State)}.

handle_info(Note, State) ->
    {noreply, note(Note, State)}.

held() ->
    case get(held) of
        undefined -> [];
        Held -> Held
    end.

note({note, Term}, State) -> [Term | State];
note({note, Term, _Padding}, State) -> [Term | State].
