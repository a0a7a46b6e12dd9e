#!/bin/bash
# Two nodes of RabbitMQ in a cluster, under load: called by test-real.sh, in a root folder that has the package.
# Arguments: the carrier of distributed Erlang, the application's ebin, seconds.
set -euo pipefail
carrier=$1 ebin=$2 seconds=$3
here=$(cd -P "$(dirname "$0")" && pwd)
home=/usr/lib/rabbitmq/lib/rabbitmq_server-*
bin=$(echo $home)/sbin
[[ -e $bin/rabbitmq-server ]] || bin=/usr/lib/rabbitmq/bin
data=$(mktemp -d /var/tmp/rabbitmq.XXXXXX)
# What it leaves where it runs goes with its data.
cd "$data"
export HOME=$data LC_ALL=C.UTF-8 RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_ENABLED_PLUGINS_FILE=$data/plugins
head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$data/.erlang.cookie"
chmod 400 "$data/.erlang.cookie"
echo '[].' >"$data/plugins"
printf 'loopback_users = none\nraft.wal_max_size_bytes = 134217728\n' >"$data/rabbitmq.conf"
flags="-proto_dist $carrier -pa $ebin"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$flags" RABBITMQ_CTL_ERL_ARGS="$flags" RABBITMQ_CONFIG_FILE=$data/rabbitmq.conf
host=$(hostname -s)
pids=()

# Their data are of no use, and to stop them in order takes long.
finish() {
    local number
    for number in 1 2; do
        kill -KILL "$(cat "$data/pid$number")" 2>/dev/null || true
    done
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$data"
}
trap finish EXIT

start() {
    local number=$1
    export RABBITMQ_NODENAME=real$number@$host RABBITMQ_NODE_PORT=$((25670 + number)) RABBITMQ_DIST_PORT=$((25680 + number))
    export RABBITMQ_MNESIA_BASE=$data/mnesia$number RABBITMQ_LOG_BASE=$data/log$number RABBITMQ_PID_FILE=$data/pid$number
    mkdir -p "$data/log$number"
    "$bin/rabbitmq-server" >"$data/out$number" 2>&1 </dev/null &
    pids+=($!)
}

ctl() {
    "$bin/rabbitmqctl" --quiet -n "real$1@$host" "${@:2}" </dev/null
}

failed() {
    echo "rabbitmq.sh: $1" >&2
    tail -n 20 "$data"/out* "$data"/log*/*.log >&2
    exit 1
}

start 1
start 2
for number in 1 2; do
    ctl $number wait --timeout 120 "$data/pid$number" >/dev/null || failed "node $number with $carrier does not start"
done
ctl 2 stop_app
ctl 2 join_cluster "real1@$host" || failed "the nodes with $carrier do not join"
ctl 2 start_app
ctl 1 eval 'case lists:sort(rabbit_nodes:all_running()) of [_, _] -> ok end.' >/dev/null || failed "there is no cluster"
export ERL_LIBS
ERL_LIBS=$(echo $home)/plugins
erlc -W0 -o "$data" "$here/real_rabbitmq.erl" || failed "the load does not compile"
erl -noinput -pa "$data" -run real_rabbitmq main "$carrier" 25671 25672 "$seconds" ||
    failed "the load failed"
for number in 1 2; do
    # It leaves the cluster for a moment to join it.
    ! sed '1,/server up\|Server startup complete/d' "$data/log$number/real$number@$host.log" | grep "rabbit on node .* down" ||
        failed "a node seemed down"
done
