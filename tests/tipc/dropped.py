#!/usr/bin/python3
"""Case 7: a process that drops a connection that is still connecting, or that cannot be
written to, continues. A command that asks a node whose wire was just cut shows that the
node does not answer; a daemon whose neighbour's service is shared with a program that
never accepts tries again until it reaches the neighbour. At the same time, a watch of a
minute reports its timeout, however late the kernel's timer is."""

import json
import socket
import subprocess
import sys
import time

from nodes import CONTROLLERS_SESSIONS, THIMBLE, Network, until

# No link is lost while a command runs.
TOLERANCE_MS = 30_000
STARTS = 4
WATCH_MS = 60_000


def deaf(service_type, instance):
    """Binds a service, and accepts nothing."""
    sock = socket.socket(socket.AF_TIPC, socket.SOCK_STREAM)
    sock.bind((socket.TIPC_ADDR_NAMESEQ, int(service_type), int(instance), int(instance)))
    sock.listen(0)
    print(json.dumps("bound"), flush=True)
    while True:
        time.sleep(3600)


def ends_well(first, *words):
    """The documents of a command, which must exit with 0 and not by a signal."""
    words = ["ip", "netns", "exec", first.netns, THIMBLE, "--json", *words]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, close_fds=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def matrix_beside_a_cut(network):
    first, second = network.nodes
    for node in network.nodes:
        node.run("tipc", "bearer", "set", "tolerance", str(TOLERANCE_MS), "media", "eth", "device", "net0")
    network.cut(second)
    (matrix,) = ends_well(first, "tipc", "matrix")
    said = {node["node"]: node["links"] for node in matrix["nodes"]}
    assert said == {first.address(): [second.address()], second.address(): None}, said
    network.mend(second)
    print("tipc matrix beside a cut: the node that does not answer is shown")


def daemon_beside_a_deaf_service(network):
    first, second = network.nodes
    roles = ["controller", "controller"]
    network.make_keys(roles)
    for node in network.nodes:
        node.configure("controller")
    # It would not start where another program is bound already.
    other = second.daemon()
    until("the other daemon runs", lambda: second.ask("status"))
    rogue = second.start(
        sys.executable, __file__, "deaf", str(CONTROLLERS_SESSIONS), str(int(second.address(), 16))
    )
    until("it is bound", rogue.documents)

    def is_synced(node):
        neighbours = node.ask("status").get("controller", {}).get("neighbours", [])
        return [one["synced"] for one in neighbours] == [True]

    for start in range(STARTS):
        daemon = first.daemon()

        def is_there():
            daemon.documents()
            return is_synced(first)

        until(f"start {start + 1}: the neighbour's repository is known", is_there, 120)
        daemon.end(15)
        assert daemon.process.returncode == 0, daemon.process.returncode
    other.documents()
    other.end(15)
    assert other.process.returncode == 0, other.process.returncode
    print(f"a daemon beside a service that never accepts: {STARTS} starts, all reached the neighbour")


def main():
    with Network(2) as network:
        first = network.nodes[0]
        watching = first.thimble("tipc", "watch", "--type", "18888", "--timeout", str(WATCH_MS))
        began = time.monotonic()
        matrix_beside_a_cut(network)
        daemon_beside_a_deaf_service(network)
        until("the watch times out", lambda: watching.process.poll() is not None, 4 * WATCH_MS // 1000)
        late_ms = (time.monotonic() - began) * 1000 - WATCH_MS
        told = [event["what"] for event in watching.documents()]
        assert watching.process.returncode == 0, (watching.process.returncode, watching.said())
        assert told == ["settled", "timeout"], told
        print(f"tipc watch --timeout {WATCH_MS} reported its timeout, {late_ms:.0f} ms late")


if sys.argv[1:2] == ["deaf"]:
    deaf(*sys.argv[2:])
else:
    main()
