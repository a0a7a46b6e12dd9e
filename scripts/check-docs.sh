#!/usr/bin/env bash
# What the documentation refers to has to be there: files and headings that it links to, and tests that it says guard an invariant.
# Versions agree, and lines are not too long.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
complain() {
    echo "$1" >&2
    failed=1
}

# What links to a page may name: its headings, and places that are marked.
anchors() {
    sed -nE 's/^#+ //p' "$1" | tr '[:upper:] ' '[:lower:]-' | sed 's/[^a-z0-9_-]//g'
    sed -nE 's/.*<a id="([^"]+)">.*/\1/p' "$1"
}

for page in *.md docs/*.md; do
    while read -r target; do
        [[ -e $(dirname "$page")/$target ]] || complain "$page links to $target, which does not exist"
    done < <(grep -oE '\]\([^)#:]+[)#]' "$page" | sed 's/^](//; s/.$//')
    while IFS='#' read -r target anchor; do
        there=${target:+$(dirname "$page")/}${target:-$page}
        [[ ! -e $there ]] || grep -qxe "$anchor" <<<"$(anchors "$there")" || complain "$page links to $target#$anchor, which does not exist"
    done < <(grep -oE '\]\([^):]*#[^)]+\)' "$page" | sed 's/^](//; s/.$//')
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

# One version for crates and application.
version=$(sed -nE '/^\[workspace.package\]/,/^$/s/^version = "(.*)"/\1/p' Cargo.toml)
grep -q "{vsn, \"$version\"}" erlang/src/teleport.app.src || complain "erlang/src/teleport.app.src has another version than Cargo.toml"
grep -q "^{\"$version\"," erlang/ebin/teleport.appup || complain "erlang/ebin/teleport.appup has another version than Cargo.toml"

# What rustfmt leaves alone, such as comments, and what it does not see. Tables, links and code in pages may be longer.
while IFS= read -r line; do
    complain "$line"
done < <(git ls-files -co --exclude-standard '*.rs' '*.erl' '*.hrl' '*.sh' '*.toml' '*.md' Makefile .ci/run | xargs awk '
    FNR == 1 { code = 0 }
    FILENAME ~ /md$/ && /^```/ { code = !code }
    FILENAME ~ /md$/ && (code || /^\|/ || /\]\(/) { next }
    FILENAME ~ /rs$/ && /\/\/[\/!] \|/ { next }
    length($0) > 140 { print FILENAME ":" FNR ": " length($0) " characters, 140 are allowed" }')

exit "$failed"
