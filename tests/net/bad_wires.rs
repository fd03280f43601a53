//! Wires as they are in the field: what a cluster still does on them, and what it says.

use std::fs;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::patch::Patch;
use crate::wait;
use crate::weather::Weather;

/// Applies a patch of this size and has all hosts install it with one command; each then has it.
fn installs(cluster: &Cluster, id: &str, size: usize) {
    let content = applied(cluster, id, size);
    cluster.thimble(&["host-install", "--all"]).ok();
    all_have(cluster, &content);
}

fn applied(cluster: &Cluster, id: &str, size: usize) -> Vec<u8> {
    let content: Vec<u8> = (0..size).map(|at| (at * 7 / 3) as u8).collect();
    let _ = Patch::new(cluster, id).file("etc/wired", &content).applied(cluster);
    content
}

fn all_have(cluster: &Cluster, content: &[u8]) {
    for agent in &cluster.nodes[cluster.controllers().len()..] {
        assert!(fs::read(agent.root().join("etc/wired")).unwrap() == content, "{}", agent.name);
    }
}

/// Requests that are repeated for long enough, and sessions that are given time.
fn patient(cluster: Cluster) -> Cluster {
    cluster.timer("install_give_up_ms", 60_000).timer("session_proof_ms", 20_000)
}

#[test]
fn patches_are_installed_while_a_fifth_of_all_frames_is_lost() {
    need_root!();
    let cluster = patient(Cluster::of("fifth-lost", 2, 2)).start();
    cluster.set_weather(Weather { lost_permille: 200, ..Weather::default() });
    for id in ["FIFTH-1", "FIFTH-2", "FIFTH-3"] {
        let content = applied(&cluster, id, 20_000);
        wait::until_true("all hosts have it", || {
            // One that was rejected for a lost session is asked again. A lost datagram is repeated.
            let said = cluster.thimble(&["host-install", "--all"]);
            assert_ne!(said.code, 6, "not answered: {}{}", said.stdout, said.stderr);
            cluster.thimble(&["is-applied", id]).code == 0
        });
        all_have(&cluster, &content);
        cluster.thimble(&["remove", id]).ok();
    }
    for controller in cluster.controllers() {
        assert_eq!(controller.counter("lost_unanswered"), 0, "{} has lost one that is up", controller.name);
    }
    cluster.set_weather(Weather::default());
    cluster.agree("both controllers have it");
}

#[test]
fn patches_are_installed_over_a_slow_wire_that_reorders() {
    need_root!();
    let cluster = patient(Cluster::of("slow-wire", 2, 2)).timer("hello_interval_ms", 1_000).start();
    cluster.set_weather(Weather { late: Duration::from_millis(600), ..Weather::default() });
    installs(&cluster, "SLOW-1", 5_000);
    cluster.agree("both controllers have it");
}

#[test]
fn patches_are_installed_over_the_smallest_frames_of_the_internet() {
    need_root!();
    if crate::over::is_ipv6() {
        return crate::skip("an MTU of 576", "IPv6 takes part from 1,280 on");
    }
    let cluster = Cluster::of("small-frames", 1, 1);
    for node in &cluster.nodes {
        node.namespace.ip("link set net0 mtu 576\n");
    }
    let cluster = cluster.start();
    installs(&cluster, "SMALL-1", 100_000);
}

/// What one may send whole is more than the other takes.
#[test]
fn patches_are_installed_where_the_nodes_differ_in_the_frames_that_they_take() {
    need_root!();
    if crate::over::is_ipv6() {
        return crate::skip("an MTU of 576", "IPv6 takes part from 1,280 on");
    }
    for (at_controller, at_agent) in [(1_280, 576), (576, 1_280)] {
        let cluster = Cluster::bridged("two-mtus", 1, 1);
        for (node, mtu) in cluster.nodes.iter().zip([at_controller, at_agent]) {
            node.namespace.ip(&format!("link set net0 mtu {mtu}\n"));
        }
        let cluster = cluster.start();
        installs(&cluster, "SMALL-2", 100_000);
    }
}

#[test]
fn where_sessions_are_blocked_and_datagrams_pass_the_port_to_open_is_named() {
    need_root!();
    let cluster = Cluster::of("no-sessions", 1, 1).timer("session_proof_ms", 1_000).start();
    wait::until_true("it is known what the host has", || cluster.is_settled());
    cluster.set_weather(Weather { no_sessions: true, ..Weather::default() });
    let _ = Patch::new(&cluster, "BLOCKED-1").file("etc/blocked", b"1").applied(&cluster);
    let said = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("TCP port 7488"), "{said}");
    let said = cluster.nodes[1].json(&["status"])["agent"]["reason"].to_string();
    assert!(said.contains("TCP port 7488"), "{said}");
    cluster.set_weather(Weather::default());
    cluster.thimble(&["host-install", "agent-1"]).ok();
}

/// Before any packet leaves.
#[test]
fn a_session_that_cannot_begin_names_its_port_and_the_systems_error() {
    need_root!();
    let cluster = Cluster::bridged("no-route", 1, 1).timer("install_give_up_ms", 8_000).start();
    let agent = &cluster.nodes[1];
    let _ = Patch::new(&cluster, "ROUTE-1").file("etc/route", b"1").applied(&cluster);
    agent.namespace.ip(&format!("route add unreachable {}\n", cluster.address));
    let _ = cluster.thimble(&["host-install", "agent-1"]);
    let reason = || agent.json(&["status"])["agent"]["reason"].to_string();
    // The error's words differ with the C library.
    let words = [&format!("TCP port 7488 of {}: ", cluster.address), "(os error 113)"];
    wait::until_true("its own status names it", || words.iter().all(|word| reason().contains(word)));
    agent.namespace.ip(&format!("route delete unreachable {}\n", cluster.address));
    installs(&cluster, "ROUTE-2", 100);
}

#[test]
fn a_node_whose_address_another_host_takes_for_a_while_is_heard_again() {
    need_root!();
    let cluster = patient(Cluster::bridged("taken-address", 1, 1)).start();
    let agent = &cluster.nodes[1];
    cluster.stranger.ip(&format!("address add {}/24 dev net0\n", agent.address));
    cluster.stranger.run("ip", "neigh flush all", "");
    let ping = format!("-c 1 -W 1 -I {} {}", agent.address, cluster.address);
    let _ = cluster.stranger.command("ping").args(ping.split(' ')).output();
    cluster.stranger.ip(&format!("address delete {}/24 dev net0\n", agent.address));
    installs(&cluster, "TAKEN-1", 100);
}
