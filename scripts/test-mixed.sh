#!/usr/bin/env bash
# Runs suites on clusters of several releases of Erlang/OTP: `scripts/test-mixed.sh 25 27 29` has for each pair the one run the tests, and
# the other the nodes that they start. All run what is built here, so here has to be the oldest. See otp.sh for where releases are from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

suites="teleport_api_SUITE teleport_calls_SUITE teleport_behaviours_SUITE"
suites+=" teleport_order_SUITE teleport_reconnect_SUITE teleport_codec_SUITE"
suites=${SUITES:-$suites}
(($# > 1)) || { echo "test-mixed.sh: which releases? Like: scripts/test-mixed.sh 25 27 29" >&2; exit 1; }
here=$(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().' </dev/null)
for release; do
    ((release >= here)) || { echo "test-mixed.sh: what is built with Erlang/OTP $here does not run on $release" >&2; exit 1; }
    # Before any of them is needed from inside of another.
    scripts/otp.sh "$release" true
done

cd erlang
base=$PWD/_build/otp-mixed
TELEPORT_CARGO_FLAGS=${TELEPORT_CARGO_FLAGS-} REBAR_BASE_DIR=$base rebar3 ct --compile_only
built=$base/test/lib/teleport
cd ..

# shellcheck disable=SC2016 # it is Erlang
run='
    [Dir, Logs | Suites] = init:get_plain_arguments(),
    ok = filelib:ensure_path(Logs),
    {Ok, Failed, {Skipped, AutoSkipped}} = ct:run_test([{dir, Dir}, {suite, Suites}, {logdir, Logs}, {auto_compile, false}]),
    halt(if Ok > 0, Failed + Skipped + AutoSkipped =:= 0 -> 0; true -> 1 end).'
failed=()
for one in "$@"; do
    for other in "$@"; do
        [[ $one != "$other" ]] || continue
        echo "tests on Erlang/OTP $one, their nodes on $other"
        # shellcheck disable=SC2086 # suites are words
        TELEPORT_TEST_PEER="$PWD/scripts/otp.sh $other erl" scripts/otp.sh "$one" erl -noshell -noinput \
            -pa "$built/ebin" "$built/test" -eval "$run" -extra "$built/test" "$base/logs-$one-$other" $suites ||
            failed+=("$one with $other")
    done
done
[[ ${#failed[@]} -eq 0 ]] || { echo "failed: ${failed[*]}; logs in erlang/_build/otp-mixed" >&2; exit 1; }
