#!/usr/bin/env bash
# deb.sh: the Debian packages in a Debian of their own, made by debootstrap (bookworm, kept in
# target/), whose own systemd is PID 1 of namespaces: installed, given keys, a patch installed,
# upgraded, removed, installed again, purged. Those of the other architectures are read, and
# their programs run by qemu. lintian has the last word.
set -euo pipefail
supervisor=deb
tree=$(cd "$(dirname "$0")/../.." && pwd)
source "$tree/tests/supervisors/lib.sh"
source "$tree/tests/packages/root.sh"
base=$tree/target/debian-bookworm

# Inside: the machine boots from a layer over that Debian.
if [[ ${1-} == boot ]]; then
    work=$2 image=$3
    begin_root
    lay_over_debian "$base"
    furnish
    # As an image is made: nothing runs yet, and keys are there at the first boot.
    if [[ $image ]]; then
        inside() { DEBIAN_FRONTEND=noninteractive chroot $root "$@"; }
        # And where systemd is not what makes users.
        mv $root/usr/bin/systemd-sysusers $root/usr/bin/sysusers.away
        inside dpkg -i "/packages/$image"
        mv $root/usr/bin/sysusers.away $root/usr/bin/systemd-sysusers
        inside sed -i 's/^roles = .*/roles = ["controller", "agent"]/' /etc/thimble/thimble.toml
        inside cp /packages/maker.pub /etc/thimble/
        inside thimble keygen --cluster -o /etc/thimble/thimble.key
        inside chown thimble: /etc/thimble/thimble.key
    fi
    enter /lib/systemd/systemd --system --log-target=journal
fi

[[ $(id -u) == 0 ]] || skip "needs root"
[[ $(uname -m) == x86_64 ]] || skip "the packages that are tried are those of amd64"
for need in dpkg-deb debootstrap minisign ip unshare nsenter; do
    command -v "$need" >/dev/null || skip "$need is not installed"
done
[[ -x $tree/dist/thimble-x86_64 ]] || fail "build it first: make dist"
if [[ ! -d $base ]]; then
    say "debootstrap"
    rm -rf "$base.new"
    mkdir -p "$tree/target"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,iproute2,kmod bookworm "$base.new" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$base.log" 2>&1 ||
        skip "no Debian can be made: $(tail -n 1 "$base.log")"
    mv "$base.new" "$base"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-packages.XXXXXX")
log=$work/log
make_group
show_journal() { on journalctl --no-pager -n 40; }
trap finish EXIT

say "packages of this tree; of a higher version, whose program differs by a byte at its end"
[[ -e $tree/dist/LICENCES ]] || "$tree/tests/rig/bill.sh" >/dev/null
architectures=(amd64)
for arch in arm64:aarch64 armhf:armv7; do
    if [[ -x $tree/dist/thimble-${arch#*:} && -x $tree/dist/thimble-tipc-${arch#*:} ]]; then
        architectures+=("${arch%:*}")
    else
        echo "SKIPPED: packages for ${arch%:*}: dist/ has not both binaries for ${arch#*:}"
    fi
done
(cd "$tree" && OUT=$work packaging/deb/build.sh "${architectures[@]}" >/dev/null)
mkdir "$work/in"
cp "$tree"/dist/{thimble-x86_64,thimble-tipc-x86_64,LICENCES} "$work/in/"
for program in "$work"/in/thimble*; do echo >>"$program"; done
(cd "$tree" && IN=$work/in OUT=$work DEB_REVISION=2 packaging/deb/build.sh amd64 >/dev/null)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/Cargo.toml" | head -n 1)

say "each has what it is to have, for its architecture"
listed() { dpkg-deb -c "$1" | awk '{ print $1, $2, $6 }'; }
for arch in "${architectures[@]}"; do
    for name in thimble thimble-tipc; do
        package=$work/${name}_$version-1_$arch.deb
        [[ $(dpkg-deb -f "$package" Architecture) == "$arch" ]] || fail "$package is not for $arch"
        # The same but for what has the package's own name, and the unit that is TIPC's.
        listed "$package" | sed "s#/$name\(/\|\$\)#/NAME\1#; /tipc@/d" | sort >"$work/list"
        [[ -e $work/wanted-$name ]] || cp "$work/list" "$work/wanted-$name"
        diff "$work/wanted-$name" "$work/list" || fail "$package has other files than amd64's"
        ! awk '$2 != "root/root"' "$work/list" | grep . || fail "$package has files that are not root's"
        dpkg-deb -x "$package" "$work/unpacked"
        runner=
        case $arch in
            arm64) runner=qemu-aarch64-static ;;
            armhf) runner=qemu-arm-static ;;
        esac
        if command -v "${runner:-env}" >/dev/null; then
            said=$(${runner:-env} "$work/unpacked/usr/bin/thimble" --version)
            [[ $said == "thimble $version (${name/#thimble/udp})" || $said == "thimble $version (tipc)" ]] || fail "$package says $said"
        else
            echo "SKIPPED: $package is not run: $runner is not installed"
        fi
        rm -r "$work/unpacked"
        echo "   ${package##*/} $(stat -c %s "$package") bytes"
    done
done

say "a patch, as its maker makes it"
make_patch
rm -r "$work"/{in,patch,list,wanted-*,maker.key}

# boot [PACKAGE]: with it installed before the boot.
boot() {
    start_machine boot "$work" "${1-}"
    until_true "systemd is up" booted
}
booted() { is_up systemd && on systemctl is-active -q multi-user.target 2>/dev/null; }
property() { on systemctl show --value -p "$2" "$1"; }
status_is() { [[ $(property thimble StatusText) == "$1" ]]; }
failed() { on systemctl --failed --no-legend --plain | awk '{ print $1 }'; }
no_thimble_failed() { ! failed | grep thimble || fail "a unit has failed"; }
of_package() { echo "/packages/$1_$version-${2}_amd64.deb"; }
# What there is on the disk, but for what any package leaves: dpkg's own records, logs, caches.
files() {
    on find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /packages -o \
        -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path '/etc/*-' -o -path /var/tmp \) -prune -o -print | sort
}
boot
say "it boots: $(on systemctl is-system-running || true), Debian $(on cat /etc/debian_version); failed on its own: $(failed | tr '\n' ' ')"
on mkdir -p /var/lib/prometheus/node-exporter
files >"$work/before"

say "installed: the units are enabled, wait for a key, and none has failed"
on dpkg -i "$(of_package thimble 1)" >"$work/said" 2>&1 || { cat "$work/said"; fail "it cannot be installed"; }
grep -F "thimble is not set up" "$work/said" || fail "it does not say that it is not set up"
for unit in thimble thimble-installer thimble-guard; do
    [[ $(on systemctl is-enabled $unit) == enabled ]] || fail "$unit is not enabled"
    [[ $(property $unit ActiveState) == inactive ]] || fail "$unit is $(property $unit ActiveState)"
done
no_thimble_failed
on journalctl -o cat --no-pager -u thimble | grep -F "this node is not set up: there is no /etc/thimble/thimble.key" || fail "the journal does not say why"
on getent passwd thimble | grep -F ":/var/lib/thimble:/usr/sbin/nologin" || fail "there is no such user"
! on thimble check-config 2>"$work/said" || fail "it is set up already"
cat "$work/said"
for page in guide.md running.md; do on test -s /usr/share/doc/thimble/$page || fail "the units name $page, which is not there"; done
on systemctl start thimble-guard
no_thimble_failed

say "given its configuration and key, it starts"
configure
! on thimble check-config 2>"$work/said" || fail "check-config takes it without a key"
grep -qF "thimble keygen" "$work/said" || fail "check-config does not tell how to make the key"
give_key
on systemctl start thimble-installer thimble
until_true "the status line" status_is "controller: 0 patches, 1 hosts, 0 lost; agent: 0 patches installed"
on systemctl start thimble-guard
no_thimble_failed

say "a patch is installed"
on thimble upload /packages/PACKAGED-1.patch
on thimble apply PACKAGED-1
on thimble host-install machine
[[ $(on cat /etc/motd) == patched ]] || fail "it is not there"
until_true "the status line" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: 1 patches installed"

say "metrics: off; enabled, they are in the collector's file, and answer on the loopback"
collected=/var/lib/prometheus/node-exporter/thimble.prom
metrics=(thimble-metrics.timer thimble-metrics.socket)
asked() { on bash -c 'exec 3<>/dev/tcp/127.0.0.1/9748 && printf "GET /metrics HTTP/1.1\r\n\r\n" >&3 && cat <&3'; }
answers() { asked | grep -qx "$1"; }
all_active() { local unit; for unit in "${metrics[@]}"; do [[ $(property $unit ActiveState) == active ]] || return; done; }
for unit in "${metrics[@]}"; do [[ $(on systemctl is-enabled $unit || true) == disabled ]] || fail "$unit is not off"; done
# A test waits for no half minute.
impatient=/etc/systemd/system/thimble-metrics.timer.d
on mkdir $impatient
on sh -c "printf '[Timer]\nOnUnitActiveSec=\nOnActiveSec=1s\nOnUnitActiveSec=1s\n' >$impatient/impatient.conf; systemctl daemon-reload"
on systemctl enable -q --now "${metrics[@]}"
until_true "the file says that it is up" on grep -sqx "thimble_up 1" $collected
[[ $(on stat -c '%a %U' $collected) == "644 root" ]] || fail "the file is $(on stat -c '%a %U' $collected)"
until_true "so does HTTP" answers "thimble_installed_patches 1"
asked | grep -q '^thimble_memory_own_bytes [1-9]' || fail "over HTTP it does not see the daemon's memory"
until_true "what is put in its place is written anew, again" on sh -c "echo old >$collected; sleep 0.1; grep -qx 'thimble_up 1' $collected"
on systemctl stop thimble
until_true "the file says that it is down, and nothing else" on sh -c "grep -qx 'thimble_up 0' $collected && ! grep -q thimble_installed $collected"
answers "thimble_up 0" || fail "over HTTP it is up"
no_thimble_failed
on systemctl start thimble
until_true "it is up again" on grep -qx "thimble_up 1" $collected
said=$(on journalctl -o cat --no-pager -u thimble-metrics.service -u 'thimble-metrics@*')
! grep -v 'the daemon is not running' <<<"$said" || fail "the journal has a line for each run"
for unit in thimble-metrics.service thimble-metrics@.service; do
    echo "   $(on systemd-analyze security --no-pager $unit | grep -F 'Overall exposure')"
done
on rm -r $impatient
on systemctl daemon-reload

say "upgraded: both run the new program, and all state is kept"
pids="$(property thimble MainPID) $(property thimble-installer MainPID)"
key=$(on md5sum /etc/thimble/thimble.key /etc/thimble/thimble.toml)
on dpkg -i "$(of_package thimble 2)" >"$work/said" 2>&1 || { cat "$work/said"; fail "it cannot be upgraded"; }
! grep -i -e 'conffile' -e 'not set up' "$work/said" || fail "it asks or doubts"
until_true "the status line" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: 1 patches installed"
for unit in thimble thimble-installer; do
    pid=$(property $unit MainPID)
    [[ " $pids " != *" $pid "* ]] || fail "$unit was not restarted"
    on cmp "/proc/$pid/exe" /usr/bin/thimble || fail "$unit runs another program"
    [[ $(property $unit NRestarts) == 0 ]] || fail "$unit ended by itself"
done
[[ $(on md5sum /etc/thimble/thimble.key /etc/thimble/thimble.toml) == "$key" ]] || fail "key or configuration changed"
all_active || fail "the metrics are off"
on thimble query | grep -F PACKAGED-1
no_thimble_failed

say "a unit that the operator has disabled stays so"
on systemctl disable -q thimble-guard
on dpkg -i "$(of_package thimble 2)" >/dev/null 2>&1
[[ $(on systemctl is-enabled thimble-guard) == disabled ]] || fail "it is enabled again"
on systemctl enable -q thimble-guard

say "removed: nothing runs; keys, configuration and state are there"
on dpkg -r thimble >"$work/said" 2>&1 || { cat "$work/said"; fail "it cannot be removed"; }
[[ -z $(on sh -c 'cat /proc/[0-9]*/comm' 2>/dev/null | grep -x thimble) ]] || fail "it still runs"
on test ! -e /usr/bin/thimble || fail "the program is left"
for path in /etc/thimble/thimble.key /etc/thimble/thimble.toml /var/lib/thimble /.thimble; do on test -e $path || fail "$path is gone"; done
[[ $(on cat /etc/motd) == patched ]] || fail "the patch's file is gone"
on test ! -e $collected || fail "metrics are left"
! all_active || fail "the metrics are on"
no_thimble_failed

say "installed again: it goes on where it was"
on dpkg -i "$(of_package thimble 2)" >/dev/null 2>&1
until_true "the status line" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: 1 patches installed"

say "the package for TIPC takes its place, with its configuration, and gives it back"
on cp /etc/thimble/thimble.toml /packages/kept.toml
on dpkg -i "$(of_package thimble-tipc 2)" >"$work/said" 2>&1 || { cat "$work/said"; fail "it cannot be installed"; }
! grep -i 'configuration file' "$work/said" || fail "it asks"
[[ $(on thimble --version) == *"(tipc)" ]] || fail "it is not TIPC's"
on dpkg -P thimble >/dev/null 2>&1
on dpkg -i "$(of_package thimble 2)" >/dev/null 2>&1
on dpkg -P thimble-tipc >/dev/null 2>&1
on cmp /etc/thimble/thimble.toml /packages/kept.toml
on test ! -e /lib/systemd/system/tipc@.service || fail "TIPC's unit is left"
until_true "the status line" status_is "controller: 1 patches, 1 hosts, 0 lost; agent: 1 patches installed"
all_active || fail "the metrics are off"
until_true "the file is written again" on grep -sqx "thimble_up 1" $collected

say "the patch is removed, then all is purged: nothing is left but the user"
on thimble remove PACKAGED-1
on thimble host-install machine
on dpkg -P thimble >"$work/said" 2>&1 || { cat "$work/said"; fail "it cannot be purged"; }
files | diff "$work/before" - || fail "these files are left, or gone"
no_thimble_failed
shut_down

say "part of an image: guard, installer and daemon start with its first boot"
boot "thimble_$version-1_amd64.deb"
until_true "the status line" status_is "controller: 0 patches, 1 hosts, 0 lost; agent: 0 patches installed"
on journalctl -o cat --no-pager -u thimble-guard | grep -F "no install was interrupted" || fail "the guard did not run"
on getent passwd thimble | grep -F ":thimble daemon:/var/lib/thimble:/usr/sbin/nologin" || fail "there is no such user"
no_thimble_failed
files >"$work/before"

say "purged with a patch installed: what it replaced stays, and is named"
on thimble upload /packages/PACKAGED-1.patch
on thimble apply PACKAGED-1
on thimble host-install machine
on dpkg -P thimble >"$work/said" 2>&1 || { cat "$work/said"; fail "it cannot be purged"; }
grep -F "/.thimble has the files that patches replaced" "$work/said" || fail "it does not name it"
on test -d /.thimble/kept || fail "it is gone"
[[ $(on cat /etc/motd) == patched ]] || fail "the patch's file is gone"
shut_down

say "lintian"
if command -v lintian >/dev/null; then
    lintian --allow-root --display-info --fail-on error,warning "$work"/*-1_*.deb || fail "lintian finds something"
else
    echo "SKIPPED: lintian is not installed"
fi
echo "deb: all is well"
