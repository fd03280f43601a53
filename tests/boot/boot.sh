#!/usr/bin/env bash
# boot.sh ARCH: a host of this architecture (aarch64 or armv7) as a virtual machine with Debian's
# kernel, of 64 or 80 MB, of which thimble may have 16, in January 2038: seconds after its start 32 bits are too
# few for its clock. A controller outside finds it by multicast, a patch of 8 MB is installed on it, one whose
# health check fails is rolled back, and the first is removed. With FILES=n a patch of so many small
# files is installed and removed as well.
# Exit 77 (skipped) where it cannot run.
set -uo pipefail
cd "$(dirname "$0")/../.."
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0" "$@"
arch=$1 name="boot $1" files=${FILES:-0}
source tests/boot/lib.sh
[[ -c /dev/net/tun ]] || skip "this machine has no /dev/net/tun"

net=thimble-boot-$$
release() { ip netns del "$net" 2>/dev/null; }
in_net() { ip netns exec "$net" "$@"; }
control() { in_net "$thimble" --config "$work/thimble.toml" "$@"; }

ip netns add "$net"
in_net ip tuntap add tap0 mode tap || skip "no tap can be made"
in_net ip link set lo up
in_net ip link set tap0 up
in_net ip address add 10.85.0.1/24 dev tap0
in_net ip route add 239.0.0.0/8 dev tap0

keys
# BASE stays; BIG covers one of its files, and BAD would cover it again. Once STOP is on the
# guest, that ends.
of_1960='1960-05-04 03:02:01.123456789 UTC'
of_2040='2040-05-04 03:02:01.987654321 UTC'
mkdir -p "$work"/{BASE,BIG,BAD,STOP}/{files/opt,scripts}
# file PATCH NAME TIME
file() { echo "$1" >"$work/$1/files/opt/$2" && touch -d "$3" "$work/$1/files/opt/$2"; }
file BASE of-1960 "$of_1960"
file BASE of-2040 "$of_2040"
head -c $((8 << 20)) /dev/urandom >"$work/BIG/files/opt/big"
file BIG of-2040 "$of_1960"
file BAD of-2040 "$of_1960"
health_that_fails BAD
echo stop >"$work/STOP/files/stop"
patch BASE && patch BIG BASE && patch BAD BIG && patch STOP
patches=("$work"/{BASE,BIG,BAD,STOP}.patch)
if ((files)); then
    for ((at = 0; at < files; at++)); do
        ((at % 1000)) || mkdir -p "$work/MANY/files/opt/$((at / 1000))"
        echo $at >"$work/MANY/files/opt/$((at / 1000))/$at"
    done
    patch MANY && patches+=("$work/MANY.patch")
fi

cat >"$work/thimble.toml" <<TOML
[node]
roles = ["controller"]
sw_version = "12"
state_dir = "$work/state"
control_socket = "$work/control.sock"
[network]
interface = "tap0"
[security]
key_file = "$work/thimble.key"
trusted_keys = ["$work/maker.pub"]
[timers]
$common
TOML
mkdir -p "$work/state"

# The guest's disk and its first files.
mkdir -p "$work/disk"
cp "$work/guest.key" "$work/maker.pub" "$work/disk/"
configuration agent guest 'interface = "eth0"' >"$work/disk/thimble.toml"
disk "$work/disk" "$work/disk.img" $((64 + files / 100))m
first_files init "${GUEST_BIN:-dist/thimble-$arch}"

ip netns exec "$net" "$thimble" --config "$work/thimble.toml" run >"$work/log" 2>&1 &
pids+=($!)
ip netns exec "$net" "${machine[@]}" -m "${MEMORY:-$memory}" -kernel "$parts/kernel" -initrd "$work/first.gz" \
    -append "console=ttyAMA0 quiet panic=-1" -display none -no-reboot \
    -netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device virtio-net-device,netdev=n0 \
    -drive "file=$work/disk.img,format=raw,if=none,id=d0" -device virtio-blk-device,drive=d0 \
    -serial "file:$work/console" -monitor none >"$work/qemu" 2>&1 </dev/null &
pids+=($!)

heard() { control query-hosts 2>/dev/null | grep -q '^guest '; }
until_true "the controller finds it" heard
# The number of a daemon's run is the time of its start. The second began after the last second of 32 bits.
runs() { sed -n 's/.*incarnation \([0-9]*\)[^0-9].*/\1/p' "$work/console"; }
has_restarted() { (($(runs | wc -l) == 2)); }
until_true "the agent starts anew" has_restarted
{ read -r first && read -r second; } < <(runs)
((first / 1000 < 1 << 31)) || fail "32 bits did not hold the first time: $first"
((second / 1000 >= 1 << 31)) || fail "32 bits still hold its time: $second"
until_true "the controller finds it again" heard
control upload "${patches[@]}" >/dev/null || fail "upload"
control apply BASE BIG >/dev/null || fail "apply"
control host-install guest >"$work/said" 2>&1 || fail "install: $(cat "$work/said")"
[[ $(control query-hosts) =~ $'\n'guest\ .*\ Yes\  ]] || fail "it is not current: $(control query-hosts 2>&1)"
control apply BAD >/dev/null || fail "apply"
control host-install guest >"$work/said" 2>&1 && fail "the patch whose health check fails was installed"
grep -q 'the pump does not run' "$work/said" || fail "not why: $(cat "$work/said")"
control remove BAD >/dev/null || fail "remove"
control host-install guest >"$work/said" 2>&1 || fail "back: $(cat "$work/said")"
control remove BIG >/dev/null || fail "remove"
control host-install guest >"$work/said" 2>&1 || fail "removal: $(cat "$work/said")"
if ((files)); then
    control apply MANY >/dev/null || fail "apply"
    began=$SECONDS
    control host-install guest >"$work/said" 2>&1 || fail "many: $(cat "$work/said")"
    echo "    $files files were installed in $((SECONDS - began)) s"
    control remove MANY >/dev/null || fail "remove"
    began=$SECONDS
    control host-install guest >"$work/said" 2>&1 || fail "many: $(cat "$work/said")"
    echo "    and removed in $((SECONDS - began)) s"
fi
control apply STOP >/dev/null || fail "apply"
control host-install-async guest >/dev/null || fail "asked"
until_true "the guest ends" grep -q 'BOOT: the daemon ended' "$work/console"
grep -q 'BOOT: FAILED' "$work/console" && fail "the guest"
wait "${pids[1]}" || fail "the machine ended with $?"
unset 'pids[1]'

# mtime FILE: in nanoseconds since 1970, from the disk: seconds of 32 bits with their sign, then two
# more bits of them and the nanoseconds.
mtime() {
    local low high
    IFS=: read -r low high < <(debugfs -R "stat /root/opt/$1" "$work/disk.img" 2>/dev/null |
        sed -n 's/^ *mtime: \(0x[0-9a-f]*\):\([0-9a-f]*\) .*/\1:0x\2/p')
    echo $((((low ^ 1 << 31) - (1 << 31) + ((high & 3) << 32)) * 1000000000 + (high >> 2)))
}
for file in of-1960 of-2040; do
    wanted=${file/-/_}
    read -r seconds ns < <(date -d "${!wanted}" '+%s %N')
    [[ $(mtime $file) == $((seconds * 1000000000 + 10#$ns)) ]] || fail "the time of $file is $(mtime $file)"
done
# What it took beside the budgets of docs/architecture.md: the daemon at rest, and its largest worker.
most=4096
((files <= 1000)) || most=12288
read -r resident private worker < <(sed -n 's/^memory .*; \([0-9]*\) KiB resident, \([0-9]*\) KiB of it private; at most \([0-9]*\) KiB in a worker.*/\1 \2 \3/p' "$work/console")
[[ $worker ]] || fail "it does not tell what memory it takes"
((resident <= 1024 && private <= 256 && worker <= most)) || fail "$resident, $private, $worker KiB are above the budget"
sed -n 's/\r$//; s/^BOOT: /    /p' "$work/console"
echo "    the daemon: $resident KiB resident (budget 1024), $private private (256); the largest worker: $worker (budget $most)"
echo "$name: installed, rolled back, removed, with files of 1960 and 2040"
