#!/usr/bin/env bash
# The kernel drops a packet that comes off a wire with an address of the host itself as its
# source, if it is of IPv4 (a martian, net/ipv4/route.c: fib_validate_source). Of IPv6 it takes
# it: a program that trusts such a source trusts whoever is on the wire.
#
# Here: a datagram from fd84::1 to fd84::1, put on a wire to the host that has fd84::1 on another
# interface, is delivered. The same over IPv4 is not, with rp_filter off.
#
# Linux 6.18, Python 3, iproute2.
set -euo pipefail
skip() { echo "SKIPPED: $1" >&2; exit 77; }
[[ $(id -u) == 0 ]] || skip "needs root"
for need in ip python3 unshare; do command -v $need >/dev/null || skip "$need is not there"; done

exec unshare --net python3 - <<'PYTHON'
import socket, struct, subprocess

def run(line):
    subprocess.run(line, shell=True, check=True)

run("""set -e; ip link set lo up
ip link add wire type veth peer name far
ip link add own type veth peer name end
for one in wire far own end; do echo 0 >/proc/sys/net/ipv6/conf/$one/accept_dad; ip link set $one up; done
ip address add 10.84.0.1/24 dev own
ip address add fd84::1/64 dev own nodad
for one in all wire; do echo 0 >/proc/sys/net/ipv4/conf/$one/rp_filter; done""")

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def mac_of(name):
    shown = subprocess.run(["ip", "-o", "link", "show", "dev", name], capture_output=True, text=True, check=True)
    return bytes.fromhex(shown.stdout.split("link/ether ")[1].split()[0].replace(":", ""))

def taken(family, address):
    heard = socket.socket(family, socket.SOCK_DGRAM)
    heard.bind((address, 7488))
    heard.settimeout(1)
    own, text = socket.inet_pton(family, address), b"who am I?"
    length = 8 + len(text)
    ports = struct.pack("!HHH", 7488, 7488, length)
    if family == socket.AF_INET6:
        pseudo = own + own + struct.pack("!IHBB", length, 0, 0, 17)
        head, kind = struct.pack("!IHBB", 6 << 28, length, 17, 64) + own + own, 0x86DD
    else:
        pseudo = own + own + struct.pack("!BBH", 0, 17, length)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 17, 0) + own + own
        head, kind = head[:10] + struct.pack("!H", checksum(head)) + head[12:], 0x0800
    udp = ports + struct.pack("!H", checksum(pseudo + ports + b"\0\0" + text)) + text
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("far", 0))
    wire.send(mac_of("wire") + mac_of("far") + struct.pack("!H", kind) + head + udp)
    try:
        return heard.recv(100) == text
    except TimeoutError:
        return False

found = {"IPv4": taken(socket.AF_INET, "10.84.0.1"), "IPv6": taken(socket.AF_INET6, "fd84::1")}
for family, is_taken in found.items():
    print(f"{family}: a datagram off the wire with the host's own source is {'taken' if is_taken else 'dropped'}")
assert found == {"IPv4": False, "IPv6": True}, "this kernel does otherwise"
PYTHON
