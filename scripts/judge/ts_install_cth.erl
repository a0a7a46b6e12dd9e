%% Stands in for the hook of OTP's own test server, which most of its suites name: gives them names for nodes, and notes
%% how each case ends.
-module(ts_install_cth).

-export([id/1, init/2, pre_init_per_suite/3, post_end_per_testcase/5, on_tc_fail/4, on_tc_skip/4]).

-record(state, {names :: non_neg_integer()}).

id(_Options) ->
    ?MODULE.

init(_Id, Options) ->
    {ok, #state{names = proplists:get_value(nodenames, Options, 0)}}.

pre_init_per_suite(Suite, Config, #state{names = Count} = State) ->
    Unique = integer_to_list(erlang:unique_integer([positive])) ++ os:getpid(),
    Names = [list_to_atom(lists:concat([Suite, "_", Number, "_", Unique])) || Number <- lists:seq(1, Count)],
    {[{nodenames, Names} | Config], State}.

post_end_per_testcase(Suite, Case, _Config, Return, State) ->
    case Return of
        {error, _} -> ok;
        {failed, _} -> ok;
        {skip, _} -> ok;
        _ -> note(Suite, Case, ok)
    end,
    {Return, State}.

on_tc_fail(Suite, Case, Reason, State) ->
    note(Suite, Case, {failed, Reason}),
    State.

on_tc_skip(Suite, Case, Reason, State) ->
    note(Suite, Case, {skipped, Reason}),
    State.

note(Suite, Case, How) ->
    {ok, [[File]]} = init:get_argument(judge_notes),
    ok = file:write_file(File, io_lib:format("~0tp.~n", [{Suite, Case, text(How)}]), [append]).

%% Whatever a reason has in it, it can be read in again.
text(ok) -> ok;
text({How, Reason}) -> {How, lists:flatten(io_lib:format("~0tP", [Reason, 40]))}.
