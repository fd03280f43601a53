#!/usr/bin/env bash
# packages.sh: prints a line "NAME OLD NEW" for each of some updates of Debian's packages, the directories of both trees;
# and first the path of xdelta3. All of it lies in target/; nothing is installed on this machine. Which versions there are
# is what apt knows. Exit 77 (skipped) where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
to=$PWD/target/peers-packages
skip() { echo "SKIPPED: updates of packages: $1" >&2; exit 77; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "this is not Debian"
machine=$(dpkg --print-architecture)
mkdir -p "$to"

# unpack DIR NAME=VERSION..|URL: their trees into one, unless they are there.
unpack() {
    local dir=$to/$1
    shift
    [[ ! -e $dir.whole ]] || return 0
    rm -rf "$dir" "$dir.debs"
    mkdir -p "$dir" "$dir.debs"
    (
        cd "$dir.debs"
        for wanted in "$@"; do
            if [[ $wanted == http* ]]; then
                /usr/lib/apt/apt-helper download-file "$wanted" "${wanted##*/}" >/dev/null 2>"$to/said"
            else
                apt-get download -qq -o APT::Sandbox::User=root "$wanted" >/dev/null 2>"$to/said"
            fi || exit 1
        done
    ) || return 1
    for deb in "$dir.debs"/*.deb; do dpkg-deb -x "$deb" "$dir" || return 1; done
    # Times are not compared, and device files and the like there are none.
    rm -rf "$dir.debs"
    touch "$dir.whole"
}

# The versions of a package that apt knows, the oldest first.
versions() {
    apt-cache madison "$1" | awk -F '|' '{ gsub(/ /, "", $2); print $2 }' | sort -uV
}

unpack xdelta3 xdelta3 || skip "$(tail -n 1 "$to/said") (apt-get update?)"
echo "$to/xdelta3/usr/bin/xdelta3"

# updates NAME PACKAGE..: a line for each step from one version to the next. A step whose packages are gone is left out.
updates() {
    local name=$1 before= version packages=()
    shift
    for version in $(versions "$1"); do
        packages=("${@/%/=$version}")
        if [[ $name == linux-image ]]; then
            packages=("$(apt-cache show "$1=$version" | sed -n 's/^Depends: \(linux-image-[^ ]*\).*/\1/p')")
        fi
        unpack "$name-$version" "${packages[@]}" || { before=; continue; }
        [[ -z $before ]] || echo "$name $to/$name-$before $to/$name-$version"
        before=$version
    done
}

updates openssl openssl libssl3
updates tzdata tzdata
updates python3.11 python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
updates linux-image "linux-image-$machine"

# A Debian release has one busybox or two: those of three releases.
before=
for file in debian-security/pool/updates/main/b/busybox/busybox_1.30.1-6+deb11u1 \
    debian/pool/main/b/busybox/busybox_1.35.0-4+deb12u1+b1 debian/pool/main/b/busybox/busybox_1.37.0-6+b5; do
    version=${file##*_}
    unpack "busybox-$version" "http://deb.debian.org/${file}_$machine.deb" || { before=; continue; }
    [[ -z $before ]] || echo "busybox $to/busybox-$before $to/busybox-$version"
    before=$version
done
