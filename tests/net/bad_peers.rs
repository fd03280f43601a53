//! Peers that cannot be sent to: which, and why, once.

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::wait;

fn troubles(node: &Node) -> String {
    node.json(&["status"])["troubles"].to_string()
}

/// How many lines of the log contain this.
fn lines(node: &Node, words: &str) -> usize {
    node.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_peer_that_cannot_be_sent_to_is_named_once_until_that_changes() {
    need_root!();
    if crate::over::is_ipv6() {
        return crate::skip("a bad peer", "the errors are those of IPv4");
    }
    let mut cluster = Cluster::new("bad-peers", 1).timer("hello_interval_ms", 200);
    cluster.nodes[1]
        .settings
        .push(("network", "multicast = false\npeers = [\"10.99.0.1\", \"10.84.0.255\"]".into()));
    cluster.nodes.iter_mut().for_each(Node::start);
    let node = &cluster.nodes[1];
    let checked = node.thimble(&["check-config"]).ok();
    for words in ["the peer 10.99.0.1 cannot be sent to now: Network ", "the peer 10.84.0.255 "] {
        assert!(checked.contains(&format!("WARNING: {words}")), "{checked}");
    }
    wait::until_true("the peers are named", || {
        let said = troubles(node);
        // The words differ with the C library.
        said.contains("A peer cannot be sent to, for ")
            && said.contains("unreachable (os error 101); see the routes of this node")
            && said.contains("10.84.0.255, Permission denied (os error 13); it is a broadcast address")
    });
    wait::until_true("it hears no controller", || {
        troubles(node).contains("No controller has been heard for")
    });
    let said = troubles(node);
    assert!(said.contains("at one of network.peers") && !said.contains("group"), "{said}");
    assert!(!said.contains("Datagrams cannot be sent"), "{said}");
    let before = node.counter("sends_failed");
    wait::until_true("it is sent to many times", || node.counter("sends_failed") > before + 20);
    for (words, times) in [("10.99.0.1", 1), ("10.84.0.255", 1), ("cannot send a datagram", 0)] {
        assert_eq!(lines(node, words), times, "{words}: {}", node.log());
    }
    node.namespace.ip("route add 10.99.0.1/32 dev net0\n");
    wait::until_true("it can be sent to", || lines(node, "the peer 10.99.0.1 is sent to again") == 1);
    assert!(!troubles(node).contains("10.99.0.1"), "{}", troubles(node));
}

/// The good one beside a bad one is served.
#[test]
fn a_bad_peer_keeps_nobody_from_the_others() {
    need_root!();
    if crate::over::is_ipv6() {
        return crate::skip("a bad peer", "the errors are those of IPv4");
    }
    let mut cluster = Cluster::of("bad-beside", 1, 1).without_multicast();
    let good = cluster.nodes[0].address;
    cluster.nodes[1].settings.push(("network", format!("peers = [\"10.99.0.1\", \"{good}\"]")));
    let cluster = cluster.start();
    let _ = Patch::new(&cluster, "BESIDE-1").file("etc/beside", b"x").applied(&cluster);
    wait::until_true("it has the patch", || {
        let _ = cluster.thimble(&["host-install", "--all"]);
        cluster.nodes[1].root().join("etc/beside").exists()
    });
    assert!(troubles(&cluster.nodes[1]).contains("A peer cannot be sent to, for "));
}

#[test]
fn what_is_no_node_is_refused_as_a_peer() {
    need_root!();
    let mut cluster = Cluster::new("no-peers", 0);
    for (peer, words) in [
        ("255.255.255.255", "255.255.255.255 is the broadcast address; list each node by its own address"),
        ("239.1.2.3", "239.1.2.3 is the address of a group"),
        ("0.0.0.0", "0.0.0.0 is no address"),
        ("fe80::1%net1", "fe80::1%net1 is on the interface net1, but thimble serves net0"),
    ] {
        let node = &mut cluster.nodes[0];
        node.settings = vec![("network", format!("peers = [\"{peer}\"]"))];
        node.write_config();
        let said = node.thimble(&["check-config"]).failed(1);
        assert!(said.contains(words), "{said}");
        node.spawn();
        let (code, log) = node.ended();
        assert!(code != Some(0) && log.contains(words), "{code:?} {log}");
    }
}
