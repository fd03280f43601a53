#!/usr/bin/env bash
# large.sh ARCH: a machine with Debian's kernel, controller and agent in one, whose patches have files of more than 2
# and 4 GiB, nearly all holes: uploaded, installed, one rolled back, removed. A patch of the most that is
# allowed is read; above the limits it is refused, with words.
# Exit 77 (skipped) where it cannot run.
set -uo pipefail
cd "$(dirname "$0")/../.."
arch=$1 name="boot $1, large files"
source tests/boot/lib.sh

keys
mkdir -p "$work"/{LARGE,OTHER,MOST,ABOVE}/{files/opt,scripts} "$work/disk/refused"
# large PATCH NAME SIZE [MIB]: a file of that size, with 9 MiB that do not compress at its begin, so that it is no
# archive bomb, and the word `here` at so many MiB.
large() {
    head -c $((9 << 20)) /dev/urandom >"$work/$1/files/opt/$2"
    truncate -s "$3" "$work/$1/files/opt/$2"
    [[ ! ${4-} ]] || printf here | dd of="$work/$1/files/opt/$2" bs=1M seek="$4" conv=notrunc status=none
}
GiB=$((1 << 30))
two=$((2 * GiB + (1 << 20) + 4)) four=$((4 * GiB + (1 << 20) + 4))
# What is unpacked is at most 8 GiB, metadata included.
most=$((8 * GiB - $(metadata MOST | wc -c))) above=$((8 * GiB - $(metadata ABOVE | wc -c) + 1))
large LARGE file $four 4097
large OTHER file $two 2049
health_that_fails OTHER
large MOST most $most
large ABOVE above $above
patch LARGE && patch OTHER LARGE && patch MOST && packed ABOVE --sparse
cp "$work"/{LARGE,OTHER,MOST}.patch* "$work/disk/"
cp "$work"/ABOVE.patch* "$work/disk/refused/"
echo 'it unpacks to more than' >"$work/disk/refused/ABOVE.words"
truncate -s $((4 * GiB + 1)) "$work/disk/refused/LONG.patch"
cp "$work/ABOVE.patch.minisig" "$work/disk/refused/LONG.patch.minisig"
echo 'it is larger than 4294967296 bytes' >"$work/disk/refused/LONG.words"
cp "$work/thimble.key" "$work/maker.pub" "$work/disk/"
configuration controller guest 'interface = "eth0"' | sed 's/"controller"/"controller", "agent"/' >"$work/disk/thimble.toml"
disk "$work/disk" "$work/disk.img" 20g
first_files init_large "${GUEST_BIN:-dist/thimble-$arch}"
"${machine[@]}" -m "${MEMORY:-$memory}" -kernel "$parts/kernel" -initrd "$work/first.gz" \
    -append "console=ttyAMA0 quiet panic=-1 FOUR=$four" -display none -no-reboot \
    -netdev user,id=n0,restrict=on -device virtio-net-device,netdev=n0 \
    -drive "file=$work/disk.img,format=raw,if=none,id=d0" -device virtio-blk-device,drive=d0 \
    -serial "file:$work/console" -monitor none >>"$work/qemu" 2>&1 </dev/null &
pids+=($!)
has_ended() { ! grep -qs 'BOOT: FAILED' "$work/console" || fail "the guest"; grep -qs 'BOOT: the daemon ended' "$work/console"; }
# A hole of 4 GiB is read three times, as zeros, by an emulated processor.
PATIENCE=1800 until_true "it ends" has_ended
wait "${pids[0]}" || fail "the machine ended with $?"
unset 'pids[0]'
sed -n 's/\r$//; s/^BOOT: /    /p; s/^memory /    &/p' "$work/console"
echo "$name: installed, rolled back, removed; above the limits refused"
