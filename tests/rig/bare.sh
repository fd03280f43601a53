#!/usr/bin/env bash
# bare.sh COMMAND..: runs it as on a fresh machine: in this machine's root with a layer
# over it in which every package that setup.sh installs is purged, but for those that
# come with cargo, make and apt. The working tree and Rust's own directories are the
# real ones. Nothing stays. Exit 77 (skipped) where such a root cannot be made.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "SKIPPED: a bare root: $1" >&2; exit 77; }

if [[ ${1-} != --inside ]]; then
    [[ $(id -u) == 0 ]] || skip "needs root"
    command -v apt-get >/dev/null || skip "this machine has no apt-get"
    root=$(mktemp -d "${TMPDIR:-/tmp}/thimble-bare.XXXXXX")
    trap 'rmdir "$root"' EXIT
    # `ip netns` shares its mounts; a process namespace of its own ends what it leaves.
    unshare --mount --pid --fork --kill-child "$0" --inside "$root" "$@"
    exit
fi

layers=$2 root=$2/root
shift 2
mount --make-rprivate /
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root" ||
    skip "this kernel or disk allows no overlay"
# First, since the working tree may be below one of them.
for dir in run tmp; do mount -t tmpfs tmpfs "$root/$dir"; done
for dir in "$PWD" "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}" /dev /sys; do
    [[ -d $dir ]] || continue
    mkdir -p "$root$dir"
    mount --rbind "$dir" "$root$dir"
done
mount -t proc proc "$root/proc"

comes_with_a_machine='^(gcc|g\+\+|binutils|util-linux|python3|kmod|systemd|e2fsprogs)$'
mapfile -t packages < <(tests/rig/setup.sh --packages test | grep -vE "$comes_with_a_machine")
in_root() { chroot "$root" /usr/bin/env -C "$PWD" "$@"; }
in_root apt-get update -qq || skip "no archive of packages can be reached"
in_root env DEBIAN_FRONTEND=noninteractive apt-get purge -qqy "${packages[@]}" >/dev/null
for program in minisign ip tc; do
    ! in_root sh -c "command -v $program" || { echo "bare.sh: $program is still there" >&2; exit 1; }
done
echo "without ${packages[*]}:"
in_root "$@"
