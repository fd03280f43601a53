#!/usr/bin/env bash
# page.sh FILE DIRECTORY: makes figures.md and its plots, figures-*.svg, in a directory, of the figures of
# a run. docs/ has those of docs/figures.tsv: `make figures` keeps the last run there.
# page.sh --summary FILE: prints the rows that the README has.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

# What is in the README, by name: those beside the least or the barest of what there is.
summary() {
    awk -F '\t' -f "$here/words.awk" -f - "$1" <<'END'
        BEGIN {
            print "| figure | thimble | beside | ratio |"
            print "|---|---|---|---|"
            wanted = "|RssAnon, agent in both, idle|PSS, agent in both, idle|RssAnon, controller, 1000 hosts|size on disk, with shared libraries" \
                "|CPU per HelloAgentAck, 1000 hosts|sync of 256 MiB|install of 20,000 files|"
        }
        /^#/ || $1 == "part" || $13 ~ /^SKIPPED/ || index(wanted, "|" $2 "|") == 0 || told[$2]++ { next }
        { printf "| %s | %s | %s | %s |\n", $2, amount($4, $3), $7 == "-" ? "" : $7 ": " amount($8, $3), $11 == "-" ? "" : $11 }
END
}
if [[ $1 == --summary ]]; then
    summary "$2"
    exit
fi
file=$1 to=$2

# plot NAME TITLE LOGARITHMIC PATTERN: bars of the figures whose names match, and of their peers.
plot() {
    awk -F '\t' -v title="$2" -v logarithmic="$3" -v pattern="$4" -f "$here/words.awk" -f "$here/plot.awk" "$file" >"$to/figures-$1.svg"
}
plot memory "Memory of its own (RssAnon), KiB, logarithmic" 1 '^RssAnon, '
plot pss "Memory with a share of program and libraries (PSS), KiB, logarithmic" 1 '^PSS, '
plot disk "Size on disk with all shared libraries, bytes" 0 '^size on disk'
plot cpu "CPU for a message, microseconds" 0 '^CPU per '
plot time "Time for the same work, seconds, logarithmic" 1 '^(sync of |install of [0-9,]+ files?$|removal of [0-9,]+ files?$)'

{
    cat <<'END'
# Figures

`make bench` measures these on the static binary, each beside its peer in the same run on the same
machine; this page shows the last run of each part, and is made by `make figures`
([`figures.tsv`](figures.tsv) has all columns, with the load of the machine at that time). Absolute values depend on the machine; a ratio hardly
does. A value is the median of rounds, in which both sides take turns; in brackets are the quartiles,
or of less than four rounds the least and the greatest. The ratio is the median of the rounds' ratios. `met` and
`MISSED` are of the target, which is what is aimed at; the [budgets](architecture.md#budgets) are what is
promised, and `make bench` fails where one is broken.

END
    sed -n 's/^# //p' "$file" | sed 's/$/\n/'
    cat <<'END'
## Plots

![Memory of its own](figures-memory.svg)

![Memory with a share of program and libraries](figures-pss.svg)

![Size on disk](figures-disk.svg)

![CPU for a message](figures-cpu.svg)

![Time for the same work](figures-time.svg)

## Table

END
    sed '/^#/d; 1,/^part/{/^part/d}' "$file" | sort -s -t "$(printf '\t')" -k1,1 |
        awk -F '\t' -f "$here/words.awk" -f "$here/page.awk"
} >"$to/figures.md"
