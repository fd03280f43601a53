#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS: cargo-fuzz on stable Rust. A minute or more is with the address
# sanitizer, for the unsafe code of libraries; less is without, ten times as many inputs.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v cargo-fuzz >/dev/null || ! command -v c++ >/dev/null; then
    echo "SKIPPED: fuzzing needs cargo-fuzz and a C++ compiler (make setup)" >&2
    exit 77
fi
export RUSTC_BOOTSTRAP=1
# LLVM's own build of the fuzzer, where there is one: to compile it takes a minute.
fuzzer=$(compgen -G "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-$(uname -m).a" | sort -V | tail -n 1 || true)
[[ -z $fuzzer ]] || export CUSTOM_LIBFUZZER_PATH=$fuzzer
sanitizer=none
(($2 < 60)) || sanitizer=address
exec cargo fuzz run --sanitizer $sanitizer --fuzz-dir tests/fuzz "$1" -- -max_total_time="$2" -max_len=4200
