#!/bin/sh
# Builds the NIF and puts it into priv/. Run by rebar3 and mix before they compile, here or below another project's _build or
# deps. Argument: the application's folder, from this one.
#
# TELEPORT_CARGO_FLAGS: flags for cargo (default --release). TELEPORT_NIF: a library that was built elsewhere, instead; where that
# is from is noted in nif.given, for rebar.config.script.
set -eu
here=$(cd -P "$(dirname "$0")" && pwd)
priv=$(cd -P "$here/${1:-.}" && pwd)/priv
flags=${TELEPORT_CARGO_FLAGS---release}
manifest=$(dirname "$here")/crates/teleport_nif/Cargo.toml

fail() {
    echo "teleport: $*" >&2
    exit 1
}

build() {
    # For musl Rust links the C library in, unless it is told not to, and then it makes no library that can be loaded.
    case "$flags ${CARGO_BUILD_TARGET-$(cargo -vV | sed -n 's/^host: //p')}" in
        *musl*) export RUSTFLAGS="${RUSTFLAGS-} -C target-feature=-crt-static" ;;
    esac
    # shellcheck disable=SC2086 # flags are words
    messages=$(cargo build $flags --manifest-path "$manifest" --message-format=json-render-diagnostics) ||
        fail "cargo could not build the NIF (flags, from TELEPORT_CARGO_FLAGS: $flags). It needs Rust 1.91 or later," \
            "and a C compiler to link with"
    message=$(printf '%s\n' "$messages" | grep '"filenames":\["[^"]*libteleport_nif\.' | tail -n 1) || true
    library=$(printf '%s\n' "$message" | sed -n 's/.*"filenames":\["\([^"]*\)".*/\1/p')
    [ -e "$library" ] || fail "cargo has built no library for the NIF (flags, from TELEPORT_CARGO_FLAGS: $flags)"
}

# What the library is built from.
contents() {
    (cd "$here/.." && find crates Cargo.toml Cargo.lock -type f -exec cksum {} + | sort -k 3 | cksum)
}

# Cargo tells the crates of several checkouts in one target directory apart by nothing but the age of their files. After
# a build from other contents elsewhere all of these have to be new, or its crates would be taken for ours.
share_target() {
    mkdir -p "$1" || fail "cannot write to CARGO_TARGET_DIR, $1"
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$1/.teleport_nif.lock"
        flock 9
    fi
    ours="$(contents) $here"
    last=$(cat "$1/.teleport_nif.last" 2>/dev/null) || last=$ours
    case $last in
        *" $here" | "${ours%%" $here"} "*) ;;
        *)
            find "$here/../crates" -name '*.rs' -exec touch {} + ||
                fail "$1 has another build of teleport, and the files in $here/../crates cannot be touched: use another CARGO_TARGET_DIR"
            ;;
    esac
    echo "$ours" >"$1/.teleport_nif.last"
}

given=$(dirname "$priv")/nif.given
if [ -n "${TELEPORT_NIF-}" ]; then
    library=$TELEPORT_NIF
    [ -f "$library" ] || fail "TELEPORT_NIF: no file $library"
    echo "$library" >"$given" || fail "cannot write to $given"
elif ! command -v cargo >/dev/null 2>&1; then
    # Without Rust the file can be brought along.
    [ -e "$priv/teleport_nif.so" ] && exit 0
    fail "building the NIF needs Rust (cargo) in PATH: https://rustup.rs. Or set TELEPORT_NIF to a library that was built elsewhere"
elif [ ! -e "$manifest" ]; then
    fail "no $manifest: the NIF is built from the whole repository, erlang/ alone will not do (in Mix: subdir, not sparse)"
else
    [ -z "${CARGO_TARGET_DIR-}" ] || share_target "$CARGO_TARGET_DIR"
    build
    rm -f "$given"
fi

# Nine tenths of a release build are for debuggers. Each image of a release would have them.
case "${TELEPORT_NIF:+given} $flags" in
    " "*--release*)
        stripped=$(mktemp) && trap 'rm -f "$stripped"' EXIT || fail "cannot write to ${TMPDIR:-/tmp}"
        cp "$library" "$stripped" && chmod +rx "$stripped" || fail "cannot write to ${TMPDIR:-/tmp}"
        strip --strip-debug "$stripped" 2>/dev/null && library=$stripped
        ;;
esac
if cmp -s "$library" "$priv/teleport_nif.so"; then
    exit 0
fi
mkdir -p "$priv" || fail "cannot write to $priv"
# A new file in place of the old one: overwriting a library that is in use would crash its virtual machine.
cp "$library" "$priv/teleport_nif.so.new.$$" && mv -f "$priv/teleport_nif.so.new.$$" "$priv/teleport_nif.so" ||
    fail "cannot write to $priv"
