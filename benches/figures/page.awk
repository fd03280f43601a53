# The table of a page, in a section for each part with the command that measures it.

{
    if ($1 != part) {
        printf "%s### %s\n\n    %s\n\n", part == "" ? "" : "\n", $1, $18
        print "| figure | thimble | beside | ratio | target | budget |"
        print "|---|---|---|---|---|---|"
    }
    part = $1
    if ($13 ~ /^SKIPPED/) { printf "| %s | | %s | | | |\n", $2, $13; next }
    printf "| %s | %s%s | %s | %s | %s | %s |\n", $2, amount($4, $3), range($5, $6),
        $7 == "-" ? "" : $7 ": " amount($8, $3) range($9, $10), $11 == "-" ? "" : $11,
        $13 == "-" ? "" : $12 ": " $13, $15 == "-" ? "" : $14 ": " $15
}
