//! TIPC nodes in network namespaces.

use std::fs::File;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use thimble::tipc::address::NODE_STATE;
use thimble::tipc::socket::{Socket, SocketError};

use crate::iproute;
use crate::sys;
use crate::watched::{Told, Watched, all, wait_until};

/// A network namespace, which is deleted when it is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A namespace without TIPC bearers.
    ///
    /// # Errors
    /// The reason why there can be none, or no TIPC in it.
    pub fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !sys::is_root() {
            return Err("needs root: tests/rig/uml.sh COMMAND".into());
        }
        match Socket::rdm().map_err(SocketError::from) {
            Ok(_) => {}
            Err(SocketError::NoTipc) => {
                return Err("this kernel has no TIPC: tests/rig/uml.sh COMMAND".into());
            }
            Err(other) => panic!("{other}"),
        }
        let name = format!("thimble-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        iproute::run("ip", &["netns", "add", &name], "");
        Ok(Self { name })
    }

    /// Runs a program here. Directly, since `ip netns exec` would be a second process to
    /// start, which takes tens of milliseconds on a kernel in user space.
    fn run(&self, program: &str, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        self.enter(|| iproute::run(program, &words, ""))
    }

    /// Runs `ip` here, once for all lines.
    pub fn ip(&self, lines: &str) {
        self.enter(|| iproute::run("ip", &["-batch", "-"], lines));
    }

    /// Runs Debian's `tipc` here, and returns its output.
    pub fn tipc(&self, words: &str) -> String {
        self.run("tipc", words)
    }

    /// Calls `act` on a thread in this namespace. A socket that it makes stays in this
    /// namespace.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let netns = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace has a name");
        let done = thread::scope(|scope| {
            let inside = || {
                sys::enter_netns(&netns).expect("root may enter it");
                act()
            };
            scope.spawn(inside).join()
        });
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A namespace that is a node.
pub struct Node {
    pub namespace: Namespace,
    /// Its address.
    pub address: u32,
}

/// Two nodes, called `one` and `two`, with a link between them.
pub struct Pair {
    pub one: Node,
    pub two: Node,
    hub: Namespace,
}

impl Pair {
    /// Makes the nodes, and waits until each sees the other.
    ///
    /// # Errors
    /// The reason why that is impossible here.
    pub fn new() -> Result<Self, String> {
        let hub = Namespace::new()?;
        hub.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up");
        let namespaces = ["one", "two"].map(|name| {
            let namespace = Namespace::new().expect("there was one already");
            let peer = &namespace.name;
            hub.ip(&format!(
                "link add {name} type veth peer name net0 netns {peer}\nlink set {name} master br0 up"
            ));
            namespace.ip("link set net0 up");
            namespace.tipc(&format!("node set identity {name}"));
            namespace.tipc("bearer enable media eth device net0");
            namespace
        });
        let [one, two] = namespaces.map(|namespace| {
            let address = wait_until("a node has its address a second after its bearer", || {
                let socket = namespace.enter(Socket::rdm).expect("there is TIPC");
                Some(socket.address().expect("a socket has one").node).filter(|node| *node != 0)
            });
            Node { namespace, address }
        });
        for (node, other) in [(&one, &two), (&two, &one)] {
            node.namespace.enter(|| {
                Watched::subscribed(0, &[all(NODE_STATE, *b"nodes...")])
                    .until("the link comes up", |word| word.published() == Some(other.address));
            });
        }
        Ok(Self { one, two, hub })
    }

    /// Cuts the wire to `two`.
    pub fn cut(&self) {
        self.hub.ip("link set two down");
    }

    /// Makes each wire lose and delay frames.
    pub fn spoil(&self) {
        for port in ["one", "two"] {
            self.hub.run("tc", &format!("qdisc add dev {port} root netem delay 20ms loss 1%"));
        }
    }

    /// Restores the wire to `two`.
    pub fn mend(&self) {
        self.hub.ip("link set two up");
    }
}
