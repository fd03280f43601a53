//! Notices and errors of an install reach the operator, and are in the host's log once.

use std::fs;

use crate::cluster::Cluster;
use crate::patch::Patch;

#[test]
fn a_file_changed_by_hand_is_reported_with_the_install() {
    need_root!();
    let cluster = Cluster::new("by-hand", 1).start();
    let agent = &cluster.nodes[1];
    let _first = Patch::new(&cluster, "FIRST-1").file("etc/one", b"first").applied(&cluster);
    let shown = cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("agent-1: installed\n"), "{shown}");

    fs::write(agent.root().join("etc/one"), "by hand").unwrap();
    let second = Patch::new(&cluster, "SECOND-1").metadata("requires = [\"FIRST-1\"]");
    let _second = second.file("etc/one", b"second").applied(&cluster);
    let notice = "/etc/one was changed by hand: that is saved as one.thimble-saved";
    let shown = cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains(&format!("agent-1: installed: {notice}\n")), "{shown}");
    assert_eq!(cluster.host(1)["reason"], notice);
    assert_eq!(cluster.host(1)["current"], "yes");
    assert_eq!(agent.json(&["status"])["agent"]["reason"], notice);
    assert_eq!(agent.log().matches(notice).count(), 1, "{}", agent.log());

    let shown = cluster.json(&["host-install", "agent-1"]);
    assert_eq!(shown["hosts"][0]["install"], "installed");
    assert_eq!(shown["hosts"][0]["reason"], "", "the notice is not reported twice");
}

#[test]
fn a_script_that_fails_is_logged_once() {
    need_root!();
    let cluster = Cluster::new("once", 1).start();
    let sick = Patch::new(&cluster, "SICK-1").file("etc/one", b"1");
    let _sick = sick.script("health", "echo no pulse; exit 3").applied(&cluster);
    let failure = "health of SICK-1 ended with status 3: no pulse";
    let shown = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(shown.contains(failure), "{shown}");
    let log = cluster.nodes[1].log();
    assert_eq!(log.matches(failure).count(), 1, "{log}");
}
