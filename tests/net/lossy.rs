//! A network that loses a part of what it carries: what a command says when it ends is so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use thimble::wire::messages::MsgType;

use crate::cluster::{Cluster, Node};
use crate::filter::{Verdict, pass_all};
use crate::patch::Patch;
use crate::wait;
use crate::weather::Weather;

/// The state of a patch as `query` shows it.
fn patch_state(controller: &Node, id: &str) -> Value {
    let all = controller.json(&["query"])["patches"].clone();
    let found = all.as_array().unwrap().iter().find(|patch| patch["id"] == id).cloned();
    found.unwrap_or_else(|| panic!("{id} is not in {all}"))["patch_state"].clone()
}

/// The number and state of the last rollout.
fn rollout(controller: &Node) -> [Value; 2] {
    let row = controller.json(&["status"])["controller"]["rollout"].clone();
    ["id", "state"].map(|key| row[key].clone())
}

#[test]
fn a_host_that_has_answered_is_current_though_the_acks_of_its_end_are_lost() {
    need_root!();
    let has_answered = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&has_answered);
    let from_agent = Box::new(move |kind: MsgType, _: &[u8]| {
        if kind == MsgType::AgentInstallResp {
            note.store(true, Ordering::Relaxed);
        }
        let is_ack = kind == MsgType::HelloAgentAck;
        if is_ack && note.load(Ordering::Relaxed) { Verdict::Lose } else { Verdict::Pass }
    });
    let cluster = Cluster::filtered("unsaid", 1, from_agent, pass_all()).start();
    let _patch = Patch::new(&cluster, "UNSAID-1").file("etc/unsaid", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(has_answered.load(Ordering::Relaxed));
    assert_eq!(patch_state(&cluster.nodes[0], "UNSAID-1"), "Applied");
    let host = cluster.nodes[0].host("agent-1");
    assert_eq!((&host["current"], &host["state"]), (&"yes".into(), &"idle".into()), "{host}");
}

/// As much as wires lose that lose 5 % at each of their two ends, and the rounds.
const LOST_PERMILLE: u64 = 98;
const ROUNDS: usize = 4;

#[test]
fn with_five_percent_lost_each_install_and_rollout_ends_and_both_controllers_know() {
    need_root!();
    let cluster = Cluster::of("lossy", 2, 3).timer("controller_lost_ms", 60_000).start();
    for round in 0..ROUNDS {
        let seed = 1 + round as u64;
        cluster.set_weather(Weather { lost_permille: LOST_PERMILLE, seed, ..Weather::default() });
        let (own, other) = (&cluster.nodes[round % 2], &cluster.nodes[1 - round % 2]);
        let id = format!("LOSSY-{round}");
        let content = vec![round as u8; 200_000];
        Patch::new(&cluster, &id).file(&format!("etc/{id}"), &content).uploaded_at(&cluster, round % 2);
        own.thimble(&["apply", &id]).ok();
        wait::until_true("both controllers have it", || {
            cluster.controllers().iter().all(|one| one.holds_all_files() && one.patch(&id).is_some())
        });
        cluster.agree("both have applied it");
        if round < ROUNDS / 2 {
            own.thimble(&["host-install", "agent-1", "agent-2", "agent-3"]).ok();
        } else {
            own.thimble(&["host-install", "--all"]).ok();
        }
        assert_eq!(patch_state(own, &id), "Applied", "round {round}, where it was asked for");
        if round < ROUNDS / 2 {
            wait::until_true("the other controller hears of it", || patch_state(other, &id) == "Applied");
        } else {
            wait::until_true("the other controller has its end", || rollout(other) == rollout(own));
            other.thimble(&["watch", "--until-done"]).ok();
            assert_eq!(patch_state(other, &id), "Applied", "round {round}, elsewhere");
        }
    }
    assert!(cluster.lost() > 100, "{} frames were lost", cluster.lost());
}
