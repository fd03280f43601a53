# Sourced by demo.sh: two controllers and three hosts on networks of their own.
# Expects $work (a scratch directory), $thimble (the binary) and $transport (udp or
# tipc); $netem, if any, is what every wire does to what passes, in each direction.

hosts=(compute-0 compute-1 compute-2)
nodes=(controller-0 controller-1 "${hosts[@]}")
net=thimble-$$
declare -A daemons=()

netns() { echo "$net-$1"; }

make_network() {
    local port=0 node
    ip netns add "$net-hub"
    ip -n "$net-hub" link add br0 type bridge mcast_snooping 0
    ip -n "$net-hub" link set br0 up
    for node in "${nodes[@]}"; do
        ip netns add "$(netns "$node")"
        ip link add name "port$port" netns "$net-hub" type veth peer name net0 netns "$(netns "$node")"
        ip -n "$net-hub" link set "port$port" up master br0
        ip -n "$(netns "$node")" link set net0 up
        ip -n "$(netns "$node")" link set lo up
        [[ $transport == tipc ]] || address "$node" "10.84.0.$((10 + port))"
        [[ $transport != tipc ]] || use_the_wire "$(netns "$node")"
        worsen "$net-hub" "port$port" && worsen "$(netns "$node")" net0 || return
        port=$((port + 1))
        mkdir -p "$work/$node/root" "$work/$node/state"
    done
}

# address NODE ADDRESS: what UDP needs of an interface, and TIPC does not.
address() {
    ip -n "$(netns "$1")" address add "$2/24" dev net0
    ip -n "$(netns "$1")" route add 239.0.0.0/8 dev net0
}

# use_the_wire NETNS: a kernel that finds a TIPC node in another of its own namespaces
# hands messages over there and then, past every wire. It knows such a node by a hash
# that nodes announce (user 13, word 13); without it, all goes through the interfaces,
# as it does between machines.
use_the_wire() {
    tc -n "$1" qdisc add dev net0 clsact
    tc -n "$1" filter add dev net0 egress protocol 0x88ca u32 match u32 0x1a000000 0x1e000000 at 0 \
        action pedit munge offset 52 u32 set 0
}

# worsen NETNS INTERFACE: it sends as $netem says.
worsen() {
    # shellcheck disable=SC2086 # several words
    [[ -z ${netem:-} ]] || tc -n "$1" qdisc add dev "$2" root netem $netem
}

# configure NODE ROLE: the node's directory with its thimble.toml. The timers are
# short so that nobody has to wait; everything else is as on a real node.
configure() {
    local node=$1 role=$2 network='interface = "net0"'
    # TIPC's interfaces are the kernel's to know.
    [[ $transport != tipc ]] || network=
    cat >"$work/$node/thimble.toml" <<TOML
[node]
roles = ["$role"]
hostname = "$node"
sw_version = "12"
state_dir = "$work/$node/state"
control_socket = "$work/$node/control.sock"

[network]
$network

[security]
key_file = "$work/$node/thimble.key"
trusted_keys = ["$work/maker.pub"]

[agent]
root = "$work/$node/root"

[timers]
hello_interval_ms = 500
hello_start_ms = 200
controller_lost_ms = 2500
install_retry_ms = 300
install_give_up_ms = 20000
TOML
}

start() {
    ip netns exec "$(netns "$1")" "$thimble" --config "$work/$1/thimble.toml" run >>"$work/$1/log" 2>&1 &
    daemons[$1]=$!
}

# between_controllers cut|whole: their two ports of the hub pass nothing on to each
# other, while both still reach the hosts.
between_controllers() {
    local isolated=off port
    [[ $1 == whole ]] || isolated=on
    for port in port0 port1; do
        ip -n "$net-hub" link set "$port" type bridge_slave isolated $isolated || return
    done
}

# Whatever happened: no process, no namespace, no file stays.
clean_up() {
    local node pid
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${daemons[@]}"; do wait "$pid" 2>/dev/null; done
    for node in hub "${nodes[@]}"; do ip netns del "$net-$node" 2>/dev/null; done
    rm -rf "$work"
}
