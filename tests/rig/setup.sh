#!/usr/bin/env bash
# setup.sh NEED..: installs what each of these needs and this machine lacks. Says in one
# line what it could not install, and how to get it; exit 1 then, but for `test`, whose
# checks say themselves what they skip. Done at once where nothing is lacking.
# setup.sh --packages NEED..: prints Debian's packages among it, and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

status=0
lacking() { echo "SETUP: $1 is missing and was not installed. To get it: $2" >&2; status=1; }

# What each target of the Makefile needs: `COMMAND:DEBIAN-PACKAGE`, `rust:TARGET` or
# COMPONENT, `cargo:PROGRAM`, `musl:ARCH`, `unpacked:NAME` (unpack.sh), and `@NEED`, which is all
# that this other one needs. Where Rust came without rustup, its C libraries, sources and linker are
# Debian's.
declare -A needs=(
    # rustc links with it.
    [build]="cc:gcc"
    [dist]="@build readelf:binutils lld:lld qemu-aarch64-static:qemu-user-static musl:armv7
        rust:x86_64-unknown-linux-musl rust:aarch64-unknown-linux-musl rust:rust-src"
    # The binary for this machine alone, which runs without an emulator.
    [binary]="@build readelf:binutils lld:lld rust:$(uname -m)-unknown-linux-musl rust:rust-src"
    # A machine of another architecture.
    [boot]="@dist @net qemu-system-arm:qemu-system-arm mke2fs:e2fsprogs bsdtar:libarchive-tools debootstrap:debootstrap"
    [net]="ip:iproute2 unshare:util-linux minisign:minisign"
    [demo]="@binary @net"
    [tipc]="@binary @net python3:python3 linux.uml:user-mode-linux modprobe:kmod"
    [filesystems]="@build @net linux.uml:user-mode-linux modprobe:kmod mkfs.vfat:dosfstools mkfs.ext4:e2fsprogs
        mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs mkfs.f2fs:f2fs-tools mkfs.nilfs2:nilfs-tools"
    [packages]="@dist"
    [bench]="@binary @net rsync:rsync dpkg-deb:dpkg valgrind:valgrind linux.uml:user-mode-linux modprobe:kmod"
    [fuzz]="@build g++:g++ libfuzzer:libclang-rt-dev cargo:cargo-fuzz"
    [test]="@dist @net @boot @tipc @fuzz @filesystems @packages debootstrap:debootstrap lintian:lintian busybox:busybox-static unpacked:prometheus unpacked:logrotate rust:thumbv7m-none-eabi rust:clippy rust:rustfmt rsync:rsync zsh:zsh bsdtar:libarchive-tools
        fish:fish groff:groff mandoc:mandoc systemctl:systemd openrc-run:openrc openmetrics:python3-prometheus-client"
)
collect() {
    local need
    for need in ${needs[$1]?no such need: $1}; do
        if [[ $need == @* ]]; then collect "${need#@}"; else wanted[$need]=1; fi
    done
}
declare -A wanted=()
print=
if [[ ${1-} == --packages ]]; then print=1; shift; fi
for need in "${@:-test}"; do collect "$need"; done

has() {
    case $1 in
        # A kernel in user space is made for this machine alone.
        linux.uml | modprobe) [[ $(uname -m) != x86_64 ]] && return ;;
        lld) [[ $(compgen -G "${sysroot:-}/lib/rustlib/*/bin/rust-lld") || $(compgen -c ld.lld) ]] && return ;;
        # Elsewhere than on Debian a bench says that it skips it.
        dpkg-deb | valgrind) command -v apt-get >/dev/null || return 0 ;;
        qemu-aarch64-static) [[ $(uname -m) == aarch64 ]] && return ;;
        # A library: fuzz.sh finds it here.
        libfuzzer) compgen -G "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-$(uname -m).a" >/dev/null && return ;;
        # Debian's Python has Debian's packages; another may be first on the path.
        openmetrics)
            for python in /usr/bin/python3 python3; do
                "$python" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null && return
            done
            return 1
            ;;
    esac
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null
}

if [[ $print ]]; then
    printf '%s\n' "${!wanted[@]}" | sed -n '/^\(rust\|cargo\|musl\|unpacked\):/!s/.*://p' | sort -u
    exit
fi
sysroot=$(rustc --print sysroot 2>/dev/null) || sysroot=
packages=() rust=() programs=() unpacked=() musl=()
for need in "${!wanted[@]}"; do
    case $need in
        rust:rust-src)
            # In both the sources are at the same place.
            if [[ -e $sysroot/lib/rustlib/src/rust/library ]]; then :
            elif command -v rustup >/dev/null; then rust+=(rust-src)
            else packages+=(rust-web-src); fi ;;
        rust:*-linux-musl)
            target=${need#rust:}
            if [[ -e $sysroot/lib/rustlib/$target/lib ]]; then :
            elif command -v rustup >/dev/null; then rust+=("$target")
            else musl+=("${target%%-*}"); fi ;;
        rust:*) rust+=("${need#rust:}") ;;
        cargo:*) has "${need#cargo:}" || programs+=("${need#cargo:}") ;;
        musl:*) musl+=("${need#musl:}") ;;
        unpacked:*) unpacked+=("${need#unpacked:}") ;;
        *) has "${need%%:*}" || packages+=("${need##*:}") ;;
    esac
done

if ((${#packages[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "SETUP: apt-get install ${packages[*]}"
        # qemu without its windows.
        apt-get update -qq && lean=() rest=() && for package in "${packages[@]}"; do
            if [[ $package == qemu-system-* ]]; then lean+=("$package"); else rest+=("$package"); fi
        done && export DEBIAN_FRONTEND=noninteractive &&
            apt-get install -qqy --no-install-recommends "${lean[@]}" >/dev/null &&
            apt-get install -qqy "${rest[@]}" >/dev/null ||
            lacking "${packages[*]}" "apt-get install ${packages[*]}"
    else
        lacking "${packages[*]}" "apt-get install ${packages[*]}, as root on Debian"
    fi
fi

command -v cargo >/dev/null || { lacking cargo "https://rustup.rs, or apt-get install cargo-web rustc-web on Debian"; exit 1; }
for name in "${rust[@]}"; do
    case $name in
        rust-src) kind=component is_there=$sysroot/lib/rustlib/src/rust/library ;;
        clippy) kind=component is_there=$sysroot/bin/cargo-clippy ;;
        rustfmt) kind=component is_there=$sysroot/bin/cargo-fmt ;;
        *) kind=target is_there=$sysroot/lib/rustlib/$name/lib ;;
    esac
    [[ ! -e $is_there ]] || continue
    echo "SETUP: rustup $kind add $name"
    { command -v rustup >/dev/null && rustup -q "$kind" add "$name"; } ||
        lacking "Rust's $name" "rustup $kind add $name"
done

for arch in "${musl[@]}"; do
    [[ ! -e target/musl-$arch/libc.a ]] || continue
    echo "SETUP: musl for $arch, from Debian's packages"
    tests/rig/musl.sh "$arch" || lacking "musl for $arch" "tests/rig/musl.sh $arch, on Debian"
done

for name in "${unpacked[@]}"; do
    [[ ! -e target/unpacked/$name ]] || continue
    echo "SETUP: Debian's $name, unpacked in target/"
    tests/rig/unpack.sh "$name" || lacking "Debian's $name" "tests/rig/unpack.sh $name, on Debian"
done

for program in "${programs[@]}"; do
    echo "SETUP: cargo install $program"
    cargo install --quiet --locked "$program" || lacking "$program" "cargo install $program"
done
[[ " $* " == *" test "* || $# == 0 ]] || exit $status
