# A plot of bars, SVG: the figures whose names match `pattern`, and their peers. With `logarithmic` the
# bars' lengths are those of the values' logarithms, from the power of ten below the least on.

function escaped(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); return text }

function add(label, value, kind) {
    if (value == "-" || value <= 0 || (label SUBSEP value) in known) return
    known[label SUBSEP value] = 1
    count++
    labels[count] = label; values[count] = value; kinds[count] = kind
    if (count == 1 || value + 0 < least) least = value + 0
    if (value + 0 > most) most = value + 0
}

/^#/ || $1 == "part" || $13 ~ /^SKIPPED/ || $2 !~ pattern { next }

{
    is_peer = $2 ~ /(rauc|swupdate|rsync|mender)(, idle)?$/
    name = $2
    sub(/^(RssAnon|PSS|size on disk), /, "", name)
    sub(/^CPU per /, "", name)
    if (name == "with shared libraries") name = "thimble"
    add(name, $4, is_peer ? "peer" : "ours")
    # What all are compared with has a bar of its own there.
    if ($7 != "-" && $2 !~ /^(RssAnon|PSS|size)/) add(name ": " $7, $8, "peer")
}

END {
    left = 400; width = 400; row = 20; top = 40
    height = top + count * row + 12
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", left + width + 90, height
    printf "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
    printf "<text x=\"10\" y=\"22\" font-size=\"14\" font-weight=\"bold\">%s</text>\n", escaped(title)
    floor = 1
    if (logarithmic && count) { floor = 1; while (floor > least) floor /= 10; while (floor * 10 <= least) floor *= 10 }
    for (at = 1; at <= count; at++) {
        share = logarithmic ? log(values[at] / floor) / log(most / floor) : values[at] / most
        length_px = share * width
        if (length_px < 1) length_px = 1
        y = top + (at - 1) * row
        printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 6, y + 13, escaped(labels[at])
        printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>\n", left, y + 2, length_px, kinds[at] == "ours" ? "#1b6ca8" : "#b0b0b0"
        printf "<text x=\"%.1f\" y=\"%d\">%s</text>\n", left + length_px + 5, y + 13, grouped(values[at])
    }
    print "</svg>"
}
