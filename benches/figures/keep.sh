#!/usr/bin/env bash
# keep.sh FILE: keeps the figures of a run as docs/figures.tsv, and makes docs/figures.md, its plots and
# the table in the README of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ -s $1 ]] || { echo "keep.sh: $1 is not there: make bench" >&2; exit 1; }
[[ $1 -ef docs/figures.tsv ]] || cp "$1" docs/figures.tsv
benches/figures/page.sh docs/figures.tsv docs
rows=$(benches/figures/page.sh --summary docs/figures.tsv)
before=$(sed '/^<!-- make figures -->$/q' README.md)
after=$(sed -n '/^<!-- end -->$/,$p' README.md)
printf '%s\n%s\n%s\n' "$before" "$rows" "$after" >README.md.new
mv README.md.new README.md
