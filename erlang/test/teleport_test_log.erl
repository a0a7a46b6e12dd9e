%% A handler of `logger' that tells a process.
-module(teleport_test_log).

-export([log/2, all/0, said/1, note/0, count/1]).

-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := Process}) ->
    Process ! {logged, Event}.

%% What the calling process has been told by now.
-spec all() -> [{logger:level(), string()}].
all() ->
    receive {logged, Event} -> [said(Event) | all()] after 0 -> [] end.

-spec said(logger:log_event()) -> {logger:level(), string()}.
said(#{level := Level, msg := {report, Report}}) -> {Level, lists:flatten(io_lib:format("~p", [Report]))};
said(#{level := Level, msg := {string, String}}) -> {Level, unicode:characters_to_list(String)};
said(#{level := Level, msg := {Format, Args}}) -> {Level, lists:flatten(io_lib:format(Format, Args))}.

%% Warnings of the calling node are noted from now on.
-spec note() -> ok.
note() ->
    Notes = spawn(fun() -> notes([]) end),
    logger:add_handler(?MODULE, ?MODULE, #{config => Notes, level => warning}).

notes(Events) ->
    receive
        %% OTP's: those on its own logger have other events in them.
        {logged, #{msg := {report, _}}} -> notes(Events);
        {logged, Event} -> notes([Event | Events]);
        {said, From} -> From ! {said, Events}, notes(Events)
    end.

%% How many of them have that text.
-spec count(string()) -> non_neg_integer().
count(Text) ->
    {ok, #{config := Notes}} = logger:get_handler_config(?MODULE),
    Notes ! {said, self()},
    receive
        {said, Events} -> length([Event || Event <- Events, string:find(element(2, said(Event)), Text) =/= nomatch])
    end.
