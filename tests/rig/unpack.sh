#!/usr/bin/env bash
# unpack.sh NAME: target/unpacked/NAME, the files of some Debian packages for tests. Nothing is
# installed, no script of theirs runs, and apt's lists of this machine stay as they are. Exit 77
# (skipped) where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1 to=$PWD/target/unpacked/$1
[[ ! -e $to ]] || exit 0
skip() { echo "SKIPPED: $name: $1" >&2; exit 77; }
case $name in
    prometheus) packages=(prometheus prometheus-node-exporter) ;;
    # With all its libraries, for roots that have none.
    logrotate) packages=(logrotate libpopt0 libacl1 libselinux1 libpcre2-8-0 libc6) ;;
    *) echo "unpack.sh: no such name: $name" >&2; exit 1 ;;
esac
command -v apt-get >/dev/null || skip "this machine has no apt-get, and Debian's packages are needed"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/thimble-unpack.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists,cache/archives}/partial
options=(-qq -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
download() { (cd "$scratch" && apt-get "$@" -qq -o APT::Sandbox::User=root download "${packages[@]}" >"$scratch/said" 2>&1); }
# With the lists that are here, which may be old or none; else with new ones.
download || { apt-get "${options[@]}" update >"$scratch/said" 2>&1 && download "${options[@]}"; } || {
    cat "$scratch/said" >&2
    skip "Debian's packages (${packages[*]}) cannot be downloaded"
}
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done
rm -rf "$scratch"/root/usr/share
mkdir -p "${to%/*}"
# Another may have been quicker.
mv -T "$scratch/root" "$to" || [[ -e $to ]]
