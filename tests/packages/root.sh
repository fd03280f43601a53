# What the tests of packages share: a root of its own that boots in namespaces, with its own init as
# the first process. Sourced after tests/supervisors/lib.sh; wants $work, and $log for what its
# console says.

# Inside, to the end of this section. The root is made below /mnt.
root=/mnt/root
begin_root() {
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/{upper,work,root}
}
# lay_over_debian DIRECTORY: the root is a layer over this Debian.
lay_over_debian() {
    mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" $root ||
        { echo "SKIPPED: $supervisor: this kernel or disk allows no overlay"; exit 77; }
    echo 5b3f2f0e1d6c4b7aa0c1d2e3f4a5b6c7 >$root/etc/machine-id
}
# furnish: gives it an interface, /packages, a name, and what a kernel and an init of a container bring.
furnish() {
    local node
    ip link add eth0 type veth peer name wire
    ip link set wire up
    ip address add 10.84.0.1/24 dev eth0
    ip link set eth0 up
    ip link set lo up
    cp -r "$work" $root/packages
    echo machine >$root/etc/hostname
    mount -t proc proc $root/proc
    mount -t sysfs -o ro sysfs $root/sys
    mount -t tmpfs -o mode=755 tmpfs $root/dev
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    ln -s /proc/self/fd $root/dev/fd
    mkdir $root/dev/{shm,pts,mqueue,hugepages}
    mount -t devpts -o newinstance,ptmxmode=666 devpts $root/dev/pts
    ln -s pts/ptmx $root/dev/ptmx
    mount -t tmpfs -o mode=755 tmpfs $root/run
    mount -t tmpfs tmpfs $root/tmp
    mount -t cgroup2 none $root/sys/fs/cgroup
}
# enter COMMAND..: the first process of that root from now on.
enter() {
    mkdir $root/before
    cd $root
    pivot_root . before
    umount -l /before
    rmdir /before
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Outside. $outside is the process that holds the machine, $machine its first process; both are
# empty while there is none.
outside='' machine=''
# start_machine ARGUMENT..: calls this script with these, in namespaces and a control group of their own.
start_machine() {
    machine=
    (
        in_group
        exec unshare --mount --pid --fork --mount-proc --cgroup --uts --ipc --net --kill-child "$0" "$@"
    ) >"$log" 2>&1 &
    outside=$!
}
# is_up NAME: the machine's first process is called so now.
is_up() {
    kill -0 "$outside" 2>/dev/null || { cat "$log" >&2; grep -q 'SKIPPED: ' "$log" && exit 77; fail "it does not boot"; }
    machine=$(cat "/proc/$outside/task/$outside/children" 2>/dev/null) && machine=${machine%% *}
    [[ -n $machine && $(cat "/proc/$machine/comm") == "$1" ]]
}
shut_down() {
    kill -9 "$outside" 2>/dev/null || true
    wait "$outside" 2>/dev/null || true
    outside='' machine=''
}
# on COMMAND..: runs it on the machine.
on() {
    nsenter --target "$machine" --mount --uts --ipc --net --pid --cgroup -- \
        /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}
# finish: the EXIT trap. Of a failure shows the console, and what `show_journal` shows of the machine.
finish() {
    local status=$?
    if ((status != 0 && status != 77)); then
        cat "$log" >&2
        [[ -z $machine ]] || show_journal >&2 || true
    fi
    [[ -z $outside ]] || shut_down
    remove_group
    rm -rf "$work"
}

# make_patch: PACKAGED-1, which brings /etc/motd, as its maker makes it; maker.pub beside it.
make_patch() {
    mkdir -p "$work/patch/files/etc"
    printf 'id = "PACKAGED-1"\nsw_version = "12"\nsummary = "x"\nreboot_required = false\n' >"$work/patch/metadata.toml"
    echo patched >"$work/patch/files/etc/motd"
    tar czf "$work/PACKAGED-1.patch" --owner=root:0 --group=root:0 -C "$work/patch" .
    minisign -G -W -p "$work/maker.pub" -s "$work/maker.key" >/dev/null
    minisign -S -H -s "$work/maker.key" -m "$work/PACKAGED-1.patch" >/dev/null
}
# configure: both roles, short timers, the maker's key. The node's own is still missing.
configure() {
    on sed -i -e 's/^roles = .*/roles = ["controller", "agent"]/' -e 's/^#hello_interval_ms = .*/hello_interval_ms = 200/' \
        -e 's/^#hello_start_ms = .*/hello_start_ms = 50/' /etc/thimble/thimble.toml
    on cp /packages/maker.pub /etc/thimble/maker.pub
}
# give_key: the node's own.
give_key() {
    on thimble keygen --cluster -o /etc/thimble/thimble.key >/dev/null
    on chown thimble: /etc/thimble/thimble.key
    on thimble check-config >/dev/null
}
