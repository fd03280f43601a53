#!/usr/bin/env bash
# Every check, one line each, and a summary. A failure does not stop the rest.
# Exit 77 of a check means skipped; so does a line SKIPPED among its output.
set -uo pipefail
cd "$(dirname "$0")/../.."

# Of a check that passed: the verdicts of its parts, where it has any; not what cargo says.
verdicts() {
    grep -q '^case ' "$1" && grep -E '^(    |case |a cluster over TIPC: )' "$1" |
        grep -vE '^ +(Compiling|Finished|Executable) '
}
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

check() {
    local name=$1 started=$SECONDS status=0 notes
    shift
    printf '%-44s ' "$name"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    notes=$(grep -c 'SKIPPED: ' "$log")
    case $status in
        0) ((++passed)); echo "passed  $((SECONDS - started)) s"; verdicts "$log" ;;
        77) echo "SKIPPED" ;;
        *) ((++failed)); echo "FAILED  (exit $status)"; tail -n 80 "$log" ;;
    esac
    if ((notes)); then
        ((skipped += notes))
        grep -o 'SKIPPED: .*' "$log" | sort | uniq -c | sed 's/^ */    /'
    elif ((status == 77)); then
        ((++skipped))
    fi
}

check "format" cargo fmt --check
check "format, fuzz targets" cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
check "lints" cargo clippy --all-targets -- -D warnings
check "lints, test build" cargo clippy --all-targets --features proof -- -D warnings
check "lints, appliance build" cargo clippy --no-default-features --features udp -- -D warnings
check "lints, appliance build, TIPC" cargo clippy --no-default-features --features tipc -- -D warnings
check "lints, test build, TIPC" cargo clippy --all-targets --no-default-features --features tipc,tools,proof \
    --target-dir target/tipc -- -D warnings
check "core without std or heap" tests/rig/core.sh
check "unit and trace tests" cargo test --lib --bins
check "docs build" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

for main in tests/*/main.rs tests/*.rs; do
    [[ -e $main ]] || continue
    name=${main#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    # Below, on a kernel that has TIPC.
    [[ $name != tipc ]] || continue
    check "tests/$name" tests/rig/as_root.sh cargo test --features proof --test "$name"
done

for target in datagram frame topology; do
    check "fuzz $target" tests/rig/fuzz.sh $target "${FUZZ_SECONDS:-5}"
done
for supervisor in systemd openrc; do
    check "tests/supervisors/$supervisor" tests/rig/as_root.sh "tests/supervisors/$supervisor.sh"
done
check "static binaries" tests/rig/dist.sh
check "demo" tests/demo/demo.sh
check "demo, begun in a bare root" env DEMO_STEPS=3 tests/rig/bare.sh make demo
check "unit and trace tests, TIPC" \
    cargo test --no-default-features --features tipc,tools,proof --target-dir target/tipc --lib --bins
check "TIPC, on a kernel of its own" tests/rig/tipc.sh ${TIPC:-}

echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
