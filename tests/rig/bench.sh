#!/usr/bin/env bash
# bench.sh [PART..]: measures these parts of the bench, or all, on the static binary in dist/ or the one
# that THIMBLE_BIN names. Prints one table of all figures, those of other parts from before; leaves it in
# target/bench.tsv. Exit 1 where a
# budget of docs/architecture.md is broken or a part fails.
# IDLE_SECONDS: of the part `idle`, which waits while the others work (600).
set -uo pipefail
cd "$(dirname "$0")/../.."

# PART:BENCH, in the order in which they run. What waits most is last.
parts=(acks:daemon hellos:daemon instructions:daemon memory:daemon disk:daemon start:daemon known:daemon
    sync-small:sync sync-large:sync sync-many:sync spread:sync install:install install-one:install install-memory:install differences:install
    spread-tipc:tipc deaths:daemon deaths-tipc:tipc idle:daemon)

wanted=()
for part in "${@:-all}"; do
    found=
    for known in "${parts[@]}"; do
        [[ $part != all && $part != "${known%:*}" ]] || { wanted+=("$known"); found=1; }
    done
    [[ $found ]] || { echo "bench.sh: no part is called $part. There are: ${parts[*]%:*}" >&2; exit 2; }
done
is_wanted() { [[ " ${wanted[*]} " == *" $1 "* ]]; }

export THIMBLE_BIN=${THIMBLE_BIN:-$PWD/dist/thimble-$(uname -m)}
[[ -x $THIMBLE_BIN ]] || { echo "bench.sh: $THIMBLE_BIN is not there: make dist" >&2; exit 2; }

began=$SECONDS load=$(cut -d' ' -f1 /proc/loadavg)
echo "$(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), Linux $(uname -r | cut -d- -f1), $("$THIMBLE_BIN" --version)"
awk -v most="$(nproc)" '$1 > most / 4 { print "This machine is busy: times are longer than they need be, ratios less so." }' /proc/loadavg

# Built before anything is measured.
benches=()
for bench in daemon sync install; do
    for part in "${wanted[@]}"; do [[ ${part#*:} != "$bench" ]] || { benches+=(--bench "$bench"); break; }; done
done
((${#benches[@]} == 0)) || cargo bench --quiet --no-run "${benches[@]}" || exit 1

# Parts append to it, side by side. What was measured of the other parts before stays.
mkdir -p target
export THIMBLE_FIGURES=$PWD/target/bench.tsv
if [[ -s $THIMBLE_FIGURES && ${#wanted[@]} != "${#parts[@]}" ]]; then
    awk -F '\t' -v wanted=" ${wanted[*]%:*} " '!/^#/ && index(wanted, " " $1 " ") == 0' "$THIMBLE_FIGURES" >"$THIMBLE_FIGURES.new"
    mv "$THIMBLE_FIGURES.new" "$THIMBLE_FIGURES"
else
    rm -f "$THIMBLE_FIGURES"
fi

status=0
waiting=
finish() { [[ -z $waiting ]] || kill -- "-$waiting" 2>/dev/null; }
trap finish EXIT
trap 'exit 130' INT TERM

# measure BENCH PART
measure() { tests/rig/as_root.sh cargo bench --quiet --bench "$1" -- "$2"; }

if is_wanted idle:daemon; then
    set -m
    measure daemon idle >target/bench.idle 2>&1 &
    waiting=$!
    set +m
fi
for part in "${wanted[@]}"; do
    [[ $part != idle:* ]] || continue
    echo "-- ${part%:*} ($((SECONDS - began)) s)"
    case ${part#*:} in
        tipc) tests/rig/bench_tipc.sh "${part%:*}" ;;
        *) measure "${part#*:}" "${part%:*}" ;;
    esac || { echo "bench: the part ${part%:*} failed"; status=1; }
done
if [[ $waiting ]]; then
    echo "-- idle ($((SECONDS - began)) s)"
    wait "$waiting" || { echo "bench: the part idle failed"; status=1; }
    waiting=
    cat target/bench.idle
fi

if [[ -e $THIMBLE_FIGURES ]]; then
    {
        echo "# thimble $("$THIMBLE_BIN" --version | cut -d' ' -f2-), $(stat -c %s "$THIMBLE_BIN") bytes, built with $(rustc --version | cut -d' ' -f1,2)."
        echo "# $(nproc) processors$(sed -n 's/^model name[^:]*/ of /p' /proc/cpuinfo | head -n 1 | tr -d :), Linux $(uname -r | cut -d- -f1), $(df --output=fstype target | tail -n 1), load $load when it began; the column load has that of each figure."
    } >>"$THIMBLE_FIGURES"
fi
[[ -s $THIMBLE_FIGURES ]] || { echo "bench: nothing was measured" >&2; exit 1; }
echo
benches/figures/table.sh "$THIMBLE_FIGURES" || status=1
echo "$((SECONDS - began)) s; load now $(cut -d' ' -f1 /proc/loadavg); target/bench.tsv"
exit $status
