%% @private
%% Sends messages to aliases of processes on other nodes.
%%
%% Only the virtual machine knows whether an alias is active, and it checks that only when a process sends. So
%% a message for an alias goes to the process of this module on the alias's node, which forwards it. One
%% process forwards all, so their order is kept.
-module(teleport_alias).
-behaviour(gen_server).

-export([start_link/0, send/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% How long the process waits for a message before it hibernates, to free its garbage. In milliseconds.
-define(IDLE, 1000).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{spawn_opt, [{fullsweep_after, 0}]}]).

%% Like teleport_send:send/4. Whether the alias is active is not known: `delivered' means that the message was
%% sent to it on its node.
-spec send(reference(), term(), teleport_send:how(), teleport_send:ack()) -> ok | {error, teleport_send:error()} | badarg.
send(Alias, Message, How, Ack) when node(Alias) =:= node() ->
    _ = teleport_send:by_otp(Alias, Message, How),
    case Ack of
        none -> ok;
        {ack, Tag} -> self() ! {teleport, Tag, delivered}, ok
    end;
send(Alias, Message, How, Ack) ->
    Until = teleport_send:until(How),
    case teleport_send:resolve({?MODULE, node(Alias)}, How) of
        {pool, _Forwarder} = To ->
            teleport_send:to(To, message(Alias, Message, teleport_send:has_priority(How)), Until, Ack);
        {otp, _ByDistributedErlang} ->
            case {teleport_send:by_otp(Alias, Message, How), Ack} of
                {ok, {ack, Tag}} -> self() ! {teleport, Tag, {unconfirmed, disterl}}, ok;
                {Result, _Ack} -> Result
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% The message to the forwarding process.
-spec message(reference(), term(), boolean()) -> term().
message(Alias, Message, false) -> {?MODULE, Alias, Message};
message(Alias, Message, true) -> {?MODULE, Alias, Message, priority}.

-spec init([]) -> {ok, []}.
init([]) ->
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {noreply, []}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), []) -> {noreply, [], timeout() | hibernate}.
handle_info({?MODULE, Alias, Message}, State) when is_reference(Alias), node(Alias) =:= node() ->
    _ = erlang:send(Alias, Message),
    {noreply, State, ?IDLE};
handle_info({?MODULE, Alias, Message, priority}, State) when is_reference(Alias), node(Alias) =:= node() ->
    _ = send_with_priority(Alias, Message),
    {noreply, State, ?IDLE};
handle_info(timeout, State) ->
    {noreply, State, hibernate};
handle_info(_Other, State) ->
    {noreply, State, ?IDLE}.

%% Before OTP 28 there are no priority messages: one from a later release goes like any other.
-dialyzer({nowarn_function, send_with_priority/2}).
-spec send_with_priority(reference(), term()) -> ok.
send_with_priority(Alias, Message) ->
    try
        erlang:send(Alias, Message, [priority])
    catch
        error:badarg -> _ = erlang:send(Alias, Message), ok
    end.
