#!/usr/bin/env bash
# Builds an example of the crate teleport, with the flags given, and prints where it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

example=$1
shift
messages=$(cargo build -p teleport --example "$example" "$@" --message-format=json-render-diagnostics)
program=$(printf '%s\n' "$messages" | sed -n 's/.*"executable":"\([^"]*\/examples\/'"$example"'\)".*/\1/p')
if [[ ! -x $program ]]; then
    echo "cargo has built no program for the example $example" >&2
    exit 1
fi
echo "$program"
