#!/bin/sh
# Builds the NIF and puts it into priv/. Run by rebar3 and mix before they compile, in this directory or below another
# project's _build.
set -eu
cd "$(dirname "$0")"

# Whoever has no Rust can bring the file along.
if ! command -v cargo >/dev/null 2>&1; then
    [ -e priv/teleport_nif.so ] && exit 0
    echo "teleport: building the NIF needs Rust (cargo) in PATH: https://rustup.rs" >&2
    exit 1
fi

flags=${TELEPORT_CARGO_FLAGS---release}
manifest=../crates/teleport_nif/Cargo.toml
# shellcheck disable=SC2086 # flags are words
messages=$(cargo build $flags --manifest-path "$manifest" --message-format=json-render-diagnostics)
library=$(printf '%s\n' "$messages" | sed -n 's/.*"filenames":\["\([^"]*libteleport_nif\.[a-z]*\)".*/\1/p' | tail -n 1)
if [ ! -e "$library" ]; then
    echo "teleport: cargo has built no library for the NIF" >&2
    exit 1
fi

mkdir -p priv
cmp -s "$library" priv/teleport_nif.so && exit 0
# A new file in place of the old one: overwriting a library that is in use would crash its virtual machine.
cp "$library" "priv/teleport_nif.so.new.$$"
mv -f "priv/teleport_nif.so.new.$$" priv/teleport_nif.so
