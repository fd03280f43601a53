//! A floor in a cluster: an old one is told, and a controller with a valid key does not bring
//! a host below it.

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::wait;

/// A floor with this serial, which was to be replaced by this day.
fn floor(cluster: &Cluster, id: &str, serial: u32, expires: &str) -> Patch {
    Patch::new(cluster, id).metadata(&format!("[floor]\nserial = {serial}\nexpires = \"{expires}\""))
}

fn says(node: &Node, words: &str) {
    wait::until_true(words, || node.json(&["status"])["troubles"].to_string().contains(words));
}

#[test]
fn a_floor_holds_against_a_controller_that_has_lost_it_and_is_told_when_it_is_old() {
    need_root!();
    let mut cluster = Cluster::new("floor", 1).start();
    let old = Patch::new(&cluster, "OLD-1").file("etc/old", b"1");
    let _applied = [
        Patch::new(&cluster, "NEW-1")
            .file("etc/new", b"1")
            .metadata("supersedes = [\"OLD-1\"]")
            .applied(&cluster),
        floor(&cluster, "FLOOR-1", 1, "2020-02-29").applied(&cluster),
    ];
    says(&cluster.nodes[0], "The applied floor is old: FLOOR-1 (serial 1) was to be replaced by 2020-02-29.");
    cluster.thimble(&["host-install", "agent-1"]).ok();
    says(
        &cluster.nodes[1],
        "The floor of this host is old: FLOOR-1 (serial 1) was to be replaced by 2020-02-29.",
    );
    for (number, role, metrics) in [
        (0, "controller", ["applied_floor_serial 1", "applied_floor_expires_seconds 1583020800"]),
        (1, "agent", ["floor_serial 1", "floor_expires_seconds 1583020800"]),
    ] {
        let node = &cluster.nodes[number];
        let floor = &node.json(&["status"])[role]["floor"];
        let (id, serial, expires) = (&floor["id"], &floor["serial"], &floor["expires"]);
        assert!(id == "FLOOR-1" && serial == 1 && expires == "2020-02-29", "{floor}");
        let all = node.thimble(&["metrics"]).ok();
        assert!(metrics.iter().all(|line| all.contains(&format!("\nthimble_{line}\n"))), "{all}");
    }
    let refused = cluster.nodes[0].thimble(&["remove", "FLOOR-1"]).failed(1);
    assert!(refused.contains("FLOOR-1 is the floor in force"), "{refused}");
    cluster.nodes[1].stop();
    cluster.nodes[1].start();
    says(&cluster.nodes[1], "The floor of this host is old: FLOOR-1");

    // Who has a controller's key has any repository that he likes.
    cluster.nodes[0].kill();
    cluster.nodes[0].wipe();
    cluster.nodes[0].start();
    let old = old.applied(&cluster);
    let refused = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(refused.contains("FLOOR-1 is the floor in force (serial 1)"), "{refused}");
    let _later = floor(&cluster, "FLOOR-2", 2, "9999-12-31").applied(&cluster);
    let refused = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(refused.contains("OLD-1 was superseded"), "{refused}");
    assert!(
        cluster.nodes[1].root().join("etc/new").exists() && !cluster.nodes[1].root().join("etc/old").exists()
    );

    // What is removed does not come back, and the refusal says what helps.
    assert!(refused.contains("or a floor that allows it"), "{refused}");
    // The maker's word changes it, and ends the trouble.
    let allows = floor(&cluster, "FLOOR-3", 3, "9999-12-31").metadata("allows = [\"OLD-1\"]");
    let _allows = allows.applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(cluster.nodes[1].root().join("etc/old").exists(), "{}", old.id);
    wait::until_true("no floor is old", || {
        cluster.nodes.iter().all(|node| !node.json(&["status"])["troubles"].to_string().contains("floor"))
    });
}
