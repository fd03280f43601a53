#!/usr/bin/env bash
# Linux on 32 bits does not take its clock from an RTC that is past January 2038, and boots in 1970.
#
# User space on 32 bits can be ready for 2038 (times of 64 bits since Linux 5.1 and musl 1.2), and so are
# the RTC's driver and its file since_epoch. The kernel itself refuses to set the system clock from
# it where a long has 32 bits and the time does not fit (rtc_hctosys in drivers/rtc/class.c), without a
# line in its log; hctosys of the RTC stays 0. Without a network time the node stays in
# 1970: certificates are not valid yet, and what compares times finds all files to be of the future.
#
# `hwclock --hctosys` from an init script sets the time, if that program has times of 64 bits itself:
# busybox of Debian 12 for armhf has not.
#
# Seen with Linux 6.1.176 (Debian's armmp), the emulated PL031 of qemu-system-arm 7.2.
set -euo pipefail
skip() { echo "SKIPPED: $1" >&2; exit 77; }
for need in apt-get apt-cache dpkg-deb bsdtar qemu-system-arm; do
    command -v $need >/dev/null || skip "$need is not there"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p lists/partial cache/archives/partial first/bin
options=(-qq -o "APT::Architectures::=$(dpkg --print-architecture)" -o APT::Architectures::=armhf
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
apt-get "${options[@]}" update >/dev/null 2>&1 || true
image=$(apt-cache "${options[@]}" depends linux-image-armmp:armhf | sed -n 's/.*Depends: \(linux-image-[^:]*\).*/\1/p')
[[ $image == linux-image-6.1.* ]] || skip "Linux 6.1 for armhf cannot be had"
apt-get "${options[@]}" download "$image:armhf" busybox-static:armhf >/dev/null 2>&1 || skip "$image cannot be had"
for deb in *.deb; do dpkg-deb -x "$deb" root; done
cp root/bin/busybox first/bin/
cat >first/init <<'END'
#!/bin/busybox sh
/bin/busybox mkdir /proc /sys
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox insmod /rtc-pl031.ko
cd /sys/class/rtc/rtc0
year() { echo $((1970 + $1 / 31556952)); }
echo "SAID: the RTC is in $(year "$(/bin/busybox cat since_epoch)"), the system in $(year "$(/bin/busybox date +%s)"); hctosys is $(/bin/busybox cat hctosys)"
/bin/busybox poweroff -f
END
chmod +x first/init
find root/lib/modules -name rtc-pl031.ko -exec cp {} first/ \;
bsdtar -c --format newc -C first . | gzip -1 >first.gz
qemu-system-arm --version | head -n 1
echo "$image"
for year in 2037 2040; do
    timeout 300 qemu-system-arm -M virt -cpu cortex-a15 -m 128 -kernel root/boot/vmlinuz-* -initrd first.gz \
        -append "console=ttyAMA0 panic=-1" -rtc "base=$year-03-01" -display none -nic none -no-reboot -monitor none \
        -serial "file:console" </dev/null || skip "the machine does not boot"
    tr -d '\r' <console | sed -n 's/.*SAID: //p'
    grep -aoE 'rtc-pl031.*(hctosys|setting system clock)[^(]*' console | sed 's/.*rtc[0-9]*: *//; s/.*: hctosys/hctosys/' || true
done | tee said
grep -q 'the RTC is in 2037, the system in 2037; hctosys is 1' said &&
    grep -q 'the RTC is in 2040, the system in 1970; hctosys is 0' said || { echo "this has changed" >&2; exit 1; }
