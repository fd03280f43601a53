# Sourced by demo.sh: what the demo's patches are made of.

# A real package's files: Debian's tzdata, else this machine's own zoneinfo.
zones=$work/zones
mkdir -p "$zones"
if [[ ${DEMO_FILES:-all} == few ]]; then
    package="a part of tzdata as this machine has it"
    mkdir -p "$zones/usr/share/zoneinfo" && cp -a /usr/share/zoneinfo/Europe "$zones/usr/share/zoneinfo/"
elif (cd "$work" && apt-get -qq download tzdata) >/dev/null 2>&1 && dpkg-deb -x "$work"/tzdata_*.deb "$zones"; then
    package="tzdata $(dpkg-deb -f "$work"/tzdata_*.deb Version)"
elif [[ -d /usr/share/zoneinfo/Europe ]]; then
    package="tzdata as this machine has it (no package to be had)"
    mkdir -p "$zones/usr/share" && cp -a /usr/share/zoneinfo "$zones/usr/share/"
else
    fail "neither apt-get download tzdata nor /usr/share/zoneinfo gives a package's files"
fi
first=TZDATA-0001
second=TZDATA-0002
third=MADE-0003
fourth=MADE-0004
berlin=usr/share/zoneinfo/Europe/Berlin

# make_base HOST: its own files, which the patch will cover: other content, an odd
# owner, an odd mode, an old time.
make_base() {
    set -- "$work/$1/root" "$1"
    mkdir -p "$1/${berlin%/*}" "$1/etc"
    echo "an old time zone" >"$1/$berlin"
    if [[ $2 == compute-1 ]]; then echo strict; else echo easy; fi >"$1/etc/site"
    chmod 0640 "$1/$berlin"
    chown 65534:65534 "$1/$berlin" 2>/dev/null || echo "SKIPPED: other owners need more than one user id"
    touch -d '2019-03-31 01:59:59.123456789 UTC' "$1/$berlin"
    tree "$1" >"$work/$2.base"
}

make_first() {
    mkdir -p "$work/$first/files" "$work/$first/scripts"
    cp -a "$zones/usr" "$work/$first/files/"
    cat >"$work/$first/metadata.toml" <<TOML
id = "$first"
sw_version = "12"
summary = "Time zones of $package"
description = "All of the package's files, laid over the host's."
status = "REL"
reboot_required = false
packages = ["$package"]
TOML
    script "$first" health <<'SH'
test -s "$THIMBLE_ROOT/usr/share/zoneinfo/Europe/Berlin" || { echo "the zones are not there"; exit 1; }
SH
}

make_second() {
    mkdir -p "$work/$second/files/${berlin%/*}" "$work/$second/scripts"
    cp -a "$zones/usr/share/zoneinfo/Europe/London" "$work/$second/files/$berlin"
    cat >"$work/$second/metadata.toml" <<TOML
id = "$second"
sw_version = "12"
summary = "Berlin keeps London's time"
reboot_required = false
requires = ["$first"]
TOML
    script "$second" health <<SH
if test "\$(cat "\$THIMBLE_ROOT/etc/site")" = strict; then echo "no such time in Berlin"; exit 1; fi
SH
    # Time enough to leave and come back.
    script "$second" pre-install <<<"sleep 2"
}

# Two that have nothing to do with each other; the third takes its time.
make_third() {
    local patch
    for patch in "$third" "$fourth"; do
        mkdir -p "$work/$patch/files/etc/$patch" "$work/$patch/scripts"
        date >"$work/$patch/files/etc/$patch/made"
        # Archives keep whole seconds.
        touch -d 2026-01-02T03:04:05 "$work/$patch/files/etc/$patch/made"
        cat >"$work/$patch/metadata.toml" <<TOML
id = "$patch"
sw_version = "12"
summary = "When it was made"
reboot_required = false
TOML
    done
    script "$third" pre-install <<<"sleep 3"
}

# script PATCH NAME: its lines come on standard input.
script() {
    { echo '#!/bin/sh'; cat; } >"$work/$1/scripts/$2"
    chmod 0755 "$work/$1/scripts/$2"
}

# holds FILES ROOT: each of the files is in the root with the same kind, mode,
# owner, time and content.
holds() {
    tree "$1" | sort >"$work/wanted.tree"
    tree "$2" | sort | comm -23 "$work/wanted.tree" - | tee "$work/lacking"
    [[ ! -s $work/lacking ]]
}
