#!/usr/bin/env bash
# Real systems over the carrier: RabbitMQ and ejabberd, as Debian has them, two nodes each in a cluster, unchanged but for the flags of
# `erl'; messages of 10 MiB go through it beside small ones. Prints a table with the carrier and with inet_tcp.
#
#   scripts/test-real.sh                # both
#   scripts/test-real.sh rabbitmq
#
# Needs root: the packages are installed in a root folder, as scripts/otp.sh makes them (TELEPORT_REAL_ROOTS, target/real). SECONDS_EACH
# (20): how long each is loaded. The application has to be compiled, for the system that has this checkout.
set -euo pipefail
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export TELEPORT_OTP_ROOTS=${TELEPORT_REAL_ROOTS:-$root/target/real}
ebin=$root/erlang/_build/default/lib/teleport/ebin
# Of Debian's stable release before the last: its Erlang/OTP is the one that both systems' packages were built for.
release=25
# Another `erl' would not have the packages.
unset "TELEPORT_OTP_$release"

systems=("$@")
((${#systems[@]})) || systems=(rabbitmq ejabberd)
for system in "${systems[@]}"; do
    [[ -x $root/scripts/real/$system.sh ]] || { echo "test-real.sh: no system $system: rabbitmq or ejabberd" >&2; exit 1; }
done
[[ -e $ebin/teleport_dist.beam ]] || { echo "test-real.sh: no teleport in $ebin: compile it first" >&2; exit 1; }

# Nothing is started by their installation.
"$root/scripts/otp.sh" "$release" sh -c '
    command -v rabbitmqctl >/dev/null && command -v ejabberdctl >/dev/null && exit 0
    printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends rabbitmq-server ejabberd
' </dev/null >&2

echo "| system | carrier | small messages | 10 MiB messages | small alone, p50 / p99, ms | small beside | p50 / p99 / longest, ms |"
echo "|---|---|---|---|---|---|---|"
for system in "${systems[@]}"; do
    for carrier in inet_tcp teleport; do
        "$root/scripts/otp.sh" "$release" "$root/scripts/real/$system.sh" "$carrier" "$ebin" "${SECONDS_EACH:-20}" </dev/null
    done
done
