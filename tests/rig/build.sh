#!/usr/bin/env bash
# build.sh udp|tipc: builds thimble and its tests as test builds, with the features
# `proof` and `tools`; leaves `TEST PATH` in a line for each in target/tests.udp or
# target/tests.tipc. Those of TIPC are in a directory of their own, as the binary that
# they name is another.
set -euo pipefail
cd "$(dirname "$0")/../.."
transport=$1
case $transport in
    udp) features=(--features proof) what=() ;;
    tipc)
        features=(--no-default-features --features tipc,tools,proof --target-dir target/tipc)
        what=(--lib --bins --test net --test tipc)
        # Of the other transport's build all but thimble is the same: it takes half a minute.
        if [[ ! -d target/tipc/debug && -d target/debug/deps ]]; then
            mkdir -p target/tipc/debug
            # Links: what is there already is not written again.
            cp -al target/debug/deps target/tipc/debug/
            cp -a target/debug/{build,.fingerprint} target/tipc/debug/
            rm -rf target/tipc/debug/{deps,.fingerprint}/{,lib}thimble-*
        fi
        ;;
    *) echo "build.sh: no such transport: $transport" >&2; exit 1 ;;
esac
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test "${features[@]}" --no-run "${what[@]}" 2>&1 | tee "$log"
sed -n 's/^ *Executable .*(\(.*\/\([a-z]*\)-[0-9a-f]*\))$/\2 \1/p' "$log" >"target/tests.$transport"
