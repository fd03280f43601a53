#!/usr/bin/env bash
# dist.sh [BINARY..]: static appliance binaries, those or all: built small, proven
# static, held to their budget, run. With all, what they are made of (bill.sh). Architectures are built side by side, each in a
# directory of its own, where both transports share std and all dependencies.
set -uo pipefail
cd "$(dirname "$0")/../.."

sysroot=$(rustc --print sysroot)
mkdir -p dist

fail() { echo "dist: $1" >&2; exit 1; }

[[ -d $sysroot/lib/rustlib/src/rust/library ]] || fail "the sources of Rust's library are not installed (make setup)"

# most_bytes ARCH: what a binary may have; an x86-64 has more room.
most_bytes() {
    case $1 in
        x86_64) echo $((1600 * 1024)) ;;
        *) echo $((1344 * 1024)) ;;
    esac
}

# For all crates, std among them. The target's own start files and libc are linked: no C
# compiler takes part. Nothing unwinds: a panic says what and where, and aborts; where a
# place is in a library, without the directories of this machine (9 KB).
flags=(
    "-Clinker=$PWD/tests/rig/rust-lld" -Cforce-unwind-tables=no
    "--remap-path-prefix=$sysroot/lib/rustlib/src/rust/library=rust"
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates"
    # What has a large frame is not made part of its only caller, whose frame would be
    # as large at all times.
    -Cllvm-args=-inline-max-stacksize=512
)

# For what is generated and linked at the end, out of all crates at once. Without these
# ARM64 over TIPC has less room in its budget.
last_flags=(
    # At a fixed address, as Rust's target for ARM64 does anyway: else x86-64 writes to
    # 40 KB of panics' places and the like at each start, and an idle agent has 276 KiB
    # of memory of its own.
    -Crelocation-model=static
    # A panic's backtrace is empty: without unwind tables and symbols it has no lines anyway,
    # and the library that walks the stack takes 50 KB. What std calls is a call that does
    # nothing and says that there is no more.
    -Clink-arg=--defsym=_Unwind_Backtrace=sched_yield -Clink-arg=--defsym=_Unwind_GetIP=sched_yield
    # Of printf nothing is used: musl names the threads of others with it, and the errors of
    # dlsym, which nobody reads. Its floats alone take 11 KB of ARM64.
    -Clink-arg=--defsym=vsnprintf=sched_yield
    # Cargo sees that what orders the functions has changed. The symbol is stripped.
    "-Clink-arg=--defsym=order_of_functions=$(cat tests/rig/rust-lld tests/rig/loop_functions | cksum | cut -d' ' -f1)"
    # Functions that are the same become one.
    -Clink-arg=--icf=all
    # What many functions have in common becomes a function, and of those again: 6 KB of ARM64.
    -Cllvm-args=-machine-outliner-reruns=1
    # What is copied is moved by one string instruction or call, not by pairs of loads
    # and stores: 40 KB of x86-64.
    -Cllvm-args=-max-store-memcpy=1
)

# build TRANSPORT BINARY ARCH RUNNER..: leaves the binary and runs it.
build() {
    local transport=$1 binary=$2 arch=$3 target=$3-unknown-linux-musl bytes most version began=$SECONDS
    local target_dir=target/dist-$arch flags=("${flags[@]}") last_flags=("${last_flags[@]}") musl=$PWD/target/musl-$arch
    shift 3
    if [[ $arch == armv7 ]]; then
        target+=eabihf
        # The crate libc speaks of times of 64 bits, and so calls the functions that musl has for them.
        # Thumb instructions take 30 % less; Rust says that the name of that feature may change.
        flags+=(--cfg=libc_unstable_musl_v1_2 -Ctarget-feature=+thumb-mode)
        last_flags+=(-Clink-arg=--defsym=_Unwind_VRS_Get=sched_yield)
    fi
    if [[ -d $sysroot/lib/rustlib/$target/lib ]]; then
        flags+=(-Clink-self-contained=yes)
    elif [[ -e $musl/libc.a ]]; then
        # Where Rust has no C library for it: Debian's (musl.sh).
        flags+=(-Clink-self-contained=no)
        last_flags+=("-Lnative=$musl")
        for file in crt1.o crti.o crtn.o; do last_flags+=("-Clink-arg=$musl/$file"); done
    else
        fail "Rust's $target is not installed, nor musl for it (make setup)"
    fi
    RUSTC_BOOTSTRAP=1 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") \
        cargo rustc --quiet --release --no-default-features --features "$transport" --bin thimble \
        --target "$target" --target-dir "$target_dir" \
        -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size -- "${last_flags[@]}" \
        2> >(sed '/unstable feature specified for .*thumb-mode/,/^$/d' >&2) ||
        fail "$binary does not build"
    cp "$target_dir/$target/release/thimble" "$binary"

    bytes=$(stat -c %s "$binary") most=$(most_bytes "$arch")
    ((bytes <= most)) || fail "$binary has $bytes bytes; the budget is $most"
    if readelf -lW "$binary" | grep -q INTERP || readelf -dW "$binary" | grep -q NEEDED; then
        fail "$binary is not static: it asks for an interpreter or a library"
    fi
    if ! command -v "${1:-true}" >/dev/null; then
        echo "SKIPPED: $binary is built but not run: $1 is not installed" >&2
        return
    fi
    version=$("$@" "$binary" --version)
    [[ $version == "thimble "* ]] || fail "$binary does not run: it says '$version'"
    echo "$binary  $bytes bytes, $((most - bytes)) free, static, says: $version ($((SECONDS - began)) s)"
}

# build_all ARCH BINARY..: those of them that are of this architecture.
build_all() {
    local arch=$1 binary transport runner=env
    shift
    # What runs it here where that is not this machine.
    [[ $(uname -m) == "$arch" ]] || runner=qemu-${arch%v7}-static
    for binary in "$@"; do
        [[ ${binary##*-} == "$arch" ]] || continue
        transport=udp
        [[ $binary != *-tipc-* ]] || transport=tipc
        build "$transport" "$binary" "$arch" $runner
    done
}

all=
(($#)) || all=1
(($#)) || set -- dist/thimble{,-tipc}-{x86_64,aarch64,armv7}
builds=()
for arch in x86_64 aarch64 armv7; do
    build_all $arch "$@" &
    builds+=($!)
done
status=0
for build in "${builds[@]}"; do wait "$build" || status=1; done
[[ ! $all || $status != 0 ]] || tests/rig/bill.sh || status=1
exit $status
