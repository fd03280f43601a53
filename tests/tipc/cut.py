#!/usr/bin/python3
"""Case 3: a node's wire is cut. Node and link events arrive, and thimble marks the node
as lost. How long that took is printed with the link tolerance, and with the time that
thimble over UDP (THIMBLE_UDP_BIN) takes for the same cut."""

import os
import time

from nodes import THIMBLE, TOLERANCE_MS, Network, until

ROLES = ["controller", "controller", "agent"]
UDP = os.environ.get("THIMBLE_UDP_BIN")
# Over UDP a node is lost only by its silence. The timers are a tenth of the defaults, unless
# ALL_TIMES is set.
UDP_TENTH = 1 if os.environ.get("ALL_TIMES") else 10


def is_known(first, binary):
    status = first.ask("status", binary=binary)
    neighbours = status.get("controller", {}).get("neighbours", [])
    hosts = first.ask("query-hosts", binary=binary).get("hosts", [])
    return len(hosts) == 1 and [one["synced"] for one in neighbours] == [True]


def lost(first, binary):
    """Which neighbours are marked as lost, and why."""
    neighbours = first.ask("status", binary=binary).get("controller", {}).get("neighbours", [])
    return [one.get("lost_because") for one in neighbours if one["lost"]]


def cluster(network, timers, binary, settings=""):
    for node, role in zip(network.nodes, ROLES):
        node.configure(role, timers, settings)
    daemons = [node.daemon(binary) for node in network.nodes]
    first = network.nodes[0]
    until("the first controller knows the two others", lambda: is_known(first, binary))
    return daemons


def cut(network, node):
    network.cut(node)
    return time.monotonic(), int(time.time() * 1000)


with Network(3) as network:
    first, second, agent = network.nodes
    nodes = first.thimble("tipc", "watch", "--type", "0")
    links = first.thimble("tipc", "watch", "--type", "2")
    network.make_keys(ROLES)
    daemons = cluster(network, "", THIMBLE)
    gone = second.address()

    at, at_ms = cut(network, second)
    why = until("the second controller is marked as lost", lambda: lost(first, THIMBLE))
    took_ms = (time.monotonic() - at) * 1000

    def told(watching):
        def found():
            return [e for e in watching.documents() if e["what"] == "withdrawn" and e["node"] == gone]

        return until("the loss is reported", found)[0]["time_ms"] - at_ms

    print(f"link tolerance {TOLERANCE_MS} ms; node event after {told(nodes)} ms, link event after {told(links)} ms")
    print(f"over TIPC, with default timers: marked as lost ({why[0]}) after {took_ms:.0f} ms")
    assert why == ["out-of-reach"], why

    network.mend(second)
    until("it is found again", lambda: not lost(first, THIMBLE) and is_known(first, THIMBLE))
    at, _ = cut(network, agent)

    def host_lost():
        hosts = first.ask("query-hosts")["hosts"]
        return [host["lost_because"] for host in hosts if host["lost_because"]]

    why = until("the host is marked as lost", host_lost)
    print(f"a host: marked as lost ({why[0]}) after {(time.monotonic() - at) * 1000:.0f} ms")
    network.mend(agent)
    until("the host is found again", lambda: not host_lost())
    for daemon in daemons:
        daemon.end(15)

    if not UDP:
        print("SKIPPED: the same cut over UDP: THIMBLE_UDP_BIN names no binary")
    else:
        for node in network.nodes:
            node.run("ip", "address", "add", f"10.84.0.{node.number}/24", "dev", "net0")
            node.run("ip", "route", "add", "239.0.0.0/8", "dev", "net0")
        timers = f"hello_interval_ms = {30_000 // UDP_TENTH}\ncontroller_lost_ms = {120_000 // UDP_TENTH}"
        cluster(network, timers, UDP, 'interface = "net0"')
        at, _ = cut(network, second)
        until("the second controller is marked as lost", lambda: lost(first, UDP), 400)
        took_ms = (time.monotonic() - at) * 1000
        scale = f", with {UDP_TENTH} times shorter timers than the default" if UDP_TENTH > 1 else ""
        print(f"over UDP{scale}: marked as lost after {took_ms:.0f} ms")
