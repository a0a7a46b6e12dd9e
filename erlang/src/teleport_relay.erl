%% @private
%% A relay: monitors a server of this node on behalf of peers, and sends its replies and its DOWN back to
%% them.
%%
%% The engine delivers a request to its server with `From = {Caller, [[alias|Alias], Number | Tag]}', where
%% Alias is an alias of the relay. So the relay gets the replies of an unmodified server, and the DOWN after
%% them, and both go back over the pool in that order. The engine alone knows the callers.
%%
%% Each server has a relay of its own, so a reply that takes long to encode delays only later replies of the
%% same server.
-module(teleport_relay).

-export([start_link/1, forget/1, reply/2]).
-export([init/1, loop/3]).

%% Starts a relay. It ends when the process has ended, or when no peer calls or monitors it any more.
-spec start_link(pid()) -> pid().
start_link(Process) ->
    %% Large replies are garbage once they are sent; full sweeps free them soon, and are not to read those that still wait.
    spawn_opt(?MODULE, init, [Process], [link, {fullsweep_after, 0}, {message_queue_data, off_heap}]).

-spec forget(pid()) -> ok.
forget(Relay) ->
    Relay ! forget,
    ok.

%% Replies as `gen_server:reply/2' does, in the calling process if a relay would else have to encode the reply: other replies of the
%% same server do not wait for that.
-spec reply(gen_server:from(), term()) -> ok.
reply({_Caller, [[alias | _Relay], Number | _CallersOwn]}, Reply) when is_integer(Number) -> answer(Number, Reply);
reply(From, Reply) -> gen_server:reply(From, Reply).

-spec init(pid()) -> ok.
init(Process) ->
    Alias = erlang:alias(),
    Monitor = erlang:monitor(process, Process),
    %% The virtual machine may delay a monitor's signal until the process yields.
    true = erlang:yield(),
    case teleport_nif:watching(Process, Alias) of
        true -> loop(Process, Alias, Monitor);
        false -> ok
    end.

-spec loop(pid(), reference(), reference()) -> ok.
loop(Process, Alias, Monitor) ->
    receive
        {[[alias | Alias], Number | _CallersOwn], Reply} ->
            answer(Number, Reply),
            loop(Process, Alias, Monitor);
        {'DOWN', Monitor, process, Process, Reason} ->
            down(Process, Reason);
        forget ->
            ok;
        _Other ->
            loop(Process, Alias, Monitor)
    after 0 ->
        %% Hibernation makes an idle relay small, and lets it continue in the current code.
        erlang:hibernate(?MODULE, loop, [Process, Alias, Monitor])
    end.

%% Sends a reply to its caller. A reply that is too large fails the call.
-spec answer(term(), term()) -> ok.
answer(Number, Reply) when is_integer(Number), Number >= 0, Number < 1 bsl 64 ->
    _ = case teleport_nif:reply(Number, {term, Reply}) of
        not_small -> answer_encoded(Number, Reply);
        Answered -> Answered
    end,
    ok;
answer(_NoNumber, _Reply) ->
    ok.

%% Does not fail with any reply, since other callers wait for this relay.
-spec answer_encoded(non_neg_integer(), term()) -> ok | {error, teleport_nif:reply_error()}.
answer_encoded(Number, Reply) ->
    try teleport_encode:encode(Reply) of
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
    try teleport_encode:encode(Reason) of
        {ok, Encoded} -> Encoded;
        {error, _Reason} -> encode(too_large)
    catch
        _:_ -> encode(too_large)
    end.
