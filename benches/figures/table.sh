#!/usr/bin/env bash
# table.sh FILE: the figures in a file of a run as one table, the budgets that were broken, and how many
# targets were missed. Exit 1 where a budget was broken.
set -euo pipefail
awk -F '\t' '
    function cell(value) { return value == "-" ? "" : value }
    function spread(low, high) { return low == high || low == "-" ? "" : low ".." high }
    BEGIN {
        form = "%-62s %-12s %9s %-17s %-26s %9s %-17s %7s %-8s %s\n"
        printf form, "figure", "unit", "median", "quartiles", "beside", "median", "quartiles", "ratio", "target", ""
    }
    {
        said = $13 ~ /^SKIPPED/ ? $13 : cell($13)
        if ($15 == "OVER") { said = "OVER BUDGET " $14; over++ }
        else if ($13 == "-" && $15 == "met") said = "in budget " $14
        if ($13 == "MISSED") missed++
        if ($13 == "met") met++
        if ($13 ~ /^SKIPPED/) skipped++
        if (part != $1) print "  " $18
        part = $1
        printf form, $2, cell($3), cell($4), spread($5, $6), cell($7), cell($8), spread($9, $10), cell($11), cell($12), said
    }
    END {
        printf "%d figures; of their targets %d met, %d missed; %d budgets broken; %d skipped\n",
            NR, met, missed, over, skipped
        exit over > 0
    }
' <(sed '/^#/d; /^part\t/d' "$1" | sort -s -t "$(printf '\t')" -k1,1)
