#!/usr/bin/env bash
# A bind mount of a single file goes when the file is replaced by rename in another mount
# namespace.
#
# A mount belongs to the inode that had the name, not to the name. rename(2) over a name that
# is a mount point elsewhere succeeds, and the kernel detaches the mount in every namespace that
# has it. There the new file then has the flags of the mount below.
#
# Whoever updates programs by rename meets this in sandboxes: with ExecPaths=/usr/bin/PROGRAM
# systemd makes / noexec and mounts that one file with exec over itself. Once the update has
# renamed the new file into place, the running service can no longer execute its own program
# (EACCES) until the unit is started anew. ExecPaths= of the directory is not concerned.
#
# Seen on Linux 6.18, with unshare and mount of util-linux.
set -euo pipefail
skip() { echo "SKIPPED: $1" >&2; exit 77; }
for need in unshare mount; do
    command -v $need >/dev/null || skip "$need is not there"
done
unshare -m true 2>/dev/null || skip "mount namespaces are not allowed here: needs root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
uname -r
unshare --version

mkdir bin
printf '#!/bin/sh\necho the old program\n' >bin/program
printf '#!/bin/sh\necho the new program\n' >new
chmod +x bin/program new
cat >inside <<'END'
set -eu
dir=$1
mount --make-rprivate /
mount --bind "$dir/bin" "$dir/bin"
mount -o remount,bind,noexec "$dir/bin"
mount --bind "$dir/bin/program" "$dir/bin/program"
mount -o remount,bind,exec "$dir/bin/program"
report() {
    echo "$1: mounted $(grep -c " $dir/bin/program " /proc/self/mountinfo || true) time(s)," \
        "it says: $("$dir/bin/program" 2>&1 | sed 's/.*: //' || true)"
}
report before
touch "$dir/ready"
for _ in $(seq 200); do [ -e "$dir/renamed" ] && break; sleep 0.05; done
report after
END
unshare -m sh inside "$work" >said 2>&1 &
for _ in $(seq 200); do [ -e ready ] && break; sleep 0.05; done
mv new bin/program
touch renamed
wait $! || { cat said >&2; skip "the mounts are not allowed here"; }
cat said
cat >expected <<'END'
before: mounted 1 time(s), it says: the old program
after: mounted 0 time(s), it says: Permission denied
END
cmp said expected || { echo "this has changed" >&2; exit 1; }
