//! Network namespaces joined by a bridge that floods multicast.

use crate::over::{self, Address};
pub use crate::support::netns::Namespace;

/// A bridge in a namespace of its own.
pub struct Hub {
    pub namespace: Namespace,
}

impl Hub {
    pub fn new() -> Self {
        let namespace = Namespace::new();
        namespace.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n");
        Self { namespace }
    }

    /// Joins `node` to the bridge: `net0` there, `port` here.
    pub fn join(&self, node: &Namespace, port: &str, address: Address) {
        self.add(node, port, "master br0");
        over::attach(node, address);
    }

    /// Gives `node` its `net0`, whose other end `port` is not on the bridge yet.
    pub fn wire(&self, node: &Namespace, port: &str, address: Address) {
        self.add(node, port, "");
        over::attach(node, address);
    }

    fn add(&self, node: &Namespace, port: &str, joined: &str) {
        let path = node.path();
        self.namespace.ip(&format!(
            "link add name {port} type veth peer name net0 netns {path}\nlink set {port} up {joined}\n"
        ));
    }
}
