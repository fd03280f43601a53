#!/usr/bin/env bash
# Runs a command as root: as it is, or in a user namespace of its own where the
# caller is not. Exit 77 (skipped) where neither can be had.
set -euo pipefail
if [[ $(id -u) == 0 ]]; then
    exec "$@"
elif unshare -Urnm true 2>/dev/null; then
    # `ip netns` keeps its names under /run, which is not ours to write.
    exec unshare -Urnm bash -c 'mount -t tmpfs tmpfs /run && exec "$@"' as_root "$@"
else
    echo "SKIPPED: needs root, or a kernel that allows user namespaces" >&2
    exit 77
fi
