#!/usr/bin/env bash
# musl.sh ARCH: target/musl-ARCH, the C library for an architecture for which Rust brings none: always
# armv7 (with hard floats); x86_64 and aarch64 where Rust came without rustup. It is Debian's package
# musl-dev of that architecture, unpacked there: nothing is installed, and apt's lists of this
# machine stay as they are.
set -euo pipefail
cd "$(dirname "$0")/../.."

case $1 in
    armv7) debian=armhf triple=arm-linux-musleabihf ;;
    aarch64) debian=arm64 triple=aarch64-linux-musl ;;
    x86_64) debian=amd64 triple=x86_64-linux-musl ;;
    *) echo "musl: $1 is no architecture of make dist" >&2; exit 2 ;;
esac
to=$PWD/target/musl-$1
command -v apt-get >/dev/null || { echo "musl: apt-get is not there" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists,cache/archives}/partial
chmod -R a+rwX "$scratch"
apt=(
    apt-get -qq -o "APT::Architectures::=$(dpkg --print-architecture)" -o "APT::Architectures::=$debian"
    -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache"
    -o Acquire::Languages=none -o APT::Sandbox::User=root
)
# A source that has no such architecture, or is being renewed, fails; another may have it.
"${apt[@]}" update >"$scratch/said" 2>&1 || true
(cd "$scratch" && "${apt[@]}" download "musl-dev:$debian") || { cat "$scratch/said" >&2; exit 1; }
dpkg-deb -x "$scratch"/musl-dev_*_"$debian".deb "$scratch/root"
rm -rf "$to" && mkdir -p "$to"
cp "$scratch/root/usr/lib/$triple"/{libc.a,crt1.o,crti.o,crtn.o} "$to"
cp "$scratch/root/usr/share/doc/musl-dev/copyright" "$to"
# Nothing unwinds, but std asks for the library.
printf '!<arch>\n' >"$to/libunwind.a"
