#!/usr/bin/env bash
# OTP's own suites as judge of the carrier: runs suites with nodes whose distribution is carried by teleport, and by inet_tcp.
#
#   OTP_SOURCES=DIR scripts/judge.sh distribution_SUITE pg_SUITE            # with both, and compares
#   OTP_SOURCES=DIR scripts/judge.sh teleport erl_distribution_SUITE CASE   # with one; single cases
#   scripts/judge.sh table SUITE...                                         # of what was run before
#
# OTP_SOURCES: a folder with the sources of the release of `erl` (those of Debian: `apt-get source erlang`), which are not
# part of this repository. The application has to be compiled. ERL_LIBS: where applications are that suites need and `erl` has
# not (os_mon, runtime_tools). JUDGE_OUT: where logs and notes go (erlang/_build/judge).
set -euo pipefail
root=$(cd -P "$(dirname "$0")/.." && pwd)
ebin=${TELEPORT_EBIN:-$root/erlang/_build/default/lib/teleport/ebin}
out=${JUDGE_OUT:-$root/erlang/_build/judge}

fail() {
    echo "judge.sh: $1" >&2
    exit 1
}

carriers=(inet_tcp teleport)
compare=true
run=true
case ${1-} in
    inet_tcp | teleport) carriers=("$1") compare=false && shift ;;
    table) run=false && shift ;;
esac
(($#)) || fail "which suites? Like: scripts/judge.sh distribution_SUITE pg_SUITE"
suites=("$@") cases=()
if ! $compare && (($# > 1)) && [[ $2 != *_SUITE ]]; then
    suites=("$1") cases=("${@:2}")
fi
mkdir -p "$out/notes" "$out/hook"

# Compiles a suite, and what its folder has beside suites, once.
compile() {
    local suite=$1 source folder
    source=$(find "$OTP_SOURCES"/erts/emulator/test "$OTP_SOURCES"/lib/*/test -maxdepth 1 -name "$suite.erl" 2>/dev/null | head -n 1)
    [[ -n $source ]] || fail "no $suite in $OTP_SOURCES"
    source=$(dirname "$source")
    folder=$out/suites/$(basename "$(dirname "$source")")
    if [[ ! -e $folder/$suite.beam ]]; then
        mkdir -p "$folder"
        if [[ -d $source/${suite}_data ]]; then
            cp -r "$source/${suite}_data" "$folder/"
            # Some have modules that OTP's build compiles, and some that are not to compile.
            (cd "$folder/${suite}_data" && for module in *.erl; do erlc -W0 "$module" >/dev/null 2>&1 || true; done)
        fi
        # What one suite alone needs may not compile without the tools of OTP's build.
        find "$source" -maxdepth 1 -name '*.erl' ! -name '*_SUITE.erl' ! -name "ts_install_cth.erl" -print0 |
            xargs -0 -P 2 -n 8 erlc +nowarn_export_all -W0 -I "$source" -I "$source/../include" -I "$source/../src" -o "$folder" \
                >"$folder/helpers.log" 2>&1 || true
        erlc -W0 -I "$source" -I "$source/../include" -I "$source/../src" -o "$folder" "$source/$suite.erl" >&2 ||
            fail "$suite does not compile"
    fi
    echo "$folder"
}

# One suite with one carrier.
judge() {
    local carrier=$1 suite=$2 folder notes
    folder=$(compile "$suite")
    notes=$out/notes/$carrier-$suite
    [[ -z ${cases[*]-} ]] || notes=$notes-cases
    rm -f "$notes"
    touch "$notes"
    # By the environment, so that all nodes that a suite starts have them.
    local flags="-pa $ebin"
    [[ $carrier == inet_tcp ]] || flags+=" -proto_dist $carrier"
    # Files of a suite go where it runs.
    mkdir -p "$out/run"
    (cd "$out/run" && ERL_AFLAGS="$flags ${ERL_AFLAGS-}" erl -noinput -sname "judge_$$_$carrier" \
        -pa "$out/hook" "$folder" -judge_notes "$notes" \
        -run judge suite "$folder" "$out/logs/$carrier" "$suite" "${cases[@]}" >"$out/$carrier-$suite.log" 2>&1 </dev/null) ||
        echo "judge.sh: $suite with $carrier did not end: see $out/$carrier-$suite.log" >&2
    grep -o '^{[^,]*,[^,]*,{failed' "$notes" | sed "s/^/$carrier: /" || true
}

if $run; then
    [[ -d ${OTP_SOURCES-} ]] || fail "OTP_SOURCES: a folder with the sources of OTP"
    OTP_SOURCES=$(cd -P "$OTP_SOURCES" && pwd)
    [[ -e $ebin/teleport_dist.beam ]] || fail "no teleport in $ebin: compile it, or say in TELEPORT_EBIN where it is"
    erlc -o "$out/hook" "$root"/scripts/judge/*.erl
    for suite in "${suites[@]}"; do
        for carrier in "${carriers[@]}"; do
            judge "$carrier" "$suite"
        done
    done
fi
! $compare && exit 0
exec erl -noinput -pa "$out/hook" -run judge table "$out/notes" "${suites[@]}"
