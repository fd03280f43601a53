"""Nodes of a TIPC network, each a network namespace with an Ethernet bearer, and
the output of commands on them. Expects a kernel that has TIPC: tests/rig/uml.sh COMMAND."""

import json
import os
import subprocess
import tempfile
import time

THIMBLE = os.environ.get("THIMBLE_BIN", "dist/thimble-tipc-x86_64")
# The service types that a thimble binds unless its configuration names others.
CONTROLLERS, AGENTS, CONTROLLERS_SESSIONS, AGENTS_SESSIONS = range(7488, 7492)
TOLERANCE_MS = 1500


def run(*words):
    """The output of a command, which must exit with 0."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, close_fds=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def until(what, condition, seconds=120):
    """Polls until the condition returns something, and returns that."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)


class Started:
    """A running command, and the documents that it has written so far."""

    def __init__(self, words, directory):
        self.output = tempfile.TemporaryFile("w+", dir=directory)
        self.errors = tempfile.TemporaryFile("w+", dir=directory)
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors, close_fds=False
        )

    def documents(self):
        # Not from the file position, which is shared with the command.
        size = os.fstat(self.output.fileno()).st_size
        text = os.pread(self.output.fileno(), size, 0).decode()
        whole = text[: text.rfind("\n") + 1]
        if self.process.poll() not in (None, 0, -2, 130):
            raise AssertionError(f"{self.process.args}: {self.process.returncode}: {text}{self.said()}")
        return [json.loads(line) for line in whole.splitlines()]

    def said(self):
        """What it has written to standard error."""
        size = os.fstat(self.errors.fileno()).st_size
        return os.pread(self.errors.fileno(), size, 0).decode()

    def end(self, signal=2):
        if self.process.poll() is None:
            self.process.send_signal(signal)
        self.process.wait(120)


def use_the_wire(netns, device="net0"):
    """Makes messages go through the interfaces, as between machines. Otherwise the kernel
    passes them directly to a TIPC node in another of its own namespaces. It knows such a
    node by a hash that nodes announce (user 13, word 13), which this overwrites."""
    run("tc", "-n", netns, "qdisc", "add", "dev", device, "clsact")
    run("tc", "-n", netns, "filter", "add", "dev", device, "egress", "protocol", "0x88ca",
        "u32", "match", "u32", "0x1a000000", "0x1e000000", "at", "0",
        "action", "pedit", "munge", "offset", "52", "u32", "set", "0")


class Node:
    """One node: `node1`, `node2`, ... No other network has a namespace of its name."""

    def __init__(self, network, number):
        self.network, self.number, self.name = network, number, f"node{number}"
        self.netns, hub = network.netns(self.name), network.hub
        self.dir = os.path.join(network.dir, self.name)
        os.makedirs(os.path.join(self.dir, "root"))
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", hub, "link", "add", "name", f"port{number}", "type", "veth",
            "peer", "name", "net0", "netns", self.netns)
        run("ip", "-n", hub, "link", "set", f"port{number}", "up", "master", "br0")
        for what in (["lo", "up"], ["net0", "up"]):
            run("ip", "-n", self.netns, "link", "set", *what)
        use_the_wire(self.netns)
        self.run("tipc", "node", "set", "identity", self.name)
        self.run("tipc", "bearer", "enable", "media", "eth", "device", "net0")

    def run(self, *words):
        return run("ip", "netns", "exec", self.netns, *words)

    def start(self, *words):
        """Starts a command that ends with the network at the latest."""
        started = Started(["ip", "netns", "exec", self.netns, *words], self.network.dir)
        self.network.started.append(started)
        return started

    def thimble(self, *words):
        """Starts a command of thimble's that writes documents."""
        return self.start(THIMBLE, "--json", *words)

    def address(self):
        """Its TIPC address, as the kernel's own tool shows it."""
        return self.run("tipc", "node", "get", "addr").strip().zfill(8)

    def links(self):
        lines = self.run("tipc", "link", "list").splitlines()
        return sum(line.endswith(": up") and ":net0-" in line for line in lines)

    def nametable(self, service_type):
        """What `tipc nametable show` lists of a type: (lower, upper, node, port), sorted."""
        rows = [line.split() for line in self.run("tipc", "nametable", "show").splitlines()]
        rows = [row for row in rows if row and row[0] == str(service_type)]
        addresses = {node.name: node.address() for node in self.network.nodes}
        return sorted((int(low), int(up), addresses[node], int(port)) for _, low, up, _, port, node in rows)

    # As a member of a thimble cluster.

    def configure(self, role, timers="", network=""):
        with open(self.path("thimble.toml"), "w") as file:
            file.write(f"""
[node]
roles = ["{role}"]
hostname = "{self.name}"
sw_version = "1"
state_dir = "{self.path('state')}"
control_socket = "{self.path('control.sock')}"
[network]
{network}
[security]
key_file = "{self.path('thimble.key')}"
trusted_keys = ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]
[agent]
root = "{self.path('root')}"
[timers]
{timers}
""")

    def path(self, name):
        return os.path.join(self.dir, name)

    def daemon(self, binary=THIMBLE):
        return self.start(binary, "--config", self.path("thimble.toml"), "run")

    def ask(self, *words, binary=THIMBLE):
        """The document of `thimble --json WORDS`; empty if the command fails."""
        words = [binary, "--config", self.path("thimble.toml"), "--json", *words]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, close_fds=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def counters(self):
        return self.ask("status")["counters"]


class Network:
    """Some nodes on one bridge, linked to each other; removed at the end."""

    def __init__(self, count):
        self.started, self.nodes, self.count = [], [], count

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="thimble-tipc.")
        self.hub = self.netns("hub")
        run("ip", "netns", "add", self.hub)
        run("ip", "-n", self.hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "-n", self.hub, "link", "set", "br0", "up")
        self.nodes = [Node(self, number) for number in range(1, self.count + 1)]
        for node in self.nodes:
            until(f"{node.name} is linked to the others", lambda: node.links() == self.count - 1)
        return self

    def __exit__(self, *_):
        for started in self.started:
            started.end(9)
        for name in [self.hub] + [node.netns for node in self.nodes]:
            run("ip", "netns", "del", name)
        run("rm", "-rf", self.dir)

    @staticmethod
    def netns(name):
        """The name of a namespace. Other networks may be on this kernel."""
        return f"{name}-{os.getpid()}"

    def make_keys(self, roles):
        """Gives the nodes key files of one cluster: "controller" or "agent" each."""
        first = self.nodes[0].path("thimble.key")
        run(THIMBLE, "keygen", "--cluster", "-o", first)
        for node, role in list(zip(self.nodes, roles))[1:]:
            kind = "--controller" if role == "controller" else "--node"
            run(THIMBLE, "keygen", kind, node.name, "--from", first, "-o", node.path("thimble.key"))

    def cut(self, node):
        run("ip", "-n", self.hub, "link", "set", f"port{node.number}", "down")

    def mend(self, node):
        run("ip", "-n", self.hub, "link", "set", f"port{node.number}", "up")
