#!/usr/bin/env bash
# bill.sh: what the binaries in dist/ are made of: thimble.cdx.json, a bill of materials in
# CycloneDX 1.5, LICENCES with the texts that must go with them, and SHA256SUMS.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "bill: $1" >&2; exit 1; }

rust=$(rustc -vV | sed -n 's/^release: //p')
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
sources=target/bill
rm -rf $sources && mkdir -p $sources

# NAME VERSION LICENCE of each crate that is linked, for any target and transport.
for target in x86_64 aarch64 armv7; do
    triple=$target-unknown-linux-musl
    [[ $target != armv7 ]] || triple+=eabihf
    cargo tree --quiet --locked --edges no-dev,no-build,no-proc-macro --target $triple \
        --no-default-features --features udp,tipc --prefix none --format '{p}|{l}'
done | sed 's/ (\*)$//; s/ v/|/; s/ (.*)|/|/' | sort -u >$sources/crates
(($(wc -l <$sources/crates) > 20)) || fail "cargo tree tells no crates"

# component NAME VERSION LICENCE [PURL SHA256]
component() {
    local hashes=
    [[ -z ${5:-} ]] || hashes=',"hashes":[{"alg":"SHA-256","content":"'$5'"}]'
    printf '{"type":"library","name":"%s","version":"%s","licenses":[{"expression":"%s"}]%s%s}' \
        "$1" "$2" "$3" "${4:+,\"purl\":\"$4\"}" "$hashes"
}
{
    printf '{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"metadata":{"component":'
    IFS='|' read -r _ version licence < <(grep '^thimble|' $sources/crates)
    printf '{"type":"application","name":"thimble","version":"%s","licenses":[{"expression":"%s"}]}},\n"components":[\n' \
        "$version" "$licence"
    while IFS='|' read -r name version licence; do
        [[ $name != thimble ]] || continue
        sum=$(grep -A 4 -x "name = \"$name\"" Cargo.lock | grep -A 3 -x "version = \"$version\"" | sed -n 's/^checksum = "\(.*\)"/\1/p')
        [[ $sum ]] || fail "Cargo.lock has no checksum of $name $version"
        component "$name" "$version" "${licence//\// OR }" "pkg:cargo/$name@${version//+/%2B}" "$sum"
        echo ,
    done <$sources/crates
    component std "$rust" "MIT OR Apache-2.0"
    echo ,
    component musl "as Rust $rust has it for x86-64 and ARM64; as Debian's musl-dev has it for ARMv7" MIT
    printf '\n]}\n'
} >dist/thimble.cdx.json

# One file for each text, and who has it.
while IFS='|' read -r name version _; do
    directory=.
    [[ $name == thimble ]] || directory=$(compgen -G "$registry/*/$name-$version" | head -n 1) || fail "no source of $name $version"
    found=
    for text in "$directory"/{LICENSE,LICENCE,COPYING,COPYRIGHT,UNLICENSE,NOTICE}*; do
        [[ -f $text ]] || continue
        found=1
        sum=$(sha256sum <"$text")
        [[ -e $sources/${sum%% *}.text ]] || tr -d '\r' <"$text" >"$sources/${sum%% *}.text"
        echo "$name $version" >>"$sources/${sum%% *}.of"
    done
    [[ $found ]] || echo "$name $version" >>$sources/none
done <$sources/crates
[[ ! -e target/musl-armv7/copyright ]] || {
    cp target/musl-armv7/copyright $sources/musl.text
    echo "musl, the C library that all of them have in them" >$sources/musl.of
}
{
    echo "thimble's static binaries contain these, under these licences:"
    echo
    sed 's/^\([^|]*\)|\([^|]*\)|\(.*\)/    \1 \2: \3/' $sources/crates
    echo "    the Rust standard library $rust, The Rust Project Developers: MIT OR Apache-2.0"
    echo "    musl: MIT"
    for of in $sources/*.of; do
        printf '\n%s\n\n' "------------------------------------------------------------"
        paste -sd, "$of" | sed 's/,/, /g' | fold -s -w 100
        echo
        cat "${of%.of}.text"
    done
} >dist/LICENCES
[[ ! -e $sources/none ]] || echo "bill: these bring no text of their licence: $(paste -sd, $sources/none)" >&2

(cd dist && sha256sum thimble* LICENCES >SHA256SUMS)
echo "dist/thimble.cdx.json  $(grep -c '"library"' dist/thimble.cdx.json) components; dist/LICENCES, dist/SHA256SUMS"
