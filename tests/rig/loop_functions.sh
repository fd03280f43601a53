#!/usr/bin/env bash
# loop_functions.sh: writes tests/rig/loop_functions anew: the functions that a daemon runs once it has
# started. A controller and an agent with its installer run under callgrind, in a network namespace
# each, through what nodes do all day: hellos, a query, an install. Those of an idle agent come first.
#
# rust-lld puts them beside each other. Linux maps a program in pieces of 64 KiB: what runs is 4 % of
# the program, and was spread over half of these.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $(id -u) == 0 ]] || exec tests/rig/as_root.sh "$0" "$@"
for program in valgrind minisign ip; do
    command -v $program >/dev/null || { echo "loop_functions: $program is not installed" >&2; exit 1; }
done

arch=$(uname -m)
work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-functions.XXXXXX")
pids=()
clean_up() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for node in controller agent; do ip netns del "functions-$node-$$" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# With its symbols it is over its budget, which dist.sh tells, and it is there.
CARGO_PROFILE_RELEASE_STRIP=none tests/rig/dist.sh "dist/thimble-$arch" || true
thimble=$work/thimble
mv "dist/thimble-$arch" "$thimble"

minisign -G -W -p "$work/maker.pub" -s "$work/maker.key" >/dev/null
"$thimble" keygen --cluster -o "$work/controller.key" >/dev/null
"$thimble" keygen --node agent --from "$work/controller.key" -o "$work/agent.key" >/dev/null
mkdir -p "$work/P1/files/opt"
echo one >"$work/P1/files/opt/one"
printf 'id = "P1"\nsummary = "x"\nsw_version = "12"\nreboot_required = false\n' >"$work/P1/metadata.toml"
tar -C "$work/P1" --owner=root --group=root -czf "$work/P1.patch" metadata.toml files
minisign -S -H -s "$work/maker.key" -m "$work/P1.patch" >/dev/null

for node in controller agent; do ip netns add functions-$node-$$; done
ip link add net0 netns functions-controller-$$ type veth peer name net0 netns functions-agent-$$
host=1
for node in controller agent; do
    inside=(ip -n "functions-$node-$$")
    "${inside[@]}" address add 10.86.0.$((host++))/24 dev net0
    "${inside[@]}" link set lo up
    "${inside[@]}" link set net0 up
    "${inside[@]}" route add 239.0.0.0/8 dev net0
    mkdir -p "$work/$node/state" "$work/$node/root"
    cat >"$work/$node.toml" <<TOML
[node]
roles = ["$node"]
hostname = "$node"
sw_version = "12"
state_dir = "$work/$node/state"
control_socket = "$work/$node/control.sock"
[network]
interface = "net0"
[security]
key_file = "$work/$node.key"
trusted_keys = ["$work/maker.pub"]
TOML
done
printf '[agent]\nroot = "%s"\n' "$work/agent/root" >>"$work/agent.toml"

# start NODE: under callgrind, which counts from where the loop begins.
declare -A pid
start() {
    ip netns exec "functions-$1-$$" valgrind --tool=callgrind --demangle=no "--zero-before=*release_rare_code" --callgrind-out-file="$work/$1.callgrind" \
        "$thimble" --config "$work/$1.toml" run >"$work/$1.log" 2>&1 &
    pids+=($!) pid[$1]=$!
}
start controller
start agent
control() { ip netns exec "functions-controller-$$" "$thimble" --config "$work/controller.toml" "$@"; }
heard() { control query-hosts 2>/dev/null | grep -q '^agent '; }
until_heard() {
    local deadline=$((SECONDS + 300))
    until heard; do
        ((SECONDS < deadline)) || { cat "$work"/*.log >&2; echo "the agent is not heard" >&2; exit 1; }
        sleep 0.5
    done
}
until_heard
# alike: names without their hashes of crates, and without how far back they repeat themselves: a build of
# another day has others. rust-lld does the same.
alike() { sed -E 's/Cs[0-9A-Za-z]+_/C/g; s/B[0-9A-Za-z]*_//g'; }
# names NODE: which functions have run since that, or since they were last asked for. What only ends it is
# not among them.
names() {
    rm -f "$work/$1.callgrind."*
    callgrind_control --dump "${pid[$1]}" >/dev/null
    cat "$work/$1.callgrind."* | sed -nE "s/^c?fn=\([0-9]+\) //p" | sed "s/'[0-9]*\$//" |
        alike | sort -u
}
names agent >"$work/2"
names controller >"$work/4"
# Idle: some rounds of hellos.
sleep 65
names agent >"$work/1"
names controller >"$work/3"
control upload "$work/P1.patch" >/dev/null
control apply P1 >/dev/null
control host-install agent >/dev/null
control status >/dev/null
ip netns exec "functions-agent-$$" "$thimble" --config "$work/agent.toml" status >/dev/null
sleep 5
names agent >"$work/5"
names controller >"$work/6"
(($(wc -l <"$work/1") > 100)) || { echo "loop_functions: too few functions have run" >&2; exit 1; }
# What ran in an earlier run comes last, as long as the program has it.
nm "$thimble" | awk '{ print $NF }' | alike | sort -u >"$work/all"
[[ ! -e tests/rig/loop_functions ]] || grep -v '^#' tests/rig/loop_functions >"$work/before"
{
    echo "# The functions that a daemon runs once it has started: loop_functions.sh writes them anew."
    cat "$work"/[1-6] "$work/before" 2>/dev/null | awk 'NR == FNR { is_here[$0]; next } $0 in is_here && !seen[$0]++' "$work/all" -
} >"$work/list"
cp "$work/list" tests/rig/loop_functions
wc -l tests/rig/loop_functions
