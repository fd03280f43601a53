#!/usr/bin/env bash
# The core builds without std: for a target that has none, where it is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=thumbv7m-none-eabi
if [[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]]; then
    exec cargo check --lib --no-default-features --target $target
fi
echo "SKIPPED: $target is not installed, so the core is checked on the host's target only" >&2
exec cargo check --lib --no-default-features
