#!/usr/bin/env bash
# Runs every fuzz target for a while, from its corpus and its seeds.
#   scripts/fuzz.sh [seconds per target] [target...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzzing needs nightly Rust: rustup toolchain install nightly" >&2
    exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "fuzzing needs cargo-fuzz: cargo install cargo-fuzz" >&2
    exit 1
fi

seconds=${1:-60}
shift || true
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cargo +nightly fuzz list)

for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    inputs=("fuzz/corpus/$target")
    [[ ! -d fuzz/seeds/$target ]] || inputs+=("fuzz/seeds/$target")
    cargo +nightly fuzz run "$target" "${inputs[@]}" -- -max_total_time="$seconds"
done
