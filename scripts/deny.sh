#!/usr/bin/env bash
# Licences, duplicates and sources of the dependencies; and advisories, where their database can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

deny=$(scripts/cargo-tool.sh cargo-deny)
"$deny" --locked check licenses bans sources
if ! "$deny" --locked fetch db; then
    echo "the database of advisories cannot be had; advisories are not checked" >&2
    exit 0
fi
"$deny" --locked check --disable-fetch advisories
