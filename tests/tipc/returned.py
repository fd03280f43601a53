#!/usr/bin/python3
"""Case 6: a message that is returned is counted by its reason: the peer's queue is full,
or the peer is gone. (A message to a whole range does not come back: the kernel returns only
those with one destination.)"""

import signal
import socket
import struct
import sys

from nodes import AGENTS, Network, until

SOL_TIPC, DEST_DROPPABLE, ERRINFO, OVERLOAD = 271, 129, 1, 4


def fill(node):
    """Sends to the agent of a node until a message comes back."""
    sock = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    sock.setsockopt(SOL_TIPC, DEST_DROPPABLE, 0)
    sock.settimeout(0.01)
    for count in range(10_000):
        sock.sendto(b"G" * 66_000, (socket.TIPC_ADDR_NAME, AGENTS, int(node, 16), 0))
        try:
            _, ancillary, *_ = sock.recvmsg(100, 1000)
        except socket.timeout:
            continue
        code, _ = struct.unpack("=2I", next(data for _, kind, data in ancillary if kind == ERRINFO))
        assert code == OVERLOAD, code
        print(f"the queue is full after {count} messages of 66,000 bytes")
        return
    raise AssertionError("the queue has no end")


def main():
    with Network(2) as network:
        controller, agent = network.nodes
        network.make_keys(["controller", "agent"])
        timers = "hello_interval_ms = 200\nhello_start_ms = 100\ninstall_retry_ms = 200"
        controller.configure("controller", timers)
        agent.configure("agent", timers)
        controller.daemon()
        daemon = agent.daemon()
        hosts = lambda: controller.ask("query-hosts").get("hosts", [])
        until("the controller hears the agent", hosts)

        def returned():
            return {name: n for name, n in controller.counters().items() if n and "undelivered" in name}

        before = returned()
        assert not before, before
        daemon.process.send_signal(signal.SIGSTOP)
        print(agent.run(sys.executable, __file__, "fill", agent.address()), end="")
        controller.ask("host-install-async", agent.name)
        until("a request to a full queue comes back", lambda: "undelivered_overload" in returned())
        print("a request to an agent whose queue is full came back:", returned())

        daemon.end(signal.SIGKILL)
        gone = {"undelivered_no_port", "undelivered_no_name"}
        until("a request to a dead agent comes back", lambda: gone & set(returned()))
        print("a request to an agent that is gone came back:", returned())


if __name__ == "__main__":
    fill(sys.argv[2]) if sys.argv[1:2] == ["fill"] else main()
