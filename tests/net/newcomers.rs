//! A host that a controller hears for the first time hears of it soon, not with the next round.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::wait;

/// The next round is never.
fn slow(mut cluster: Cluster) -> Cluster {
    for (name, ms) in [
        ("hello_interval_ms", 600_000),
        ("probe_ms", 3_000),
        ("controller_lost_ms", 1_200_000),
        ("host_lost_ms", 1_200_000),
    ] {
        cluster = cluster.timer(name, ms);
    }
    cluster
}

fn asked_by(agent: &Node) -> Value {
    agent.json(&["status"])["agent"]["asked_by"]["node"].clone()
}

fn id(node: &Node) -> Value {
    node.json(&["status"])["node"].clone()
}

#[test]
fn a_host_that_announces_itself_is_asked_before_the_next_round() {
    need_root!();
    let mut cluster = slow(Cluster::of("announced", 1, 2).peers(1, &[0]).peers(2, &[0]).without_multicast());
    cluster.nodes[0].start();
    cluster.agree("it has begun");
    for number in [1, 2] {
        cluster.nodes[number].start();
        let agent = &cluster.nodes[number];
        wait::until_true("it is asked", || asked_by(agent) == id(&cluster.nodes[0]));
    }
    cluster.nodes[1].stop();
    cluster.nodes[1].start();
    let agent = &cluster.nodes[1];
    wait::until_true("it is asked after a restart", || asked_by(agent) == id(&cluster.nodes[0]));
}

#[test]
fn a_host_that_answers_another_controller_is_asked_by_this_one_too() {
    need_root!();
    let mut cluster = slow(Cluster::of("overheard", 2, 1));
    cluster.nodes[1].start();
    let began = Instant::now();
    // For a table of 1,024 hosts. Who is new in it is taken to answer it.
    wait::until_true("the window of its first round is over", || {
        began.elapsed() > Duration::from_millis(1_200)
    });
    cluster.nodes[2].start();
    assert_eq!(asked_by(&cluster.nodes[2]), Value::Null);
    // Its first round.
    cluster.nodes[0].start();
    wait::until_true("the other one asks last", || asked_by(&cluster.nodes[2]) == id(&cluster.nodes[1]));
}
