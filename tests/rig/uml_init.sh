#!/bin/bash
# The first process of uml.sh's kernel, started as SCRATCH/init: makes what a
# machine has, runs SCRATCH/job, leaves its exit status in SCRATCH/status.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
scratch=$(dirname "$0")
{
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    grep -q " /dev devtmpfs " /proc/mounts || mount -t devtmpfs dev /dev
    mkdir -p /dev/shm /dev/pts
    mount -t devpts pts /dev/pts
    mount -t tmpfs run /run
    mkdir -p /run/tmp /run/kernel/lib
    # Modules are loaded by name too, by whatever asks for one.
    ln -s /usr/lib/uml/modules /run/kernel/lib/modules
    printf '#!/bin/sh\nexec modprobe -d /run/kernel "$@"\n' >/run/kernel/modprobe
    chmod 755 /run/kernel/modprobe
    echo /run/kernel/modprobe >/proc/sys/kernel/modprobe
    ip link set lo up
    modprobe -d /run/kernel tipc && : >"$scratch/booted"
} 2>&1

if [[ -e $scratch/booted ]]; then
    stty -F /dev/tty1 raw
    (
        exec </dev/null >/dev/tty1 2>&1
        . "$scratch/job"
    )
    status=$?
    # What was written last is on its way.
    stty -F /dev/tty1 drain 2>/dev/null
    echo "$status" >"$scratch/status"
fi
echo o >/proc/sysrq-trigger
sleep 10
