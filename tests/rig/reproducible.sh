#!/usr/bin/env bash
# reproducible.sh BINARY..: each of these, which dist.sh has built here, comes out the same to the byte
# in a copy of the tree in another folder. What is not committed counts as well.
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$(mktemp -d "${TMPDIR:-/tmp}/thimble-again.XXXXXX")
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --null -T - -c --ignore-failed-read | tar -x -C "$copy"
mkdir "$copy/target"
for musl in target/musl-*; do [[ ! -d $musl ]] || cp -a "$musl" "$copy/target/"; done
"$copy/tests/rig/dist.sh" "$@"
for binary in "$@"; do
    cmp "$binary" "$copy/$binary" || { echo "reproducible: $binary differs" >&2; exit 1; }
    sha256sum "$binary"
done
