# How amounts are shown. $3 is a figure's unit.

function grouped(number,    whole, rest, at) {
    if (number !~ /^[0-9]+$/ || length(number) < 4) return number
    whole = ""
    for (rest = number; length(rest) > 3; rest = substr(rest, 1, length(rest) - 3)) whole = "," substr(rest, length(rest) - 2) whole
    return rest whole
}

function amount(number, unit) {
    if (unit == "us") return number " \302\265s"
    if (unit == "%") return number " %"
    if (unit == "a minute") return number " a minute"
    return grouped(number) " " unit
}

# A range in brackets, where there is one.
function range(low, high) { return low == "-" || low == high ? "" : " (" grouped(low) " to " grouped(high) ")" }
