#!/usr/bin/env bash
# cases.sh [all]: runs each case on a kernel that has TIPC, and prints its verdict in a line;
# below it what was measured, or what went wrong. Run by tests/rig/tipc.sh, which names the
# binaries: THIMBLE_BIN, THIMBLE_UDP_BIN, TIPC_TESTS. Two cases run at a time: more slow
# each other down on the one processor of such a kernel, and a single one waits for TIPC's
# timers.
set -uo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# verdict NAME PATTERN COMMAND..: runs a case. Of the output of one that passes, it prints
# the lines that match PATTERN.
verdict() {
    local name=$1 pattern=$2 began=${EPOCHREALTIME/./} status=0 tenths log
    shift 2
    log=$(mktemp "$work/log.XXXXXX")
    "$@" >"$log" 2>&1 </dev/null || status=$?
    tenths=$(((${EPOCHREALTIME/./} - began) / 100000))
    if ((status)); then
        : >"$work/failed"
        flock "$work" printf '%s\n' "case $name: FAILED (exit $status), $((tenths / 10)).$((tenths % 10)) s" "$(tail -n 200 "$log")"
    else
        flock "$work" printf '%s\n' "case $name: passed, $((tenths / 10)).$((tenths % 10)) s" \
            "$(grep -E "$pattern" "$log" | sed 's/^/    /')"
    fi
}

services() {
    verdict "1 (textbook)" . tests/tipc/textbook.py
    verdict "2 (subscriptions)" "test result|SKIPPED" "$TIPC_TESTS" --color never
    verdict "3 (a cut)" . tests/tipc/cut.py
    verdict "5 (beside Python)" . tests/tipc/beside.py
}
clusters() {
    verdict "7 (dropped connections)" . tests/tipc/dropped.py
    verdict "6 (returned messages)" . tests/tipc/returned.py
    verdict "8 (two bearers)" . tests/tipc/bearers.py
    export TRANSPORT=tipc
    # The same steps, on a network that is harder.
    [[ ${1:-} != all ]] || verdict "4 (demo)" "after [0-9]+ ms" tests/demo/demo.sh
    NETEM="loss 1% delay 20ms" verdict "4 (demo; loss 1%, delay 20 ms)" "after [0-9]+ ms" tests/demo/demo.sh
}
services &
clusters "$@" &
wait
[[ ! -e $work/failed ]]
