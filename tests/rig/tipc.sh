#!/usr/bin/env bash
# tipc.sh [all]: thimble over TIPC, on a real TIPC kernel: each case with its verdict in a
# line, then the tests of a cluster (tests/net) over TIPC: those that the transport
# matters to, or all of them. Two kernels run at a time.
set -uo pipefail
cd "$(dirname "$0")/../.."

# Where the transport matters and UDP's run says nothing of TIPC's: what arrives, what is
# refused, sessions and what they carry, who is there, who is lost.
some=(allocations:: controllers::what controllers::an_install datagrams:: files::a_transfer_that
    intruders:: partitions::changes partitions::a_wire partitions::of requests:: rig:: sessions:: troubles::)
[[ ${1:-} != all ]] || { some=(); export ALL_TIMES=1; }

fail() { echo "tipc: $1" >&2; exit 1; }

# built FEATURES TARGET-DIR TEST..: builds thimble and tests; prints the tests' paths.
built() {
    local features=$1 dir=$2 test tests=()
    shift 2
    for test in "$@"; do tests+=(--test "$test"); done
    nice cargo test --no-default-features --features "$features" --target-dir "$dir" --no-run "${tests[@]}" 2>&1 |
        tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p'
    return "${PIPESTATUS[0]}"
}
cargo build --quiet --features proof || fail "thimble over UDP does not build"
paths=$(built tipc,tools,proof target/tipc net tipc) || fail "thimble over TIPC does not build"
net=$PWD/$(grep /net- <<<"$paths") tipc=$PWD/$(grep /tipc- <<<"$paths")
export THIMBLE_BIN=$PWD/target/tipc/debug/thimble THIMBLE_UDP_BIN=$PWD/target/debug/thimble TIPC_TESTS=$tipc

log=$(mktemp)
trap 'kill "$cluster" 2>/dev/null; rm -f "$log"' EXIT
began=$SECONDS
UML_SECONDS=2400 UML_MEMORY=3G tests/rig/uml.sh "$net" --color never --test-threads 3 "${some[@]}" >"$log" 2>&1 &
cluster=$!
UML_SECONDS=1200 tests/rig/uml.sh tests/tipc/cases.sh
cases=$?
((cases != 77)) || exit 77
status=0
wait "$cluster" || status=$?
inapplicable=$(grep -c 'NOT APPLICABLE: ' "$log")
result=$(sed -n 's/^test result: //p' "$log")
passed=$(sed -n 's/^ok. \([0-9]*\) passed.*/\1/p' <<<"$result")
if ((status)); then
    echo "a cluster over TIPC: FAILED (exit $status): $result"
    tail -n 300 "$log"
else
    echo "a cluster over TIPC: $((passed - inapplicable)) passed, $inapplicable not applicable, $((SECONDS - began)) s"
fi
grep -oE '(SKIPPED|NOT APPLICABLE): .*' "$log" | sort | uniq -c
((status == 0 && cases == 0))
