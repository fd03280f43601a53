#!/usr/bin/env bash
# tipc.sh [all]: thimble over TIPC, on a real TIPC kernel: each case with its verdict in a
# line, then the tests of a cluster (tests/net) over TIPC: those that the transport
# matters to, or all of them. Two kernels run at a time.
set -uo pipefail
cd "$(dirname "$0")/../.."

# Where the transport matters and UDP's run says nothing of TIPC's: what arrives, what is
# refused, sessions and what they carry, who is there, who is lost.
some=(allocations:: controllers::an_upload controllers::the_other_controller_sees datagrams::
    files::an_interrupted intruders:: lossy:: multicast:: partitions::changes partitions::a_wire
    partitions::a_controller_relays repeated:: requests:: rig:: sessions:: spread::all_hosts spread::another
    troubles::)
export DEMO_FILES=few
[[ ${1:-} != all ]] || { some=(); export ALL_TIMES=1 DEMO_FILES=all; }

fail() { echo "tipc: $1" >&2; exit 1; }

# `make test` names a binary: it has built them all.
machine=$(uname -m)
if [[ -z ${THIMBLE_BIN:-} ]]; then
    tests/rig/dist.sh dist/thimble{,-tipc}-"$machine" || fail "what is shipped does not build"
    tests/rig/build.sh tipc || fail "the tests do not build"
fi
net=$PWD/$(sed -n 's/^net //p' target/tests.tipc) TIPC_TESTS=$PWD/$(sed -n 's/^tipc //p' target/tests.tipc)
export TIPC_TESTS THIMBLE_MAKER=$PWD/target/tipc/debug/thimble
export THIMBLE_BIN=$PWD/dist/thimble-tipc-$machine THIMBLE_UDP_BIN=$PWD/dist/thimble-$machine

# A test that has another name now is not to go missing.
for name in "${some[@]}"; do
    "$net" --list | grep "^$name" >/dev/null || fail "no test in tests/net is called $name"
done

log=$(mktemp)
trap 'kill "$cluster" 2>/dev/null; rm -f "$log"' EXIT
began=$SECONDS
UML_PROCESSOR=last UML_SECONDS=7200 UML_MEMORY=3G tests/rig/uml.sh "$net" --color never --test-threads 3 "${some[@]}" >"$log" 2>&1 &
cluster=$!
UML_SECONDS=3600 UML_MEMORY=2G tests/rig/uml.sh tests/tipc/cases.sh "$@"
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
