#!/usr/bin/env bash
# mke2fs -d, which makes an image of ext4 from a directory, cuts the files' times to 32 bits of
# seconds: no nanoseconds, and a file of 2039 becomes one of 1902.
#
# ext4 keeps seconds in 32 bits, and in a second word two more bits of them and the nanoseconds
# (EXT4_EPOCH_BITS, Documentation/filesystems/ext4/inodes.rst). The directories that mke2fs copies from
# have both, the inodes that it makes (of 256 bytes) have room for both, and debugfs prints both. Only
# the low word is written, so the kernel reads another time than the directory had.
#
# Appliance images are built so (Buildroot's BR2_TARGET_ROOTFS_EXT2, Yocto's ext4 images). What
# compares an image's times with those it was built from, as an updater, a backup or a file list does,
# finds every file changed; and a build clock past January 2038 makes files of before 1970.
#
# Seen with e2fsprogs 1.47.0. Needs no root.
set -euo pipefail
skip() { echo "SKIPPED: $1" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
command -v apt-get >/dev/null || skip "the packages cannot be had without apt-get"
package=e2fsprogs=1.47.0-2+b2
apt-get -qq download "$package" libext2fs2=1.47.0-2+b2 >/dev/null 2>&1 || skip "$package cannot be had"
for deb in *.deb; do dpkg-deb -x "$deb" root; done
LD_LIBRARY_PATH=$(dirname "$(find root -name 'libext2fs.so.2')")
export LD_LIBRARY_PATH
run() { "$work/root/sbin/$1" "${@:2}"; }
run mke2fs -V 2>&1 | head -n 1
uname -r

mkdir files
touch -d '2001-02-03 04:05:06.789 UTC' files/nanoseconds
touch -d '2039-01-02 03:04:05 UTC' files/after-2038
truncate -s 1M image
run mke2fs -q -t ext4 -I 256 -d files image 2>/dev/null
for file in nanoseconds after-2038; do
    run debugfs -R "stat /$file" image 2>/dev/null | sed -n "s/^ *mtime: \(0x[0-9a-f]*:[0-9a-f]*\) -- \(.*\)/$file \1/p"
done >said
cat said
# Of 2039 the second word would be 1, the epoch that makes 0x81cac7a5 positive; of .789 s 0xbc1cbd00..
cat >expected <<'END'
nanoseconds 0x3a7b8372:00000000
after-2038 0x81cac7a5:00000000
END
cmp said expected || { echo "this has changed" >&2; exit 1; }
