#!/usr/bin/env bash
# fetch.sh: target/peers/root, a directory to change root into, with the update agents that thimble is
# measured beside, as Debian packages them, and all that these depend on. Nothing is installed on this
# machine, and no script of a package runs. Exit 77 (skipped) where the packages cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
to=$PWD/target/peers
[[ ! -e $to/root/complete ]] || exit 0
skip() { echo "SKIPPED: the other update agents: $1" >&2; exit 77; }
for need in apt-get dpkg-deb tar; do
    command -v $need >/dev/null || skip "$need is not installed: this is not Debian"
done

rm -rf "$to"
mkdir -p "$to"/{archives/partial,root}
touch "$to/status"
# With an empty list of what is installed, all that they depend on is downloaded, libc included.
options=(-qq -y --download-only --no-install-recommends -o "Dir::State::status=$to/status"
    -o "Dir::Cache::archives=$to/archives" -o APT::Sandbox::User=root -o Debug::NoLocking=1
    -o Acquire::Languages=none)
found=()
for package in rauc-service swupdate mender-client rsync dbus-daemon; do
    if apt-get "${options[@]}" install "$package" >"$to/said" 2>&1; then
        found+=("$package")
    else
        echo "SKIPPED: $package: $(tail -n 1 "$to/said")" >&2
    fi
done
((${#found[@]})) || skip "none can be downloaded (apt-get update?)"

# As on an installed system, these are links.
for dir in bin sbin lib lib64; do
    mkdir -p "$to/root/usr/$dir"
    ln -s "usr/$dir" "$to/root/$dir"
done
mkdir -p "$to"/root/{dev,proc,run,tmp,var/lib,etc/rauc}
for package in "$to"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$to/root"
done
rm -rf "$to/archives"
# What scripts of the packages make on an installed system.
ln -s /run "$to/root/var/run"
echo root:x:0:0:root:/root:/bin/sh >"$to/root/etc/passwd"
echo root:x:0: >"$to/root/etc/group"
touch "$to/root/complete"
