#!/usr/bin/env bash
# Prints the path of a program from the registry, in the version that is used here; compiles it first if it is not there.
#   scripts/cargo-tool.sh cargo-deny
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

declare -A versions=([cargo-deny]=0.20.2 [cargo-fuzz]=0.13.2)
version=${versions[$1]:?there is no version of $1 in scripts/cargo-tool.sh}
tool=$PWD/target/tools/bin/$1
if [[ $("$tool" --version 2>/dev/null) != "$1 $version" ]]; then
    cargo install --locked --root target/tools --version "$version" "$1" >&2
fi
echo "$tool"
