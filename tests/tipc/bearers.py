#!/usr/bin/python3
"""Case 8: nodes with two bearers on two networks. One is cut: nobody is lost, sessions are
opened over the other, and only `status` shows it: which link is down, and since when."""

from nodes import THIMBLE, Network, run, until, use_the_wire

ROLES = ["controller", "controller", "agent"]


def add_bearers(network):
    hub = network.hub
    run("ip", "-n", hub, "link", "add", "br1", "type", "bridge", "mcast_snooping", "0")
    run("ip", "-n", hub, "link", "set", "br1", "up")
    for node in network.nodes:
        run("ip", "-n", hub, "link", "add", "name", f"more{node.number}", "type", "veth",
            "peer", "name", "net1", "netns", node.netns)
        run("ip", "-n", hub, "link", "set", f"more{node.number}", "up", "master", "br1")
        run("ip", "-n", node.netns, "link", "set", "net1", "up")
        use_the_wire(node.netns, "net1")
        node.run("tipc", "bearer", "enable", "media", "eth", "device", "net1")


def tipc(node):
    return node.ask("status").get("tipc", {})


def ends(node, which):
    return sorted((link["identity"], link["bearers"]) for link in tipc(node).get(which, []))


def is_known(first):
    neighbours = first.ask("status").get("controller", {}).get("neighbours", [])
    hosts = first.ask("query-hosts").get("hosts", [])
    return len(hosts) == 1 and [one["synced"] for one in neighbours] == [True]


def whole(*names):
    return sorted((name, f"{net}-{net}") for name in names for net in ("net0", "net1"))


with Network(3) as network:
    first, second, agent = network.nodes
    add_bearers(network)
    network.make_keys(ROLES)
    for node, role in zip(network.nodes, ROLES):
        node.configure(role)
    daemons = [node.daemon() for node in network.nodes]
    until("the first controller knows the two others", lambda: is_known(first))
    until("both links to each are shown", lambda: ends(first, "links") == whole("node2", "node3"))
    until("its start is over", lambda: first.ask("status").get("troubles") == [])
    assert ends(first, "links_down") == []
    text = first.run(THIMBLE, "--config", first.path("thimble.toml"), "status")
    rows = [line for line in text.splitlines() if line.startswith("link ")]
    assert len(rows) == 2, text
    for row in rows:
        assert " by net0-net0, up for " in row and "; by net1-net1, up for " in row, row

    def lines():
        return [daemon.said().splitlines() for daemon in daemons]

    before = lines()
    network.cut(second)
    until("the cut shows", lambda: ends(first, "links_down") == [("node2", "net0-net0")])
    assert ends(first, "links") == sorted(whole("node3") + [("node2", "net1-net1")])
    assert tipc(first)["nodes_up"] == 3 and tipc(first)["links_up"] == 3, tipc(first)
    status = first.ask("status")
    assert not any(one["lost"] for one in status["controller"]["neighbours"]), status
    assert status["troubles"] == [], status
    assert lines() == before, (before, lines())

    # A new start knows nobody: it reads the others over the link that is left.
    daemons[1].end(15)
    daemons[1] = second.daemon()
    until("a start over one link is done", lambda: is_known(second) and second.ask("status")["controller"]["started"])

    network.mend(second)
    until("both links are up again", lambda: ends(first, "links") == whole("node2", "node3"))
    assert ends(first, "links_down") == []
    # The other one of the two: what was lost before counts no more.
    run("ip", "-n", network.hub, "link", "set", f"more{agent.number}", "down")
    until("the other cut shows", lambda: ends(first, "links_down") == [("node3", "net1-net1")])
    network.cut(agent)

    def host_lost():
        return [host["lost_because"] for host in first.ask("query-hosts")["hosts"] if host["lost_because"]]

    assert until("without any link the host is lost", host_lost) == ["out-of-reach"]
    assert ends(first, "links_down") == [], "a node out of reach has no links"
    for daemon in daemons:
        daemon.end(15)
    print("two bearers: one cut shows in status alone, and a start over the other is done")
