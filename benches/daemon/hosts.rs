//! Hosts that exist in their datagrams alone.

use std::thread;
use std::time::Duration;

use thimble::types::NodeId;
use thimble::wire::frame::Role;
use thimble::wire::messages::Message;

use crate::cluster::Cluster;
use crate::forge::{Forger, invented_host};
use crate::over::{Datagrams, To};
use crate::pace::in_bursts;
use crate::process::{datagrams_sent, datagrams_taken};
use crate::wait;

/// Timers with which no round of hellos begins, and no host is asked twice, while something is counted.
pub const NO_ROUNDS: [(&str, u64); 4] = [
    ("hello_interval_ms", 3_600_000),
    ("probe_ms", 3_000_000),
    ("controller_lost_ms", 14_400_000),
    ("host_lost_ms", 14_400_000),
];
/// Where the controller has asked nothing for so long, it asks nothing.
const QUIET: Duration = Duration::from_secs(2);

/// As many hosts as were asked for, each of which has what it should have, beside the first controller
/// of a cluster.
pub struct Hosts {
    hosts: Vec<(Forger, Message)>,
    socket: Datagrams,
}

impl Hosts {
    /// None yet.
    pub fn new(cluster: &Cluster) -> Self {
        Self { hosts: Vec::new(), socket: Datagrams::new(&cluster.stranger) }
    }

    /// Adds hosts up to this number, and waits until the controller knows them and asks none of them
    /// for anything: it asks those that are new.
    pub fn become_known(&mut self, cluster: &Cluster, number: u64) {
        let new = self.hosts.len() as u64..number;
        self.hosts.extend(new.map(|number| host(cluster, number)));
        wait::until_true("all hosts are known", || {
            let acks = self.acks(self.hosts.len());
            self.send(cluster, &acks);
            cluster.json(&["status"])["controller"]["hosts"].as_u64() == Some(number)
        });
        let pid = cluster.nodes[0].pid();
        wait::until_true("no host is asked", || {
            let asked = datagrams_sent(pid);
            let acks = self.acks(self.hosts.len());
            self.send(cluster, &acks);
            thread::sleep(QUIET);
            datagrams_sent(pid) == asked
        });
    }

    /// The next so many acks, of one host after the other.
    pub fn acks(&mut self, count: usize) -> Vec<Vec<u8>> {
        let hosts = self.hosts.len();
        (0..count)
            .map(|at| {
                let (forger, ack) = &mut self.hosts[at % hosts];
                forger.encode(ack, NodeId(0))
            })
            .collect()
    }

    /// Sends them to the controllers' group, no faster than the first controller takes them. Returns
    /// how many it has taken.
    pub fn send(&self, cluster: &Cluster, acks: &[Vec<u8>]) -> u64 {
        let say = |datagram: &[u8]| self.socket.send(datagram, To::All(Role::Controller));
        let pid = cluster.nodes[0].pid();
        in_bursts(say, acks, || datagrams_taken(pid))
    }
}

fn host(cluster: &Cluster, number: u64) -> (Forger, Message) {
    let (forger, ack) = invented_host(cluster, number);
    (forger, Message::HelloAgentAck(ack))
}
