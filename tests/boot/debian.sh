#!/usr/bin/env bash
# debian.sh ARCH: target/boot/ARCH/debian.img, a disk with Debian's bookworm of that architecture, with systemd, udev and
# iproute2, and of the kernel's modules TIPC's. It configures itself by qemu's emulation of user space, in a user
# namespace: since Linux 6.7 that has a binfmt_misc of its own, and this machine's stays as it is. Takes some
# minutes. Exit 77 (skipped) where it cannot be had.
set -uo pipefail
cd "$(dirname "$0")/../.."
arch=$1 name="a Debian for $1"
case $arch in
    aarch64) debian=arm64 emulator=/usr/bin/qemu-aarch64-static bits='\x02' machine='\xb7' ;;
    armv7) debian=armhf emulator=/usr/bin/qemu-arm-static bits='\x01' machine='\x28' ;;
esac

# In the namespaces.
if [[ ${2-} == configure ]]; then
    set -e
    root=$3
    mount --make-rprivate /
    zeros='\x00\x00\x00\x00\x00\x00\x00\x00\x00'
    any='\xff\xff\xff\xff\xff\xff\xff'
    # An ELF file of that machine, of its first twenty bytes.
    if mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; then
        echo ":thimble:M::\x7fELF$bits\x01\x01$zeros\x02\x00$machine\x00:$any\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$emulator:F" \
            >/proc/sys/fs/binfmt_misc/register
    fi
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    inside() { env container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"; }
    inside /bin/true || { echo "SKIPPED: $name: this kernel runs no program of it (binfmt_misc in a user namespace)" >&2; exit 77; }
    # No device can be made in a user namespace, and none is needed.
    sed -i 's/if ! check_sane_mount .*/if false; then/' "$root/debootstrap/debootstrap"
    inside /debootstrap/debootstrap --second-stage
    inside /sbin/depmod -a "$4"
    exit
fi

[[ ! -e target/boot/$arch/debian.img ]] || exit 0
[[ $(id -u) == 0 ]] || { echo "SKIPPED: $name: needs root" >&2; exit 77; }
source tests/boot/lib.sh
for need in debootstrap "$emulator"; do command -v "$need" >/dev/null || skip "$need is not installed (make setup)"; done
debootstrap --foreign --arch=$debian --variant=minbase --include=systemd,systemd-sysv,udev,iproute2,kmod bookworm \
    "$work/root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/log" 2>&1 || skip "it cannot be had: $(tail -n 1 "$work/log")"
release=$(grep -aoE 'vermagic=[^ ]+' "$parts/tipc.ko" | cut -d= -f2)
mkdir -p "$work/root/lib/modules/$release/kernel"
cp "$parts"/{udp_tunnel,ip6_udp_tunnel,tipc}.ko "$work/root/lib/modules/$release/kernel/"
mkfifo "$work/mapped"
unshare --user --mount bash -c 'read -r <"$1" && exec unshare --pid --fork --mount-proc --kill-child "${@:2}"' - \
    "$work/mapped" "$0" "$arch" configure "$work/root" "$release" >"$work/log" 2>&1 &
pids+=($!)
# Users there are those here. The namespace is made when it differs from ours.
until_true "a user namespace" [ ! "/proc/$$/ns/user" -ef "/proc/${pids[0]}/ns/user" ]
for map in uid_map gid_map; do echo 0 0 65536 >"/proc/${pids[0]}/$map" || skip "this machine allows no user namespace"; done
echo >"$work/mapped"
status=0
wait "${pids[0]}" || status=$?
pids=()
((status != 77)) || { grep 'SKIPPED: ' "$work/log" >&2; exit 77; }
((status == 0)) || fail "it is not configured: $status"
rm -f "$work"/root/var/cache/apt/archives/*.deb
mke2fs -q -t ext4 -d "$work/root" "$work/debian.img" 1g >"$work/mke2fs" 2>&1 || fail "the disk cannot be made: $(tail -n 1 "$work/mke2fs")"
mv "$work/debian.img" "target/boot/$arch/debian.img"
