#!/usr/bin/env bash
# Modules import downward only: finds those of a crate that import one another in a circle, and names the imports.
#
# check-layers.sh [CRATE...]   A folder counts as one module; then the modules of each folder are looked at among themselves.
# What a module takes from the folder's own mod.rs, or mod.rs from its modules, is no circle. Tests may import anything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
for crate in "${@:-teleport}"; do
    find "crates/$crate/src" -name '*.rs' | sort | xargs awk -v crate="$crate" '
    # The module of a file: "" for lib.rs, "a" for a.rs and a/mod.rs, "a/b" for a/b.rs.
    FNR == 1 {
        at = FILENAME
        sub(/^.*\/src\//, "", at); sub(/\.rs$/, "", at); sub(/\/?mod$/, "", at)
        if (at == "lib") at = ""
        exists[at] = 1; files[++count] = at; testing = 0
    }
    /^#\[cfg\((all\()?test[,)]/ { testing = 1 }
    testing { next }
    { sub(/(^|[ \t])\/\/.*/, ""); text[at] = text[at] "\n" $0 }

    function parent(module) { return match(module, /\/[^\/]*$/) ? substr(module, 1, RSTART - 1) : "" }
    function below(module, name) { return module == "" ? name : module "/" name }
    function is_under(module, folder) { return folder == "" || module == folder || index(module, folder "/") == 1 }

    # Takes a tree of imports apart: prefix "a::" and "{b, c::{d, e}}" are a::b, a::c::d, a::c::e.
    function expand(module, prefix, tree,    depth, i, c, from, brace) {
        gsub(/[ \t\n]+/, " ", tree); sub(/^ /, "", tree); sub(/ $/, "", tree)
        brace = index(tree, "{")
        if (!brace) { if (tree != "") import(module, prefix tree); return }
        prefix = prefix substr(tree, 1, brace - 1)
        tree = substr(tree, brace + 1, length(tree) - brace - 1)
        from = 1
        for (i = 1; i <= length(tree) + 1; i++) {
            c = substr(tree, i, 1)
            if (c == "{") depth++
            if (c == "}") depth--
            if ((c == "," && !depth) || c == "") { expand(module, prefix, substr(tree, from, i - from)); from = i + 1 }
        }
    }
    # Notes an import, and under which name it is known in the module.
    function import(module, path,    as, n, parts) {
        as = path; sub(/^.* as /, "", as); sub(/ as .*/, "", path)
        n = split(path, parts, "::")
        if (parts[n] == "self") { sub(/::self$/, "", path); if (as ~ /::self$/) as = parts[n - 1] }
        n = split(as, parts, "::")
        known[module, parts[n]] = path
        imports[++last] = path; importer[last] = module
    }
    # The module that a path leads to, as seen from a module; "-" for another crate.
    function resolve(module, path, hops,    n, parts, i, here) {
        n = split(path, parts, "::"); here = module; i = 1
        if (parts[1] == "crate" || parts[1] == "$crate") { here = ""; i = 2 }
        else if (parts[1] == "self") i = 2
        else if (parts[1] == "super") { while (parts[i] == "super") { here = parent(here); i++ } }
        else if (!(below(here, parts[1]) in exists)) return "-"
        while (i <= n && below(here, parts[i]) in exists) here = below(here, parts[i++])
        if (i <= n && hops < 9 && (here, parts[i]) in known && known[here, parts[i]] != path)
            return resolve(here, known[here, parts[i]], hops + 1)
        return here
    }
    # Notes an edge between the two modules of one folder that the ends are in.
    function edge(from, to, path,    folder) {
        folder = from
        while (!is_under(to, folder)) folder = parent(folder)
        if (folder == from || folder == to) return
        from = unit(folder, from); to = unit(folder, to)
        if (from != to && !((from, to) in edges)) { edges[from, to] = path; units[from] = folder; units[to] = folder }
    }
    function unit(folder, module,    rest) {
        rest = folder == "" ? module : substr(module, length(folder) + 2)
        sub(/\/.*/, "", rest)
        return below(folder, rest)
    }

    END {
        for (i = 1; i <= count; i++) {
            module = files[i]; rest = text[module]; text[module] = ""
            while (match(rest, /(^|[ \t\n])use [^;]+;/)) {
                statement = substr(rest, RSTART, RLENGTH)
                text[module] = text[module] substr(rest, 1, RSTART)
                rest = substr(rest, RSTART + RLENGTH)
                sub(/^[ \t\n]*use /, "", statement); sub(/;$/, "", statement)
                expand(module, "", statement)
            }
            text[module] = text[module] rest
        }
        for (i = 1; i <= count; i++) {
            rest = text[files[i]]
            while (match(rest, /(crate|super|self)(::[A-Za-z_0-9]+)+/)) {
                imports[++last] = substr(rest, RSTART, RLENGTH); importer[last] = files[i]
                rest = substr(rest, RSTART + RLENGTH)
            }
        }
        for (i = 1; i <= last; i++) {
            to = resolve(importer[i], imports[i], 0)
            if (to != "-") edge(importer[i], to, importer[i] ": " imports[i])
        }
        for (key in edges) { split(key, ends, SUBSEP); reach[ends[1], ends[2]] = 1 }
        for (k in units) for (i in units) if ((i, k) in reach) for (j in units) if ((k, j) in reach) reach[i, j] = 1
        for (i in units) {
            if (!((i, i) in reach) || i in told) continue
            circle = ""; size = 0; why = ""
            for (j in units) if ((i, j) in reach && (j, i) in reach) { circle = circle " " j; size++; told[j] = 1 }
            for (j in units) for (k in units)
                if ((i, j) in reach && (j, i) in reach && (i, k) in reach && (k, i) in reach && (j, k) in edges)
                    why = why "    " j " -> " k " (" edges[j, k] ")\n"
            printf "%s: %d modules import one another in a circle:%s\n%s", crate, size, circle, why
            failed = 1
        }
        exit failed
    }' || failed=1
done
exit "$failed"
