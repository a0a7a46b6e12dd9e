%% @private
%% Monitors a process of this node on behalf of peers, and gets the replies to their calls of it.
%%
%% A request is delivered to its server by the engine, with `From = {Caller, [[alias|Alias], Watch | Tag]}', where Alias is this
%% process's. So an unmodified server's reply comes here, and its DOWN behind it; both go back over the pool, in that order. Who
%% waits for what is known to the engine alone.
%%
%% Each server has a relay of its own: a reply that takes long to encode holds up nothing but what the same server answers
%% next.
-module(teleport_relay).

-export([start_link/1, forget/1]).
-export([init/1, loop/3]).

%% Ends when the process has ended, or nobody is interested in it any more.
-spec start_link(pid()) -> pid().
start_link(Process) ->
    %% Large replies are garbage as soon as they are sent, and are to be collected then.
    spawn_opt(?MODULE, init, [Process], [link, {fullsweep_after, 0}]).

-spec forget(pid()) -> ok.
forget(Relay) ->
    Relay ! forget,
    ok.

-spec init(pid()) -> ok.
init(Process) ->
    Alias = erlang:alias(),
    Monitor = erlang:monitor(process, Process),
    %% The virtual machine may keep a monitor's signal back, to send it with another one, until a process yields.
    true = erlang:yield(),
    case teleport_nif:watching(Process, Alias) of
        true -> loop(Process, Alias, Monitor);
        false -> ok
    end.

-spec loop(pid(), reference(), reference()) -> ok.
loop(Process, Alias, Monitor) ->
    receive
        {[[alias | Alias], Number | _CallersOwn], Reply} ->
            reply(Number, Reply),
            loop(Process, Alias, Monitor);
        {'DOWN', Monitor, process, Process, Reason} ->
            down(Process, Reason);
        forget ->
            ok;
        _Other ->
            loop(Process, Alias, Monitor)
    after 0 ->
        %% Whatever it waits for next is taken by the code that is current then. And an idle one is as small as can be.
        erlang:hibernate(?MODULE, loop, [Process, Alias, Monitor])
    end.

%% If it is too large the caller is told.
-spec reply(term(), term()) -> ok.
reply(Number, Reply) when is_integer(Number), Number >= 0, Number < 1 bsl 64 ->
    _ = case teleport_nif:reply(Number, {term, Reply}) of
        not_small -> reply_encoded(Number, Reply);
        Answered -> Answered
    end,
    ok;
reply(_NoNumber, _Reply) ->
    ok.

%% Whatever a server has answered, this does not fail: others wait for what it answers next.
-spec reply_encoded(non_neg_integer(), term()) -> ok | {error, teleport_nif:error()}.
reply_encoded(Number, Reply) ->
    try teleport_send:encode(Reply) of
        {ok, Encoded} -> teleport_nif:reply(Number, {encoded, Encoded});
        {error, _Reason} -> teleport_nif:reject(Number)
    catch
        _:_ -> teleport_nif:reject(Number)
    after
        erlang:garbage_collect()
    end.

-spec down(pid(), term()) -> ok.
down(Process, Reason) ->
    ok = teleport_nif:ended(Process),
    _ = case teleport_nif:down(Process, {term, Reason}) of
        not_small -> teleport_nif:down(Process, {encoded, encode(Reason)});
        ok -> ok
    end,
    ok.

-spec encode(term()) -> teleport_nif:encoded().
encode(Reason) ->
    try teleport_send:encode(Reason) of
        {ok, Encoded} -> Encoded;
        {error, _Reason} -> encode(too_large)
    catch
        _:_ -> encode(too_large)
    end.
