#!/usr/bin/env bash
# bench_tipc.sh PART: a part of the bench over TIPC, on a kernel of its own. Exit 0 where it is
# skipped: the table says so.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=$1
skip() {
    printf '%s\tover TIPC\t%sSKIPPED: %s\t-\t-\t-\t-\tmake bench PART=%s\n' \
        "$part" "$(printf -- '-\t%.0s' {1..10})" "$1" "$part" >>"${THIMBLE_FIGURES:-/dev/null}"
    echo "SKIPPED: $1"
    exit 0
}
[[ $(uname -m) == x86_64 ]] || skip "User Mode Linux runs on x86-64, and this is $(uname -m)"
command -v linux.uml >/dev/null || skip "linux.uml is not installed"
binary=$PWD/dist/thimble-tipc-x86_64
[[ -x $binary && $binary -nt Cargo.lock ]] || tests/rig/dist.sh "${binary#"$PWD"/}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo bench --no-run --bench daemon --no-default-features --features tipc,tools --target-dir target/tipc 2>&1 | tee "$log" >&2
bench=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$log")
THIMBLE_BIN=$binary UML_SECONDS=900 UML_MEMORY=1G tests/rig/uml.sh "$PWD/$bench" "$part"
