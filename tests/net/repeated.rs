//! Hellos without end, in controllers' names, and old datagrams that are sent again.

use std::time::Instant;

use thimble::config::keys::KeyFile;
use thimble::limits;
use thimble::types::NodeId;
use thimble::wire::frame::Role;
use thimble::wire::messages::{HelloAgent, Message};

use crate::cluster::Cluster;
use crate::forge::with_keys_of;
use crate::over::{Datagrams, To};
use crate::wait;

/// As many as one thief sent in a minute.
const HELLOS: u64 = 3_000;

#[test]
fn hellos_without_end_in_controllers_names_get_a_bounded_number_of_answers() {
    need_root!();
    const INTERVAL_MS: u64 = 4_000;
    let mut cluster = Cluster::new("hellos", 1);
    cluster.nodes[1].timers.insert("hello_interval_ms", INTERVAL_MS);
    // The controller asks no more often than that either.
    cluster.nodes[0].timers.insert("hello_interval_ms", INTERVAL_MS);
    let cluster = cluster.start();
    let agent = &cluster.nodes[1];
    let socket = Datagrams::new(&cluster.stranger);
    let mut thieves: Vec<_> = (0..limits::CONTROLLERS as u64)
        .map(|name| with_keys_of(agent, Role::Controller, Some(NodeId(0xBAD0 + name))))
        .collect();
    let (sent, received) = (agent.counter("datagrams_sent"), agent.counter("datagrams_received"));
    let began = Instant::now();
    for number in 0..HELLOS {
        let thief = (number % thieves.len() as u64) as usize;
        let hello = Message::HelloAgent(HelloAgent { op_counter: number, ack_window_ms: 1 });
        socket.send(&thieves[thief].encode(&hello, NodeId(0)), To::One(Role::Agent, agent.address));
        if number % 100 == 99 {
            // No faster than the agent takes them.
            let expected = received + number / 2;
            wait::until_true("it takes them", || agent.counter("datagrams_received") >= expected);
        }
    }
    wait::until_true("one of them is answered", || agent.counter("datagrams_sent") > sent);
    let answers = agent.counter("datagrams_sent") - sent;
    let intervals = 1 + began.elapsed().as_millis() as u64 / INTERVAL_MS;
    println!("{HELLOS} hellos in {:?}: {answers} answers", began.elapsed());
    assert!(answers <= intervals * 2 * limits::CONTROLLERS as u64, "{answers} in {intervals} intervals");
}

#[test]
fn old_datagrams_of_a_node_that_are_sent_again_are_no_cloned_image() {
    need_root!();
    let mut cluster = Cluster::new("again", 1).start();
    let ids = [0, 1].map(|node: usize| KeyFile::read(&cluster.nodes[node].key_file()).unwrap().node);
    let hears = Datagrams::receiving(&cluster.stranger, Role::Controller);
    // What both have sent to the controllers in their first start.
    let mut recorded = Vec::new();
    wait::until_true("both have sent some", || {
        recorded.push(hears.recv().0);
        let of = |id: NodeId| recorded.iter().filter(|bytes| bytes[16..24] == id.0.to_le_bytes()).count();
        ids.iter().all(|id| of(*id) >= 3)
    });
    for node in &mut cluster.nodes {
        node.kill();
        node.start();
    }
    crate::datagrams::next_good_datagram_is_served(&cluster, 1);
    let refused = |reason: &str| cluster.refused(reason);
    let all = || refused("own_echo") + refused("stale_incarnation") + refused("replay");
    let (before, stale) = (all(), refused("stale_incarnation"));
    let socket = Datagrams::new(&cluster.stranger);
    for bytes in &recorded {
        socket.send(bytes, To::One(Role::Controller, cluster.address));
    }
    wait::until_true("all are refused", || all() >= before + recorded.len() as u64);
    assert!(refused("stale_incarnation") > stale, "the agent's are of an earlier start");
    assert_eq!(refused("duplicate_node_id"), 0);
    let troubles = cluster.json(&["status"])["troubles"].to_string();
    assert!(!troubles.contains("cloned image"), "{troubles}");
}

#[test]
fn hellos_that_an_agent_makes_in_a_controllers_name_blind_nobody() {
    need_root!();
    let mut cluster = Cluster::new("blind", 2).start();
    let socket = Datagrams::new(&cluster.stranger);
    let controller = KeyFile::read(&cluster.nodes[0].key_file()).unwrap().node;
    // The first agent's key, used on both.
    let mut thief = with_keys_of(&cluster.nodes[1], Role::Controller, Some(controller)).in_last_start();
    for agent in [1, 2] {
        let agent = &cluster.nodes[agent];
        let heard = agent.counter("datagrams_received");
        let hello = Message::HelloAgent(HelloAgent { op_counter: u64::MAX, ack_window_ms: u32::MAX });
        for _ in 0..2 {
            socket.send(&thief.encode(&hello, NodeId(0)), To::One(Role::Agent, agent.address));
        }
        wait::until_true("it takes them", || agent.counter("datagrams_received") >= heard + 2);
    }
    // A controller that starts again knows no host before they answer its hellos.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    wait::until_true("both answer", || {
        cluster.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2)
    });
    let refused: u64 =
        [1, 2].map(|agent: usize| cluster.nodes[agent].refused("stale_incarnation")).iter().sum();
    assert_eq!(refused, 0);
}
