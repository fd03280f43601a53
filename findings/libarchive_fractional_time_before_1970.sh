#!/usr/bin/env bash
# libarchive and GNU tar disagree about fractional times before 1970 in pax archives.
#
# POSIX (pax, "mtime") has the time as a decimal number, so 1.25 seconds before 1970 is
# -1.25. GNU tar writes and reads that. libarchive writes the kernel's pair with a dot in
# between: -2, which is rounded down, and .75, which is to be added: -2.75. It reads in the
# same way: of -1.25 it takes -1 and adds a quarter. So each gets its own times back, and
# reads the other's wrongly, by up to a second.
#
# Who compares times after a transfer, or builds reproducibly with old times, sees files
# change. Times from 1970 on, and whole seconds before, are not concerned.
#
# Debian 12's libarchive 3.6.2 (bsdtar) and GNU tar 1.34.
set -euo pipefail
skip() { echo "SKIPPED: $1" >&2; exit 77; }
for need in apt-get dpkg-deb dpkg strings touch; do
    command -v $need >/dev/null || skip "$need is not there"
done
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# As root apt leaves the right to write here to another user.
chmod 777 .
apt-get download {libarchive-tools,libarchive13}=3.6.2-1+deb12u5 tar=1.34+dfsg-1.2+deb12u1 >/dev/null 2>&1 ||
    skip "Debian 12's libarchive and tar cannot be had"
for package in ./*.deb; do dpkg-deb -x "$package" package; done
# deb12's tar is in /bin, later ones in /usr/bin.
gnutar=$(find package -path '*bin/tar' | head -1)
bsdtar() { LD_LIBRARY_PATH=package/usr/lib/$(ls package/usr/lib | grep linux-gnu) package/usr/bin/bsdtar "$@"; }
bsdtar --version | cut -d' ' -f1-4 >versions 2>/dev/null || skip "bsdtar's other libraries are not there"
"$gnutar" --version | head -1 >>versions
cat versions

mkdir in out
touch -d '1969-12-31 23:59:58.75 UTC' in/file
{
    echo "the file has  $(stat -c %.9Y in/file)"
    "$gnutar" --format=pax -cf gnu.tar -C in file 2>/dev/null
    bsdtar --format=pax -cf bsd.tar -C in file
    for made in gnu bsd; do
        echo "$made wrote     $(strings $made.tar | sed -n 's/.* mtime=//p')"
        "$gnutar" -xf $made.tar -C out 2>/dev/null && echo "gnu reads it  $(stat -c %.9Y out/file)"
        bsdtar -xf $made.tar -C out && echo "bsd reads it  $(stat -c %.9Y out/file)"
    done
} | tee result
diff result - <<'EXPECTED'
the file has  -1.250000000
gnu wrote     -1.25
gnu reads it  -1.250000000
bsd reads it  -0.750000000
bsd wrote     -2.75
gnu reads it  -2.750000000
bsd reads it  -1.250000000
EXPECTED
echo "as seen"
