#!/usr/bin/env bash
# Sees to what the tests need besides Rust: Erlang/OTP, and Elixir for its example, from the distribution's packages.
#   scripts/install-test-tools.sh valgrind      # only that
set -euo pipefail

release=25
packages=(
    erlang-base erlang-common-test erlang-crypto erlang-dev erlang-dialyzer erlang-edoc erlang-eunit
    erlang-parsetools erlang-syntax-tools erlang-tools rebar3
)
# What the packages have besides programs.
applications=(common_test crypto dialyzer edoc eunit parsetools syntax_tools tools)

# What is missing, in a few words; nothing if all is there.
missing() {
    local program found
    for program in erl erlc epmd rebar3; do
        command -v "$program" >/dev/null || { echo "no \`$program\` in PATH"; return; }
    done
    found=$(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().' </dev/null 2>/dev/null) || true
    [[ $found =~ ^[0-9]+$ ]] || { echo "\`erl\` does not run"; return; }
    ((found >= release)) || { echo "Erlang/OTP $found is too old"; return; }
    found=$(erl -noshell -eval '
        Missing = [App || App <- init:get_plain_arguments(), is_tuple(code:lib_dir(list_to_atom(App)))],
        io:put_chars(lists:join(" ", Missing)), halt().' -extra "${applications[@]}" </dev/null 2>/dev/null) || found=all
    [[ -z $found ]] || echo "Erlang applications are not there: $found"
}

give_up() {
    echo "$1; the tests need Erlang/OTP $release or later: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
}

# Only where it takes no password.
may_install() {
    command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }
}

apt() {
    local root=()
    ((EUID == 0)) || root=(sudo -n)
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# The package lists may be missing, or older than the archive.
install() {
    apt install -y --no-install-recommends "$@" || { apt update && apt install -y --no-install-recommends "$@"; }
}

# Each a program of a package of the same name.
if (($#)); then
    for program in "$@"; do
        command -v "$program" >/dev/null || { may_install && install "$program"; } || {
            echo "no \`$program\` in PATH: apt-get install $program" >&2
            exit 1
        }
    done
    exit 0
fi

reason=$(missing)
if [[ -n $reason ]]; then
    may_install || give_up "$reason"
    echo "$reason: installing ${packages[*]}"
    install "${packages[@]}" || give_up "apt-get failed"
    reason=$(missing)
    [[ -z $reason ]] || give_up "${packages[*]} of this distribution will not do ($reason)"
fi

# Without it all but one example can be tested, whose test says so.
if ! command -v mix >/dev/null; then
    echo "no \`mix\` in PATH: installing elixir"
    { may_install && install elixir; } || echo "elixir could not be installed: examples/elixir_app cannot be tested" >&2
fi

# For hosts of their own, which only root can make; where they cannot be made that suite says so.
missing_networks() {
    local program
    for program in ip iptables; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || { echo "no \`$program\` in PATH"; return; }
    done
}
reason=$(missing_networks)
if [[ -n $reason ]]; then
    echo "$reason: installing iproute2 and iptables"
    { may_install && install iproute2 iptables; } ||
        echo "iproute2 and iptables could not be installed: hosts of their own are not tested" >&2
fi
