#!/usr/bin/env bash
# Installs what the checks need and this machine lacks; says what it could not.
set -euo pipefail
cd "$(dirname "$0")/../.."

lacking() { echo "SETUP: $1 is missing and not installed: $2" >&2; }

# command -> Debian package
packages=()
for need in minisign:minisign ip:iproute2 qemu-aarch64-static:qemu-user-static \
    readelf:binutils g++:g++ unshare:util-linux rsync:rsync zsh:zsh fish:fish groff:groff mandoc:mandoc \
    systemctl:systemd openrc-run:openrc linux.uml:user-mode-linux modprobe:kmod python3:python3; do
    # A kernel in user space is made for this machine alone.
    [[ $need != linux.uml:* || $(uname -m) == x86_64 ]] || continue
    command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
done
# Debian's Python has Debian's packages; another may be first on the path.
for python in /usr/bin/python3 python3 none; do
    [[ $python != none ]] || packages+=(python3-prometheus-client)
    "$python" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null && break
done
if ((${#packages[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "SETUP: apt-get install ${packages[*]}"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy "${packages[@]}" >/dev/null ||
            lacking "${packages[*]}" "apt-get failed; the checks that need it are skipped"
    else
        lacking "${packages[*]}" "that takes root and apt-get; the checks that need it are skipped"
    fi
fi

targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl thumbv7m-none-eabi)
if command -v rustup >/dev/null; then
    for target in "${targets[@]}"; do
        rustup target list --installed | grep -qx "$target" || rustup -q target add "$target" ||
            lacking "Rust's $target" "the checks that need it are skipped"
    done
    rustup component list --installed | grep -qx rust-src || rustup -q component add rust-src ||
        lacking "rust-src" "make dist cannot run"
else
    lacking "rustup" "without it nothing adds ${targets[*]} and rust-src"
fi

command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz ||
    lacking "cargo-fuzz" "fuzzing is skipped"
