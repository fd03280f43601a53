#!/usr/bin/env bash
# tar.sh: the archive's install.sh, on a root of busybox alone that boots in namespaces: with
# busybox's init, and with Debian's OpenRC copied to it; and on the Debian of deb.sh with its
# systemd. Installed with --root, booted, given keys, a patch installed, updated.
set -euo pipefail
supervisor=tar
tree=$(cd "$(dirname "$0")/../.." && pwd)
source "$tree/tests/supervisors/lib.sh"
source "$tree/tests/packages/root.sh"
debian=$tree/target/debian-bookworm

# Inside: makes the root, installs to it, and boots.
if [[ ${1-} == boot ]]; then
    work=$2 init=$3
    begin_root
    if [[ $init == systemd ]]; then
        lay_over_debian "$debian"
    else
        mount -t tmpfs -o mode=755 tmpfs $root
        mkdir -p $root/{bin,sbin,usr/bin,usr/sbin,etc/init.d,proc,sys/fs/cgroup,dev,run,tmp,var/log,root}
        cp "$(command -v busybox)" $root/bin/busybox
        chroot $root /bin/busybox --install -s
        echo 'root:x:0:0:root:/root:/bin/sh' >$root/etc/passwd
        echo 'root:x:0:' >$root/etc/group
        echo '::sysinit:/bin/hostname -F /etc/hostname' >$root/etc/inittab
        ln -s /run $root/var/run
    fi
    if [[ $init == openrc ]]; then
        # All that Debian's packages of it have, but its own services; and their libraries.
        mapfile -t files < <(dpkg -L openrc librc1t64 libeinfo1t64 librc1 libeinfo1 2>/dev/null | grep '^/' | grep -v -e /share/ -e '^/etc/init.d/.' -e '^/etc/runlevels/.')
        for file in "${files[@]}" $(ldd /sbin/openrc{,-run} /sbin/supervise-daemon /lib/rc/bin/checkpath | grep -o '[[:space:]]/[^ ]*\|=> /[^ ]*' | grep -o '/.*'); do
            # Links to directories, as /lib is one here, are directories there.
            if [[ -d $file ]]; then mkdir -p "$root$file"; continue; fi
            [[ ! -e $root$file && ! -L $root$file ]] || rm "$root$file"
            mkdir -p "$root${file%/*}"
            cp --preserve=mode --dereference "$file" "$root$file"
        done
        mkdir -p $root/etc/runlevels/{sysinit,boot,default,shutdown,nonetwork}
        printf '#!/sbin/openrc-run\ndepend() { provide net localmount bootmisc; }\nstart() { :; }\n' >$root/etc/init.d/stubs
        chmod +x $root/etc/init.d/stubs
        printf '::sysinit:/sbin/openrc sysinit\n::sysinit:/sbin/openrc boot\n::wait:/sbin/openrc default\n' >>$root/etc/inittab
    fi
    furnish
    # The tree of another machine, so to say.
    [[ $init == live ]] || "$work/thimble/install.sh" --root $root
    # Units skip themselves until there is a key; OpenRC's services are added once there is one.
    [[ $init != systemd ]] || chroot $root systemctl enable thimble-guard thimble-installer thimble
    start=(/sbin/init)
    [[ $init != systemd ]] || start=(/lib/systemd/systemd --system --log-target=journal)
    enter "${start[@]}"
fi

[[ $(id -u) == 0 ]] || skip "needs root"
for need in busybox minisign ip unshare nsenter; do
    command -v "$need" >/dev/null || skip "$need is not installed"
done
! ldd "$(command -v busybox)" >/dev/null 2>&1 || skip "busybox is not a static one (busybox-static)"
machine_is=$(uname -m)
[[ -x $tree/dist/thimble-$machine_is && -x $tree/dist/thimble-tipc-$machine_is ]] || fail "build it first: make dist"

work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-tar.XXXXXX")
log=$work/log
make_group
show_journal() { on sh -c 'cat /var/log/thimble.log; ps; journalctl -n 30 --no-pager'; }
trap finish EXIT

[[ -e $tree/dist/LICENCES ]] || "$tree/tests/rig/bill.sh" >/dev/null
(cd "$tree" && OUT=$work packaging/tar/build.sh "$machine_is" >/dev/null)
mkdir "$work/thimble"
tar xzf "$work"/thimble-[0-9]*.tar.gz -C "$work/thimble" --strip-components=1
# A newer one, by a byte.
cp -r "$work/thimble" "$work/newer"
echo >>"$work/newer/thimble"
make_patch
if "$tree/tests/rig/unpack.sh" logrotate; then
    mkdir "$work/logrotate"
    # With its libraries: the roots have none, or others.
    find "$tree/target/unpacked/logrotate" \( -name logrotate -path '*bin/*' -o -name 'ld-linux*.so*' -o -name 'libc.so.6' \
        -o -name 'libacl.so*' -o -name 'libselinux.so*' -o -name 'libpopt.so*' -o -name 'libpcre2-8.so*' \) \
        -exec cp {} "$work/logrotate/" \;
fi

say "wrong arguments are refused, with what is right"
! "$work/thimble/install.sh" --root /nonexistent 2>"$log" || fail "it installs to nowhere"
mkdir -p "$work/any/etc"
touch "$work/any/etc/passwd"
! "$work/thimble/install.sh" --root "$work/any" --init upstart 2>>"$log" || fail "it takes any init"
! "$work/thimble/install.sh" --root "$work/any" --prefix 2>>"$log" || fail "it takes any option"
! "$work/thimble/install.sh" --root "$work" 2>>"$log" || fail "it takes any directory for a root"
! "$work/thimble/install.sh" --root "$work/any" 2>>"$log" || fail "it knows an init that is not there"
[[ $(find "$work/any") == "$work/any"$'\n'"$work/any/etc"$'\n'"$work/any/etc/passwd" ]] || fail "it has changed something"
[[ $(wc -l <"$log") == 5 ]] || fail "$(cat "$log")"
cat "$log"

# processes: their ids inside, of daemon and installer.
processes() { on sh -c 'for p in /proc/[0-9]*; do [ "$(readlink $p/exe)" = /usr/bin/thimble ] && tr "\0" " " <$p/cmdline | grep -q -e " run" -e " installer" && echo ${p#/proc/}; done; true'; }
rotate() {
    on sh -c 'cd /packages/logrotate && ./ld-linux*.so* --library-path . ./logrotate --force --state /tmp/rotated /etc/logrotate.d/thimble'
}
# all_of_the_log: what rotations have left of it, the oldest first.
all_of_the_log() { on sh -c 'cd /var/log; for n in 4 3 2 1; do [ ! -e thimble.log.$n.gz ] || zcat thimble.log.$n.gz; done; cat thimble.log'; }
# reloads COUNT: that many lines of the daemon.
reloads() { on sh -c "for n in \$(seq $1); do thimble reload; done" >/dev/null; }
says_hosts() { on thimble query-hosts 2>/dev/null | grep -q "machine .*Yes"; }
both_run() { (($(processes | wc -l) == 2)); }

for init in busybox live openrc systemd; do
    case $init in
        openrc) command -v supervise-daemon >/dev/null || { echo "SKIPPED: $supervisor: openrc is not installed"; continue; } ;;
        systemd) [[ -d $debian ]] || { echo "SKIPPED: $supervisor: no Debian is in target/ (tests/packages/deb.sh makes it)"; continue; } ;;
    esac
    # `live`: on a machine with busybox's init that runs.
    say "$init: it is installed, and boots without a key"
    start_machine boot "$work" $init
    name=init
    [[ $init != systemd ]] || name=systemd
    until_true "init runs" is_up $name
    if [[ $init == live ]]; then
        on /packages/thimble/install.sh | grep -F "thimble is installed in /, for busybox."
        on /usr/lib/thimble/boot
        on kill -HUP 1
    else
        grep -F "thimble is installed in /mnt/root, for $init." "$log" || fail "$(cat "$log")"
    fi
    case $init in
        busybox | live) until_true "it says what is missing" on grep -qF "there is no /etc/thimble/thimble.key" /var/log/thimble.log ;;
        openrc) until_true "the runlevel is reached" on sh -c 'grep -qx default /run/openrc/softlevel && [ -z "$(pidof openrc)" ]' ;;
        systemd)
            until_true "it is up" on systemctl is-active -q multi-user.target
            [[ -z $(on systemctl --failed --no-legend --plain | grep thimble) ]] || fail "a unit has failed"
            ;;
    esac
    [[ -z $(processes) ]] || fail "it runs without a key"

    say "$init: given its configuration and key, it runs, as its user"
    configure
    give_key
    case $init in
        # Not after half a minute.
        busybox | live) on sh -c 'kill $(pidof sleep)' ;;
        openrc) on sh -c 'rc-update add thimble-installer default && rc-update add thimble default && rc-service thimble-installer start && rc-service thimble start' >/dev/null ;;
        systemd) on systemctl start thimble-installer thimble ;;
    esac
    until_true "it knows its host" says_hosts
    until_true "both run" both_run
    for pid in $(processes); do on sh -c "grep '^Uid' /proc/$pid/status; tr '\\0' ' ' </proc/$pid/cmdline; echo"; done | tee "$work/uids"
    grep -q "^Uid:.*$(on id -u thimble)" "$work/uids" || fail "the daemon is not its user's"

    say "$init: a patch is installed"
    on thimble upload /packages/PACKAGED-1.patch >/dev/null
    on thimble apply PACKAGED-1 >/dev/null
    on thimble host-install machine
    [[ $(on cat /etc/motd) == patched ]] || fail "it is not there"

    if [[ $init != systemd && -d $work/logrotate ]]; then
        say "$init: its log is rotated by Debian's logrotate, and nothing of it is lost"
        for pid in $(processes); do
            (($(on sed -n 's/^flags:[[:space:]]*//p' /proc/$pid/fdinfo/2) & 02000)) || fail "process $pid has its log not open for appending"
        done
        on cat /var/log/thimble.log >"$work/whole"
        rotate
        reloads 10
        all_of_the_log >"$work/now"
        head -c "$(stat -c %s "$work/whole")" "$work/now" | cmp - "$work/whole" || fail "what was there is lost"
        unchanged='thimble: the configuration has not changed'
        (($(on grep -cx "$unchanged" /var/log/thimble.log) == 10)) || fail "$(on cat /var/log/thimble.log)"
        [[ $(on head -n 1 /var/log/thimble.log) == thimble* ]] || fail "the new log does not begin with a line"
        before=$(grep -cx "$unchanged" "$work/now")
        reloads 60 &
        # Four rotations are kept.
        for _ in 1 2; do rotate; done
        wait $!
        rotate
        all_of_the_log >"$work/now"
        [[ $(tr -d '\0' <"$work/now" | wc -c) == "$(wc -c <"$work/now")" ]] || fail "the log has holes"
        ! tail -c +"$(($(stat -c %s "$work/whole") + 1))" "$work/now" | grep -v '^thimble' || fail "lines are torn"
        echo "   rotated twice while the daemon wrote 60 lines: $(($(grep -cx "$unchanged" "$work/now") - before)) of them are there"
        say "$init: the installer's lines come into the new log too"
        on thimble remove PACKAGED-1 >/dev/null
        on thimble host-install machine >/dev/null
        on thimble apply PACKAGED-1 >/dev/null
        on thimble host-install machine >/dev/null
        (($(on grep -c 'is done: on set' /var/log/thimble.log) == 2)) || fail "$(on cat /var/log/thimble.log)"
    fi

    if [[ $init == systemd ]]; then
        say "$init: the metrics are off; enabled, they come both ways"
        [[ $(on systemctl is-enabled thimble-metrics.timer || true) == disabled ]] || fail "they are not off"
        on mkdir -p /var/lib/prometheus/node-exporter
        on systemctl enable -q --now thimble-metrics.timer thimble-metrics.socket
        until_true "they are in the file" on grep -sqx "thimble_installed_patches 1" /var/lib/prometheus/node-exporter/thimble.prom
        on bash -c 'exec 3<>/dev/tcp/127.0.0.1/9748 && printf "GET /metrics HTTP/1.1\r\n\r\n" >&3 && cat <&3' |
            grep -qx "thimble_installed_patches 1" || fail "they are not served"
    fi

    say "$init: updated, it runs the new one, with its state"
    before=$(processes | tr '\n' ' ')
    on /packages/newer/install.sh
    case $init in
        busybox | live) on kill $before ;;
        openrc) on sh -c 'rc-service thimble-installer restart && rc-service thimble restart' >/dev/null ;;
        systemd) on sh -c 'systemctl daemon-reload; systemctl restart thimble-installer thimble' ;;
    esac
    until_true "both run" both_run
    until_true "it knows its host" says_hosts
    for pid in $(processes); do
        [[ " $before " != *" $pid "* ]] || fail "process $pid is the old one"
        on cmp "/proc/$pid/exe" /packages/newer/thimble || fail "process $pid runs the old program"
    done
    on thimble query | grep -F PACKAGED-1
    on test -e /etc/thimble/thimble.toml.new || fail "the new configuration is not beside the old"
    [[ $(on grep -c '^thimble:' /etc/passwd) == 1 ]] || fail "there are two users"
    [[ $init != busybox && $init != live || $(on grep -c '/usr/lib/thimble/' /etc/inittab) == 3 ]] || fail "init has them twice"
    shut_down
done
echo "tar: all is well"
