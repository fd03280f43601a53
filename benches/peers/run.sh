#!/usr/bin/env bash
# run.sh NAME: becomes one of the update agents in target/peers/root, idle, as its packager starts it, in
# a network namespace and with mounts of its own. It ends with this process.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ ${IN_NAMESPACE-} != 1 ]]; then exec env IN_NAMESPACE=1 unshare -nm "$0" "$@"; fi
root=$PWD/target/peers/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
ip link set lo up
cd "$root"
become() { exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket \
    chroot "$root" "$@"; }

case $1 in
    rauc)
        # A system's bus of its own, on which all may speak.
        mkdir -p run/dbus
        cat >run/bus.conf <<'END'
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/><allow send_type="signal"/></policy></busconfig>
END
        setpriv --pdeathsig KILL chroot "$root" /usr/bin/dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile &
        until [[ -S run/dbus/system_bus_socket ]]; do sleep 0.05; done
        printf '%s\n' '[system]' compatible=bench bootloader=noop '[slot.rootfs.0]' device=/dev/null type=raw bootname=A \
            >run/system.conf
        become rauc --conf=/run/system.conf --override-boot-slot=A service
        ;;
    swupdate)
        # Debian's takes signed images alone, and so does not start without a certificate. Nobody has its key.
        cat >run/certificate.pem <<'END'
-----BEGIN CERTIFICATE-----
MIIBCTCBsAIBATAKBggqhkjOPQQDAjAQMQ4wDAYDVQQDDAViZW5jaDAgFw0yMDAx
MDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowEDEOMAwGA1UEAwwFYmVuY2gwWTAT
BgcqhkjOPQIBBggqhkjOPQMBBwNCAATch7dXAc+cgCP9SwErxkkNyQBgOcTfaveZ
qqaIO8aX5Bk3816MGh5WG6F5bmj971WoHSlBLgAkb9jtIAA6RT2rMAoGCCqGSM49
BAMCA0gAMEUCICIQL85TQRdA13Vv/bjvdbyZAl0k88UUvvj8B6ZcL1WrAiEA9yhn
4MrO1zg89Jo+6vIHxZuLeqhBoDX8ANBIp7lXj6g=
-----END CERTIFICATE-----
END
        become swupdate -k /run/certificate.pem -w "-r /usr/share/swupdate/www -p 8080"
        ;;
    rsync)
        printf '%s\n' 'use chroot = no' '[patches]' 'path = /tmp' >run/rsyncd.conf
        become rsync --daemon --no-detach --config=/run/rsyncd.conf
        ;;
    mender)
        mkdir -p run/mender
        echo artifact_name=bench >etc/mender/artifact_info
        printf '%s\n' '{"ServerURL": "https://127.0.0.1", "UpdatePollIntervalSeconds": 1800}' >run/mender.conf
        become mender --no-syslog --config /run/mender.conf --data /run/mender daemon
        ;;
    *) echo "run.sh: no such agent: $1" >&2; exit 2 ;;
esac
