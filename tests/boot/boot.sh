#!/usr/bin/env bash
# boot.sh ARCH: a host of this architecture (aarch64 or armv7) as a virtual machine with Debian's
# kernel, of 64 or 80 MB, of which thimble may have 16, in January 2038: seconds after its start 32 bits are too few for its clock. (Linux
# sets the clock of such a machine from none that is later.) A controller outside finds it by
# multicast, a patch of 8 MB is installed on it, one whose health check fails is rolled back, and
# the first is removed.
# Exit 77 (skipped) where it cannot run.
set -uo pipefail
cd "$(dirname "$0")/../.."
arch=$1
skip() { echo "SKIPPED: a host of $arch: $1" >&2; exit 77; }
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0" "$@"
[[ -c /dev/net/tun ]] || skip "this machine has no /dev/net/tun"
case $arch in
    # The least in which that kernel and what it starts from leave room for anything.
    aarch64) machine=(qemu-system-aarch64 -M virt -cpu cortex-a53) memory=80 ;;
    armv7) machine=(qemu-system-arm -M virt -cpu cortex-a15) memory=64 ;;
esac
command -v "${machine[0]}" >/dev/null || skip "${machine[0]} is not installed"
tests/boot/parts.sh "$arch" || exit
parts=target/boot/$arch
thimble=$(realpath "${THIMBLE_BIN:-dist/thimble-$(uname -m)}")
maker=$(realpath "${THIMBLE_MAKER:-target/debug/thimble}")
guest=${GUEST_BIN:-dist/thimble-$arch}

net=thimble-boot-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-boot.XXXXXX")
pids=()
clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
    ip netns del "$net" 2>/dev/null
    [[ ${KEEP:-} ]] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
fail() {
    echo "boot $arch: FAILED: $1" >&2
    tail -n 60 "$work/console" >&2
    tail -n 20 "$work/log" >&2
    exit 1
}
in_net() { ip netns exec "$net" "$@"; }
control() { in_net "$thimble" --config "$work/thimble.toml" "$@"; }
# until_true WHAT COMMAND..: polls, as long as both run. An emulated machine is slow.
until_true() {
    local what=$1 deadline=$((SECONDS + 300)) pid
    shift
    until "$@"; do
        for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "it has ended: waited for: $what"; done
        ((SECONDS < deadline)) || fail "waited in vain: $what"
        sleep 0.2
    done
}

ip netns add "$net"
in_net ip tuntap add tap0 mode tap || skip "no tap can be made"
in_net ip link set lo up
in_net ip link set tap0 up
in_net ip address add 10.85.0.1/24 dev tap0
in_net ip route add 239.0.0.0/8 dev tap0

# Keys, and patches.
minisign -G -W -p "$work/maker.pub" -s "$work/maker.key" >/dev/null
"$thimble" keygen --cluster -o "$work/thimble.key" >/dev/null
"$thimble" keygen --node guest --from "$work/thimble.key" -o "$work/guest.key" >/dev/null
patch() {
    printf 'id = "%s"\nsummary = "x"\nsw_version = "12"\nreboot_required = false\nrequires = [%s]\n' "$1" "${2:-}" \
        >"$work/$1/metadata.toml"
    "$maker" make "$work/$1" -o "$work/$1.patch" >/dev/null && minisign -S -H -s "$work/maker.key" -m "$work/$1.patch" >/dev/null ||
        fail "$1 cannot be made"
}
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
printf '#!/bin/sh\necho the pump does not run\nexit 1\n' >"$work/BAD/scripts/health"
chmod +x "$work/BAD/scripts/health"
echo stop >"$work/STOP/files/stop"
patch BASE && patch BIG '"BASE"' && patch BAD '"BIG"' && patch STOP

common='hello_interval_ms = 1000
hello_start_ms = 200
install_retry_ms = 1000
install_give_up_ms = 60000'
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
mkdir -p "$work"/disk/{root/opt,root/bin,state} "$work"/first/{bin,modules,disk,proc,sys,dev}
cp "$parts/busybox" "$work/first/bin/busybox"
ln -s busybox "$work/first/bin/sh"
cp "$work/guest.key" "$work/maker.pub" "$work/disk/"
chmod 600 "$work/disk/guest.key"
cat >"$work/disk/thimble.toml" <<TOML
[node]
roles = ["agent"]
hostname = "guest"
sw_version = "12"
state_dir = "/disk/state"
control_socket = "/run/control.sock"
[network]
interface = "eth0"
[security]
key_file = "/disk/guest.key"
trusted_keys = ["/disk/maker.pub"]
[agent]
root = "/disk/root"
[timers]
$common
TOML
mke2fs -q -t ext4 -d "$work/disk" "$work/disk.img" 64m >/dev/null 2>&1 || fail "the disk cannot be made"
cp "$parts"/{order,*.ko} "$work/first/modules/"
cp "$guest" "$work/first/thimble"
cp tests/boot/init "$work/first/init"
bsdtar -c --format newc -C "$work/first" . | gzip -1 >"$work/first.gz" || fail "its first files cannot be packed"

ip netns exec "$net" "$thimble" --config "$work/thimble.toml" run >"$work/log" 2>&1 &
pids+=($!)
ip netns exec "$net" "${machine[@]}" -m "${MEMORY:-$memory}" -kernel "$parts/kernel" -initrd "$work/first.gz" \
    -append "console=ttyAMA0 quiet panic=-1" -rtc base=2038-01-19T03:13:55 -display none -no-reboot \
    -netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device virtio-net-device,netdev=n0 \
    -drive "file=$work/disk.img,format=raw,if=none,id=d0" -device virtio-blk-device,drive=d0 \
    -serial "file:$work/console" -monitor none &
pids+=($!)

heard() { control query-hosts 2>/dev/null | grep -q '^guest '; }
until_true "the controller finds it" heard
# The number of a daemon's run is the time of its start. The second began after the last second of 32 bits.
second_run() { sed -n 's/.*incarnation \([0-9]*\).*/\1/p' "$work/console" | sed -n 2p; }
has_restarted() { [[ $(second_run) ]]; }
until_true "the agent starts anew" has_restarted
(($(second_run) / 1000 >= 1 << 31)) || fail "32 bits still hold its time: $(second_run)"
until_true "the controller finds it again" heard
control upload "$work"/{BASE,BIG,BAD,STOP}.patch >/dev/null || fail "upload"
control apply BASE BIG >/dev/null || fail "apply"
control host-install guest >"$work/said" 2>&1 || fail "install: $(cat "$work/said")"
control query-hosts | grep -qE '^guest .* Yes ' || fail "it is not current"
control apply BAD >/dev/null || fail "apply"
control host-install guest >"$work/said" 2>&1 && fail "the patch whose health check fails was installed"
grep -q 'the pump does not run' "$work/said" || fail "not why: $(cat "$work/said")"
control remove BAD >/dev/null || fail "remove"
control host-install guest >"$work/said" 2>&1 || fail "back: $(cat "$work/said")"
control remove BIG >/dev/null || fail "remove"
control host-install guest >"$work/said" 2>&1 || fail "removal: $(cat "$work/said")"
control apply STOP >/dev/null || fail "apply"
control host-install-async guest >/dev/null || fail "asked"
until_true "the guest ends" grep -q 'BOOT: the daemon ended' "$work/console"
grep -q 'FAILED' "$work/console" && fail "the guest"
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
sed -n 's/^BOOT: /    /p; s/^\(memory .*\)/    \1/p' "$work/console"
echo "boot $arch: installed, rolled back, removed, with files of 1960 and 2040"
