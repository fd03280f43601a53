#!/usr/bin/python3
"""Case 5: a client written without thimble, with Python's own socket module, subscribes,
binds and sends beside thimble. Each sees the other; garbage that it sends to thimble's
services is refused and counted."""

import json
import os
import socket
import struct
import subprocess
import sys
import time

from nodes import AGENTS, AGENTS_SESSIONS, CONTROLLERS, CONTROLLERS_SESSIONS, Network, until

TYPE = 18888
GARBAGE = b"G" * 200
ALL = 0xFFFFFFFF


# What runs on a node: `beside.py client TASK ARGUMENT..`, in that node's namespace.


def client(task, *arguments):
    return {"subscribe": subscribe, "bind": bind, "send": send, "garbage": garbage}[task](*arguments)


def say(**document):
    print(json.dumps(document), flush=True)


def own(sock):
    _, node, port, *_ = sock.getsockname()
    return {"node": f"{node:08x}", "port": port}


def subscribe(lower, upper):
    topology = socket.socket(socket.AF_TIPC, socket.SOCK_SEQPACKET)
    topology.connect((socket.TIPC_ADDR_NAME, 1, 1, 0))
    for service_type in range(int(lower), int(upper) + 1):
        topology.send(struct.pack("=5I8s", service_type, 0, ALL, ALL, 1, b"beside.."))
    while True:
        event, low, up, port, node, service_type, *_ = struct.unpack("=10I8s", topology.recv(48))
        say(event=event, lower=low, upper=up, port=port, node=f"{node:08x}", type=service_type)


def bind(lower, upper):
    sock = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    sock.bind((socket.TIPC_ADDR_NAMESEQ, TYPE, int(lower), int(upper)))
    say(**own(sock))
    while True:
        say(bytes=len(sock.recv(66_000)))


def send(instance, text):
    sock = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    sock.sendto(text.encode(), (socket.TIPC_ADDR_NAME, TYPE, int(instance), 0))
    say(**own(sock))


def garbage(node, datagrams, sessions):
    """Sends garbage to all nodes of the type, to one by name, and on a connection to it."""
    sock = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    sock.sendto(GARBAGE, (socket.TIPC_ADDR_NAMESEQ, int(datagrams), 0, ALL))
    sock.sendto(GARBAGE, (socket.TIPC_ADDR_NAME, int(datagrams), int(node, 16), 0))
    stream = socket.socket(socket.AF_TIPC, socket.SOCK_STREAM)
    stream.settimeout(120)
    stream.connect((socket.TIPC_ADDR_NAME, int(sessions), int(node, 16), 0))
    stream.send(GARBAGE)
    try:
        answer = stream.recv(1000)
    except ConnectionResetError:
        answer = b""
    say(answer=len(answer))


def main():
    def on(node, *words):
        return node.start(sys.executable, __file__, "client", *words)

    def first(started):
        return until("a first document", started.documents)[0]

    with Network(3) as network:
        one, two, three = network.nodes
        # Python's subscription reports what thimble binds; thimble gets what Python sends.
        subscribed = on(two, "subscribe", str(TYPE), str(TYPE))
        serving = one.thimble("tipc", "serve", f"{TYPE}:7")
        bound = first(serving)
        told = first(subscribed)
        assert (told["event"], told["lower"], told["upper"]) == (1, 7, 7), told
        assert (told["node"], told["port"]) == (bound["node"], bound["port"]), (told, bound)
        sender = first(on(two, "send", "7", "hello"))
        message = until("the message arrives", lambda: serving.documents()[1:])[0]
        assert message["bytes"] == 5, message
        assert (message["node"], message["port"]) == (sender["node"], sender["port"]), (message, sender)
        print("Python's client sees what thimble binds, and thimble gets what it sends")

        # thimble's subscription reports what Python binds.
        watching = one.thimble("tipc", "watch", "--type", str(TYPE), "--lower", "100", "--upper", "200")
        server = first(on(three, "bind", "120", "130"))
        published = until(
            "thimble reports it", lambda: [e for e in watching.documents() if e["what"] == "published"]
        )[0]
        assert (published["lower"], published["upper"]) == (120, 130), published
        assert (published["node"], published["port"]) == (server["node"], server["port"]), (published, server)
        assert published["identity"] == "node3", published
        print("thimble sees what Python's server binds")

        # A controller and an agent: Python's subscription reports their four services.
        roles = ["controller", "agent"]
        network.make_keys(roles)
        types = on(three, "subscribe", str(CONTROLLERS), str(AGENTS_SESSIONS))
        for node, role in zip(network.nodes, roles):
            node.configure(role, "hello_interval_ms = 500\nhello_start_ms = 100")
            node.daemon()
        expected = {
            (CONTROLLERS, one.address()),
            (CONTROLLERS_SESSIONS, one.address()),
            (AGENTS, two.address()),
            (AGENTS_SESSIONS, two.address()),
        }
        until(
            "all bindings of thimble's daemons are reported",
            lambda: {(e["type"], e["node"]) for e in types.documents() if e["event"] == 1} == expected,
        )
        hosts = lambda: one.ask("query-hosts").get("hosts", [])
        until("the controller hears the agent", hosts)

        for node, datagrams, sessions in (
            (one, CONTROLLERS, CONTROLLERS_SESSIONS),
            (two, AGENTS, AGENTS_SESSIONS),
        ):
            before = node.counters()
            answer = first(on(three, "garbage", node.address(), str(datagrams), str(sessions)))["answer"]
            after = until(
                "both datagrams are counted",
                lambda: (now := node.counters())["refused_magic"] == before.get("refused_magic", 0) + 2 and now,
            )
            counted = sorted(name for name in after if after[name] != before.get(name) and "refused" in name)
            # The answer is the opening of a session, which any peer gets.
            print(f"{node.name}: garbage refused and counted: {', '.join(counted)}; answered with {answer} bytes")
        asked = time.monotonic()
        age = lambda: hosts()[0]["age_ms"]
        until("the next good datagram is served", lambda: age() < (time.monotonic() - asked) * 1000)


if __name__ == "__main__":
    client(*sys.argv[2:]) if sys.argv[1:2] == ["client"] else main()
