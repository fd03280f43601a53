//! What leaves a controller that sends one file to all hosts over TIPC: its broadcasts, and what the kernel sends again.

use std::fs;

use crate::cluster::Cluster;
use crate::common::Numbers;
use crate::common::figures::Figure;
use crate::node::Node;
use crate::patch::Patch;

const PART: &str = "spread-tipc";
const HOSTS: usize = 8;
const BYTES: usize = 8 << 20;
const ROUNDS: usize = 3;

pub fn measure() {
    let cluster = Cluster::bridged("bench-spread-tipc", 1, HOSTS).timer("hello_interval_ms", 10_000).start();
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let mut numbers = Numbers::new();
        let noise: Vec<u8> = (0..BYTES).map(|_| numbers.next() as u8).collect();
        let id = format!("SPREAD-{round}");
        Patch::new(&cluster, &id).file(&format!("opt/{id}"), &noise).uploaded_at(&cluster, 0);
        let before = left(&cluster.nodes[0]);
        let said = cluster.nodes[0].thimble(&["spread", &id, "--rate", "16Mbit"]).ok();
        println!("{said}");
        assert!(said.contains(&format!("of {HOSTS} hosts have it all")), "{said}");
        let size = cluster.nodes[0].json(&["spread"])["sent"]["size_bytes"].as_u64().unwrap();
        sent.push((left(&cluster.nodes[0]) - before) as f64 / size as f64);
    }
    let name = "bytes that leave a controller's interface, 8 hosts, TIPC";
    Figure::new(PART, name, "x the file", sent).record();
}

/// Bytes that have left by a node's interface.
fn left(node: &Node) -> u64 {
    let devices = node.namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let device = devices.lines().find_map(|line| line.trim().strip_prefix("net0:")).unwrap();
    device.split_whitespace().nth(8).and_then(|bytes| bytes.parse().ok()).unwrap()
}
