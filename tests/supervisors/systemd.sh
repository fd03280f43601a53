#!/usr/bin/env bash
# systemd.sh: the shipped unit under a real systemd, which is PID 1 of namespaces of
# its own: READY, STATUS, reload, an install whose script restarts a service, the
# watchdog, and a stop at once.
set -euo pipefail
supervisor=systemd
tree=$(cd "$(dirname "$0")/../.." && pwd)
source "$tree/tests/supervisors/lib.sh"

# Inside: the machine boots. systemd finds stubs of what a distribution has, its own
# journal, and our units as they are shipped.
if [[ ${1-} == boot ]]; then
    binary=$2 maker=$3
    lay_over
    mount_group
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/units /run/lock
    for target in sysinit basic shutdown local-fs network-online multi-user sockets default; do
        printf '[Unit]\nDefaultDependencies=no\n' >"/run/units/$target.target"
    done
    cp /lib/systemd/system/systemd-journald{.service,.socket,-dev-log.socket} /run/units/
    cp "$tree"/config/thimble{,-guard,-installer}.service /run/units/
    mkdir /run/units/thimble.service.d
    # A test waits for no half minute.
    printf '[Service]\nWatchdogSec=8\nRestartSec=0\n' >/run/units/thimble.service.d/impatient.conf
    printf '[Service]\nExecStart=/bin/sleep infinity\n' >/run/units/other.service
    # A host beyond the wire, for a controller that is no agent.
    printf '[Service]\nPrivateNetwork=yes\nType=notify\nExecStartPre=%s\nExecStart=%s\n' \
        '/usr/bin/timeout 20 /bin/sh -c "until ip link show wire; do sleep .05; done; ip address add 10.84.0.2/24 dev wire; ip link set wire up"' \
        '/usr/bin/thimble --config /etc/thimble/host.toml run' >/run/units/host.service
    install_thimble "$binary" "systemctl restart other"
    exec env -i container=other PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units \
        /lib/systemd/systemd --system --unit=multi-user.target --log-target=null
fi

[[ $(id -u) == 0 ]] || skip "needs root"
for need in /lib/systemd/systemd systemctl journalctl minisign ip unshare nsenter; do
    command -v "$need" >/dev/null || skip "$need is not installed"
done
maker=${THIMBLE_MAKER:-$tree/target/debug/thimble}
binary=${THIMBLE_BIN:-$maker}
[[ -x $maker && -x $binary ]] || fail "build it first: cargo build"

make_group
log=$(mktemp)
(
    in_group
    exec unshare --mount --pid --fork --mount-proc --cgroup --uts --ipc --net --kill-child \
        "$0" boot "$binary" "$maker"
) >"$log" 2>&1 &
outside=$!
finish() {
    local status=$?
    if ((status != 0 && status != 77)) && [[ -n ${machine-} ]]; then
        cat "$log" >&2
        on journalctl --no-pager -u thimble -u thimble-installer >&2 || true
    fi
    kill -9 "$outside" 2>/dev/null || true
    wait "$outside" 2>/dev/null || true
    remove_group
    rm -f "$log"
}
trap finish EXIT

machine=
booted() {
    kill -0 "$outside" 2>/dev/null || { cat "$log" >&2; grep -q 'SKIPPED: ' "$log" && exit 77; fail "it does not boot"; }
    machine=$(cat "/proc/$outside/task/$outside/children" 2>/dev/null) && machine=${machine%% *}
    [[ -n $machine && $(cat "/proc/$machine/comm") == systemd ]] && on systemctl is-active -q multi-user.target 2>/dev/null
}
on() { nsenter --target "$machine" --all -- "$@"; }
until_true "systemd is up" booted

property() { on systemctl show --value -p "$1" thimble; }
status_is() { [[ $(property StatusText) == "$1" ]]; }
logged() { on journalctl --no-pager -o cat -u thimble "${@:2}" | grep -qF -- "$1"; }

say "start: READY is awaited, and how the node is can be read"
on systemctl start systemd-journald thimble-installer thimble other
[[ $(property ActiveState) == active ]] || fail "it is not active"
until_true "the status line" status_is "controller: 0 patches, 1 hosts, 0 lost; agent: 0 patches installed"
until_true "a log line without its priority in the text" logged "thimble: the repository is read"

# exposed UNIT MOST: what systemd makes of a unit as it runs, in tenths.
exposed() {
    on systemd-analyze security --no-pager --threshold="$2" "$1" >/tmp/exposed.$$ || fail "$(cat /tmp/exposed.$$)"
    echo "   $(grep -F 'Overall exposure' /tmp/exposed.$$)"
    rm /tmp/exposed.$$
}
exposed thimble 20
pid=$(property MainPID)
of_process() { on awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }
[[ $(of_process Uid) == "$(on id -u thimble)" ]] || fail "it runs as user $(of_process Uid)"
for set in CapInh CapPrm CapEff CapBnd CapAmb; do
    [[ $(of_process $set) == 0000000000000000 ]] || fail "it has $set $(of_process $set)"
done
[[ $(of_process NoNewPrivs) == 1 && $(of_process Seccomp) == 2 ]] || fail "it may get more rights"

say "reload: what is taken up is told, and a wrong file fails with its line"
on sed -i 's/^#sync_wait_ms = .*/sync_wait_ms = 300/' /etc/thimble/thimble.toml
on systemctl reload thimble
until_true "what was taken up" logged "timers.sync_wait_ms is 300 now (was 5000)"
on sed -i 's/^sync_wait_ms = .*/sync_wait = 300/' /etc/thimble/thimble.toml
! on systemctl reload thimble 2>/dev/null || fail "a wrong file was taken up"
until_true "a warning, by its priority" logged "timers.sync_wait is not known; did you mean sync_wait_ms?" -p warning
! logged "the repository is read" -p warning || fail "every line is a warning"
on sed -i 's/^sync_wait = .*/sync_wait_ms = 200/' /etc/thimble/thimble.toml
on systemctl kill -s HUP --kill-who=main thimble
until_true "a signal does the same" logged "timers.sync_wait_ms is 200 now (was 300)"
is_active() { [[ $(property ActiveState) == active ]]; }
until_true "it is no longer reloading" is_active

say "an install whose script restarts a service leaves that running"
other=$(on systemctl show --value -p MainPID other)
on thimble upload /var/SUPERVISED-1.patch
on thimble apply SUPERVISED-1
on thimble host-install "$(on cat /proc/sys/kernel/hostname)"
until_true "the status line follows" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: 1 patches installed"
now=$(on systemctl show --value -p MainPID other)
[[ $now != "$other" && $now != 0 ]] || fail "the service was not restarted"

say "the watchdog: a daemon that stands still is started again"
before=$(property MainPID)
on kill -STOP "$before"
restarted() { [[ $(property MainPID) != "$before" && $(property ActiveState) == active ]]; }
until_true "another daemon" restarted
[[ $(property NRestarts) == 1 ]] || fail "it was restarted $(property NRestarts) times"
until_true "it is what it was" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: 1 patches installed"

say "stop in the middle of an install: at once, and nothing is left"
on touch /var/be-slow
on thimble remove SUPERVISED-1
on thimble host-install "$(on cat /proc/sys/kernel/hostname)" >/dev/null 2>&1 &
command=$!
until_true "the script sleeps" on test -e /var/is-slow
timed on systemctl stop thimble
wait "$command" && fail "the command was told that all is well" || true
[[ $(property Result) == success ]] || fail "it ended with $(property Result)"
processes() { on sh -c "cat /sys/fs/cgroup/system.slice/$1.service/cgroup.procs 2>/dev/null" || true; }
[[ -z $(processes thimble) ]] || fail "processes are left: $(processes thimble)"
installer=$(on systemctl show --value -p MainPID thimble-installer)
is_alone() { [[ $(processes thimble-installer) == "$installer" ]]; }
until_true "the installer has ended the script" is_alone
until_true "the log says what becomes of it" logged "is cut short"
on test ! -e /run/thimble/control.sock || fail "the control socket is left"

say "start again: what was cut short is undone"
on rm /var/be-slow
on systemctl start thimble
until_true "it is undone" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: the last install failed"
on test -e /var/root/etc/supervised || fail "the file is gone"
on systemctl start thimble-guard

say "a patch replaces thimble itself: daemon and installer run the new one, as the units restrict them"
on systemctl stop thimble thimble-installer
# Not that of the machine below.
on mkdir -p /.thimble
on mount -t tmpfs -o mode=700 tmpfs /.thimble
on sed -i 's/^root = .*/root = "\/"/' /etc/thimble/thimble.toml
on systemctl start thimble-installer thimble
on mkdir -p /var/own/files/usr/bin
on cp /usr/bin/thimble /var/own/files/usr/bin/
on sh -c 'echo >>/var/own/files/usr/bin/thimble; sed s/SUPERVISED-1/OWN-1/ /var/patch/metadata.toml >/var/own/metadata.toml'
on "$maker" make /var/own -o /var/OWN-1.patch >/dev/null
on sh -c 'minisign -S -H -s /var/maker.key -m /var/OWN-1.patch >/dev/null'
pids="$(property MainPID) $(on systemctl show --value -p MainPID thimble-installer)"
on thimble remove SUPERVISED-1
on thimble upload /var/OWN-1.patch
on thimble apply OWN-1
# The command loses its controller, which is the same daemon.
on thimble host-install "$(on cat /proc/sys/kernel/hostname)" || true
until_true "it is installed" status_is "controller: 2 patches, 1 hosts, 0 lost; agent: 1 patches installed"
[[ "$(property MainPID) $(on systemctl show --value -p MainPID thimble-installer)" == "$pids" ]] || fail "one was restarted"
for pid in $pids; do
    on cmp /proc/"$pid"/exe /var/own/files/usr/bin/thimble || fail "process $pid runs the old one"
done
on thimble remove OWN-1
on thimble apply SUPERVISED-1
on thimble host-install "$(on cat /proc/sys/kernel/hostname)" || true
is_old() { ! on cmp -s /usr/bin/thimble /var/own/files/usr/bin/thimble && status_is "controller: 2 patches, 1 hosts, 0 lost; agent: 1 patches installed"; }
until_true "it is removed" is_old
for pid in $pids; do
    ! on cmp -s /proc/"$pid"/exe /var/own/files/usr/bin/thimble || fail "process $pid runs the new one"
done
on thimble remove SUPERVISED-1
on thimble host-install "$(on cat /proc/sys/kernel/hostname)"
on thimble delete OWN-1

say "a controller that is no agent needs no installer, and takes over what root's daemon left"
on systemctl stop thimble thimble-installer
on umount /.thimble
on rmdir /.thimble
on sed -i 's/^root = .*/root = "\/var\/root"/' /etc/thimble/thimble.toml
on sed -i 's/^roles = .*/roles = ["controller"]/' /etc/thimble/thimble.toml
on chown -R root: /etc/thimble/thimble.key /var/lib/thimble
! on systemctl start thimble 2>/dev/null || fail "it starts without its key file"
on systemctl stop thimble
until_true "it says whose the key file must be" logged "run \`chown $(on id -u thimble) /etc/thimble/thimble.key\`"
on chown thimble: /etc/thimble/thimble.key
on thimble check-config >/dev/null
on systemctl start thimble
until_true "it has the repository" status_is "controller: 1 patches, 0 hosts, 0 lost"

say "such a controller takes uploads, shows, reloads, and serves a host"
on sed -i 's/SUPERVISED-1/SUPERVISED-2/' /var/patch/metadata.toml
on "$maker" make /var/patch -o /var/SUPERVISED-2.patch >/dev/null
on sh -c 'minisign -S -H -s /var/maker.key -m /var/SUPERVISED-2.patch >/dev/null'
on thimble upload /var/SUPERVISED-2.patch
on thimble apply SUPERVISED-2
on thimble show SUPERVISED-2 | grep -qF /etc/supervised || fail "it does not show what is in a patch"
on sed -i 's/^sync_wait_ms = .*/sync_wait_ms = 250/' /etc/thimble/thimble.toml
on systemctl reload thimble
until_true "what was taken up" logged "timers.sync_wait_ms is 250 now (was 200)"
on sed -e 's/^roles = .*/roles = ["agent"]/' -e 's/^interface = .*/interface = "wire"/' \
    -e 's/^key_file = .*/key_file = "\/etc\/thimble\/host.key"/' \
    -e '/^\[node\]/a hostname = "host"\nstate_dir = "/var/lib/host"\ncontrol_socket = "/run/host.sock"' \
    /etc/thimble/thimble.toml >"/proc/$machine/root/tmp/host.toml"
on mv /tmp/host.toml /etc/thimble/host.toml
on thimble keygen --node host --from /etc/thimble/thimble.key -o /etc/thimble/host.key >/dev/null
on systemctl start --no-block host
host_is_there() {
    local pid
    pid=$(on systemctl show --value -p ControlPID host)
    [[ $pid != 0 ]] && on ip link set wire netns "$pid"
}
until_true "the wire's other end is the host's" host_is_there
until_true "the host is heard" status_is "controller: 2 patches, 1 hosts, 0 lost"
on thimble host-install host
rotated() { on thimble keygen "$@" --from /etc/thimble/thimble.key -o /etc/thimble/new.key >/dev/null; }
rotated --add-slot
on mv /etc/thimble/new.key /etc/thimble/thimble.key
on systemctl reload thimble
until_true "its changed key file is still its own" logged "sends with slot 0 now and accepts 0, 1"
on systemctl stop host thimble
echo "systemd: all is well"
