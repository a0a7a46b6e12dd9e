#!/usr/bin/env bash
# Tests on another release of Erlang/OTP: `scripts/test-otp.sh 27` runs all suites, and the examples; `scripts/test-otp.sh 27
# --suite teleport_api_SUITE` what these arguments of `rebar3 ct` say. The NIF is the one that is built here. See otp.sh for
# where the release is from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

release=${1-}
[[ $release =~ ^[0-9]+$ ]] || { echo "test-otp.sh: which release? Like: make test-otp OTP=27" >&2; exit 1; }
shift
scripts/otp.sh "$release" true

flags=${TELEPORT_CARGO_FLAGS-}
base=$PWD/erlang/_build/otp-$release
mkdir -p "$base"
# shellcheck disable=SC2086 # flags are words
interop=$(scripts/build-example.sh interop $flags)
# A copy in the checkout, which is what the other release sees.
cp --remove-destination "$interop" "$base/interop"
cd erlang
TELEPORT_CARGO_FLAGS=$flags sh build_nif.sh
export TELEPORT_NIF=$PWD/priv/teleport_nif.so TELEPORT_INTEROP=$base/interop REBAR_BASE_DIR=$base REBAR_COLOR=none
../scripts/otp.sh "$release" rebar3 do compile, xref
../scripts/otp.sh "$release" rebar3 ct "$@"
(($#)) || ../scripts/otp.sh "$release" ../scripts/test-examples.sh
