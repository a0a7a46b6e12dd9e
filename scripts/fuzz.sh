#!/usr/bin/env bash
# Runs every fuzz target for a while, from its corpus and its seeds.
#   scripts/fuzz.sh [seconds per target] [target...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzzing needs nightly Rust: rustup toolchain install nightly" >&2
    exit 1
fi
fuzz=$(scripts/cargo-tool.sh cargo-fuzz)
# What it calls is to be nightly, too.
export RUSTUP_TOOLCHAIN=nightly

seconds=${1:-60}
shift || true
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <("$fuzz" list)

for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    "$fuzz" run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -max_total_time="$seconds"
done
