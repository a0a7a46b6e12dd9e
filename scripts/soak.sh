#!/bin/sh
# Erlang nodes that are stopped, killed and restarted while they send, call and monitor; fails if a promise was broken.
#
# MINUTES (default 10). Arguments for teleport_soak:main/1: seed=N, rounds=N, seconds=N (of traffic a round), nodes=N,
# faults=stop,kill_vm,..., json=FILE. NIF and test modules have to be compiled: `make soak-erlang' does.
set -eu
root=$(cd -P "$(dirname "$0")/.." && pwd)
out=$root/erlang/_build/soak
mkdir -p "$out"
cd "$root/erlang"
erlc -o "$out" test/teleport_test.erl test/teleport_test_server.erl test/teleport_soak.erl test/teleport_soak_node.erl
ebin=$root/erlang/_build/${TELEPORT_PROFILE:-default}/lib/teleport/ebin
exec erl -noshell -noinput -kernel prevent_overlapping_partitions false -pa "$ebin" "$out" \
    -run teleport_soak main "minutes=${MINUTES:-10}" "$@"
