#!/bin/bash
# Two nodes of ejabberd in a cluster, under load: called by test-real.sh, in a root folder that has the package.
# Arguments: the carrier of distributed Erlang, the application's ebin, seconds.
set -euo pipefail
carrier=$1 ebin=$2 seconds=$3
here=$(cd -P "$(dirname "$0")" && pwd)
data=$(mktemp -d /var/tmp/ejabberd.XXXXXX)
export HOME=$data LC_ALL=C.UTF-8
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

failed() {
    echo "ejabberd.sh: $1" >&2
    tail -n 20 "$data"/out* "$data"/log*/*.log >&2
    exit 1
}

head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$data/.erlang.cookie"
chmod 400 "$data/.erlang.cookie"
for number in 1 2; do
    mkdir -p "$data/log$number" "$data/spool$number" "$data/conf$number"
    cat >"$data/conf$number/ejabberd.yml" <<END
hosts: [localhost]
loglevel: warning
auth_method: internal
auth_password_format: plain
acl: {local: {user_regexp: ""}}
listen:
  - {port: $((25570 + number)), ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 33554432}
modules: {}
END
    printf 'ERLANG_NODE=jabber%s@%s\nERL_OPTIONS="-proto_dist %s -pa %s"\nEJABBERD_PID_PATH=%s\n' \
        "$number" "$host" "$carrier" "$ebin" "$data/pid$number" >"$data/conf$number/ejabberdctl.cfg"
    touch "$data/conf$number/inetrc"
done
chown -R ejabberd "$data"

ctl() {
    cd /
    runuser -u ejabberd -- ejabberdctl --config-dir "$data/conf$1" --logs "$data/log$1" --spool "$data/spool$1" "${@:2}" </dev/null
}

for number in 1 2; do
    ctl $number foreground-quiet >"$data/out$number" 2>&1 &
    pids+=($!)
done
for number in 1 2; do
    # Its own command for that waits without end for a node that does not start.
    for ((tries = 0; ; tries++)); do
        ctl $number status >/dev/null 2>&1 && break
        ((tries < 30)) || failed "node $number with $carrier does not start"
        sleep 1
    done
done
ctl 2 join_cluster "jabber1@$host" || failed "the nodes with $carrier do not join"
for ((tries = 0; ; tries++)); do
    (($(ctl 1 list_cluster 2>/dev/null | wc -l) == 2)) && break
    ((tries < 30)) || failed "there is no cluster"
    sleep 1
done
for user in small_from small_to large_from1 large_to1 large_from2 large_to2; do
    ctl 1 register $user localhost secret >/dev/null || failed "no user can be registered"
done
erlc -o "$data" "$here/real_ejabberd.erl"
cd "$data"
erl -noinput -pa "$data" -run real_ejabberd main "$carrier" 25571 25572 "$seconds" || failed "the load failed"
