#!/usr/bin/env bash
# A cluster from its keys to the loss of a controller, as its operator types and sees it. Every
# step is checked; the last line is `demo: passed`, or which step failed.
#
# A prompt `HOST# thimble ..` stands for: in that host's network namespace, the
# built binary with `--config HOST/thimble.toml`. `maker` is where patches are made.
#
# With TRANSPORT=tipc the same over TIPC, on a kernel that has it; NETEM="loss 1%
# delay 20ms" has every wire do that, in each direction and at both of its ends, so that of
# 100 datagrams to a node and 5 % some 10 are lost. With
# DEMO_STEPS=n it ends after so many steps; with DEMO_FILES=few the first patch has a few
# dozen of its package's files, for a kernel where a system call takes long. With
# NETEM="loss 5%" all of it holds as it is; for 20 % set DEMO_CONFIRMED=later.
#
# All hosts run what is shipped: the static binary of `make dist`, unless THIMBLE_BIN
# names another. It cannot make patches; THIMBLE_MAKER can, or what is built here.
set -uo pipefail
cd "$(dirname "$0")/../.."
transport=${TRANSPORT:-udp}
netem=${NETEM:-}
if [[ -z ${THIMBLE_BIN:-} ]]; then
    binary=dist/thimble-$(uname -m)
    [[ $transport != tipc ]] || binary=dist/thimble-tipc-$(uname -m)
    tests/rig/dist.sh "$binary" || { echo "demo: FAILED at: build" >&2; exit 1; }
    export THIMBLE_BIN=$PWD/$binary
    if [[ -z ${THIMBLE_MAKER:-} ]]; then
        cargo build --quiet || { echo "demo: FAILED at: build" >&2; exit 1; }
        export THIMBLE_MAKER=$PWD/target/debug/thimble
    fi
    # A kernel with TIPC; it has netem too, which this machine's may lack.
    has_netem() { unshare -n tc qdisc add dev lo root netem loss 1% 2>/dev/null; }
    if [[ $transport == tipc ]] || { [[ $netem && $(id -u) == 0 ]] && ! has_netem; }; then
        exec tests/rig/uml.sh "$0"
    fi
fi
thimble=$THIMBLE_BIN
maker=${THIMBLE_MAKER:-$thimble}
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0"

step="start"
work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-demo.XXXXXX")
output=$work/output
source tests/demo/cluster.sh
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
    echo
    echo "demo: FAILED at: $step${1:+: $1}" >&2
    for node in "${nodes[@]}"; do
        [[ -s $work/$node/log ]] || continue
        echo "--- log of $node"
        tail -n 15 "$work/$node/log"
        echo "--- its state"
        [[ $transport != tipc ]] || ip netns exec "$(netns "$node")" tipc link list
        timeout 20 "$thimble" --config "$work/$node/thimble.toml" status 2>&1 | head -n 25
    done >&2
    exit 1
}

steps=0
say() {
    ((steps++ < ${DEMO_STEPS:-100})) || stop " its first $DEMO_STEPS steps"
    step=$1
    printf '\n== %s\n' "$1"
}

# Ends the daemons, which must end well, and the demo.
stop() {
    local pid
    for pid in "${daemons[@]}"; do kill -TERM "$pid" || fail "a daemon had ended by itself"; done
    for pid in "${daemons[@]}"; do wait "$pid" || fail "a daemon ended with $?"; done
    daemons=()
    clean_up
    if ip netns list | grep -q "^$net-"; then fail "a namespace stays behind"; fi
    printf '\ndemo: passed%s\n' "${1:-}"
    exit
}

# on HOST [EXIT] COMMAND..: shows it, runs it in $work with its number in the file pid,
# checks its exit code.
on() {
    local host=$1 expected=0 status run=()
    shift
    if [[ $1 =~ ^[0-9]$ ]]; then expected=$1; shift; fi
    echo "$host# $*"
    [[ $host == maker ]] || run=(ip netns exec "$(netns "$host")")
    if [[ $1 == thimble ]]; then
        if [[ $host == maker ]]; then run+=("$maker"); else run+=("$thimble"); fi
        [[ ! -e $work/$host/thimble.toml ]] || run+=(--config "$host/thimble.toml")
        shift
    fi
    (cd "$work" && echo $BASHPID >pid && exec "${run[@]}" "$@") 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    ((status == expected)) || fail "it ended with $status, not $expected"
}

# shown PATTERN: the last command's output has a line like this.
shown() { grep -Eq -- "$1" "$output" || fail "nothing like /$1/ was shown"; }

# durable_on_both: the last command's change is. On a network that loses too much for the other
# controller to confirm it in time (DEMO_CONFIRMED=later), the command says so, and it is later.
durable_on_both() {
    [[ ${DEMO_CONFIRMED:-} == later ]] || { shown "Durable here, and on controller-1"; return; }
    shown "Durable here"
    until_true "controller-1 has the change too" same_digest
}

# quietly CONTROLLER ARGUMENTS: asks it without showing that.
quietly() { "$thimble" --config "$work/$1/thimble.toml" "${@:2}" 2>/dev/null; }

# digest_of CONTROLLER: of its repository.
digest_of() { quietly "$1" status --json | sed 's/.*"repo_digest":"\([0-9a-f]*\)".*/\1/'; }

started() { quietly "$1" status --json | grep -q '"started":true'; }

# same_digest: both controllers have the same repository, and all of its files.
same_digest() {
    [[ $(digest_of controller-0) == "$(digest_of controller-1)" ]] &&
        quietly controller-0 status --json | grep -qF '"missing":[]' &&
        quietly controller-1 status --json | grep -qF '"missing":[]'
}

# timed WHAT COMMAND..: polls as until_true does, and says how long it took.
timed() {
    local began=${EPOCHREALTIME/./}
    until_true "$@"
    printf '%s, after %d ms.\n' "$1" $(((${EPOCHREALTIME/./} - began) / 1000))
}

# until_true WHAT COMMAND..: polls for at most two minutes, as long as all daemons run.
until_true() {
    local what=$1 deadline=$((SECONDS + 120)) pid
    shift
    until "$@"; do
        for pid in "${daemons[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a daemon has ended"; done
        ((SECONDS < deadline)) || fail "waited in vain: $what"
        sleep 0.05
    done
}

# What a tree is: every path with kind, mode, owner, time, link and content.
tree() {
    (cd "$1" && find . -path ./.thimble -prune -o ! -type d -printf '%P %y %m %U:%G %T@ %l\n' | sort &&
        find . -path ./.thimble -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
}

source tests/demo/patches.sh
make_network || fail "the network cannot be made"

if [[ $transport == tipc ]]; then
    say "TIPC: each node gets a name and a bearer; its kernel finds the others${netem:+ (all wires: $netem)}"
    for node in "${nodes[@]}"; do
        on "$node" tipc node set identity "$node"
        on "$node" tipc bearer enable media eth device net0
    done
    all_linked() { [[ $(ip netns exec "$(netns "$1")" tipc link list | grep -c ':net0-.* up$') == 4 ]]; }
    for node in "${nodes[@]}"; do until_true "$node is linked to the four others" all_linked "$node"; done
    on controller-0 tipc node list
    on controller-0 tipc link list
fi

say "Keys: the cluster's secret stays on the controllers, each host gets its own"
on controller-0 thimble keygen --cluster -o controller-0/thimble.key
on controller-0 thimble keygen --controller controller-1 --from controller-0/thimble.key -o controller-1/thimble.key
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

say "A cluster: two controllers, three hosts, each on a network stack of its own"
for node in controller-0 controller-1; do configure "$node" controller; done
for host in "${hosts[@]}"; do configure "$host" agent && make_base "$host"; done
on controller-0 thimble check-config
for node in "${nodes[@]}"; do start "$node"; done
all_heard() { [[ $(quietly "$1" query-hosts | grep -c '^compute-') == 3 ]]; }
for node in controller-0 controller-1; do
    until_true "three hosts heard" all_heard $node
    until_true "$node has merged what the other has" started $node
done
on controller-0 thimble query-hosts
# At its start a controller gives one up that it cannot read three times, and goes on.
is_synced() { quietly "$1" status | grep -q '^controller .*: synced'; }
[[ ${DEMO_CONFIRMED:-} != later ]] || until_true "controller-1 is read" is_synced controller-0
on controller-0 thimble status
shown "controller-1 .* synced"

say "Upload and apply"
on controller-0 thimble upload "$first.patch"
durable_on_both
timed "controller-1 has the patch's file too" same_digest
on controller-1 thimble query
shown "$first .* Available"
on controller-0 thimble apply "$first"
on controller-0 thimble query
shown "$first .* Partial-Apply"

say "One transmission: the file crosses controller-0's wire once, for all three hosts"
# Bytes that have left controller-0.
left() { ip -n "$(netns controller-0)" -s link show net0 | awk '/TX:/ { getline; print $1 }'; }
size=$(stat -c %s "$work/$first.patch")
before=$(left)
on controller-0 thimble spread "$first" --rate 20Mbit
shown "$first was sent to all hosts"
bytes=$(($(left) - before))
echo "$bytes bytes have left controller-0's interface, for a file of $size and three hosts."
# Hellos, and what each datagram has around it.
[[ $netem ]] || ((bytes <= size * 115 / 100 + 40000)) || fail "that is more than one transmission takes"
before=$(left)

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
bytes=$(($(left) - before))
echo "The package's files are under all three roots, with $bytes bytes more."
[[ $netem ]] || ((bytes <= size)) || fail "the hosts have fetched for themselves"

say "A second patch for all hosts, one after the other: compute-1 fails, and the rollout stops"
make_second
on maker thimble make "$second" -o "$second.patch"
on maker minisign -S -H -s maker.key -m "$second.patch"
on controller-0 thimble upload "$second.patch"
on controller-0 thimble show "$second"
shown "Requires: +$first"
shown "Contents: +/$berlin"
on controller-0 thimble apply "$second"
on controller-0 1 thimble host-install --all --parallel 1 --stop-after-failures 1
shown "rollout stopped after failures"
shown "compute-1.*no such time in Berlin"
on controller-0 thimble query-hosts
shown "^compute-1 .* Failed "
on controller-0 thimble query
shown "$second .* Partial-Apply"
tree "$work/compute-1/root" | diff "$work/compute-1.patched" - || fail "compute-1 is not as before"
echo "compute-1 is as it was before, to the byte."

say "compute-1 is mended; the rollout goes on, the terminal leaves and comes back elsewhere"
site=$work/compute-1/root/etc/site
mv "$site" "$site.strict" && echo easy >"$site" || fail
at_work() { quietly controller-0 query-hosts --json | grep -q '"rollout":"at-work"'; }
leave() { until_true "a host is at work" at_work; kill -INT "$(<"$work/pid")"; }
leave &
on controller-0 6 thimble host-install --resume
wait $!
shown "interrupted: the rollout continues"
on controller-1 thimble watch --until-done
on controller-1 thimble query
shown "$second .* Applied"
on controller-1 thimble query-hosts
for host in "${hosts[@]}"; do shown "^$host .* Yes "; done
mv "$site.strict" "$site" || fail

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

say "The link between the controllers is cut; both are changed"
make_third
for patch in "$third" "$fourth"; do
    on maker thimble make "$patch" -o "$patch.patch"
    on maker minisign -S -H -s maker.key -m "$patch.patch"
done
between_controllers cut || fail "the hub cannot isolate ports"
calls_lost() { quietly "$1" status | grep -q '^controller .*: lost'; }
both_lost() { calls_lost controller-0 && calls_lost controller-1; }
timed "Each controller calls the other lost" both_lost
on controller-0 thimble status
shown "TROUBLE: This controller is alone"
on controller-0 thimble upload "$third.patch"
on controller-1 thimble upload "$fourth.patch"
on controller-1 thimble delete "$second"
shown "controller-0 is lost"

say "The link heals: nothing is lost, and what was deleted stays so"
between_controllers whole
timed "Both have the same repository" same_digest
for node in controller-0 controller-1; do
    on $node thimble query
    shown "$third .* Available"
    shown "$fourth .* Available"
    if grep -q "$second" "$output"; then fail "$second came back"; fi
    echo "The digest of $node's repository: $(digest_of $node)"
done

say "controller-0 is killed during an install; controller-1 goes on"
on controller-0 thimble apply "$third"
durable_on_both
# By then the host has what it needs of controller-0.
runs_scripts() { quietly controller-1 query-hosts --json | grep -q '"hostname":"compute-0"[^}]*"step":"pre scripts"'; }
strike() { until_true "compute-0 runs the patch's scripts" runs_scripts; kill -KILL "$victim"; }
victim=${daemons[controller-0]}
disown "$victim"
strike &
on controller-0 3 thimble host-install compute-0
wait $!
unset 'daemons[controller-0]'
ended() { quietly controller-1 query-hosts | grep -q "^compute-0 .* Yes .* idle"; }
timed "compute-0 has finished, and controller-1 knows" ended
on controller-1 thimble host-install compute-1 compute-2
on controller-1 thimble query
shown "$third .* Applied"
for host in "${hosts[@]}"; do
    holds "$work/$third/files" "$work/$host/root" || fail "$host does not have the patch's files"
done

say "controller-0 returns"
start controller-0
until_true "controller-0 has merged what the other has" started controller-0
until_true "three hosts heard" all_heard controller-0
on controller-0 thimble query-hosts
for host in "${hosts[@]}"; do shown "^$host .* Yes "; done
on controller-0 thimble status
shown "controller-1 .* synced"

say "Stop"
stop
