#!/usr/bin/env bash
# tipc.sh ARCH: two hosts of this architecture (aarch64) as virtual machines with Debian's kernel, on one
# Ethernet and without IP addresses: a controller and an agent over TIPC. They see each other by the
# topology service of their kernels; a patch of 8 MB is installed, one whose health check fails is rolled
# back, and the first is removed. Then the agent's machine is killed, and the controller's kernel
# reports it.
# Exit 77 (skipped) where it cannot run.
set -uo pipefail
cd "$(dirname "$0")/../.."
arch=$1 name="boot $1, TIPC"
source tests/boot/lib.sh
[[ -e $parts/tipc.ko ]] || skip "Debian's kernel for $arch has no TIPC as a module"

keys
mkdir -p "$work"/{BASE,BIG,BAD}/{files/opt,scripts}
# Files of BASE that BIG covers, and BAD would cover.
echo base >"$work/BASE/files/opt/base"
head -c $((8 << 20)) /dev/urandom >"$work/BIG/files/opt/big"
echo bad >"$work/BIG/files/opt/base"
echo worse >"$work/BAD/files/opt/base"
health_that_fails BAD
patch BASE && patch BIG BASE && patch BAD BIG

# A node is lost by silence only after longer than its link's tolerance.
common=${common/hello_interval_ms = 1000/hello_interval_ms = 5000}
for role in controller agent; do
    host=guest
    [[ $role == agent ]] || host=controller
    mkdir -p "$work/$role"
    cp "$work"/{guest.key,thimble.key,maker.pub} "$work/$role/"
    configuration $role $host >"$work/$role/thimble.toml"
done
cp "$work"/{BASE,BIG,BAD}.patch* "$work/controller/"
rm "$work/agent/thimble.key"
disk "$work/controller" "$work/controller.img" 128m
disk "$work/agent" "$work/agent.img" 64m
first_files init_tipc "${GUEST_BIN:-dist/thimble-tipc-$arch}" "$parts/tipc"

boots_both "${MEMORY:-$memory}"
until_true "both start" test -e "$work/agent-console"
has_said() {
    grep -qs "BOOT: $1" "$work/controller-console" && return
    ! grep -qs 'BOOT: FAILED' "$work"/*-console || fail "a machine"
    return 1
}
until_true "the agent is patched" has_said "pull the plug"
# What it says is what is on its disk, also between two steps of an install.
had() { sed -n 's/\r$//; s/^BOOT: agent has: //p' "$work/agent-console"; }
has_it_back() { [[ $(had | tail -n 1) == base:5 ]]; }
until_true "the agent has what it is to have" has_it_back
had | grep -qx 'base:4 big:8388608' || fail "it never had the patch"
kill -9 "${pids[1]}"
wait "${pids[1]}" 2>/dev/null
unset 'pids[1]'
until_true "the controller ends" has_said "controller: the daemon ended"
wait "${pids[0]}" || fail "the controller's machine ended with $?"
unset 'pids[0]'

sed -n 's/\r$//; s/^BOOT: /    /p' "$work"/agent-console "$work"/controller-console
echo "$name: installed, rolled back, removed, lost"
