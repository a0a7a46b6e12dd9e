#!/bin/sh
# One holder of the cookie against a node for a while: siege.sh rust|erlang [options of the example `siege'].
#
# The application has to be compiled for `erlang': `make siege' does. TELEPORT_PROFILE names the profile, SIEGE the program.
set -eu
root=$(cd -P "$(dirname "$0")/.." && pwd)
kind=${1:-rust}
[ $# -gt 0 ] && shift
siege=${SIEGE:-$root/target/release/examples/siege}
case $kind in
rust) exec "$siege" "$@" ;;
erlang)
    out=$root/erlang/_build/siege
    mkdir -p "$out"
    erlc -o "$out" "$root/erlang/test/teleport_siege.erl"
    ebin=$root/erlang/_build/${TELEPORT_PROFILE:-default}/lib/teleport/ebin
    exec "$siege" --victim "erl -noshell -pa $ebin $out -run teleport_siege victim" "$@"
    ;;
*)
    echo "usage: siege.sh rust|erlang [options]" >&2
    exit 2
    ;;
esac
