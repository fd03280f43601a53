#!/usr/bin/env bash
# openrc.sh: the shipped script under a real OpenRC in namespaces of its own:
# checkconfig, start, reload, an install whose script restarts a service, the health
# check, and a stop at once.
set -euo pipefail
supervisor=openrc
tree=$(cd "$(dirname "$0")/../.." && pwd)
source "$tree/tests/supervisors/lib.sh"

if [[ ${1-} != inside ]]; then
    [[ $(id -u) == 0 ]] || skip "needs root"
    for need in openrc-run supervise-daemon rc-service minisign ip unshare; do
        command -v "$need" >/dev/null || skip "$need is not installed"
    done
    maker=${THIMBLE_MAKER:-$tree/target/debug/thimble}
    binary=${THIMBLE_BIN:-$maker}
    [[ -x $maker && -x $binary ]] || fail "build it first: cargo build"
    make_group
    trap remove_group EXIT
    (
        in_group
        exec unshare --mount --pid --fork --mount-proc --cgroup --uts --ipc --net --kill-child \
            "$0" inside "$binary" "$maker"
    )
    exit
fi

binary=$2 maker=$3
lay_over
mount_group
mount -t tmpfs -o mode=755 tmpfs /run
# As OpenRC's own boot leaves it.
mkdir -p /run/lock /run/openrc/{daemons,exclusive,failed,hotplugged,inactive,options,scheduled,started,starting,stopping,tmp,wasinactive}
touch /run/openrc/softlevel
mkdir -p /etc/conf.d
install_thimble "$binary" "rc-service other restart"
install -m 0755 "$tree/config/thimble.openrc" /etc/init.d/thimble
install -m 0755 "$tree/config/thimble-installer.openrc" /etc/init.d/thimble-installer
# Stubs of what a distribution has.
printf '#!/sbin/openrc-run\nsupervisor=supervise-daemon\ncommand=/bin/sleep\ncommand_args=1000000\npidfile=/run/other.pid\n' >/etc/init.d/other
printf '#!/sbin/openrc-run\ndepend() { provide net localmount; }\nstart() { :; }\n' >/etc/init.d/stubs
rm -f /etc/init.d/localmount
chmod +x /etc/init.d/{other,stubs}
# OpenRC gives each service a control group.
echo 'rc_cgroup_mode=unified' >>/etc/rc.conf
# A test waits for no half minute.
printf 'respawn_delay=1\n' >/etc/conf.d/thimble-installer
printf 'healthcheck_delay=1\nhealthcheck_timer=1\nrespawn_delay=1\n' >/etc/conf.d/thimble

log=/var/log/thimble.log
trap 's=$?; ((s == 0)) || { echo "exit $s at line $LINENO"; cat $log; } >&2' EXIT
logged() { grep -qF -- "$1" $log; }
daemon() { pgrep -P "$(cat /run/thimble.pid)" | head -n1; }
answers() { thimble --json status >/dev/null 2>&1; }
child_of() { pgrep -P "$(cat /run/other.pid)" | head -n1; }

say "a wrong configuration is not started, and the line is named"
sed -i 's/^interface = /interfce = /' /etc/thimble/thimble.toml
! said=$(rc-service thimble start 2>&1) || fail "it starts"
grep -qF "network.interfce is not known; did you mean interface?" <<<"$said" || fail "it says: $said"
sed -i 's/^interfce = /interface = /' /etc/thimble/thimble.toml
rc-service thimble checkconfig

say "start"
rc-service thimble-installer start
rc-service thimble start
until_true "it answers" answers
pid=$(daemon)
of_process() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }
[[ $(of_process Uid) == "$(id -u thimble)" && $(of_process Umask) == 0077 ]] || fail "it runs as user $(of_process Uid)"
for set in CapInh CapPrm CapEff CapAmb; do
    [[ $(of_process $set) == 0000000000000000 ]] || fail "it has $set $(of_process $set)"
done
[[ $(of_process NoNewPrivs) == 1 ]] || fail "it may get more rights"
rc-service thimble healthcheck
rc-service other start

say "reload: what is taken up is told, and a wrong file fails with its line"
sed -i 's/^#sync_wait_ms = .*/sync_wait_ms = 300/' /etc/thimble/thimble.toml
rc-service thimble reload | grep -F "timers.sync_wait_ms is 300 now (was 5000)"
logged "timers.sync_wait_ms is 300 now" || fail "it is not logged"
sed -i 's/^sync_wait_ms = .*/sync_wait = 300/' /etc/thimble/thimble.toml
! rc-service thimble reload 2>/dev/null || fail "a wrong file was taken up"
! rc-service thimble restart 2>/dev/null || fail "it was restarted with a wrong file"
answers || fail "it no longer runs"
sed -i 's/^sync_wait = .*/sync_wait_ms = 300/' /etc/thimble/thimble.toml

say "an install whose script restarts a service leaves that running"
other=$(child_of)
thimble upload /var/SUPERVISED-1.patch
thimble apply SUPERVISED-1
thimble host-install "$(cat /proc/sys/kernel/hostname)"
another() { local now; now=$(child_of) && [[ $now != "$other" ]]; }
until_true "the service is another, and runs" another

say "a daemon that stands still is started again"
before=$(daemon)
kill -STOP "$before"
restarted() { local now; now=$(daemon) && [[ $now != "$before" ]] && answers; }
until_true "another daemon" restarted

say "the old thimble guards every start, also one that the supervisor makes"
mkdir -p /.thimble
# Not that of the machine below, where thimble may run.
mount -t tmpfs tmpfs /.thimble
printf '#!/bin/sh\necho "$@" >>/var/guarded\n' >/.thimble/guard
chmod +x /.thimble/guard
before=$(daemon)
kill -KILL "$before"
until_true "another daemon" restarted
[[ $(cat /var/guarded) == "--config /etc/thimble/thimble.toml guard" ]] || fail "$(cat /var/guarded)"
umount /.thimble
rmdir /.thimble

say "stop in the middle of an install: at once"
touch /var/be-slow
thimble remove SUPERVISED-1
thimble host-install "$(cat /proc/sys/kernel/hostname)" >/dev/null 2>&1 &
command=$!
until_true "the script sleeps" test -e /var/is-slow
began=${EPOCHREALTIME/./}
daemon=$(daemon)
rc-service thimble stop &
until_true "the daemon is gone" test ! -e "/proc/$daemon"
echo "   it took $(((${EPOCHREALTIME/./} - began) / 1000)) ms"
wait $!
wait "$command" && fail "the command was told that all is well" || true
logged "is cut short" || fail "the log does not say what becomes of the install"

say "start again: what was cut short is undone"
rm /var/be-slow
rc-service thimble start
until_true "it is undone" logged "back on set"
until_true "it answers" answers
test -e /var/root/etc/supervised || fail "the file is gone"
rc-service thimble stop

say "a controller that is no agent needs no installer"
rc-service thimble-installer stop
sed -i 's/^roles = .*/roles = ["controller"]/' /etc/thimble/thimble.toml
rc-service thimble start
until_true "it answers" answers
sed -i 's/SUPERVISED-1/SUPERVISED-2/' /var/patch/metadata.toml
"$maker" make /var/patch -o /var/SUPERVISED-2.patch >/dev/null
minisign -S -H -s /var/maker.key -m /var/SUPERVISED-2.patch >/dev/null
thimble upload /var/SUPERVISED-2.patch
thimble apply SUPERVISED-2
sed -i 's/^sync_wait_ms = .*/sync_wait_ms = 400/' /etc/thimble/thimble.toml
rc-service thimble reload | grep -F "timers.sync_wait_ms is 400 now (was 300)"
rc-service thimble healthcheck
before=$(daemon)
kill -KILL "$before"
until_true "another daemon" restarted
rc-service thimble stop
echo "openrc: all is well"
