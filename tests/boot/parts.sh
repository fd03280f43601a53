#!/usr/bin/env bash
# parts.sh ARCH: target/boot/ARCH, what a virtual machine of aarch64 or armv7 boots from: the kernel
# that Debian has for it, some of its modules, a static busybox, and in the directory tipc the tool that enables a
# bearer, with its libraries. Nothing is installed, and
# apt's lists of this machine stay as they are. Exit 77 (skipped) where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=$1 to=$PWD/target/boot/$1
[[ ! -e $to/whole ]] || exit 0
skip() { echo "SKIPPED: a kernel for $arch: $1" >&2; exit 77; }
command -v apt-get >/dev/null || skip "this machine has no apt-get"

case $arch in
    aarch64) debian=arm64 flavour=arm64 ;;
    armv7) debian=armhf flavour=armmp ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists,cache/archives}/partial
options=(
    -qq -o "APT::Architectures::=$(dpkg --print-architecture)" -o "APT::Architectures::=$debian"
    -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache"
    -o Acquire::Languages=none -o APT::Sandbox::User=root
)
# A source that has no such architecture, or is being renewed, fails; another may have it.
apt-get "${options[@]}" update >"$scratch/said" 2>&1 || true
image=$(apt-cache "${options[@]}" depends "linux-image-$flavour:$debian" | sed -n 's/.*Depends: \(linux-image-[^:]*\).*/\1/p')
[[ $image ]] || { cat "$scratch/said" >&2; skip "no archive of packages has one"; }
packages=("$image" busybox-static iproute2 libmnl0 libcap2 libc6)
(cd "$scratch" && apt-get "${options[@]}" download "${packages[@]/%/:$debian}") || skip "it cannot be downloaded"
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done

modules=(rtc-pl031 failover net_failover virtio_mmio virtio_net virtio_blk crc16 mbcache jbd2 crc32c_generic libcrc32c ext4
    ip6_udp_tunnel udp_tunnel tipc)
mkdir -p "$to"
for module in "${modules[@]}"; do
    # What is not there is part of the kernel.
    find "$scratch/root/lib/modules" -name "$module.ko" -exec cp {} "$to/" \;
done
cp "$scratch/root/bin/busybox" "$to/busybox"
printf '%s\n' "${modules[@]}" >"$to/order"
cp "$scratch"/root/boot/vmlinuz-* "$to/kernel"
(
    cd "$scratch/root"
    mkdir -p "$to/tipc/bin"
    cp sbin/tipc "$to/tipc/bin/"
    find . \( -name 'ld-linux*' -o -name libc.so.6 -o -name 'libcap.so.*' -o -name 'libmnl.so.*' \) -print0 |
        bsdtar -c --null -T - -f - | bsdtar -x -f - -C "$to/tipc"
    # /usr/lib is /lib here.
    [[ ! -d $to/tipc/usr/lib ]] || { cp -a "$to/tipc/usr/lib" "$to/tipc/" && rm -r "$to/tipc/usr"; }
)
: >"$to/whole"
