#!/usr/bin/env bash
# package.sh ARCH: two virtual machines of this architecture (aarch64) with Debian's kernel, Debian's bookworm and its
# systemd, on one Ethernet: on each thimble-tipc is installed from its package, and tipc@eth0 enabled. The nodes see
# each other, a patch is installed and removed, the package is upgraded and purged.
# Exit 77 (skipped) where it cannot run.
set -uo pipefail
cd "$(dirname "$0")/../.."
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0" "$@"
arch=$1 name="boot $1, packages"
source tests/boot/lib.sh
debian=arm64
[[ $arch == aarch64 ]] || debian=armhf
tests/boot/debian.sh "$arch" || exit

# The packages, and those of the next version, whose programs differ by a byte at their end.
mkdir -p "$work"/in "$work/more/packages"
[[ -e dist/LICENCES ]] || tests/rig/bill.sh >/dev/null
cp dist/thimble{,-tipc}-"$arch" dist/LICENCES "$work/in/"
cp -n "$thimble" "$work/in/thimble-$(uname -m)"
IN=$work/in OUT=$work/more/packages packaging/deb/build.sh $debian >"$work/log" 2>&1 || fail "the packages cannot be made"
for program in "$work/in"/thimble{,-tipc}-"$arch"; do echo >>"$program"; done
IN=$work/in OUT=$work/more/packages DEB_REVISION=2 packaging/deb/build.sh $debian >"$work/log" 2>&1 || fail "the packages cannot be made"
rm "$work"/more/packages/thimble_*

keys
"$thimble" keygen --node agent --from "$work/thimble.key" -o "$work/agent.key" >/dev/null
mkdir -p "$work"/PACKAGED-1/{files/etc,scripts}
echo patched >"$work/PACKAGED-1/files/etc/motd"
patch PACKAGED-1
cp "$work"/PACKAGED-1.patch* "$work/maker.pub" "$work/agent.key" tests/boot/operator "$work/more/packages/"
cp "$work/thimble.key" "$work/more/packages/controller.key"
first_files init_package "$parts/busybox" "$work/more"

for role in controller agent; do cp --sparse=always "target/boot/$arch/debian.img" "$work/$role.img"; done
boots_both 256 net.ifnames=0 systemd.show_status=false
ended() {
    ! grep -qs 'BOOT: .*FAILED' "$work"/*-console || fail "a machine"
    grep -qs 'BOOT: agent: purged' "$work/agent-console" && grep -qs 'its thimble has ended' "$work/controller-console"
}
PATIENCE=1800 until_true "both are through" ended
sed -n 's/\r$//; s/^.*BOOT: /    /p' "$work"/agent-console "$work"/controller-console
echo "$name: installed, started, a patch installed, upgraded, removed, purged"
