#!/usr/bin/env bash
# uftp.sh: prints a directory with uftp and uftpd, as Debian packages them. Nothing is installed on this machine.
# Exit 77 (skipped) where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
to=$PWD/target/peers-uftp
skip() { echo "SKIPPED: uftp: $1" >&2; exit 77; }
if [[ ! -x $to/usr/bin/uftpd ]]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "this is not Debian"
    rm -rf "$to"
    mkdir -p "$to/deb"
    (cd "$to/deb" && apt-get download -qq -o APT::Sandbox::User=root uftp >/dev/null 2>"$to/said") ||
        skip "$(tail -n 1 "$to/said") (apt-get update?)"
    dpkg-deb -x "$to"/deb/uftp_*.deb "$to"
fi
"$to/usr/bin/uftpd" -h >/dev/null 2>&1 || [[ $? != 127 ]] || skip "it does not run here: libssl3 is not installed"
echo "$to/usr/bin"
