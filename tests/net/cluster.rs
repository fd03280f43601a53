//! A cluster of real daemons. Its nodes are first the controllers, then the agents.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::filter::{Filter, Judge, pass_all};
use crate::netns::{Hub, Namespace};
pub use crate::node::{Node, thimble};
use crate::over::Address;
use crate::support::Scratch;
use crate::support::sign::Signer;
use crate::switch::{Switch, Traffic};
use crate::wait;
use crate::weather::Weather;

/// The stranger's address.
pub const STRANGER: Address = Address::of(250);

/// Controllers and agents, and a stranger: a namespace on their network without a node.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Signs patches; trusted by every node.
    pub signer: Signer,
    /// A namespace on the cluster's network without a node in it.
    pub stranger: Namespace,
    controllers: usize,
    /// Lives as long as the agent behind it.
    _filter: Option<Filter>,
    switch: Option<Switch>,
    pub dir: Scratch,
    pub hub: Hub,
}

/// The network between the nodes of a cluster.
enum Network {
    /// A bridge of the kernel.
    Bridge,
    /// A bridge, and a filter on the wire of node 1: judges for what it sends and receives.
    Filtered(Judge, Judge),
    /// A switch whose wires can be cut.
    Switch,
}

impl Cluster {
    /// Sets up a cluster of one controller and `agents` agents without starting daemons.
    pub fn new(name: &str, agents: usize) -> Self {
        Self::bridged(name, 1, agents)
    }

    /// As [`new`](Self::new), with a filter on the wire of the first agent: one judge for
    /// what the agent sends, one for what it receives.
    pub fn filtered(name: &str, agents: usize, from_agent: Judge, to_agent: Judge) -> Self {
        Self::build(name, 1, agents, Network::Filtered(from_agent, to_agent))
    }

    /// Sets up a cluster of several controllers on a switch whose wires can be cut.
    pub fn of(name: &str, controllers: usize, agents: usize) -> Self {
        Self::build(name, controllers, agents, Network::Switch)
    }

    /// As [`of`](Self::of), but on a kernel bridge, which is faster.
    pub fn bridged(name: &str, controllers: usize, agents: usize) -> Self {
        Self::build(name, controllers, agents, Network::Bridge)
    }

    fn build(name: &str, controllers: usize, agents: usize, mut network: Network) -> Self {
        let dir = Scratch::new(name);
        let hub = Hub::new();
        let signer = Signer::new(&dir, "maker");
        let mut filter = None;
        let mut nodes = Vec::new();
        let port = |number: usize| format!("port{number}");
        for number in 0..controllers + agents {
            let is_controller = number < controllers;
            let node_name = match number.checked_sub(controllers) {
                None => format!("controller-{number}"),
                Some(agent) => format!("agent-{}", 1 + agent),
            };
            let namespace = Namespace::new();
            let address = Address::of(1 + number as u8);
            match &mut network {
                Network::Switch => hub.wire(&namespace, &port(number), address),
                Network::Filtered(from, to) if number == 1 => {
                    let [from, to] = [from, to].map(|judge| std::mem::replace(judge, pass_all()));
                    filter = Some(Filter::join(&hub, &namespace, &port(number), address, from, to));
                }
                _ => hub.join(&namespace, &port(number), address),
            }
            let mut node = Node::new(&node_name, is_controller, address, namespace, dir.join(&node_name));
            node.trusted_keys.push(signer.public.clone());
            nodes.push(node);
        }
        let stranger = Namespace::new();
        let stranger_port = port(nodes.len());
        let switch = match network {
            Network::Switch => {
                hub.wire(&stranger, &stranger_port, STRANGER);
                let ports: Vec<_> = (0..=nodes.len()).map(port).collect();
                Some(Switch::new(&hub, &ports))
            }
            _ => {
                hub.join(&stranger, &stranger_port, STRANGER);
                None
            }
        };
        let cluster = Self { nodes, signer, stranger, controllers, _filter: filter, switch, dir, hub };
        cluster.make_keys();
        cluster
    }

    /// Makes every node's key file with the commands that an operator uses.
    fn make_keys(&self) {
        let keygen = |node: &Node, arguments: &[&str]| {
            let out = node.key_file();
            let output = Command::new(thimble()).arg("keygen").args(arguments).arg("-o").arg(&out).output();
            let output = output.unwrap();
            assert!(output.status.success(), "keygen: {}", String::from_utf8_lossy(&output.stderr));
            let mode = fs::metadata(&out).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "keygen left {} readable", out.display());
        };
        let (first, others) = self.nodes.split_first().unwrap();
        keygen(first, &["--cluster"]);
        let from = first.key_file();
        for node in others {
            let kind = if node.is_controller { "--controller" } else { "--node" };
            keygen(node, &[kind, &node.name, "--from", from.to_str().unwrap()]);
        }
    }

    /// Sets a timer of all nodes, in milliseconds. Call it before they start.
    pub fn timer(mut self, name: &'static str, ms: u64) -> Self {
        for node in &mut self.nodes {
            node.timers.insert(name, ms);
        }
        self
    }

    /// Makes all nodes run the binary just built, which counts its loop's allocations.
    /// Call it before they start.
    pub fn counting(mut self) -> Self {
        for node in &mut self.nodes {
            node.binary = env!("CARGO_BIN_EXE_thimble").to_owned();
        }
        self
    }

    /// Starts all daemons and waits until the controllers have heard each other and
    /// every agent, and take changes.
    pub fn start(mut self) -> Self {
        self.nodes.iter_mut().for_each(Node::spawn);
        self.nodes.iter_mut().for_each(Node::answers);
        let agents = self.nodes.len() - self.controllers;
        wait::until_true("every controller hears all agents", || {
            self.controllers().iter().all(|controller| {
                let hosts = &controller.json(&["query-hosts"])["hosts"];
                hosts.as_array().is_some_and(|hosts| hosts.len() == agents)
            })
        });
        self.agree("the controllers take changes");
        self
    }

    /// The controllers.
    pub fn controllers(&self) -> &[Node] {
        &self.nodes[..self.controllers]
    }

    /// Waits until all running controllers have the same repository and show each other
    /// as synced.
    pub fn agree(&self, why: &str) {
        let running: Vec<_> = self.controllers().iter().filter(|node| node.runs()).collect();
        wait::until_true(why, || {
            let all: Vec<_> = running.iter().map(|node| node.status()).collect();
            all.iter().all(|one| {
                let synced = one.neighbours.iter().filter(|neighbour| neighbour.is_synced).count();
                one.row.is_started
                    && one.row.repo_digest == all[0].row.repo_digest
                    && synced + 1 >= running.len()
            })
        });
    }

    /// Takes a node's interface away, as if a VLAN were deleted. The cluster is a bridged one.
    pub fn unplug(&self, number: usize) {
        self.nodes[number].namespace.ip("link delete net0\n");
    }

    /// Makes a node's interface again.
    pub fn plug(&self, number: usize) {
        let node = &self.nodes[number];
        self.hub.join(&node.namespace, &format!("port{number}"), node.address);
    }

    /// Makes a node's interface again, with this index.
    #[cfg(not(feature = "tipc"))]
    pub fn plug_as(&self, number: usize, index: &str) {
        let node = &self.nodes[number];
        let hub = self.hub.namespace.path();
        node.namespace
            .ip(&format!("link add name net0 index {index} type veth peer name port{number} netns {hub}\n"));
        self.hub.namespace.ip(&format!("link set port{number} up master br0\n"));
        crate::over::attach(&node.namespace, node.address);
    }

    /// The first controller's row of the node `number`.
    pub fn host(&self, number: usize) -> Value {
        self.nodes[0].host(&self.nodes[number].name)
    }

    /// The switch drops multicast.
    #[cfg(not(feature = "tipc"))]
    pub fn without_multicast(self) -> Self {
        self.switch().eat_multicast(true);
        self
    }

    /// The switch forwards multicast again.
    #[cfg(not(feature = "tipc"))]
    pub fn with_multicast(&self) {
        self.switch().eat_multicast(false);
    }

    /// Sets the peers of a node. Call it before it starts.
    #[cfg(not(feature = "tipc"))]
    pub fn peers(mut self, number: usize, peers: &[usize]) -> Self {
        let list: Vec<_> = peers.iter().map(|peer| self.nodes[*peer].address.to_string()).collect();
        self.nodes[number].settings.push(("network", format!("peers = {list:?}")));
        self
    }

    fn switch(&self) -> &Switch {
        self.switch.as_ref().expect("a cluster on a switch")
    }

    /// What all controllers together have sent so far.
    pub fn sent_by_controllers(&self) -> Traffic {
        (0..self.controllers).map(|number| self.switch().sent(number)).sum()
    }

    /// The bytes that have passed from one node to another so far.
    pub fn passed(&self, from: usize, to: usize) -> u64 {
        self.switch().passed(from, to)
    }

    /// Cuts every wire between the nodes of two sides.
    pub fn cut(&self, side: &[usize], other: &[usize]) {
        self.cut_one_way(side, other);
        self.cut_one_way(other, side);
    }

    /// Cuts every wire from the nodes of one side to those of the other, in one direction.
    pub fn cut_one_way(&self, from: &[usize], to: &[usize]) {
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
            self.switch().limit(from, to, 0);
        }
    }

    /// Cuts the wire from one node to another after this many more bytes.
    pub fn cut_after(&self, from: usize, to: usize, bytes: i64) {
        self.switch().limit(from, to, bytes);
    }

    /// Makes all wires as bad as this from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.switch().set_weather(weather);
    }

    /// The frames that the weather has lost so far.
    pub fn lost(&self) -> u64 {
        self.switch().lost()
    }

    /// Drops all multicast from the nodes of one side to those of the other.
    #[cfg(not(feature = "tipc"))]
    pub fn drop_multicast(&self, from: &[usize], to: &[usize]) {
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
            self.switch().drop_multicast(from, to, true);
        }
    }

    /// Restores all wires.
    pub fn heal(&self) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                self.switch().limit(from, to, i64::MAX);
                self.switch().drop_multicast(from, to, false);
            }
        }
    }
}

/// A cluster stands for its first controller, which most tests use.
impl Deref for Cluster {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.nodes[0]
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }
}
