#!/usr/bin/env bash
# What erlang/build_nif.sh says when it cannot build, and what it does when several build at once. In a copy of the working
# tree; with a cargo of its own, whose library is a few bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/teleport nif.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset CARGO_BUILD_TARGET CARGO_TARGET_DIR RUSTFLAGS TELEPORT_CARGO_FLAGS TELEPORT_NIF

fail() {
    echo "test-build-nif: $1" >&2
    exit 1
}

# A checkout with these contents: just what the script looks at.
checkout() {
    mkdir -p "$work/$1/erlang" "$work/$1/crates/teleport_nif/src"
    cp erlang/build_nif.sh "$work/$1/erlang"
    cp Cargo.toml Cargo.lock "$work/$1"
    touch "$work/$1/crates/teleport_nif/Cargo.toml"
    echo "// $2" >"$work/$1/crates/teleport_nif/src/lib.rs"
    touch -d 2000-01-01 "$work/$1/crates/teleport_nif/src/lib.rs"
}

# `builds` or `refuses <a part of the message>`, and where, with what in the environment.
builds() {
    local at=$1
    shift
    (cd "$work/$at/erlang" && env "$@" sh build_nif.sh) >"$work/said" 2>&1 || fail "$at does not build with $*: $(<"$work/said")"
    [[ -s $work/$at/erlang/priv/teleport_nif.so ]] || fail "$at has no library with $*"
}
refuses() {
    local message=$1 at=$2
    shift 2
    ! (cd "$work/$at/erlang" && env "$@" sh build_nif.sh) >"$work/said" 2>&1 || fail "$at builds with $*"
    [[ $(<"$work/said") == *"$message"* ]] || fail "$at with $* does not say »$message« but: $(<"$work/said")"
}

# Programs without cargo, and a cargo that makes a library of the sources.
mkdir "$work/programs" "$work/cargo"
for program in sh env dirname basename cat chmod cp mktemp mv rm mkdir cmp find touch sed grep tail sort cksum flock; do
    ln -s "$(command -v "$program")" "$work/programs/$program"
done
cat >"$work/cargo/cargo" <<'EOF'
#!/bin/sh
if [ "$1" = -vV ]; then
    echo "host: ${HOST-x86_64-unknown-linux-gnu}"
    exit
fi
for flag; do
    case $flag in --no-such-flag) echo "error: unexpected argument '$flag' found" >&2; exit 1 ;; esac
done
while [ "$1" != --manifest-path ]; do shift; done
crate=$(dirname "$2")
target=${CARGO_TARGET_DIR-$crate/../../target}
mkdir -p "$target"
echo "${RUSTFLAGS-}" >"$crate/rustflags"
cat "$crate/src/lib.rs" >"$target/libteleport_nif.so"
echo '{"reason":"compiler-artifact","filenames":["'"$target/libteleport_nif.so"'"],"fresh":false}'
echo '{"reason":"build-finished","success":true}'
EOF
chmod +x "$work/cargo/cargo"
without="PATH=$work/programs"
with="PATH=$work/cargo:$work/programs"

checkout one first
checkout two second

refuses "needs Rust (cargo) in PATH" one "$without"
refuses "--no-such-flag" one "$with" TELEPORT_CARGO_FLAGS=--no-such-flag
refuses "TELEPORT_NIF: no file $work/nothing" one "$without" "TELEPORT_NIF=$work/nothing"
builds one "$with"
builds one "$without" # the library of before

echo "built elsewhere" >"$work/library"
builds one "$without" "TELEPORT_NIF=$work/library"
cmp -s "$work/library" "$work/one/erlang/priv/teleport_nif.so" || fail "TELEPORT_NIF is not taken"

# For musl a library is made only if that is asked for.
asked() { [[ $(<"$work/one/crates/teleport_nif/rustflags") == *" -C target-feature=-crt-static" ]]; }
builds one "$with"
! asked || fail "the C library's flag is given where it is not musl"
builds one "$with" HOST=x86_64-unknown-linux-musl "RUSTFLAGS=-C target-cpu=native"
asked || fail "no library for a host with musl"
builds one "$with" CARGO_BUILD_TARGET=aarch64-unknown-linux-musl
asked || fail "no library for a target with musl"

# Without what is for debuggers, if it is a release build of its own.
mkdir "$work/strip"
printf '#!/bin/sh\n[ "$1" = --strip-debug ] && echo stripped >>"$2"\n' >"$work/strip/strip"
chmod +x "$work/strip/strip"
is_stripped() { [[ $(tail -n 1 "$work/one/erlang/priv/teleport_nif.so") == stripped ]]; }
stripping="PATH=$work/strip:$work/cargo:$work/programs"
builds one "$stripping"
is_stripped || fail "a release build has what is for debuggers"
builds one "$stripping" TELEPORT_CARGO_FLAGS=--profile=dev
! is_stripped || fail "a build for debuggers is stripped"
builds one "$stripping" "TELEPORT_NIF=$work/library"
! is_stripped || fail "a library that is given is stripped"

# Moved, with what was built.
mv "$work/one" "$work/elsewhere"
builds elsewhere "$with"
mv "$work/elsewhere" "$work/one"

# Files in the way, since root may write everywhere.
checkout blocked first
touch "$work/blocked/erlang/priv"
refuses "cannot write to $work/blocked/erlang/priv" blocked "$with"
refuses "cannot write to CARGO_TARGET_DIR, $work/library" one "$with" "CARGO_TARGET_DIR=$work/library"

mkdir -p "$work/alone/erlang"
cp erlang/build_nif.sh "$work/alone/erlang"
refuses "the whole repository" alone "$with"

# Two checkouts in one target directory, by turns and at once: each gets its own, and cargo is told what is not its own.
shared="CARGO_TARGET_DIR=$work/shared target"
is_old() { [[ -z $(find "$work/$1/crates" -name lib.rs -newermt 2001-01-01) ]]; }
builds one "$with" "$shared"
is_old one || fail "the first build in a target directory has made its files new"
builds two "$with" "$shared"
! is_old two || fail "a build after another checkout's has left its files old"
checkout three second
builds three "$with" "$shared"
is_old three || fail "a build after one of the same contents has made its files new"
for round in 1 2 3 4 5; do
    builders=()
    for at in one two; do
        (cd "$work/$at/erlang" && env "$with" "$shared" sh build_nif.sh) &
        builders+=($!)
    done
    for builder in "${builders[@]}"; do wait "$builder" || fail "builds at once fail, round $round"; done
    for at in one two; do
        cmp -s "$work/$at/crates/teleport_nif/src/lib.rs" "$work/$at/erlang/priv/teleport_nif.so" ||
            fail "$at has the library of the other, round $round"
    done
done
echo "build_nif.sh: all as it should be"
