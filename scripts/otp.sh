#!/usr/bin/env bash
# Runs a command where `erl` is of the given release of Erlang/OTP: `scripts/otp.sh 27 rebar3 ct`.
#
# TELEPORT_OTP_27 (and so on) names an `erl` of that release. Without it a root folder is made of Debian's packages, once:
# for that this has to be root. The folders are in TELEPORT_OTP_ROOTS (target/otp). They see this checkout under its own
# path, and nothing else of this machine. What is mounted for that is seen by the command alone and goes when it ends, so the
# folders can be deleted like any others.
set -euo pipefail
checkout=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "otp.sh: $1" >&2
    exit 1
}

release=${1-}
[[ $release =~ ^[0-9]+$ ]] || fail "which release? Like: scripts/otp.sh 27 erl"
shift
(($#)) || fail "which command? Like: scripts/otp.sh $release erl"

# What is missing for release $release is in the variable of its name.
given="TELEPORT_OTP_$release"
erl=${!given-}
release_of='io:put_chars(erlang:system_info(otp_release)), halt().'
if [[ -n $erl ]]; then
    [[ -x $erl && -f $erl ]] || fail "$given: no program $erl"
    found=$("$erl" -noshell -eval "$release_of" </dev/null) || fail "$given: $erl does not run"
    [[ $found == "$release" ]] || fail "$given: $erl is of release $found, not $release"
    PATH="$(cd "$(dirname "$erl")" && pwd):$PATH" exec "$@"
fi

# Debian's releases, by what they have; only these are looked after.
case $release in
    25) suite=bookworm ;;
    27) suite=trixie ;;
    29) suite=sid ;;
    *) fail "no release of Debian has Erlang/OTP $release: set $given to its \`erl\`" ;;
esac
roots=${TELEPORT_OTP_ROOTS:-$checkout/target/otp}
mkdir -p "$roots"
roots=$(cd -P "$roots" && pwd)
# That of another checkout, if this is a work tree of it.
git=$(git -C "$checkout" rev-parse --path-format=absolute --git-common-dir 2>/dev/null) || git=$checkout
root=$roots/$release

# In name spaces of its own, so that nothing stays mounted, whatever becomes of this. Works in such a folder too: the others are in it.
inside() {
    exec unshare --mount --propagation private bash -c '
        set -eu
        root=$1 roots=$2 checkout=$3 git=$4 at=$5
        shift 5
        mount --bind "$root" "$root"
        for folder in "$roots" "$checkout" "$git"; do
            mkdir -p "$root$folder"
            mount --bind "$folder" "$root$folder"
        done
        mount -t proc proc "$root/proc"
        # Names of this machine mean the same there, without a name server.
        touch "$root/etc/hosts"
        mount --bind /etc/hosts "$root/etc/hosts"
        exec chroot "$root" /bin/sh -c "cd \"\$0\" && exec \"\$@\"" "$at" "$@"
    ' otp.sh "$root" "$roots" "$checkout" "$git" "$@"
}

make_root() {
    ((EUID == 0)) || fail "making a root folder with Erlang/OTP $release needs root; or set $given to its \`erl\`"
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || fail "no \`debootstrap\` in PATH; install it, or set $given to the \`erl\` of release $release"
        { apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends debootstrap ||
            { apt-get -q update && apt-get -q -o DPkg::Lock::Timeout=300 install -y \
                --no-install-recommends debootstrap; }; } </dev/null >&2 ||
            fail "debootstrap cannot be installed; install it, or set $given to the \`erl\` of release $release"
    fi
    local log=$roots/$release.log
    echo "otp.sh: making $root of Debian's $suite; see $log" >&2
    rm -rf "$root.new"
    mkdir "$root.new"
    unshare --mount --propagation private debootstrap --variant=minbase "$suite" "$root.new" </dev/null >"$log" 2>&1 ||
        fail "debootstrap of $suite failed: $(tail -n 3 "$log")"
    # The examples fetch what they depend on by git.
    (root=$root.new && inside "$checkout" sh -ec '
        scripts/install-test-tools.sh
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends git
    ') </dev/null >>"$log" 2>&1 || fail "Erlang cannot be installed in $root.new: $(tail -n 3 "$log")"
    local found
    found=$(root=$root.new && inside / erl -noshell -eval "$release_of" </dev/null) || fail "\`erl\` in $root.new does not run: $found"
    [[ $found == "$release" ]] || fail "Debian's $suite has Erlang/OTP $found now: set $given to an \`erl\` of release $release"
    rm -f "$root.new"/var/cache/apt/archives/*.deb
    mv "$root.new" "$root"
}

if [[ ! -d $root ]]; then
    exec {lock}>"$roots/$release.lock"
    flock "$lock"
    [[ -d $root ]] || make_root
    exec {lock}>&-
fi
((EUID == 0)) || fail "using $root needs root; or set $given to the \`erl\` of release $release"

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
unset TMPDIR
case $PWD/ in
    "$checkout"/*) at=$PWD ;;
    *) at=$checkout ;;
esac
inside "$at" "$@"
