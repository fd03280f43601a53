#!/usr/bin/env bash
# build.sh [ARCH..]: archives for systems without a package of thimble, of the binaries in dist/,
# into dist/: thimble and thimble-tipc for x86_64, aarch64 and armv7, those or all. Each has
# install.sh for systemd, OpenRC and busybox's init. The same binaries give the same archives.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "packages: $1" >&2; exit 1; }

out=${OUT:-dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
[[ -e dist/LICENCES ]] || fail "there is no dist/LICENCES: run \`make dist\` first"
work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-tar.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022
mkdir -p "$out"

(($#)) || set -- x86_64 aarch64 armv7
for arch in "$@"; do
    for name in thimble thimble-tipc; do
        [[ -x dist/$name-$arch ]] || fail "there is no dist/$name-$arch: run \`make dist\` first"
        dir=$work/$name-$version-$arch
        mkdir -p "$dir"/{systemd,openrc,busybox,doc}
        install -m 755 "dist/$name-$arch" "$dir/thimble"
        install -m 755 packaging/tar/install.sh packaging/systemd/is-set-up "$dir"
        install -m 644 config/thimble.toml docs/thimble.8 dist/LICENCES LICENSE-MIT LICENSE-APACHE "$dir"
        install -m 644 config/thimble.rules.yml config/thimble.logrotate "$dir"
        install -m 644 config/thimble-metrics{.service,.timer,.socket,@.service} "$dir/systemd"
        install -m 644 config/thimble{,-guard,-installer}.service packaging/systemd/set-up{,-installer}.conf "$dir/systemd"
        for script in thimble thimble-installer; do install -m 755 "config/$script.openrc" "$dir/openrc/$script"; done
        install -m 755 packaging/tar/{boot,daemon,installer} "$dir/busybox"
        install -m 644 docs/{guide,keys,patches,running,monitoring,controllers,tipc,packaging,threat-model}.md "$dir/doc"
        archive=$out/$name-$version-$arch.tar.gz
        tar -C "$work" --sort=name --owner=root:0 --group=root:0 --mtime="@$epoch" --format=ustar -c "${dir##*/}" | gzip -9n >"$archive"
        echo "$archive  $(stat -c %s "$archive") bytes"
    done
done
[[ $out != dist ]] || (cd dist && sha256sum thimble* LICENCES >SHA256SUMS)
