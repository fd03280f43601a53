//! A running cluster changes its secret: no datagram is refused, no ack is lost, no
//! install fails, and in the end the old keys are refused.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use thimble::types::{ClusterId, NodeId};
use thimble::wire::frame::Role;
use thimble::wire::messages::{HelloAgent, Message};

use crate::cluster::{Cluster, Node};
use crate::forge::Forger;
use crate::over::{Datagrams, To};
use crate::patch::Patch;
use crate::{sys, wait};

/// The time from one ack of a host to the next.
const INTERVAL_MS: u64 = 2_000;
/// The limit on a host's age, between two cases. If an ack is lost, the age reaches twice
/// the interval less the window (20 ms). If none is, it reaches at most the interval, its
/// jitter (a tenth) and the window.
const LATE_MS: u64 = INTERVAL_MS * 18 / 10;

/// Makes a node's new key file with an operator's command, replaces the old one, and
/// reloads the daemon by signal or by command.
pub fn replace(node: &Node, keygen: &[&str], by_signal: bool) {
    let new = node.dir.join("new.key");
    let out = ["-o", new.to_str().unwrap()];
    node.thimble(&[&["keygen"], keygen, &out].concat()).ok();
    fs::rename(new, node.key_file()).unwrap();
    if by_signal {
        let before = node.log().matches("the key file sends").count();
        sys::signal(node.pid(), libc::SIGHUP).unwrap();
        wait::until_true("the signal is acted on", || {
            node.log().matches("the key file sends").count() > before
        });
    } else {
        let said = node.thimble(&["reload"]).ok();
        assert!(said.contains("the key file sends with slot"), "{said}");
    }
}

/// No node has refused a datagram or session because of its key.
fn nothing_is_refused(cluster: &Cluster, when: &str) {
    for node in &cluster.nodes {
        for reason in ["no_key", "tag", "stale_incarnation", "replay", "duplicate_node_id"] {
            assert_eq!(node.refused(reason), 0, "{}: {reason} {when}", node.name);
        }
        assert_eq!(node.counter("sessions_refused"), 0, "{} {when}", node.name);
    }
}

/// The number of datagrams with a key slot that each node has accepted.
fn heard_with(cluster: &Cluster, slot: u8) -> Vec<u64> {
    cluster.nodes.iter().map(|node| node.counter(&format!("received_with_slot_{slot}"))).collect()
}

/// The secret of the first slot of a key file.
fn secret(key_file: &str) -> [u8; 32] {
    let line = key_file.lines().find_map(|line| line.strip_prefix("secret = \"")).unwrap();
    std::array::from_fn(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap())
}

fn cluster_id(key_file: &str) -> ClusterId {
    let line = key_file.lines().find_map(|line| line.strip_prefix("cluster = \"")).unwrap();
    ClusterId::from_hex(&line[..16]).unwrap()
}

#[test]
fn a_running_cluster_changes_its_secret_without_losing_an_ack() {
    need_root!();
    let cluster = Cluster::bridged("rotation", 2, 4).timer("hello_interval_ms", INTERVAL_MS);
    let cluster = cluster.timer("install_give_up_ms", 20_000).start();
    let old = fs::read_to_string(cluster.key_file()).unwrap();
    let ids = |cluster: &Cluster| -> Vec<_> {
        cluster.nodes.iter().map(|node| node.json(&["status"])["node"].clone()).collect()
    };
    let before = ids(&cluster);
    let _patch = Patch::new(&cluster, "WHILE-1").file("etc/while", b"x").applied(&cluster);
    wait::until_true("the rounds are narrow", || {
        let hellos = cluster.nodes[2].counter("datagrams_received");
        hellos >= 8
    });

    let (is_over, installs, oldest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        // Installs and uninstalls all the while, over both controllers in turn.
        scope.spawn(|| {
            for round in 0.. {
                let controller = &cluster.nodes[round / 2 % 2];
                controller.thimble(&[["apply", "remove"][round % 2], "WHILE-1"]).ok();
                cluster.agree("both controllers know");
                controller.thimble(&["host-install", "agent-1", "agent-2"]).ok();
                installs.fetch_add(1, Ordering::Relaxed);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for controller in cluster.controllers() {
                    let hosts = controller.json(&["query-hosts"])["hosts"].clone();
                    let ages = hosts.as_array().unwrap().iter().map(|host| host["age_ms"].as_u64().unwrap());
                    oldest.fetch_max(ages.max().unwrap_or(u64::MAX), Ordering::Relaxed);
                    assert_eq!(hosts.as_array().map(Vec::len), Some(4));
                }
            }
        });
        // The threads must end even if the rotation panics.
        let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rotate(&cluster, &installs)));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = rotated {
            std::panic::resume_unwind(panic);
        }
    });
    let oldest = oldest.into_inner();
    assert!(oldest < LATE_MS, "a host was {oldest} ms old: an ack was lost");
    assert_eq!(ids(&cluster), before, "node ids have not changed");
    nothing_is_refused(&cluster, "to the end");

    // The old keys alone are refused.
    let socket = Datagrams::new(&cluster.stranger);
    let mut thief = Forger::controller(cluster_id(&old), NodeId(77), &secret(&old));
    let hello = Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms: 50 });
    socket.send(&thief.encode(&hello, NodeId(0)), To::One(Role::Agent, cluster.nodes[2].address));
    wait::until_true("it is refused", || cluster.nodes[2].refused("no_key") == 1);
}

/// Rotates in three steps, each on all nodes before the next.
fn rotate(cluster: &Cluster, installs: &AtomicU64) {
    let (first, others) = cluster.nodes.split_first().unwrap();
    let own = |node: &Node| node.key_file().to_str().unwrap().to_owned();
    let installs_go_on = |when: &str| {
        let before = installs.load(Ordering::Relaxed);
        wait::until_true(&format!("an install {when}"), || installs.load(Ordering::Relaxed) >= before + 2);
    };

    // 1. Add a new slot: made on one controller, copied to all nodes.
    replace(first, &["--add-slot", "--from", &own(first)], false);
    for (at, node) in others.iter().enumerate() {
        replace(node, &["--like", &own(node), "--from", &own(first)], at % 2 == 0);
    }
    installs_go_on("with both slots accepted");
    nothing_is_refused(cluster, "with both slots accepted");

    // 2. Send with it: agents and controllers in any order.
    for (at, node) in cluster.nodes.iter().rev().enumerate() {
        replace(node, &["--send-slot", "1", "--from", &own(node)], at % 2 == 0);
        if at == 2 {
            installs_go_on("while half of them send with the new slot");
        }
    }
    nothing_is_refused(cluster, "once all send with the new slot");
    // The check that an operator makes before the last step.
    wait::until_true("all hear the new slot, and nobody the old one", || {
        let before = [0, 1].map(|slot| heard_with(cluster, slot));
        installs_go_on("between two looks");
        let now = [0, 1].map(|slot| heard_with(cluster, slot));
        // A host that is not installed may have heard nothing in between.
        now[0] == before[0] && now[1].iter().zip(&before[1]).all(|(now, before)| now > before)
    });

    // 3. Drop the old slot.
    for (at, node) in cluster.nodes.iter().enumerate() {
        replace(node, &["--drop-slot", "0", "--from", &own(node)], at % 2 == 0);
    }
    installs_go_on("with the new slot alone");
}
