# What the boots share: an emulated machine of an architecture, its first files and its disk, keys and
# patches. Sourced, at the project's root, with the name that messages begin with in $name and the architecture
# in $arch. Sets $work, which is gone at the end, and $pids, which are ended with it.

skip() { echo "SKIPPED: $name: $1" >&2; exit 77; }
case $arch in
    # The least in which that kernel and what it starts from leave room for anything.
    aarch64) machine=(qemu-system-aarch64 -M virt -cpu cortex-a53) memory=80 ;;
    armv7) machine=(qemu-system-arm -M virt -cpu cortex-a15) memory=64 ;;
    *) echo "$name: no such architecture" >&2; exit 2 ;;
esac
for need in "${machine[0]}" mke2fs debugfs bsdtar minisign; do
    command -v "$need" >/dev/null || skip "$need is not installed (make setup)"
done
tests/boot/parts.sh "$arch" || exit
parts=target/boot/$arch
thimble=$(realpath "${THIMBLE_BIN:-dist/thimble-$(uname -m)}")
maker=$(realpath "${THIMBLE_MAKER:-target/debug/thimble}")

work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-boot.XXXXXX")
pids=()
clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
    release
    [[ ${KEEP:-} ]] || rm -rf "$work"
}
# What else a script has made; it may define this anew.
release() { :; }
trap clean_up EXIT
trap 'exit 130' INT TERM
# fail WHY: with the end of each console and log.
fail() {
    local file
    echo "$name: FAILED: $1" >&2
    for file in "$work"/*console "$work"/log "$work"/qemu; do
        [[ ! -s $file ]] || { echo "--- ${file##*/}"; tail -n 60 "$file"; } >&2
    done
    exit 1
}
# until_true WHAT COMMAND..: polls, for $PATIENCE seconds at most, as long as all that was started
# runs. An emulated machine is slow.
until_true() {
    local what=$1 deadline=$((SECONDS + ${PATIENCE:-300})) pid
    shift
    until "$@"; do
        for pid in "${pids[@]}"; do
            # It may have done so at its end.
            kill -0 "$pid" 2>/dev/null || "$@" || fail "it has ended: waited for: $what"
        done
        ((SECONDS < deadline)) || fail "waited in vain: $what"
        sleep 0.2
    done
}

common='hello_interval_ms = 1000
hello_start_ms = 200
install_retry_ms = 1000
install_give_up_ms = 60000'

# keys: of a maker of patches, of the cluster, of the node `guest`.
keys() {
    minisign -G -W -p "$work/maker.pub" -s "$work/maker.key" >/dev/null
    "$thimble" keygen --cluster -o "$work/thimble.key" >/dev/null
    "$thimble" keygen --node guest --from "$work/thimble.key" -o "$work/guest.key" >/dev/null
}
# metadata ID [REQUIRED]: of a patch.
metadata() {
    printf 'id = "%s"\nsummary = "x"\nsw_version = "12"\nreboot_required = false\nrequires = [%s]\n' "$1" "${2:+\"$2\"}"
}
sign() { minisign -S -H -s "$work/maker.key" -m "$1" >/dev/null || fail "$1 cannot be signed"; }
# patch ID [REQUIRED]: makes and signs $work/ID.patch of the directory $work/ID.
patch() {
    metadata "$@" >"$work/$1/metadata.toml"
    "$maker" make "$work/$1" -o "$work/$1.patch" >/dev/null || fail "$1 cannot be made"
    sign "$work/$1.patch"
}
# packed ID: the same by plain tar, which refuses nothing.
packed() {
    metadata "$1" >"$work/$1/metadata.toml"
    tar -C "$work/$1" --owner=root:0 --group=root:0 "${@:2}" -cf - . | gzip -1 >"$work/$1.patch" || fail "$1 cannot be packed"
    sign "$work/$1.patch"
}
# health_that_fails PATCH: gives it one.
health_that_fails() {
    printf '#!/bin/sh\necho the pump does not run\nexit 1\n' >"$work/$1/scripts/health"
    chmod +x "$work/$1/scripts/health"
}
# configuration ROLE HOST [LINE]: of a machine whose disk is at /disk, with a line for [network].
configuration() {
    local key=guest.key
    [[ $1 != controller ]] || key=thimble.key
    cat <<TOML
[node]
roles = ["$1"]
hostname = "$2"
sw_version = "12"
state_dir = "/disk/state"
control_socket = "/run/control.sock"
[network]
${3-}
[security]
key_file = "/disk/$key"
trusted_keys = ["/disk/maker.pub"]
[agent]
root = "/disk/root"
[timers]
$common
TOML
}
# first_files INIT BINARY [FILE..]: $work/first.gz, from which a machine boots, with tests/boot/INIT as
# its first process, which sources tests/boot/begin. The files are directories of what else is to be there.
first_files() {
    local init=$1 binary=$2 more
    shift 2
    mkdir -p "$work"/first/{bin,modules,disk,proc,sys,dev}
    cp "$parts/busybox" "$work/first/bin/busybox"
    ln -sf busybox "$work/first/bin/sh"
    cp "$parts"/{order,*.ko} "$work/first/modules/"
    cp "$binary" "$work/first/thimble" || fail "build it first: $binary (tests/rig/dist.sh)"
    cp "tests/boot/$init" "$work/first/init"
    cp tests/boot/begin "$work/first/begin"
    for more in "$@"; do cp -a "$more/." "$work/first/"; done
    bsdtar -c --format newc -C "$work/first" . | gzip -1 >"$work/first.gz" || fail "its first files cannot be packed"
}
# disk DIRECTORY FILE SIZE: an image of it.
disk() {
    mkdir -p "$1"/{root/opt,root/bin,state}
    chmod 600 "$1"/*.key
    mke2fs -q -t ext4 -i 4096 -d "$1" "$2" "$3" >"$work/mke2fs" 2>&1 || fail "the disk cannot be made: $(tail -n 1 "$work/mke2fs")"
}
# boots_both MEMORY [WORD..]: the machines `controller` and `agent`, of $work/NAME.img, with the two ends of
# one wire and these words for the kernel. What each says is in $work/NAME-console.
boots_both() {
    boots_one controller server=on 52:54:00:00:00:01 "$@"
    until_true "the wire is there" test -S "$work/wire"
    boots_one agent server=off 52:54:00:00:00:02 "$@"
}
# boots_one NAME WIRE MAC MEMORY [WORD..]
boots_one() {
    "${machine[@]}" -m "$4" -kernel "$parts/kernel" -initrd "$work/first.gz" \
        -append "console=ttyAMA0 quiet panic=-1 role=$1 ${*:5}" -display none -no-reboot \
        -netdev "stream,id=n0,addr.type=unix,addr.path=$work/wire,$2" -device "virtio-net-device,netdev=n0,mac=$3" \
        -drive "file=$work/$1.img,format=raw,if=none,id=d0" -device virtio-blk-device,drive=d0 \
        -serial "file:$work/$1-console" -monitor none >>"$work/qemu" 2>&1 </dev/null &
    pids+=($!)
}
