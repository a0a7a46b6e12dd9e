#!/usr/bin/env bash
# The invariants of ARCHITECTURE.md that neither the compiler nor a test sees: who may depend on what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
complain() {
    echo "$1" >&2
    failed=1
}

# Direct dependencies of a crate, without those of its tests.
dependencies() {
    cargo tree -p "$1" --edges normal,build --depth 1 --prefix none | sed 1d | cut -d' ' -f1
}

# must_not CRATE DEPENDENCY...: a crate and what it must not depend on.
must_not() {
    local crate=$1 all forbidden
    shift
    all=$(dependencies "$crate")
    for forbidden in "$@"; do
        if grep -qx "$forbidden" <<<"$all"; then
            complain "$crate depends on $forbidden; see the code map in ARCHITECTURE.md"
        fi
    done
}

io=(tokio socket2 rustix nix getrandom rand)
must_not teleport_etf teleport_proto teleport teleport_cli teleport_testkit "${io[@]}"
must_not teleport_proto teleport teleport_cli teleport_testkit "${io[@]}"
must_not teleport teleport_cli teleport_testkit clap
must_not teleport_cli teleport_testkit teleport_proto
must_not teleport_nif teleport_cli teleport_testkit teleport_proto
for crate in teleport_etf teleport_proto teleport teleport_cli teleport_testkit; do
    must_not "$crate" rustler teleport_nif
done

# Time, sockets and threads come from outside.
if grep -rnE 'std::(net|fs|process|thread::(spawn|sleep|Builder))|Instant|SystemTime' \
    crates/teleport_etf/src crates/teleport_proto/src; then
    complain "the lines above bring IO, threads or clocks into a crate without them"
fi

# Liveness and transfer do not know each other.
if grep -nE '\btransfer\b' crates/teleport_proto/src/liveness.rs | grep 'use ' ||
    grep -rnE '\bliveness\b' crates/teleport_proto/src/transfer; then
    complain "the lines above tie liveness to transfer"
fi

exit "$failed"
