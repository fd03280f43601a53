//! A set with which a host loses its network is undone: installed means still there.

use std::fs;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::wait;

/// How long a host waits for a controller here.
const WAIT_MS: u64 = 4_000;

/// What the file `etc/net` of a node says, which the restart script of [`cutting`] does.
#[cfg(not(feature = "tipc"))]
fn networks(node: &Node) -> Vec<(&'static str, String, String)> {
    let address = format!("{}/24", node.address);
    vec![
        ("down", "link set net0 down".into(), "link set net0 up".into()),
        ("flushed", "address flush dev net0".into(), format!("address replace {address} dev net0")),
        (
            "renamed",
            "link set net0 down\nlink set net0 name gone0".into(),
            format!("link set gone0 name net0\nlink set net0 up\naddress replace {address} dev net0"),
        ),
    ]
}

#[cfg(feature = "tipc")]
fn networks(_: &Node) -> Vec<(&'static str, String, String)> {
    vec![("down", "link set net0 down".into(), "link set net0 up".into())]
}

/// A patch whose restart script applies `etc/net`, which it brings.
fn cutting(cluster: &Cluster, id: &str, cut: &str) -> Patch {
    let restart = "ip -batch \"$THIMBLE_ROOT/etc/net\"";
    Patch::new(cluster, id).file("etc/net", format!("{cut}\n").as_bytes()).script("restart", restart)
}

/// Gives a node the file that brings its network back.
fn has_network(node: &Node, network: &str) {
    fs::create_dir_all(node.root().join("etc")).unwrap();
    fs::write(node.root().join("etc/net"), format!("{network}\n")).unwrap();
}

/// A cluster whose agents wait for [`WAIT_MS`]: less than the controllers do.
pub fn impatient(mut cluster: Cluster, controllers: usize) -> Cluster {
    cluster.nodes.iter_mut().skip(controllers).for_each(|node| {
        node.timers.insert("install_give_up_ms", WAIT_MS);
    });
    cluster.nodes.iter_mut().take(controllers).for_each(|node| {
        node.timers.insert("install_give_up_ms", 60_000);
        // Over TIPC, a host that is out of reach is given up after five of these.
        node.timers.insert("install_retry_ms", 6_000);
    });
    cluster
}

#[test]
fn a_host_that_loses_its_network_with_a_set_goes_back_and_says_so() {
    need_root!();
    let cluster = impatient(Cluster::new("lost-network", 1), 1).start();
    let host = &cluster.nodes[1];
    for (name, cut, back) in networks(host) {
        has_network(host, &back);
        let id = format!("CUTS-{name}");
        cutting(&cluster, &id, &cut).applied(&cluster);
        let said = cluster.thimble(&["host-install", "agent-1"]).failed(1);
        assert!(said.contains("the network was lost with this set: no controller was heard"), "{said}");
        assert_eq!(fs::read_to_string(host.root().join("etc/net")).unwrap(), format!("{back}\n"));
        assert!(!host.root().join(".thimble/journal").exists());
        let own = host.thimble(&["status"]).ok();
        assert!(own.contains("last install  the network was lost with this set"), "{own}");
        assert!(own.contains("agent         install-failed"), "{own}");
        cluster.thimble(&["remove", &id]).ok();
    }
    // A harmless one is installed.
    Patch::new(&cluster, "GOOD-1").file("etc/good", b"x").applied(&cluster);
    let shown = cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("1 of 1 installed"), "{shown}");
}

#[test]
fn a_rollout_counts_a_lost_network_as_a_failure_and_stops() {
    need_root!();
    let cluster = impatient(Cluster::new("lost-rollout", 3), 1).start();
    let agents = &cluster.nodes[1..];
    agents.iter().for_each(|node| has_network(node, "link set net0 up"));
    cutting(&cluster, "CUTS-1", "link set net0 down").applied(&cluster);
    let one_by_one = ["host-install", "--all", "--parallel", "1", "--stop-after-failures", "1"];
    let said = cluster.thimble(&one_by_one).failed(1);
    assert!(said.contains("the network was lost with this set"), "{said}");
    assert!(said.contains("1 failed"), "{said}");
    let touched = agents.iter().filter(|node| node.root().join(".thimble/last").exists()).count();
    assert_eq!(touched, 1, "the others were not asked");
}

/// A node's own controller is heard without a network.
#[test]
fn a_node_with_both_roles_must_hear_another_controller_if_there_is_one() {
    need_root!();
    let mut cluster = Cluster::bridged("lost-both", 2, 0);
    cluster.nodes.iter_mut().for_each(|node| node.has_both_roles = true);
    let mut cluster = cluster.timer("install_give_up_ms", WAIT_MS).timer("controller_lost_ms", 10_000);
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.nodes.iter_mut().for_each(Node::answers);
    cluster.agree("the controllers take changes");
    wait::until_true("the controllers hear both hosts", || {
        cluster
            .nodes
            .iter()
            .all(|node| node.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2))
    });
    let node = &cluster.nodes[0];
    has_network(node, "link set net0 up");
    cutting(&cluster, "CUTS-1", "link set net0 down").applied(&cluster);
    let said = node.thimble(&["host-install", "controller-0"]).failed(1);
    assert!(said.contains("the network was lost with this set: no other controller was heard"), "{said}");
    assert_eq!(fs::read_to_string(node.root().join("etc/net")).unwrap(), "link set net0 up\n");
    cluster.thimble(&["remove", "CUTS-1"]).ok();
    Patch::new(&cluster, "GOOD-1").file("etc/good", b"x").applied(&cluster);
    wait::until_true("a harmless set is installed", || {
        cluster.thimble(&["host-install", "controller-0"]).code == 0
    });
    // One that is alone hears itself.
    cluster.nodes[1].stop();
    let node = &cluster.nodes[0];
    wait::until_true("it is alone", || node.status().neighbours.iter().all(|other| other.is_lost));
    node.thimble(&["remove", "GOOD-1"]).ok();
    node.thimble(&["host-install", "controller-0"]).ok();
    assert!(!node.root().join("etc/good").exists());
}
