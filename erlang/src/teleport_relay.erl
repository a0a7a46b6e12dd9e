%% @private
%% A relay: monitors a server of this node on behalf of peers, and sends its replies and its DOWN back to
%% them.
%%
%% The engine delivers a request to its server with `From = {Caller, [[alias|Alias], Number | Tag]}', where
%% Alias is an alias of the relay. So the relay gets the replies of an unmodified server, and the DOWN after
%% them, and both go back over the pool in that order. The engine alone knows the callers.
%%
%% Each server has a relay of its own. A relay encodes nothing that is not small: that is handed to an encoder, a
%% process for one caller, which lasts as long as it has something to do. So other callers wait no longer than it
%% takes to hand a reply over, and the replies to one caller keep their order: those that come while it has an
%% encoder go through that. The DOWN waits until all encoders are done.
-module(teleport_relay).

-export([start_link/1, forget/1, reply/3]).
-export([init/1, loop/4, encode_for/2]).

%% The callers that have an encoder, and how many replies that has not sent yet.
-type encoders() :: #{teleport_nif:caller() => {pid(), pos_integer()}}.

%% Large replies are garbage once they are sent; full sweeps free them soon, and are not to read those that still wait.
-define(OPTIONS, [link, {fullsweep_after, 0}, {message_queue_data, off_heap}]).

%% What a watch can have as its number. Whoever replies by hand can write anything there.
-define(IS_NUMBER(Number), is_integer(Number), Number >= 0, Number < 1 bsl 64).

%% Starts a relay. It ends when the process has ended, or when no peer calls or monitors it any more.
-spec start_link(pid()) -> pid().
start_link(Process) ->
    spawn_opt(?MODULE, init, [Process], ?OPTIONS).

-spec forget(pid()) -> ok.
forget(Relay) ->
    Relay ! forget,
    ok.

%% Replies as `gen_server:reply/2' does, in the calling process if a relay would else have to pass the reply on: so it is not even
%% copied. It comes behind what that process of this node has sent to the caller.
-spec reply(gen_server:from(), term(), pid()) -> ok.
reply({_Caller, [[alias | _Relay], Number | _CallersOwn]}, Reply, By) when ?IS_NUMBER(Number) -> answer(Number, Reply, By);
reply(From, Reply, _By) -> gen_server:reply(From, Reply).

-spec init(pid()) -> ok.
init(Process) ->
    Alias = erlang:alias(),
    Monitor = erlang:monitor(process, Process),
    %% The virtual machine may delay a monitor's signal until the process yields.
    true = erlang:yield(),
    case teleport_nif:watching(Process, Alias) of
        true -> loop(Process, Alias, Monitor, #{});
        false -> ok
    end.

-spec loop(pid(), reference(), reference(), encoders()) -> ok.
loop(Process, Alias, Monitor, Encoders) ->
    receive
        {[[alias | Alias], Number | _CallersOwn], Reply} when ?IS_NUMBER(Number) ->
            loop(Process, Alias, Monitor, pass_on(Number, Reply, Encoders));
        {sent, Encoder, Caller} ->
            loop(Process, Alias, Monitor, sent(Encoder, Caller, Encoders));
        {'DOWN', Monitor, process, Process, Reason} ->
            ok = teleport_nif:ended(Process),
            ok = finish(Encoders),
            down(Process, Reason);
        %% What encoders still have is of calls that have ended.
        forget ->
            finish(Encoders);
        _Other ->
            loop(Process, Alias, Monitor, Encoders)
    after 0 ->
        %% Hibernation makes an idle relay small, and lets it continue in the current code.
        erlang:hibernate(?MODULE, loop, [Process, Alias, Monitor, Encoders])
    end.

%% Sends a small reply to its caller, unless that has an encoder, and hands any other one over.
-spec pass_on(non_neg_integer(), term(), encoders()) -> encoders().
pass_on(Number, Reply, Encoders) when map_size(Encoders) =:= 0 ->
    %% Nearly always, and nearly always that is all.
    case teleport_nif:reply(Number, {term, Reply}, server) of
        not_small -> hand_over(teleport_nif:caller(Number), Number, Reply, Encoders);
        _Answered -> Encoders
    end;
pass_on(Number, Reply, Encoders) ->
    Caller = teleport_nif:caller(Number),
    case is_map_key(Caller, Encoders) orelse teleport_nif:reply(Number, {term, Reply}, server) of
        HasEncoder when HasEncoder =:= true; HasEncoder =:= not_small -> hand_over(Caller, Number, Reply, Encoders);
        _Answered -> Encoders
    end.

-spec hand_over(teleport_nif:caller() | none, non_neg_integer(), term(), encoders()) -> encoders().
hand_over(none, _Number, _Reply, Encoders) ->
    Encoders; % it does not wait any more
hand_over(Caller, Number, Reply, Encoders) ->
    case encoder(Caller, Encoders) of
        {Encoder, Count} ->
            Encoder ! {Number, Reply},
            true = erlang:garbage_collect(),
            Encoders#{Caller => {Encoder, Count + 1}};
        system_limit ->
            ok = answer(Number, Reply, server),
            Encoders
    end.

%% That of a caller, which is started if there is none. It is linked: callers are told if it is killed, as of a relay.
-spec encoder(teleport_nif:caller(), encoders()) -> {pid(), non_neg_integer()} | system_limit.
encoder(Caller, Encoders) ->
    case Encoders of
        #{Caller := Encoder} ->
            Encoder;
        #{} ->
            try {spawn_opt(?MODULE, encode_for, [self(), Caller], ?OPTIONS), 0}
            catch error:system_limit -> system_limit
            end
    end.

%% An encoder has sent a reply. Without another one it ends: nobody else gives it any.
-spec sent(pid(), teleport_nif:caller(), encoders()) -> encoders().
sent(Encoder, Caller, Encoders) ->
    case Encoders of
        #{Caller := {Encoder, 1}} ->
            Encoder ! done,
            maps:remove(Caller, Encoders);
        #{Caller := {Encoder, Count}} ->
            Encoders#{Caller := {Encoder, Count - 1}};
        #{} ->
            Encoders
    end.

%% Waits until all encoders are done.
-spec finish(encoders()) -> ok.
finish(Encoders) when map_size(Encoders) =:= 0 ->
    ok;
finish(Encoders) ->
    receive
        {sent, Encoder, Caller} -> finish(sent(Encoder, Caller, Encoders))
    end.

%% An encoder: sends the replies to one caller, one after the other.
-spec encode_for(pid(), teleport_nif:caller()) -> ok.
encode_for(Relay, Caller) ->
    receive
        {Number, Reply} when ?IS_NUMBER(Number) ->
            ok = answer(Number, Reply, server),
            Relay ! {sent, self(), Caller},
            %% In the current code.
            ?MODULE:encode_for(Relay, Caller);
        done ->
            ok
    end.

%% Sends a reply to its caller. A reply that is too large fails the call.
-spec answer(non_neg_integer(), term(), pid() | server) -> ok.
answer(Number, Reply, By) ->
    _ = case teleport_nif:reply(Number, {term, Reply}, By) of
        not_small -> answer_encoded(Number, Reply, By);
        Answered -> Answered
    end,
    ok.

%% Does not fail with any reply: all calls of the server would fail with the relay.
-spec answer_encoded(non_neg_integer(), term(), pid() | server) -> ok | {error, teleport_nif:reply_error()}.
answer_encoded(Number, Reply, By) ->
    try teleport_encode:encode(Reply) of
        {ok, Encoded} -> teleport_nif:reply(Number, {encoded, Encoded}, By);
        {error, _Reason} -> teleport_nif:reject(Number)
    catch
        _:_ -> teleport_nif:reject(Number)
    after
        erlang:garbage_collect()
    end.

-spec down(pid(), term()) -> ok.
down(Process, Reason) ->
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
