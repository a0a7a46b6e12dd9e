#!/usr/bin/env bash
# Builds the projects in examples/ the way their users would, with this working tree as the repository that they depend on,
# and runs each on two nodes. Arguments: which of them; default all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# One for all, and the one of the other tests: only the crates of this repository could need to be built again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
[[ $CARGO_TARGET_DIR == /* ]] || CARGO_TARGET_DIR=$root/$CARGO_TARGET_DIR
(cd erlang && sh build_nif.sh)

# With a space, which paths may have.
work=$(mktemp -d "${TMPDIR:-/tmp}/teleport examples.XXXXXX")
node=
end_node() {
    [[ -z $node ]] || { kill "$node" && wait "$node"; } 2>/dev/null || true
    node=
}
trap 'end_node; rm -rf "$work"' EXIT

fail() {
    echo "test-examples: $1" >&2
    exit 1
}

# The working tree, with what is not committed, as a repository.
repository="$work/repository"
mkdir "$repository"
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - 2>/dev/null | tar -xf - -C "$repository"
git -C "$repository" init -q -b main
git -C "$repository" add -A
git -C "$repository" -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false commit -qm "The working tree"

# Clones of it have new files with the contents for which everything has been built just now. As old ones cargo takes them
# for what they are; a file that is missing is noticed all the same.
mkdir "$work/bin"
cat >"$work/bin/cargo" <<EOF
#!/usr/bin/env bash
for ((i = 1; i < \$#; i++)); do
    next=\$((i + 1))
    [[ \${!i} != --manifest-path ]] || find "\$(dirname "\${!next}")/.." -type f -exec touch -d 2000-01-01 {} +
done
exec "$(command -v cargo)" "\$@"
EOF
chmod +x "$work/bin/cargo"
export PATH="$work/bin:$PATH"

# Its users' home is none of its business.
export MIX_HOME="$work/mix" HEX_HOME="$work/hex" REBAR_CACHE_DIR="$work/rebar3" REBAR_COLOR=none
MIX_REBAR3=$(command -v rebar3)
export MIX_REBAR3
# Elixir wants it, and complains where it is not set.
export LC_ALL=C.UTF-8

kernel=(-kernel inet_dist_use_interface '{127,0,0,1}')

# Copies an example, with the address of the repository put in.
copy() {
    cp -r "examples/$1" "$work/$1"
    local placeholder=https://example.org/teleport.git
    grep -qF "$placeholder" "$work/$1/$2" || fail "examples/$1/$2 does not name $placeholder"
    sed -i "s#$placeholder#file://$repository#" "$work/$1/$2"
    cd "$work/$1"
}

# Runs a node that says `ready` when it is there, and another one that uses it: `run <example> <command of the first> --
# <command of the second>`. The first is to have the name that store_of gives it.
run() {
    local example=$1 line='' said=''
    shift
    local store=()
    while [[ $1 != -- ]]; do
        store+=("$1")
        shift
    done
    shift
    local output
    exec {output}< <(exec "${store[@]}" 2>&1 </dev/null)
    node=$!
    until [[ $line == ready ]]; do
        read -r -t 60 -u "$output" line || fail "the first node of $example has not come up: $said$line"
        said+="$line"$'\n'
    done
    line=$("$@" 2>&1 </dev/null) || fail "the second node of $example has failed: $line"
    local name
    name=$(store_of "$example")
    [[ $line == *"33554432 bytes went to $name and back, by teleport: ["*"$name"* ]] ||
        fail "the second node of $example has not done what it is for: $line"
    end_node
    echo "$example: $line"
}

store_of() { echo "store_$1_$$@127.0.0.1"; }
shop_of() { echo "shop_$1_$$@127.0.0.1"; }

erlang_app() {
    copy erlang_app rebar.config
    rebar3 release
    local store
    store=$(store_of erlang_app)
    local start='{ok, _} = application:ensure_all_started(erlang_app)'
    # It is there already, and so is not compiled; a library that was built elsewhere counts all the same, and as long as it is named.
    local built=_build/default/lib/teleport/erlang/teleport/priv/teleport_nif.so
    cp "$built" "$work/elsewhere.so" && echo "another one" >>"$work/elsewhere.so"
    TELEPORT_NIF="$work/elsewhere.so" rebar3 compile
    cmp -s "$work/elsewhere.so" "$built" || fail "TELEPORT_NIF does not count for a dependency that is there"
    rebar3 compile
    ! cmp -s "$work/elsewhere.so" "$built" || fail "the library of TELEPORT_NIF is kept when that is not set any more"
    local erl=(env ERL_LIBS="$PWD/_build/default/rel/erlang_app/lib" erl -noshell "${kernel[@]}" -setcookie "examples_$$")
    run erlang_app "${erl[@]}" -name "$store" -eval "$start, io:put_chars(\"ready\n\")." \
        -- "${erl[@]}" -name "$(shop_of erlang_app)" -eval "$start, erlang_app:demo('$store'), halt()."
}

elixir_app() {
    if ! command -v mix >/dev/null; then
        echo "test-examples: NOT TESTED: examples/elixir_app, since there is no \`mix\`: apt-get install elixir" >&2
        [[ ${CI-} != true ]] || fail "in CI everything has to be tested"
        return
    fi
    copy elixir_app mix.exs
    mix deps.get >fetched 2>&1 || fail "mix deps.get: $(<fetched)"
    mix compile
    local store
    store=$(store_of elixir_app)
    local elixir=(elixir --erl "${kernel[*]}" --cookie "examples_$$")
    run elixir_app "${elixir[@]}" --name "$store" -S mix run --no-halt -e 'IO.puts("ready")' \
        -- "${elixir[@]}" --name "$(shop_of elixir_app)" -S mix run -e "ElixirApp.demo(:\"$store\")"
}

(($#)) || set -- erlang_app elixir_app
for example; do
    cd "$root"
    case $example in
        erlang_app | elixir_app) "$example" ;;
        *) fail "there is no example $example" ;;
    esac
done
