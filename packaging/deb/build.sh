#!/usr/bin/env bash
# build.sh [ARCH..]: Debian packages of the binaries in dist/, into dist/: thimble (UDP) and
# thimble-tipc for amd64, arm64 and armhf, those or all. DEB_REVISION (1), DEB_MAINTAINER, IN and
# OUT (dist both) may be set. The same binaries give the same packages, byte by byte.
#
# dpkg-deb alone, which every Debian has: the program is built already, for all three, by
# `make dist`. debhelper would bring a build of its own (and dh-cargo for it), and stripping and
# shlibs for a file that has nothing to strip and no library; cargo-deb is compiled first, and
# knows of no three architectures at once. What they would write into the maintainer scripts is
# there, and short.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "packages: $1" >&2; exit 1; }

in=${IN:-dist} out=${OUT:-dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
full_version=$version-${DEB_REVISION:-1}
# Of no person: whoever gives packages out sets his own.
maintainer=${DEB_MAINTAINER:-The thimble authors <thimble@packages.invalid>}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH
native=$in/thimble-$(uname -m)
[[ -x $native ]] || fail "there is no $native, which writes the completions: run \`make dist\` first"
[[ -e $in/LICENCES ]] || fail "there is no $in/LICENCES: run \`make dist\` first"
work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022

# put MODE SOURCE PLACE: one file, with the directories above it.
put() { install -D -m "$1" "$2" "$root/$3"; }
# zipped SOURCE PLACE
zipped() { mkdir -p "$(dirname "$root/$2")" && gzip -9n <"$1" >"$root/$2.gz"; }

# package NAME ARCH BINARY
package() {
    local name=$1 arch=$2 binary=$3 root=$work/$1-$2 doc=usr/share/doc/$1 shell depends="passwd, init-system-helpers (>= 1.54)"
    [[ -x $binary ]] || fail "there is no $binary: run \`make dist\` first"
    put 755 "$binary" usr/bin/thimble
    put 644 config/thimble.toml etc/thimble/thimble.toml
    for unit in thimble thimble-guard thimble-installer; do
        put 644 config/$unit.service lib/systemd/system/$unit.service
    done
    # Not enabled: whoever has a Prometheus does that.
    for unit in thimble-metrics.service thimble-metrics.timer thimble-metrics.socket thimble-metrics@.service; do
        put 644 config/$unit lib/systemd/system/$unit
    done
    put 644 config/thimble.rules.yml usr/share/thimble/thimble.rules.yml
    put 644 config/thimble.logrotate etc/logrotate.d/thimble
    put 755 packaging/systemd/is-set-up usr/lib/thimble/is-set-up
    put 644 packaging/systemd/set-up.conf lib/systemd/system/thimble.service.d/set-up.conf
    put 644 packaging/systemd/set-up.conf lib/systemd/system/thimble-guard.service.d/set-up.conf
    put 644 packaging/systemd/set-up-installer.conf lib/systemd/system/thimble-installer.service.d/set-up.conf
    put 644 packaging/systemd/sysusers.conf usr/lib/sysusers.d/thimble.conf
    zipped docs/thimble.8 usr/share/man/man8/thimble.8
    put 644 "$work/bash" usr/share/bash-completion/completions/thimble
    put 644 "$work/zsh" usr/share/zsh/vendor-completions/_thimble
    put 644 "$work/fish" usr/share/fish/vendor_completions.d/thimble.fish

    # The units name the guide under this name, whichever package it is.
    for page in guide keys patches running monitoring controllers tipc packaging threat-model; do
        put 644 docs/$page.md usr/share/doc/thimble/$page.md
    done
    # For those who run OpenRC on Debian; its /etc/init.d is not for such scripts.
    for script in config/*.openrc; do put 644 "$script" "$doc/examples/${script##*/}"; done
    zipped "$in/LICENCES" "$doc/LICENCES"
    zipped CHANGELOG.md "$doc/changelog"
    printf 'thimble (%s) unstable; urgency=medium\n\n  * thimble %s; changelog.gz tells what has changed.\n\n -- %s  %s\n' \
        "$full_version" "$version" "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" |
        sed "1s/^thimble/$name/" >"$work/changelog"
    zipped "$work/changelog" "$doc/changelog.Debian"
    sed 1,4d LICENSE-MIT | sed 's/^$/./; s/^/ /' >"$work/mit"
    sed -e "/@MIT@/{r $work/mit" -e 'd}' packaging/deb/copyright >"$work/copyright"
    put 644 "$work/copyright" "$doc/copyright"
    # Each override says why.
    sed "s/^thimble:/$name:/" packaging/deb/lintian-overrides >"$work/overrides"
    [[ $name != thimble-tipc ]] || cat packaging/deb/lintian-overrides.tipc >>"$work/overrides"
    put 644 "$work/overrides" "usr/share/lintian/overrides/$name"

    local other=thimble-tipc transport=UDP
    if [[ $name == thimble-tipc ]]; then
        put 644 config/tipc@.service lib/systemd/system/tipc@.service
        other=thimble transport=TIPC depends+=", iproute2, kmod"
    fi
    mkdir "$root/DEBIAN"
    printf '/etc/%s\n' logrotate.d/thimble thimble/thimble.toml >"$root/DEBIAN/conffiles"
    for script in postinst prerm postrm; do install -m 755 packaging/deb/$script "$root/DEBIAN/$script"; done
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f ! -path './etc/*' -printf '%P\n' | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: $name
Version: $full_version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f 1)
Depends: $depends
Suggests: minisign, prometheus-node-exporter, logrotate
Conflicts: $other
Replaces: $other
Section: admin
Priority: optional
Description: keeps a cluster of small Linux nodes patched, over $transport
 One static binary is the controller that keeps the signed patches, the
 agent that installs them on its host, and the command line for both. If
 an install fails, or a power cut interrupts it, the previous set of
 patches stays in place, complete, and the operator sees the reason.
 .
 This package speaks $transport, and $other speaks the other transport.
 All nodes of a cluster have the same.
CONTROL
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    # Owners are root's whoever runs this. xz, which every dpkg can read.
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/${name}_${full_version}_$arch.deb" >/dev/null
    rm -r "$root"
    echo "$out/${name}_${full_version}_$arch.deb  $(stat -c %s "$out/${name}_${full_version}_$arch.deb") bytes"
}

command -v dpkg-deb >/dev/null || fail "dpkg-deb is not installed; it is part of every Debian"
mkdir -p "$out"
for shell in bash zsh fish; do "$native" completions $shell >"$work/$shell"; done
(($#)) || set -- amd64 arm64 armhf
for arch in "$@"; do
    case $arch in
        amd64) machine=x86_64 ;;
        arm64) machine=aarch64 ;;
        armhf) machine=armv7 ;;
        *) fail "$arch is none of amd64, arm64, armhf" ;;
    esac
    package thimble "$arch" "$in/thimble-$machine"
    package thimble-tipc "$arch" "$in/thimble-tipc-$machine"
done
# Their checksums go beside those of the binaries.
[[ $out != dist ]] || (cd dist && sha256sum thimble* LICENCES >SHA256SUMS)
