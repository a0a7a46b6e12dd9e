#!/usr/bin/env bash
# What the documentation refers to has to be there: files that it links to, and tests that it says guard an invariant.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
complain() {
    echo "$1" >&2
    failed=1
}

for page in *.md docs/*.md; do
    while read -r target; do
        [[ -e $(dirname "$page")/$target ]] || complain "$page links to $target, which does not exist"
    done < <(grep -oE '\]\([^)#:]+[)#]' "$page" | sed 's/^](//; s/.$//')
done

functions=$({
    grep -rhoE '\bfn [a-z0-9_]+' crates --include='*.rs' | cut -d' ' -f2
    grep -hoE '^[a-z][a-z0-9_]*\(' erlang/test/*.erl | tr -d '('
} | sort -u)
# Test names are told from other code by their many words.
names_of() { grep -oE '`[a-z0-9]+(_[a-z0-9]+){3,}`' | tr -d '`' | sort -u | grep -vx this_form_of_many_words; }
check_names() {
    while read -r name; do
        grep -qx "$name" <<<"$functions" || complain "$1 names the test $name, which does not exist"
    done
}
check_names ARCHITECTURE.md < <({ grep '^Guarded by' ARCHITECTURE.md; sed -n '/^## Invariants/,$p' ARCHITECTURE.md; } | names_of)
check_names docs/semantics.md < <(names_of <docs/semantics.md)

# The keys of the application's configuration, in the module that checks them and in the table that explains them.
checked=$(sed -n '/^keys() ->/,/^$/p' erlang/src/teleport_config.erl | sed -nE 's/^ +\[?\{([a-z_]+), .*/\1/p' | sort)
explained=$(sed -n '/^## Configuration/,/^## With/p' docs/erlang.md | sed -nE 's/^\| `([a-z_]+)` .*/\1/p' | sort)
[[ -n $checked && $checked == "$explained" ]] || complain "docs/erlang.md explains other keys than teleport_config checks:
$(diff <(echo "$checked") <(echo "$explained"))"

exit "$failed"
