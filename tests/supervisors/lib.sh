# What the supervisors' tests share: a machine of their own, made of namespaces, on
# which thimble is installed as on a real one. Sourced; wants $machine (its directory).

fail() { echo "$supervisor: $1" >&2; exit 1; }
skip() { echo "SKIPPED: $supervisor: $1" >&2; exit 77; }
say() { echo "-- $1"; }

# until WHAT COMMAND..: waits for a command to succeed, two minutes at most.
until_true() {
    local what=$1 deadline=$((SECONDS + 120))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || fail "waited in vain: $what"
        sleep 0.05
    done
}

# timed COMMAND..: runs a command, and says how long it took.
timed() {
    local began=${EPOCHREALTIME/./}
    "$@"
    echo "   $* took $(((${EPOCHREALTIME/./} - began) / 1000)) ms"
}

# A control group of the machine's own: $group. The machine is started in it by
#   (in_group; exec unshare --cgroup ..)
make_group() {
    local cgroups
    cgroups=$(findmnt -t cgroup2 -no TARGET | head -n1) || true
    [[ -n $cgroups ]] || skip "there is no cgroup2 here"
    group=$cgroups/thimble-$supervisor-$$
    mkdir "$group" 2>/dev/null || skip "no control group can be made under $cgroups"
}
in_group() { echo "$BASHPID" >"$group/cgroup.procs"; }
remove_group() {
    # Everything in it is dead; the kernel needs a moment to notice. In an EXIT trap a bare `return`
    # has the status from before it.
    for _ in {1..100}; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && return 0
        sleep 0.05
    done
}
# In the new namespaces: shows the machine its own groups alone.
mount_group() {
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 none /sys/fs/cgroup
}

# In the new mount namespace: lays a writable layer over what thimble is installed to.
lay_over() {
    local dir
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    for dir in /etc /usr/bin /var; do
        mkdir -p "/mnt/$dir/upper" "/mnt/$dir/work"
        mount -t overlay overlay -o "lowerdir=$dir,upperdir=/mnt/$dir/upper,workdir=/mnt/$dir/work" "$dir" ||
            { echo "SKIPPED: $supervisor: this kernel or disk allows no overlay" >&2; exit 77; }
    done
}

# Installs thimble on the machine: binary, configuration, keys, a signed patch.
install_thimble() {
    local binary=$1 ready=$2
    install -m 0755 "$binary" /usr/bin/thimble
    mkdir -p /etc/thimble /var/lib/thimble /var/root
    ip link add eth0 type veth peer name wire
    ip link set wire up
    ip address add 10.84.0.1/24 dev eth0
    ip link set eth0 up
    ip link set lo up
    minisign -G -W -p /etc/thimble/maker.pub -s /var/maker.key >/dev/null
    thimble keygen --cluster -o /etc/thimble/thimble.key
    useradd --system --no-create-home --home-dir /var/lib/thimble --shell /usr/sbin/nologin thimble
    chown thimble: /etc/thimble/thimble.key
    # The shipped configuration, as an operator changes it.
    sed -e 's/^roles = .*/roles = ["controller", "agent"]/' -e 's/^#root = .*/root = "\/var\/root"/' \
        -e 's/^#hello_interval_ms = .*/hello_interval_ms = 200/' -e 's/^#hello_start_ms = .*/hello_start_ms = 50/' \
        "$tree/config/thimble.toml" >/etc/thimble/thimble.toml
    mkdir -p /var/patch/files/etc /var/patch/scripts
    printf 'id = "%s"\nsw_version = "12"\nsummary = "x"\nreboot_required = false\n' SUPERVISED-1 \
        >/var/patch/metadata.toml
    echo new >/var/patch/files/etc/supervised
    # A service is restarted by its supervisor; then the install takes its time, once asked.
    printf '#!/bin/sh\n%s\n[ ! -e /var/be-slow ] || { touch /var/is-slow; exec sleep 600; }\n' "$ready" \
        >/var/patch/scripts/restart
    chmod +x /var/patch/scripts/restart
    "$maker" make /var/patch -o /var/SUPERVISED-1.patch
    minisign -S -H -s /var/maker.key -m /var/SUPERVISED-1.patch >/dev/null
}
