//! After start-up the loop allocates only to start a worker. The tests run everything
//! that a cluster does with a binary that counts allocations (feature `proof`).

use std::io::Write;
use std::os::unix::net::UnixStream;

use thimble::repo::rollout::RolloutState;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::rotation::replace;
use crate::wait;

fn in_the_loop(node: &Node) -> u64 {
    let status = node.json(&["status"]);
    status["loop_allocations"].as_u64().expect("a binary that counts: build with --features proof")
}

#[test]
fn the_loop_allocates_nothing_after_start() {
    need_root!();
    if !cfg!(feature = "proof") {
        return crate::skip("allocations", "needs a binary that counts: cargo test --features proof");
    }
    let cluster = Cluster::new("allocations", 2).counting().start();
    let all = |what: &str| {
        for node in &cluster.nodes {
            assert_eq!(in_the_loop(node), 0, "{what}: {}", node.name);
        }
    };
    all("hellos and acks");

    let _good = Patch::new(&cluster, "GOOD-1").file("etc/one", b"1").applied(&cluster);
    let _ill =
        Patch::new(&cluster, "ILL-1").script("health", "exit 1").file("etc/two", b"2").applied(&cluster);
    all("uploads and changes");
    cluster.thimble(&["host-install", "agent-1", "agent-2"]).failed(1);
    all("an install that is rolled back");
    cluster.thimble(&["remove", "ILL-1"]).ok();
    // The digest differs from the expected one: the controller queries the details.
    cluster.thimble(&["host-install", "agent-1"]).ok();
    cluster.thimble(&["remove", "GOOD-1"]).ok();
    wait::until_true("both hosts are known in detail", || {
        cluster.json(&["query"])["patches"][0]["patch_state"] == "Partial-Remove"
    });
    all("installs and detailed queries");

    let (first, others) = cluster.nodes.split_first().unwrap();
    let own = |node: &Node| node.key_file().to_str().unwrap().to_owned();
    replace(first, &["--add-slot", "--from", &own(first)], false);
    for node in others {
        replace(node, &["--like", &own(node), "--from", &own(first)], true);
    }
    for node in &cluster.nodes {
        replace(node, &["--send-slot", "1", "--from", &own(node)], false);
    }
    all("new key files");

    crate::datagrams::next_good_datagram_is_served(&cluster, 1);
    for node in &cluster.nodes[..2] {
        let mut peers: Vec<_> = (0..40).map(|_| crate::sessions::connect(&cluster, node)).collect();
        let _ = peers[39].write_all(&[b'G'; 64]);
        let commands = [0; 12].map(|_| UnixStream::connect(node.control_socket()).unwrap());
        assert_ne!(node.thimble(&["status"]).code, 0, "all slots are taken");
        drop((peers, commands));
        wait::until_true("a slot is free again", || node.thimble(&["status"]).code == 0);
    }
    all("sessions and commands that are refused or evicted");
    cluster.thimble(&["show", "GOOD-1"]).ok();
    cluster.thimble(&["delete", "GOOD-1"]).failed(1);
    cluster.thimble(&["drop-host", "agent-2"]).ok();
    wait::until_true("it is back", || cluster.host(2)["hostname"] == "agent-2");
    all("refusals, a show, a drop");
}

#[test]
fn the_loop_of_a_controller_among_others_allocates_nothing_after_start() {
    need_root!();
    if !cfg!(feature = "proof") {
        return crate::skip("allocations", "needs a binary that counts: cargo test --features proof");
    }
    let cluster = Cluster::of("allocations-2", 2, 1).counting().timer("controller_lost_ms", 1_500);
    let mut cluster = cluster.timer("sync_wait_ms", 500).start();
    let all = |cluster: &Cluster, what: &str| {
        for node in cluster.nodes.iter().filter(|node| node.runs()) {
            assert_eq!(in_the_loop(node), 0, "{what}: {}", node.name);
        }
    };
    let patch = |cluster: &Cluster, at: usize, id: &str| {
        Patch::new(cluster, id).file(&format!("etc/{id}"), b"x").uploaded_at(cluster, at);
    };
    all(&cluster, "hellos and first merges");
    patch(&cluster, 0, "FIRST-1");
    wait::until_true("the file is fetched", || {
        let row = cluster.nodes[1].status().row;
        row.patches == 1 && row.blobs_missing == 0 && row.workers == 0
    });
    cluster.nodes[1].thimble(&["apply", "FIRST-1"]).ok();
    all(&cluster, "changes, merges and a file fetched");

    cluster.nodes[0].thimble(&["host-install", "--all"]).ok();
    // The other controller learns of its end with the next merge.
    wait::until_true("it has ended on both", || {
        cluster.nodes[1].rollout().is_some_and(|rollout| rollout.state == RolloutState::Ended)
    });
    cluster.nodes[1].thimble(&["host-install", "--stop"]).failed(1);
    all(&cluster, "a rollout");

    cluster.cut(&[0], &[1]);
    cluster.nodes[0].thimble(&["remove", "FIRST-1"]).ok();
    cluster.nodes[1].thimble(&["remove", "FIRST-1"]).ok();
    patch(&cluster, 0, "LEFT-1");
    patch(&cluster, 1, "RIGHT-1");
    wait::until_true("each counts the other as lost", || {
        cluster.controllers().iter().all(|controller| controller.status().neighbours[0].is_lost)
    });
    cluster.nodes[0].thimble(&["purge"]).failed(1);
    cluster.heal();
    cluster.agree("one digest");
    all(&cluster, "changes apart, losing each other, a purge refused, a merge of both sides");

    wait::until_true("it may delete", || cluster.nodes[0].thimble(&["delete", "LEFT-1"]).code == 0);
    cluster.agree("one digest");
    cluster.nodes[1].thimble(&["purge"]).ok();
    cluster.nodes[0].thimble(&["drop-host", "agent-1"]).ok();
    all(&cluster, "a purge and a host that is dropped");
    cluster.nodes[1].kill();
    wait::until_true("the other is lost, and dropped", || {
        cluster.nodes[0].thimble(&["drop-controller", "controller-1"]).code == 0
    });
    cluster.nodes[1].start();
    cluster.agree("they meet again");
    all(&cluster, "a controller that is dropped and comes back");
}
