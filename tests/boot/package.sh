#!/usr/bin/env bash
# package.sh ARCH TRANSPORT: two virtual machines of this architecture (aarch64 or armv7) with Debian's kernel, Debian's
# bookworm and its systemd, on one Ethernet: on each the package of this transport (udp: thimble; tipc: thimble-tipc, and
# tipc@eth0 enabled) is installed. The nodes see each other, over UDP by multicast; a patch is installed; the package is
# upgraded, gives its place to the other transport's and takes it again, is removed and installed again; the patch is
# removed, the package purged.
# Exit 77 (skipped) where it cannot run.
set -uo pipefail
cd "$(dirname "$0")/../.."
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0" "$@"
arch=$1 transport=${2-} name="boot $1, package of ${2-no transport}"
source tests/boot/lib.sh
case $arch in
    aarch64) debian=arm64 ;;
    armv7) debian=armhf ;;
esac
case $transport in
    udp) other=thimble-tipc ;;
    tipc) other=thimble ;;
    *) echo "$name: it is udp or tipc" >&2; exit 2 ;;
esac
[[ $transport != tipc || -e $parts/tipc.ko ]] || skip "Debian's kernel for $arch has no TIPC as a module"
tests/boot/debian.sh "$arch" || exit
began=$SECONDS

# The packages, and those of the next version, whose programs differ by a byte at their end. Of the
# other transport one is enough.
mkdir -p "$work"/in "$work/more/packages"
[[ -e dist/LICENCES ]] || tests/rig/bill.sh >/dev/null
cp dist/thimble{,-tipc}-"$arch" dist/LICENCES "$work/in/" || fail "build them first: tests/rig/dist.sh"
cp -n "$thimble" "$work/in/thimble-$(uname -m)"
IN=$work/in OUT=$work/more/packages packaging/deb/build.sh $debian >"$work/log" 2>&1 || fail "the packages cannot be made"
for program in "$work/in"/thimble{,-tipc}-"$arch"; do echo >>"$program"; done
IN=$work/in OUT=$work/more/packages DEB_REVISION=2 packaging/deb/build.sh $debian >"$work/log" 2>&1 || fail "the packages cannot be made"
rm "$work"/more/packages/"$other"_*-1_*

keys
"$thimble" keygen --node agent --from "$work/thimble.key" -o "$work/agent.key" >/dev/null
mkdir -p "$work"/PACKAGED-1/{files/etc,scripts}
echo patched >"$work/PACKAGED-1/files/etc/motd"
patch PACKAGED-1
cp "$work"/PACKAGED-1.patch* "$work/maker.pub" "$work/agent.key" tests/boot/operator "$work/more/packages/"
cp "$work/thimble.key" "$work/more/packages/controller.key"
first_files init_package "$parts/busybox" "$work/more"

for role in controller agent; do cp --sparse=always "target/boot/$arch/debian.img" "$work/$role.img"; done
boots_both 256 "transport=$transport" net.ifnames=0 systemd.show_status=false
# It says why after that, and then is off.
has_failed() {
    local deadline=$((SECONDS + 120))
    while kill -0 "${pids[0]}" 2>/dev/null && kill -0 "${pids[1]}" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.2; done
    fail "a machine"
}
ended() {
    ! grep -qs 'BOOT: .*FAILED' "$work"/*-console || has_failed
    grep -qs 'BOOT: agent: purged' "$work/agent-console" && grep -qs 'BOOT: controller: the agent is lost' "$work/controller-console"
}
PATIENCE=3600 until_true "both are through" ended
sed -n 's/\r$//; s/^.*BOOT: /    /p' "$work"/agent-console "$work"/controller-console
echo "$name: installed, started, a patch installed, upgraded, swapped, removed, purged, in $((SECONDS - began)) s"
