//! `explain`: on a real cluster, as each cause arises and goes.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::node::Node;
use crate::patch::Patch;
use crate::wait;

/// The causes that `explain` tells of a host or a patch.
fn codes(node: &Node, name: &str) -> Vec<String> {
    let document = node.json(&["explain", name]);
    let causes = document["causes"].as_array().unwrap();
    causes.iter().map(|cause| cause["code"].as_str().unwrap().to_owned()).collect()
}

fn waits_for(node: &Node, name: &str, expected: &[&str]) {
    wait::until_true(&format!("{name} has the causes {expected:?}"), || codes(node, name) == expected);
}

fn hosts(document: &Value) -> Vec<&str> {
    document["hosts"].as_array().unwrap().iter().map(|host| host["hostname"].as_str().unwrap()).collect()
}

#[test]
fn a_host_and_a_patch_are_explained_from_upload_to_loss() {
    need_root!();
    let mut cluster =
        Cluster::new("explain", 1).timer("hello_interval_ms", 500).timer("host_lost_ms", 4_000).start();
    waits_for(&cluster, "agent-1", &[]);
    let said = cluster.thimble(&["explain", "agent-1"]).ok();
    assert!(said.contains(" is current; heard ") && said.lines().count() == 1, "{said}");

    let fails = Patch::new(&cluster, "EXPLAIN-1").file("etc/explain", b"1").script("health", "exit 3");
    cluster.thimble(&["upload", fails.signed(&cluster).to_str().unwrap()]).ok();
    waits_for(&cluster, "EXPLAIN-1", &["not-applied"]);
    cluster.thimble(&["apply", "EXPLAIN-1"]).ok();
    waits_for(&cluster, "agent-1", &["not-asked"]);
    let said = cluster.thimble(&["explain", "agent-1"]).ok();
    assert!(said.contains("lacks: EXPLAIN-1\n") && said.contains("`thimble host-install agent-1`"), "{said}");
    let patch = cluster.json(&["explain", "EXPLAIN-1"]);
    assert_eq!((hosts(&patch), patch["causes"].as_array().unwrap().len()), (vec!["agent-1"], 0));
    let said = cluster.thimble(&["explain", "EXPLAIN-1"]).ok();
    assert!(
        said.contains("0 of 1 hosts") && said.contains("agent-1: idle, not asked to install\n"),
        "{said}"
    );

    cluster.thimble(&["host-install", "agent-1"]).failed(1);
    waits_for(&cluster, "agent-1", &["failed"]);
    let said = cluster.thimble(&["explain", "agent-1"]).ok();
    assert!(
        said.contains("the patches before it are back: ") && said.contains("ended with status 3"),
        "{said}"
    );

    cluster.nodes[1].kill();
    waits_for(&cluster, "agent-1", &["lost", "failed"]);
    let said = cluster.thimble(&["explain", "agent-1"]).ok();
    assert!(
        said.contains("all hosts are asked in ") && said.contains("`thimble drop-host agent-1`"),
        "{said}"
    );
    assert!(cluster.thimble(&["explain", "EXPLAIN-1"]).ok().contains("agent-1: lost, heard "));
}

/// It has missed a window and two asks, and is not lost yet. Over TIPC it is lost at once.
#[test]
#[cfg(not(feature = "tipc"))]
fn a_silent_host_says_when_it_is_asked_again() {
    need_root!();
    let mut cluster =
        Cluster::new("explain-silent", 1).timer("hello_interval_ms", 500).timer("probe_ms", 60_000).start();
    waits_for(&cluster, "agent-1", &[]);
    cluster.nodes[1].kill();
    waits_for(&cluster, "agent-1", &["silent"]);
    let said = cluster.thimble(&["explain", "agent-1"]).ok();
    for words in
        [" is current; heard ", "  but it does not answer: ", "next: it is asked again in ", "lost in "]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn what_is_neither_a_host_nor_a_patch_is_told() {
    need_root!();
    let cluster = Cluster::new("explain-none", 1).start();
    waits_for(&cluster, "agent-1", &[]);
    let said = cluster.thimble(&["explain", "agnt-1"]).failed(1);
    assert!(said.contains("no patch agnt-1 is in the repository. No host agnt-1 is known"), "{said}");
    assert!(said.contains("Did you mean agent-1?"), "{said}");
    assert!(cluster.nodes[1].thimble(&["explain", "agent-1"]).failed(1).contains("no controller"));
    assert!(cluster.thimble(&["explain"]).failed(2).contains("see `thimble help explain`"));
}
