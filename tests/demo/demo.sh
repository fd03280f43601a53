#!/usr/bin/env bash
# A cluster from its keys to a rollback, as its operator types and sees it. Every
# step is checked; the last line is `demo: passed`, or which step failed.
#
# A prompt `HOST# thimble ..` stands for: in that host's network namespace, the
# built binary with `--config HOST/thimble.toml`. `maker` is where patches are made.
set -uo pipefail
cd "$(dirname "$0")/../.."
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0" "$@"

step="build"
work=$(mktemp -d /tmp/thimble-demo.XXXXXX)
thimble=$PWD/target/release/thimble
output=$work/output
source tests/demo/cluster.sh
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
    echo
    echo "demo: FAILED at: $step${1:+: $1}" >&2
    for node in "${nodes[@]}"; do
        [[ -s $work/$node/log ]] && { echo "--- log of $node" >&2; tail -n 15 "$work/$node/log" >&2; }
    done
    exit 1
}

say() { step=$1; printf '\n== %s\n' "$1"; }

# on HOST [EXIT] COMMAND..: shows it, runs it in $work, checks its exit code.
on() {
    local host=$1 expected=0 status run=()
    shift
    if [[ $1 =~ ^[0-9]$ ]]; then expected=$1; shift; fi
    echo "$host# $*"
    [[ $host == maker ]] || run=(ip netns exec "$(netns "$host")")
    if [[ $1 == thimble ]]; then
        run+=("$thimble")
        [[ ! -e $work/$host/thimble.toml ]] || run+=(--config "$host/thimble.toml")
        shift
    fi
    (cd "$work" && "${run[@]}" "$@") 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    ((status == expected)) || fail "it ended with $status, not $expected"
}

# shown PATTERN: the last command's output has a line like this.
shown() { grep -Eq -- "$1" "$output" || fail "nothing like /$1/ was shown"; }

# quietly ARGUMENTS: asks the controller without showing it.
quietly() { "$thimble" --config "$work/controller-0/thimble.toml" "$@" 2>/dev/null; }

# until_true WHAT COMMAND..: polls for at most 20 s, as long as all daemons run.
until_true() {
    local what=$1 deadline=$((SECONDS + 20))
    shift
    until "$@"; do
        kill -0 "${daemons[@]}" 2>/dev/null || fail "a daemon has ended"
        ((SECONDS < deadline)) || fail "waited in vain: $what"
        sleep 0.05
    done
}

# What a tree is: every path with kind, mode, owner, time, link and content.
tree() {
    (cd "$1" && find . -path ./.thimble -prune -o ! -type d -printf '%P %y %m %U:%G %T@ %l\n' | sort &&
        find . -path ./.thimble -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
}

cargo build --quiet --release || fail
source tests/demo/patches.sh

say "Keys: the cluster's secret stays on the controller, each host gets its own"
make_network || fail
on controller-0 thimble keygen --cluster -o controller-0/thimble.key
for host in "${hosts[@]}"; do
    on controller-0 thimble keygen --node "$host" --from controller-0/thimble.key -o "$host/thimble.key"
done

say "A patch from a real package: $package"
make_first
on maker minisign -G -W -p maker.pub -s maker.key
on maker thimble make "$first" -o "$first.patch"
on maker minisign -S -H -s maker.key -m "$first.patch"
on maker thimble verify --trust maker.pub "$first.patch"
shown "$first"

say "A cluster: one controller, three hosts, each on a network stack of its own"
configure controller-0 controller
for host in "${hosts[@]}"; do configure "$host" agent && make_base "$host"; done
on controller-0 thimble check-config
for node in "${nodes[@]}"; do start "$node"; done
all_heard() { [[ $(quietly query-hosts | grep -c '^compute-') == 3 ]]; }
until_true "three hosts heard" all_heard
on controller-0 thimble query-hosts
on controller-0 thimble status

say "Upload and apply"
on controller-0 thimble upload "$first.patch"
on controller-0 thimble query
shown "$first .* Available"
on controller-0 thimble apply "$first"
on controller-0 thimble query
shown "$first .* Partial-Apply"

say "Install on all three hosts"
on controller-0 thimble host-install "${hosts[@]}"
on controller-0 thimble query
shown "$first .* Applied"
on controller-0 thimble query-hosts
for host in "${hosts[@]}"; do shown "^$host .* Yes "; done
for host in "${hosts[@]}"; do
    holds "$work/$first/files" "$work/$host/root" || fail "$host does not have the package's files"
    tree "$work/$host/root" >"$work/$host.patched"
done
echo "The package's files are under all three roots."

say "A second patch, whose health check fails on compute-1"
make_second
on maker thimble make "$second" -o "$second.patch"
on maker minisign -S -H -s maker.key -m "$second.patch"
on controller-0 thimble upload "$second.patch"
on controller-0 thimble show "$second"
shown "Requires: +$first"
shown "Contents: +/$berlin"
on controller-0 thimble apply "$second"
on controller-0 1 thimble host-install "${hosts[@]}"
shown "compute-1.*no such time in Berlin"
on controller-0 thimble query-hosts
shown "^compute-0 .* Yes "
shown "^compute-1 .* Failed "
on controller-0 thimble query
shown "$second .* Partial-Apply"
tree "$work/compute-1/root" | diff "$work/compute-1.patched" - || fail "compute-1 is not as before"
echo "compute-1 is as it was before, to the byte."

say "Remove both: the old files come back"
on controller-0 thimble remove "$second" "$first"
on controller-0 thimble query
shown "$first .* Partial-Remove"
on controller-0 thimble host-install "${hosts[@]}"
on controller-0 thimble query
shown "$first .* Available"
for host in "${hosts[@]}"; do
    tree "$work/$host/root" | diff "$work/$host.base" - || fail "$host is not as it was before the first patch"
done
echo "All three hosts are as before the first patch: content, owner, mode and times."
on controller-0 thimble delete "$second" "$first"

say "Stop"
for pid in "${daemons[@]}"; do kill -TERM "$pid" || fail "a daemon had ended by itself"; done
for pid in "${daemons[@]}"; do wait "$pid" || fail "a daemon ended with $?"; done
daemons=()
clean_up
if ip netns list | grep -q "^$net-"; then fail "a namespace stays behind"; fi

echo
echo "demo: passed"
