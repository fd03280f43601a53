//! Nodes that die, or that multicast does not reach: who is lost, and who is not.

use std::process::Stdio;

use crate::cluster::{Cluster, thimble};
use crate::patch::Patch;
use crate::{sys, wait};

/// Rounds are short. Asks are not: a busy machine may pause for long.
const INTERVAL_MS: u64 = 500;
const PROBE_MS: u64 = 3_000;

fn cluster(name: &str, controllers: usize, agents: usize) -> Cluster {
    Cluster::of(name, controllers, agents).timer("hello_interval_ms", INTERVAL_MS).timer("probe_ms", PROBE_MS)
}

/// A host that is killed is asked again and lost long before the times of silence have passed, and
/// is back with its first message.
#[test]
fn a_host_that_is_killed_while_idle_is_lost_and_returns() {
    need_root!();
    let mut cluster = cluster("killed-idle", 2, 2).start();
    cluster.nodes[2].kill();
    wait::until_true("both have lost it", || {
        cluster.controllers().iter().all(|controller| controller.host("agent-1")["state"] == "lost")
    });
    for controller in cluster.controllers() {
        assert_eq!(controller.host("agent-2")["state"], "idle");
        // Over TIPC its socket is withdrawn before an ask is due.
        if cfg!(not(feature = "tipc")) {
            assert_eq!(controller.host("agent-1")["lost_because"], "silent");
            assert!(controller.counter("asked_again") >= 3 && controller.counter("lost_unanswered") >= 1);
        }
        wait::until_true("it is logged", || {
            controller.log().lines().any(|line| line.contains("host agent-1 is lost: "))
        });
    }
    cluster.nodes[2].start();
    wait::until_true("it is back", || {
        cluster.controllers().iter().all(|controller| controller.host("agent-1")["state"] == "idle")
    });
}

#[test]
fn a_controller_that_is_killed_is_lost_for_the_other() {
    need_root!();
    let mut cluster = cluster("killed-controller", 2, 1).start();
    cluster.nodes[1].kill();
    wait::until_true("the other has lost it", || cluster.nodes[0].status().neighbours[0].is_lost);
    cluster.nodes[1].start();
    cluster.agree("it is back");
}

/// The request is given up with the host, long before `install_give_up_ms`.
#[test]
fn a_rollout_goes_on_without_a_host_that_is_killed_at_work() {
    need_root!();
    const NEVER_MS: u64 = 3_600_000;
    let cluster = cluster("killed-at-work", 1, 2).timer("install_give_up_ms", NEVER_MS);
    let mut cluster = cluster.start();
    let patch = Patch::new(&cluster, "SLOW-1").file("etc/slow", b"x");
    let _patch = patch.script("post-install", "sleep 600").applied(&cluster);
    let mut command = cluster.namespace.command(&thimble());
    command.arg("--config").arg(cluster.config_file()).args(["host-install", "--all", "--parallel", "1"]);
    command.args(["--stop-after-failures", "0"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut command = sys::dies_with_parent(&mut command).spawn().unwrap();
    let at_work = wait::until("a host is at work", || {
        (1..=2).find(|number| cluster.host(*number)["step"] == "post scripts")
    });
    let other = 3 - at_work;
    assert_ne!(cluster.host(other)["state"], "installing", "one at a time");
    cluster.nodes[at_work].kill();
    wait::until_true("the next is at work", || cluster.host(other)["step"] == "post scripts");
    assert_eq!(cluster.host(at_work)["state"], "lost");
    assert_eq!(cluster.host(at_work)["install"], "no-answer");
    command.kill().unwrap();
    command.wait().unwrap();
}

/// Hosts and controllers that know each other stay together by unicast alone, as after an IGMP
/// querier was switched off.
#[cfg(not(feature = "tipc"))]
#[test]
fn nodes_that_multicast_no_longer_reaches_stay_together() {
    need_root!();
    let cluster = cluster("no-multicast", 2, 2).start();
    let patch = Patch::new(&cluster, "KNOWN-1").file("etc/known", b"x").applied(&cluster);
    cluster.drop_multicast(&[0, 1, 2, 3], &[0, 1, 2, 3]);
    let sent = |number: usize| cluster.nodes[number].counter("datagrams_sent");
    wait::until_true("all are heard by unicast", || {
        cluster.controllers().iter().all(|controller| {
            let hosts = ["agent-1", "agent-2"].map(|host| controller.host(host));
            hosts.iter().all(|host| host["heard_by"] == "unicast")
        })
    });
    let before = [0, 1].map(sent);
    // Each round goes to two hosts and a controller.
    wait::until_true("many rounds are sent by unicast", || {
        [0, 1].iter().all(|number| sent(*number) >= before[*number] + 60)
    });
    for controller in cluster.controllers() {
        assert_eq!(controller.counter("lost_unanswered"), 0, "{}", controller.log());
        assert!(!controller.status().neighbours[0].is_lost);
        for host in ["agent-1", "agent-2"] {
            assert_eq!(controller.host(host)["state"], "idle");
        }
    }
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    wait::until_true("the other controller knows it, too", || {
        cluster.nodes[1].host("agent-1")["current"] == "yes"
    });
    drop(patch);
}

/// As above, with the frames of one direction alone.
#[cfg(not(feature = "tipc"))]
#[test]
fn nodes_that_multicast_reaches_one_way_stay_together() {
    need_root!();
    let cluster = cluster("one-way", 1, 2).start();
    for (from, to) in [([0].as_slice(), [1, 2].as_slice()), (&[1, 2], &[0])] {
        cluster.heal();
        cluster.drop_multicast(from, to);
        // Each round goes to two hosts, and each of them answers.
        let before = cluster.counter("datagrams_received");
        wait::until_true("many are heard", || cluster.counter("datagrams_received") >= before + 40);
        assert_eq!(cluster.counter("lost_unanswered"), 0, "{}", cluster.log());
    }
}
