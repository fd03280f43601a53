#!/usr/bin/env bash
# dist.sh [BINARY..]: static appliance binaries, those or all: built small, proven
# static, held to their budget, run.
set -euo pipefail
cd "$(dirname "$0")/../.."

most_bytes=$((1024 * 1024))
sysroot=$(rustc --print sysroot)
mkdir -p dist

fail() { echo "dist: $1" >&2; exit 1; }

[[ -d $sysroot/lib/rustlib/src/rust/library ]] || fail "rust-src is not installed (make setup)"

# What a daemon runs only at start-up, or in its workers and commands; the rest of
# the code is linked in front of it, so that the loop's pages hold the loop alone.
cold='7thimble(3cli|6config|7install|5patch|5store|6daemon(5start|6worker|5fetch|4pull|5serve|8exchange))'
cold+='|_(4toml|11toml_parser|6winnow|13serde_spanned|15minisign_verify|3tar|11miniz_oxide'
cold+='|6lexopt|10env_filter)'

# link TRANSPORT TARGET ARGUMENT..: builds, and gives the linker further arguments.
# rust-lld with the target's own start files and libc: no C compiler takes part.
# A panic is a bug, and here it ends the process without a word: the words, the
# places and the unwinder are 140 KB. The same commit built with symbols tells the
# place from a core file.
# Three things that LLVM leaves to be asked for: what has a large frame is not made
# part of its only caller, whose every access to its own frame would be longer for
# it (23 KB); machine code that is there more than once becomes a function (24 KB;
# on ARM64 this is so without asking); and what is copied is moved by one string
# instruction, not by pairs of loads and stores (25 KB).
# No thread here has a name; musl's way to give one brings all of printf (11 KB). In
# its place is a function that does nothing and returns 0, which is success.
link() {
    local transport=$1 target=$2
    shift 2
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Clinker=rust-lld -Clink-self-contained=yes \
        -Zunstable-options -Cpanic=immediate-abort -Cforce-unwind-tables=no \
        -Cllvm-args=-inline-max-stacksize=512 -Cllvm-args=-enable-machine-outliner=always \
        -Cllvm-args=-max-store-memcpy=1 \
        -Clink-arg=-zpack-relative-relocs -Clink-arg=--icf=all \
        -Clink-arg=--defsym=pthread_setname_np=pthread_equal" \
        cargo rustc --quiet --release --no-default-features --features "$transport" --bin thimble --target "$target" \
        -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size -- "$@"
}

# build TRANSPORT BINARY ARCH RUNNER..: leaves the binary and runs it.
build() {
    local transport=$1 binary=$2 target=$3-unknown-linux-musl bytes version
    local map=$PWD/target/$3.map order=$PWD/target/$3.order
    shift 3
    [[ -d $sysroot/lib/rustlib/$target/lib ]] || fail "Rust's $target is not installed (make setup)"
    link "$transport" "$target" "-Clink-arg=-Map=$map"
    grep -oE '\.text\.[A-Za-z0-9_.$]+' "$map" | sed 's/^\.text\.//' | sort -u | grep -vE "$cold" >"$order"
    link "$transport" "$target" "-Clink-arg=--symbol-ordering-file=$order" -Clink-arg=--no-warn-symbol-ordering
    cp "target/$target/release/thimble" "$binary"

    bytes=$(stat -c %s "$binary")
    ((bytes <= most_bytes)) || fail "$binary has $bytes bytes; the budget is $most_bytes"
    if readelf -lW "$binary" | grep -q INTERP || readelf -dW "$binary" | grep -q NEEDED; then
        fail "$binary is not static: it asks for an interpreter or a library"
    fi
    if ! command -v "${1:-true}" >/dev/null; then
        echo "SKIPPED: $binary is built but not run: $1 is not installed" >&2
        return
    fi
    version=$("$@" "$binary" --version)
    [[ $version == "thimble "* ]] || fail "$binary does not run: it says '$version'"
    echo "$binary  $bytes bytes, static, says: $version"
}

(($#)) || set -- dist/thimble{,-tipc}-{x86_64,aarch64}
for binary in "$@"; do
    arch=${binary##*-} transport=udp runner=env
    [[ $binary != *-tipc-* ]] || transport=tipc
    # What runs it here where that is not this machine.
    [[ $(uname -m) == "$arch" ]] || runner=qemu-$arch-static
    build "$transport" "$binary" "$arch" $runner
done
