%% Runs suites of OTP, and compares how their cases ended with two carriers of distributed Erlang.
-module(judge).

-export([suite/1, table/1]).

%% How long a case may take, against what its suite says.
-define(PATIENCE, 3).

%% Runs a suite, or cases of it. Arguments: the folder of the compiled suite, one for logs, the suite, cases.
suite([Folder, Logs, Suite | Cases]) ->
    ok = filelib:ensure_dir(filename:join(Logs, "file")),
    Which = case Cases of
        [] -> [];
        _ -> [{testcase, [list_to_atom(Case) || Case <- Cases]}]
    end,
    Result = ct:run_test([{dir, Folder}, {suite, list_to_atom(Suite)}, {logdir, Logs}, {ct_hooks, [ts_install_cth]},
                          {auto_compile, false}, {multiply_timetraps, ?PATIENCE}, {scale_timetraps, false},
                          {verbosity, 0} | Which]),
    io:format("~ts: ~0tp~n", [Suite, Result]),
    erlang:halt(0).

%% Prints a table from the notes of all suites. Arguments: the folder of the notes, suites.
table([Folder | Suites]) ->
    io:format("| suite | cases | passed with `inet_tcp` | passed with `teleport` | only with `inet_tcp` |~n"
              "|---|---|---|---|---|~n"),
    lists:foreach(fun(Suite) -> row(Suite, notes(Folder, "inet_tcp", Suite), notes(Folder, "teleport", Suite)) end, Suites),
    erlang:halt(0).

row(Suite, Plain, Carried) ->
    Only = [Case || Case <- passed(Plain), not lists:member(Case, passed(Carried))],
    All = lists:usort(maps:keys(Plain) ++ maps:keys(Carried)),
    io:format("| `~ts` | ~b | ~b | ~b | ~ts |~n",
              [Suite, length(All), length(passed(Plain)), length(passed(Carried)),
               lists:join(", ", [[$`, atom_to_list(Case), $`] || Case <- Only])]).

passed(Notes) ->
    [Case || {Case, ok} <- lists:sort(maps:to_list(Notes))].

%% A case of several groups, or one that was run again, has passed if it has passed every time in the last run.
notes(Folder, Carrier, Suite) ->
    {ok, Notes} = file:consult(filename:join(Folder, Carrier ++ "-" ++ Suite)),
    lists:foldl(fun({_Suite, Case, How}, Found) -> maps:update_with(Case, fun(Old) -> worse(Old, How) end, How, Found) end, #{},
                [{Of, case_of(Case), How} || {Of, Case, How} <- Notes, not is_configuration(case_of(Case))]).

%% One of a group that was skipped comes with it.
case_of({Case, _Group}) -> Case;
case_of(Case) -> Case.

worse(ok, How) -> How;
worse(Old, _How) -> Old.

is_configuration(Case) ->
    lists:member(Case, [init_per_suite, end_per_suite, init_per_group, end_per_group]).
