#!/usr/bin/env bash
# musl_armv7.sh: target/musl-armv7, the C library for ARMv7 with hard floats, which Rust does not
# bring for it. It is Debian's package musl-dev of that architecture, unpacked there: nothing is
# installed, and apt's lists of this machine stay as they are.
set -euo pipefail
cd "$(dirname "$0")/../.."

to=$PWD/target/musl-armv7
command -v apt-get >/dev/null || { echo "musl_armv7: apt-get is not there" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists,cache/archives}/partial
chmod -R a+rwX "$scratch"
apt=(
    apt-get -qq -o "APT::Architectures::=$(dpkg --print-architecture)" -o APT::Architectures::=armhf
    -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache"
    -o Acquire::Languages=none -o APT::Sandbox::User=root
)
# A source that has no such architecture, or is being renewed, fails; another may have it.
"${apt[@]}" update >"$scratch/said" 2>&1 || true
(cd "$scratch" && "${apt[@]}" download musl-dev:armhf) || { cat "$scratch/said" >&2; exit 1; }
dpkg-deb -x "$scratch"/musl-dev_*_armhf.deb "$scratch/root"
rm -rf "$to" && mkdir -p "$to"
cp "$scratch"/root/usr/lib/arm-linux-musleabihf/{libc.a,crt1.o,crti.o,crtn.o} "$to"
cp "$scratch/root/usr/share/doc/musl-dev/copyright" "$to"
# Nothing unwinds, but std asks for the library.
printf '!<arch>\n' >"$to/libunwind.a"
