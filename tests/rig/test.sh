#!/usr/bin/env bash
# Every check, one line each, and a summary. A failure does not stop the rest.
# Exit 77 of a check means skipped; so does a line SKIPPED among its output.
#
# Three lanes run side by side, so that what waits does so while others compile: a line
# comes when its check ends. It tells the seconds that the check took, and in brackets
# the seconds of CPU, which do not depend on what else runs.
set -uo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-test.XXXXXX")
lanes=()
clean_up() {
    # A group each.
    for lane in "${lanes[@]}"; do kill -TERM -- "-$lane" 2>/dev/null; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Of a check that passed: the verdicts of its parts, where it has any; not what cargo says.
verdicts() {
    # The table of filesystems.
    sed -n '/^filesystem  /,/^$/{ /./s/^/    /p }' "$1" | grep -v 'SKIPPED: '
    grep -q '^boot ' "$1" && grep -E '^(    |boot )' "$1"
    grep -q '^case ' "$1" && grep -E '^(    |case |a cluster over TIPC: )' "$1" |
        grep -vE '^ +(Compiling|Finished|Executable) '
}

# check NAME COMMAND..: runs it, tells how it went, and counts it.
check() {
    local name=$1 began=$SECONDS status=0 notes log=$work/log.$BASHPID time=$work/time.$BASHPID
    local TIMEFORMAT='%U %S'
    shift
    { time "$@" >"$log" 2>&1 </dev/null; } 2>"$time" || status=$?
    notes=$(grep -c 'SKIPPED: ' "$log")
    {
        printf '%-44s ' "$name"
        case $status in
            0) echo passed >>"$work/counts"; echo "passed  $(took)"; verdicts "$log" ;;
            77) echo "SKIPPED" ;;
            *)
                echo failed >>"$work/counts"
                echo "FAILED  (exit $status) $(took)"
                # What went wrong first may be far above the end.
                grep -A 4 'panicked at' "$log" | head -n 40
                tail -n 80 "$log" ;;
        esac
        if ((notes)); then
            grep 'SKIPPED: ' "$log" | sed 's/.*/skipped/' >>"$work/counts"
            grep -o 'SKIPPED: .*' "$log" | sort | uniq -c | sed 's/^ */    /'
        elif ((status == 77)); then
            echo skipped >>"$work/counts"
        fi
    } >"$work/line.$BASHPID"
    flock "$work" cat "$work/line.$BASHPID"
    : >"$work/done ${name//\//-}"
}
took() { awk -v wall=$((SECONDS - began)) '{ printf "%d s (%.0f s)", wall, $1 + $2 }' "$time"; }

# after NAME..: waits for these checks of other lanes.
after() {
    local name
    for name in "$@"; do
        until [[ -e "$work/done ${name//\//-}" ]]; do sleep 0.2; done
    done
}

# built TRANSPORT TEST: where a test is.
built() { sed -n "s/^$2 //p" "target/tests.$1"; }
# all PROGRAM..: runs one after the other.
all() {
    (($#)) || return
    local program
    for program in "$@"; do "$program" || return; done
}
run_test() { check "tests/$1" tests/rig/as_root.sh "$(built udp "$1")" "${@:2}"; }

# What is tested is what is shipped, where the library is not called (tests/support).
machine=$(uname -m)
other=aarch64
[[ $machine != aarch64 ]] || other=x86_64
export THIMBLE_BIN=$PWD/dist/thimble-$machine THIMBLE_MAKER=$PWD/target/debug/thimble

# Built once, from clean: what is kept for the next build costs more than it saves.
export CARGO_INCREMENTAL=0

compile() {
    check "format" cargo fmt --check
    check "format, fuzz targets" cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
    check "test build" tests/rig/build.sh udp
    check "test build, TIPC" tests/rig/build.sh tipc
    check "unit and trace tests" all $(built udp thimble)
    check "unit and trace tests, TIPC" all $(built tipc thimble)
    # Tests are the same in all builds, but those over a transport.
    check "lints, test build" cargo clippy --all-targets --features proof -- -D warnings
    check "lints, test build, TIPC" cargo clippy --lib --bins --test net --test tipc --bench daemon \
        --no-default-features --features tipc,tools,proof -- -D warnings
    # What differs here from the builds above and below: `tools` without `proof`.
    [[ ${TIPC:-} != all ]] || check "lints" cargo clippy -- -D warnings
    check "lints, appliance build" cargo clippy --no-default-features --features udp -- -D warnings
    check "lints, appliance build, TIPC" cargo clippy --no-default-features --features tipc -- -D warnings
    check "core without std or heap" tests/rig/core.sh
    check "docs build" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items
    for target in datagram frame topology; do
        check "fuzz $target" tests/rig/fuzz.sh $target "${FUZZ_SECONDS:-5}"
    done
    # The larger of the two binaries; `make test-all` builds both.
    local foreign=(dist/thimble-$other)
    [[ ${TIPC:-} != all ]] || foreign+=(dist/thimble-tipc-$other)
    check "static binaries, $other" tests/rig/dist.sh "${foreign[@]}"
    foreign=(dist/thimble-armv7)
    [[ ${TIPC:-} != all ]] || foreign+=(dist/thimble-tipc-armv7)
    check "static binaries, armv7" tests/rig/dist.sh "${foreign[@]}"
    check "boots, armv7" env FILES=$([[ ${TIPC:-} != all ]] || echo 20000) tests/boot/boot.sh armv7
    [[ ${TIPC:-} != all ]] || check "boots, armv7, large files" tests/boot/large.sh armv7
    [[ ${TIPC:-} != all ]] || check "static binaries, built again elsewhere" tests/rig/reproducible.sh "${foreign[@]}"
    if [[ ${TIPC:-} == all && $other == aarch64 ]]; then
        check "boots, aarch64" tests/boot/boot.sh aarch64
        check "boots, aarch64, TIPC" tests/boot/tipc.sh aarch64
        for transport in udp tipc; do
            check "boots, aarch64, package of $transport" tests/boot/package.sh aarch64 $transport
        done
    fi
    if [[ ${TIPC:-} == all ]]; then
        for transport in udp tipc; do
            check "boots, armv7, package of $transport" tests/boot/package.sh armv7 $transport
        done
    fi
}

run() {
    check "static binaries, $machine" tests/rig/dist.sh dist/thimble{,-tipc}-$machine
    after "test build"
    check "the version before" tests/rig/previous.sh
    for main in tests/*/main.rs tests/*.rs; do
        [[ -e $main ]] || continue
        name=${main#tests/}
        name=${name%/main.rs}
        name=${name%.rs}
        # In the third lane, on a kernel that has TIPC.
        [[ $name != tipc ]] || continue
        # So are those on filesystems that this kernel may not have.
        run_test "$name" $([[ $name != install ]] || echo --skip filesystems::)
    done
    # What is sent to groups and to one node, and sessions, once more over IPv6 alone.
    check "tests/net, IPv6" env THIMBLE_TEST_FAMILY=ipv6 tests/rig/as_root.sh "$(built udp net)" \
        controllers:: datagrams:: fetching:: partitions:: repeated:: requests:: rig:: sessions:: unicast::
    for supervisor in systemd openrc; do
        check "tests/supervisors/$supervisor" tests/rig/as_root.sh "tests/supervisors/$supervisor.sh"
    done
    check "tests/prometheus" tests/prometheus/prometheus.sh
    after "static binaries, armv7"
    for archive in deb tar; do check "tests/packages/$archive" "tests/packages/$archive.sh"; done
    check "demo" tests/demo/demo.sh
    check "demo, begun in a bare root" env -u THIMBLE_BIN DEMO_STEPS=3 tests/rig/bare.sh make demo
}

tipc() {
    after "test build"
    local some=(filesystems::vfat --skip a_kill)
    [[ ${FILESYSTEMS:-} != all ]] || some=()
    check "filesystems, on a kernel of its own" tests/rig/filesystems.sh "${some[@]}"
    after "test build, TIPC" "static binaries, $machine"
    check "TIPC, on a kernel of its own" tests/rig/tipc.sh ${TIPC:-}
}

set -m
for lane in compile run tipc; do
    "$lane" &
    lanes+=($!)
done
wait
lanes=()

echo "$SECONDS s in all"
count() { grep -cx "$1" "$work/counts"; }
echo "$(count passed) passed, $(count failed) failed, $(count skipped) skipped"
(($(count failed) == 0))
