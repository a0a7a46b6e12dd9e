%% @private
%% Builds terms that only scheduler threads can build: those with large maps, on releases of OTP where other
%% threads cannot. The engine delivers a term when it is built, and does not wait. Small terms are built by
%% the process at place 0, large ones on dirty schedulers, which may all be busy for long.
%%
%% The virtual machine counts one reduction for 128 bytes of a term, and cannot interrupt the making of a map.
%% A process that builds one map after the other would have its scheduler for many times its share.
-module(teleport_builder).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% So many bytes are a reduction's worth of a map.
-define(BYTES_PER_REDUCTION, 4).

-spec start_link(non_neg_integer(), pos_integer()) -> gen_server:start_ret().
start_link(Place, Count) ->
    gen_server:start_link(?MODULE, {Place, Count}, []).

-spec init({non_neg_integer(), pos_integer()}) -> {ok, []}.
init({Place, Count}) ->
    ok = teleport_nif:builder(Place, Count),
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {noreply, []}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), []) -> {noreply, []}.
handle_info({teleport_build, Job}, State) ->
    ok = teleport_nif:build(Job),
    {noreply, State};
handle_info({teleport_build_small, Job}, State) ->
    Built = case teleport_nif:document(Job) of
        {known, Document} -> decode(Document, [safe, used]);
        {counted, Document} -> decode(Document, [used]);
        none -> none
    end,
    ok = teleport_nif:built(Job, Built),
    {noreply, State};
handle_info(_Other, State) ->
    {noreply, State}.

-spec decode(binary(), [safe | used]) -> {ok, term()} | none.
decode(Document, Options) ->
    Built = try binary_to_term(Document, Options) of
        {Term, Used} when Used =:= byte_size(Document) -> {ok, Term};
        _Rest -> none
    catch
        error:_ -> none
    end,
    true = erlang:bump_reductions(1 + byte_size(Document) div ?BYTES_PER_REDUCTION),
    Built.
