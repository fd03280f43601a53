#!/usr/bin/env bash
# A TIPC multicast socket that is left to choose between broadcast and replicated
# messages (the default) can make a receiver deaf to it for good.
#
# With each change of method the kernel sends a notice both ways (SYN), and a receiver
# holds back what follows one notice until the other has come (net/tipc/bcast.c,
# tipc_mcast_filter_msg). The replicated one goes to the bindings that the sender knows;
# the broadcast one to every node. A receiver that is bound, but not known to the sender
# yet, gets one of the two, as an empty message once the next change comes; its next
# notice then has no twin, and all later multicasts of that socket wait in its queue.
#
# Here: n1 is known to the sender n0; n2 is bound, and its binding takes 100 ms to n0,
# when n0 sends its first multicast. n2 then gets none of the 20 that follow. With
# TIPC_MCAST_BROADCAST or TIPC_MCAST_REPLICAST set on the sending socket it gets all.
#
# Debian 12's user-mode-linux 6.1 (a whole kernel as a program), iproute2 6.1.
set -euo pipefail
skip() { echo "SKIPPED: $1" >&2; exit 77; }
uml=user-mode-linux=6.1um4+b13
[[ $(uname -m) == x86_64 && $(id -u) == 0 ]] || skip "needs root on x86-64"
for need in apt-get dpkg-deb python3 modprobe ip tc tipc; do
    PATH=$PATH:/usr/sbin:/sbin command -v $need >/dev/null || skip "$need is not there"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# As root apt leaves the right to write here to another user.
chmod 777 . && apt-get download $uml >/dev/null 2>&1 || skip "$uml cannot be had"
dpkg-deb -x ./*.deb package

cat >three.py <<'PYTHON'
import ctypes, os, socket, subprocess, sys, time

CHOICES = {"default": None, "TIPC_MCAST_BROADCAST": 133, "TIPC_MCAST_REPLICAST": 134}
SOL_TIPC = 271
libc = ctypes.CDLL(None, use_errno=True)

def run(line):
    subprocess.run(line, shell=True, check=True)

def new_socket(node):
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{node}", os.O_RDONLY)
    assert libc.setns(there, 0x40000000) == 0
    made = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    assert libc.setns(home, 0x40000000) == 0
    made.setblocking(False)
    return made

def receiver(number):
    made = new_socket(f"n{number}")
    made.bind((socket.TIPC_ADDR_NAMESEQ, 7400, number, number, socket.TIPC_CLUSTER_SCOPE))
    return made

def received(of):
    texts = []
    while True:
        try:
            texts.append(of.recv(100).decode())
        except BlockingIOError:
            return texts

run("ip link add br0 type bridge && ip link set br0 up")
for number in range(3):
    node = f"n{number}"
    run(f"ip netns add {node}")
    run(f"ip link add v{number} type veth peer name net0 netns {node}")
    run(f"ip link set v{number} master br0 up; ip -n {node} link set lo up; ip -n {node} link set net0 up")
    # A kernel passes messages between its own namespaces around the interfaces, unless
    # their discovery messages do not tell that it is the same kernel.
    run(f"ip netns exec {node} tc qdisc add dev net0 clsact")
    run(f"ip netns exec {node} tc filter add dev net0 egress protocol 0x88ca "
        "u32 match u32 0x1a000000 0x1e000000 at 0 action pedit munge offset 52 u32 set 0")
    run(f"ip netns exec {node} tc qdisc add dev net0 root netem delay {100 if number == 2 else 1}ms")
    run(f"ip netns exec {node} tipc node set address 1.1.{number + 1}")
    run(f"ip netns exec {node} tipc bearer enable media eth device net0")
time.sleep(4)

for name, option in CHOICES.items():
    sender = new_socket("n0")
    if option is not None:
        # It has no value, and an empty one is refused.
        sender.setsockopt(SOL_TIPC, option, None, 0)
    send = lambda text: sender.sendto(text, (socket.TIPC_ADDR_NAMESEQ, 7400, 0, 0xFFFFFFFF))
    near = receiver(1)
    time.sleep(0.5)
    far = receiver(2)
    send(b"first")
    time.sleep(1)
    for number in range(20):
        send(str(number).encode())
        time.sleep(0.01)
    time.sleep(1)
    counts = [sum(text not in ("", "first") for text in received(of)) for of in (near, far)]
    print(f"{name}: of 20 multicasts n1 got {counts[0]}, n2 got {counts[1]}", flush=True)
    for made in (sender, near, far):
        made.close()
    time.sleep(1)
PYTHON

cat >init <<INIT
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /run/kernel/lib
ln -s $work/package/usr/lib/uml/modules /run/kernel/lib/modules
printf '#!/bin/sh\nexec modprobe -d /run/kernel "\$@"\n' >/run/kernel/modprobe
chmod 755 /run/kernel/modprobe
echo /run/kernel/modprobe >/proc/sys/kernel/modprobe
modprobe -d /run/kernel tipc
cd $work && uname -r >result && timeout 60 python3 three.py >>result 2>&1
echo o >/proc/sysrq-trigger
sleep 10
INIT
chmod 755 init
timeout 120 package/usr/bin/linux.uml uml_dir="$work/" mem=256M rootfstype=hostfs rootflags=/ rw \
    init="$work/init" con=null con0=null,fd:1 quiet >console 2>&1 </dev/null || true
[[ -s result ]] || { tail -n 20 console; echo "the kernel did not boot"; exit 1; }
cat result
diff <(sed 1d result) - <<'EXPECTED'
default: of 20 multicasts n1 got 20, n2 got 0
TIPC_MCAST_BROADCAST: of 20 multicasts n1 got 20, n2 got 20
TIPC_MCAST_REPLICAST: of 20 multicasts n1 got 20, n2 got 20
EXPECTED
echo "as seen"
