//! TIPC nodes in network namespaces.

use thimble::tipc::address::NODE_STATE;
use thimble::tipc::socket::{Socket, SocketError};

use crate::support::netns::Namespace;
use crate::sys;
use crate::watched::{Told, Watched, all, wait_until};

/// A namespace without TIPC bearers.
///
/// # Errors
/// The reason why there can be none, or no TIPC in it.
pub fn new_namespace() -> Result<Namespace, String> {
    if !sys::is_root() {
        return Err("needs root: tests/rig/uml.sh COMMAND".into());
    }
    match Socket::rdm().map_err(SocketError::from) {
        Ok(_) => Ok(Namespace::new()),
        Err(SocketError::NoTipc) => Err("this kernel has no TIPC: tests/rig/uml.sh COMMAND".into()),
        Err(other) => panic!("{other}"),
    }
}

/// Runs Debian's `tipc` in a namespace, and returns its output.
pub fn tipc(namespace: &Namespace, words: &str) -> String {
    namespace.run("tipc", words, "")
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
        let hub = new_namespace()?;
        hub.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up");
        let namespaces = ["one", "two"].map(|name| {
            let namespace = Namespace::new();
            let peer = namespace.path();
            hub.ip(&format!(
                "link add {name} type veth peer name net0 netns {peer}\nlink set {name} master br0 up"
            ));
            namespace.ip("link set net0 up");
            tipc(&namespace, &format!("node set identity {name}"));
            tipc(&namespace, "bearer enable media eth device net0");
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
            self.hub.run("tc", &format!("qdisc add dev {port} root netem delay 20ms loss 1%"), "");
        }
    }

    /// Restores the wire to `two`.
    pub fn mend(&self) {
        self.hub.ip("link set two up");
    }
}
