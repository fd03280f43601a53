#!/usr/bin/env bash
# cases.sh: on a kernel that has TIPC, each case of what is promised of it, and its
# verdict in a line; below it what was measured, or what went wrong. Run by
# tests/rig/tipc.sh, which names the binaries: THIMBLE_BIN, THIMBLE_UDP_BIN, TIPC_TESTS.
set -uo pipefail
cd "$(dirname "$0")/../.."

failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# verdict NAME PATTERN COMMAND..: of what a case that passed says, the lines like PATTERN.
verdict() {
    local name=$1 pattern=$2 began=${EPOCHREALTIME/./} status=0 tenths
    shift 2
    "$@" >"$log" 2>&1 </dev/null || status=$?
    tenths=$(((${EPOCHREALTIME/./} - began) / 100000))
    if ((status)); then
        failed=1
        echo "case $name: FAILED (exit $status), $((tenths / 10)).$((tenths % 10)) s"
        tail -n 60 "$log"
    else
        echo "case $name: passed, $((tenths / 10)).$((tenths % 10)) s"
        grep -E "$pattern" "$log" | sed 's/^/    /'
    fi
}

verdict "1 (textbook)" . tests/tipc/textbook.py
verdict "2 (subscriptions)" "test result|SKIPPED" "$TIPC_TESTS" --color never
verdict "3 (a cut)" . tests/tipc/cut.py
verdict "5 (beside Python)" . tests/tipc/beside.py
verdict "6 (returned messages)" . tests/tipc/returned.py
verdict "7 (dropped connections)" . tests/tipc/dropped.py
export TRANSPORT=tipc
verdict "4 (demo)" "after [0-9]+ ms" tests/demo/demo.sh
NETEM="loss 1% delay 20ms" verdict "4 (demo; loss 1%, delay 20 ms)" "after [0-9]+ ms" tests/demo/demo.sh
exit $failed
