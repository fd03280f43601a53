#!/usr/bin/python3
"""Case 1, the textbook's: two servers on each of two nodes, with overlapping ranges. Checks
the events of a subscription to services and of one to ports, and the list of the kernel's
own tool, at every step."""

from nodes import Network, until

TYPE = 18888
A = [f"{TYPE}:6-53", f"{TYPE}:6-53", f"{TYPE}:54-55"]
B = [f"{TYPE}:54-55"]
SENTINEL = 100


class Subscription:
    def __init__(self, node, kind):
        self.kind, self.seen = kind, 0
        words = ["tipc", "watch", "--type", str(TYPE), "--lower", "0", "--upper", "100", f"--{kind}"]
        self.watching = node.thimble(*words)
        until(f"{kind} has reported what is there", self.watching.documents)

    def since(self, sentinel):
        """All events since the last call: those of the sentinel, a server on its own node,
        are the last, because the topology service keeps the order."""

        def told():
            events = self.watching.documents()[self.seen :]
            marks = [at for at, event in enumerate(events) if event["lower"] == sentinel]
            return events[: marks[1] + 1] if len(marks) == 2 else None

        events = until(f"{self.kind} has reported the sentinel", told)
        self.seen += len(events)
        return [event for event in events if event["what"] != "settled" and event["lower"] != sentinel]


def publications(events):
    return sorted((e["what"], e["lower"], e["upper"], e["node"], e["port"]) for e in events)


with Network(3) as network:
    one, two, watcher = network.nodes
    service, ports = Subscription(watcher, "service"), Subscription(watcher, "ports")
    there = []

    def step(what, expected_service, expected_ports):
        """Checks that both subscriptions have reported just that, and every node's table
        agrees."""
        global there
        expected = len(there) + (expected_ports[1] if expected_ports[0] == "published" else -expected_ports[1])
        for node in network.nodes:
            until(f"{node.name} lists {expected} bindings", lambda: len(node.nametable(TYPE)) == expected)
        sentinel = watcher.thimble("tipc", "serve", f"{TYPE}:{SENTINEL}", "--scope", "node")
        until("the sentinel is bound", sentinel.documents)
        sentinel.end()
        of_service, of_ports = service.since(SENTINEL), ports.since(SENTINEL)
        print(f"{what}: SUB_SERVICE {len(of_service)}, SUB_PORTS {len(of_ports)} events")
        assert {event["what"] for event in of_ports} == {expected_ports[0]}, of_ports
        assert len(of_ports) == expected_ports[1], of_ports
        ranges = sorted((event["what"], event["lower"], event["upper"]) for event in of_service)
        assert ranges == expected_service, of_service
        for event in of_ports:
            binding = (event["lower"], event["upper"], event["node"], event["port"])
            there.append(binding) if event["what"] == "published" else there.remove(binding)
        for node in network.nodes:
            listed = node.nametable(TYPE)
            assert listed == sorted(there), f"{node.name} lists {listed}, and the events give {sorted(there)}"

    servers = [[node.thimble("tipc", "serve", *ranges) for ranges in (A, B)] for node in (one, two)]
    both = [(6, 53), (54, 55)]
    step("four sockets are bound", [("published", *found) for found in both], ("published", 8))
    nodes = [node for _, _, node, _ in there]
    assert sorted(nodes) == sorted([one.address(), two.address()] * 4), nodes
    assert len({(node, port) for _, _, node, port in there}) == 4, there
    for server in servers[0]:
        server.end()
    step("one node's have ended", [], ("withdrawn", 4))
    for server in servers[1]:
        server.end()
    step("the other's too", [("withdrawn", *found) for found in both], ("withdrawn", 4))
print("`tipc nametable show` of every node agreed at each step")
