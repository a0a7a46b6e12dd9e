#!/bin/sh
# Distributed Erlang under a flood of large messages while its connections are killed; fails if a signal was lost, doubled or
# out of order, or a node seemed down. The application has to be compiled; `ss' has to be there, and this to be root.
#
# Arguments: nodes=N (2), seconds=N (60), kills=N (a second, 4), large=N (senders of large messages for each peer, 2),
# ticktime=SECONDS (8), carrier=teleport or inet_tcp.
set -eu
root=$(cd -P "$(dirname "$0")/.." && pwd)
out=$root/erlang/_build/flood
ebin=${TELEPORT_EBIN:-$root/erlang/_build/default/lib/teleport/ebin}
mkdir -p "$out"
[ "$(id -u)" = 0 ] && command -v ss >/dev/null || { echo "dist-flood.sh: killing connections needs root and \`ss\`" >&2; exit 1; }
erlc -o "$out" "$root/erlang/test/teleport_dist_flood.erl"
exec erl -noinput -pa "$ebin" "$out" -run teleport_dist_flood main "$@"
