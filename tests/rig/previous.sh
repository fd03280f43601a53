#!/usr/bin/env bash
# previous.sh: builds thimble as it was before files were sent to all hosts at once, as target/previous/debug/thimble, from
# this repository's history. Exit 77 (skipped) where the history is not here.
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=04b9b1776c993f1190809df28e7293bd93f2ba85
to=$PWD/target/previous
if [[ ! -x $to/debug/thimble ]]; then
    git cat-file -e "$commit" 2>/dev/null || { echo "SKIPPED: the version before: its commit is not in this copy" >&2; exit 77; }
    rm -rf "$to/source"
    mkdir -p "$to/source"
    git archive "$commit" | tar -x -C "$to/source"
    (cd "$to/source" && CARGO_TARGET_DIR=$to cargo build --quiet --locked --bin thimble)
fi
