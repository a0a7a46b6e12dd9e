%% An Erlang node for the program `siege' to besiege: `scripts/siege.sh erlang'.
-module(teleport_siege).

-behaviour(gen_server).

-export([victim/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Says where it listens, and ends with its standard input.
-spec victim() -> no_return().
victim() ->
    _ = os:cmd("epmd -daemon"),
    {ok, _} = net_kernel:start(['victim@127.0.0.1', longnames]),
    true = erlang:set_cookie(list_to_atom(os:getenv("TELEPORT_COOKIE"))),
    ok = application:load(teleport),
    ok = application:set_env(teleport, listen, {{127, 0, 0, 1}, 0}),
    ok = teleport:start(),
    [{ok, _} = gen_server:start({local, Name}, ?MODULE, [], []) || Name <- [desk, store, shelf]],
    %% What is not read of a mailbox is not bounded in Erlang: so both of these read.
    [true = register(Name, spawn(fun drop/0)) || Name <- [taker, sink]],
    #{address := {Ip, Port}} = teleport:info(),
    io:format("victim ~s ~s:~b~n", [node(), inet:ntoa(Ip), Port]),
    eof = io:get_line(""),
    halt(0).

drop() ->
    receive _ -> ok end,
    drop().

init([]) ->
    {ok, []}.

handle_call({echo, Number}, _From, State) ->
    {reply, integer_to_binary(Number), State};
handle_call({blob, Length}, _From, State) ->
    {reply, binary:copy(<<0>>, Length), State}.

handle_cast(_Message, State) ->
    {noreply, State}.

handle_info(_Message, State) ->
    {noreply, State}.
