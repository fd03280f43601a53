//! A cluster of nodes with two links, and ways to cut one.

use std::fs;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::files::noise;
use crate::netns::Hub;
use crate::over;
use crate::patch::Patch;
use crate::wait;

/// A cluster on two bridges: `net0` and `net1` of each node.
pub struct Linked {
    pub cluster: Cluster,
    pub second: Hub,
}

/// One way to cut a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The node's own interface is set down.
    Down,
    /// Nothing is at its other end: it has no carrier.
    NoCarrier,
    /// The switch drops all. Nobody is told.
    Silent,
}

pub const CUTS: [Cut; 3] = [Cut::Down, Cut::NoCarrier, Cut::Silent];

impl Linked {
    /// Controllers, then agents. None is started, each has both links.
    pub fn new(name: &str, controllers: usize, agents: usize) -> Self {
        let cluster = Cluster::bridged(name, controllers, agents)
            .timer("hello_interval_ms", 500)
            .timer("probe_ms", 3_000)
            .timer("session_proof_ms", 1_000);
        let mut linked = Self { cluster, second: Hub::new() };
        for number in 0..linked.cluster.nodes.len() {
            linked.plug(number);
            linked.cluster.nodes[number].interface = "net0,net1".to_owned();
        }
        linked
    }

    pub fn start(mut self) -> Self {
        self.cluster = self.cluster.start();
        self
    }

    /// Gives a node its `net1`.
    pub fn plug(&self, number: usize) {
        let node = &self.cluster.nodes[number].namespace;
        let (path, last) = (node.path(), number + 1);
        self.second.namespace.ip(&format!(
            "link add name port{number} type veth peer name net1 netns {path}\nlink set port{number} up master br0\n"
        ));
        match over::is_ipv6() {
            false => node.ip(&format!("address add 10.85.0.{last}/24 dev net1\nlink set net1 up\n")),
            true => {
                node.enter(|| fs::write("/proc/sys/net/ipv6/conf/net1/accept_dad", "0")).unwrap();
                node.ip(&format!("link set net1 up\naddress add fd85::{last}/64 dev net1 nodad\n"));
            }
        }
    }

    /// Deletes a node's `net1`.
    pub fn unplug(&self, number: usize) {
        self.cluster.nodes[number].namespace.ip("link delete net1\n");
    }

    pub fn switch(&self, link: usize) -> &Hub {
        if link == 0 { &self.cluster.hub } else { &self.second }
    }

    pub fn cut(&self, number: usize, link: usize, cut: Cut) {
        let (node, switch) = (&self.cluster.nodes[number].namespace, &self.switch(link).namespace);
        match cut {
            Cut::Down => node.ip(&format!("link set net{link} down\n")),
            Cut::NoCarrier => switch.ip(&format!("link set port{number} down\n")),
            Cut::Silent => switch.ip(&format!("link set port{number} nomaster\n")),
        }
    }

    pub fn mend(&self, number: usize, link: usize, cut: Cut) {
        let node = &self.cluster.nodes[number];
        let switch = &self.switch(link).namespace;
        match cut {
            Cut::Down => {
                node.namespace.ip(&format!("link set net{link} up\n"));
                // What was set by hand goes with an IPv6 address.
                let net = if over::is_ipv6() { "fd8" } else { "10.8" };
                let bits = if over::is_ipv6() { 64 } else { 24 };
                let address = match over::is_ipv6() {
                    true => format!("{net}{}::{}", 4 + link, number + 1),
                    false => format!("{net}{}.0.{}", 4 + link, number + 1),
                };
                node.namespace.ip(&format!("address replace {address}/{bits} dev net{link}\n"));
            }
            Cut::NoCarrier => switch.ip(&format!("link set port{number} up\n")),
            Cut::Silent => switch.ip(&format!("link set port{number} master br0\n")),
        }
    }

    /// A node's row of a link.
    pub fn link(&self, number: usize, link: usize) -> Value {
        self.cluster.nodes[number].json(&["status"])["interfaces"][link].clone()
    }

    /// Waits until a node hears so many others by a link.
    pub fn hears(&self, number: usize, link: usize, nodes: u64) {
        wait::until_true(&format!("node {number} hears {nodes} by net{link}"), || {
            self.link(number, link)["heard"] == nodes
        });
    }

    /// No node is or was lost, and none has a trouble.
    pub fn is_unhurt(&self) {
        for node in &self.cluster.nodes {
            let status = node.json(&["status"]);
            assert_eq!(status["troubles"].to_string(), "[]", "{}", node.name);
            let lost: Vec<_> =
                node.log().lines().filter(|line| line.contains("lost")).map(str::to_owned).collect();
            assert_eq!(lost, [""; 0], "{}", node.name);
            assert_eq!(node.refused("replay"), 0, "{}", node.name);
            assert_eq!(node.refused("duplicate_node_id"), 0, "{}", node.name);
        }
    }
}

/// Installs a patch of some bytes on all hosts by one command, which must succeed.
pub fn installs(cluster: &Cluster, id: &str, bytes: usize) {
    Patch::new(cluster, id).file(&format!("etc/{id}"), &noise(bytes)).applied(cluster);
    let shown = cluster.thimble(&["host-install", "--all"]).ok();
    let hosts = cluster.nodes.len() - cluster.controllers().len();
    let all = format!("rollout ended: {hosts} of {hosts} hosts, {hosts} installed");
    assert!(shown.contains(&all), "{shown}");
    for node in &cluster.nodes[cluster.controllers().len()..] {
        assert!(node.root().join(format!("etc/{id}")).exists(), "{}", node.name);
    }
}
