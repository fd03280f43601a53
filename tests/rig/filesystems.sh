#!/usr/bin/env bash
# filesystems.sh [FILTER..]: installs on filesystems of each kind, on a kernel that has
# many: User Mode Linux. Prints a table of them (tests/install/filesystems/table.rs), and
# fails if a verdict in it is wrong. A filter names some of these tests instead of all.
set -uo pipefail
cd "$(dirname "$0")/../.."

# `make` has built it.
[[ -s target/tests.udp ]] || tests/rig/build.sh udp >/dev/null || exit
(($#)) || set -- filesystems::
UML_SECONDS=${UML_SECONDS:-3600} exec tests/rig/uml.sh "$(sed -n 's/^install //p' target/tests.udp)" --color never --test-threads 1 "$@"
