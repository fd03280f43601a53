//! Install requests and their answers on a faulty network and across crashes.

use std::fs;
use std::sync::{Arc, Mutex};

use thimble::wire::frame::Role;
use thimble::wire::messages::MsgType::{self, AgentInstallReq, AgentInstallResp};

use crate::cluster::{Cluster, Node};
use crate::filter::Verdict::{self, Double, Hold, Lose, Pass};
use crate::filter::{Judge, pass_all};
use crate::over::{Datagrams, To};
use crate::patch::Patch;
use crate::wait;

/// Gives the first datagrams of one type these verdicts, then passes all.
fn first(of: MsgType, verdicts: &[Verdict]) -> Judge {
    let mut verdicts = Vec::from(verdicts).into_iter();
    Box::new(move |msgtype, _| if msgtype == of { verdicts.next().unwrap_or(Pass) } else { Pass })
}

/// Loses every datagram of one type.
fn lose_all(of: MsgType) -> Judge {
    Box::new(move |msgtype, _| if msgtype == of { Lose } else { Pass })
}

/// A patch that counts its installs in the host's file `installs`.
fn counting(cluster: &Cluster) -> Patch {
    Patch::new(cluster, "COUNT-1")
        .file("etc/patched", b"yes\n")
        .script("post-install", "echo installed >> \"$THIMBLE_ROOT/installs\"")
}

fn installs(agent: &Node) -> usize {
    fs::read_to_string(agent.root().join("installs")).map_or(0, |text| text.lines().count())
}

fn is_patched(agent: &Node) -> bool {
    agent.root().join("etc/patched").exists()
}

#[test]
fn lost_doubled_and_reordered_requests_and_answers_install_once() {
    need_root!();
    need_udp!("a TIPC link repairs what a wire does to it, or fails as a whole");
    let cases: [(&str, &[Verdict], &[Verdict]); 4] = [
        ("lost-request", &[Lose, Lose], &[]),
        ("doubled", &[Double, Double], &[Double]),
        ("reordered", &[Hold, Pass], &[Hold, Pass]),
        ("lost-answer", &[Double], &[Lose, Lose, Lose]),
    ];
    for (name, to_agent, from_agent) in cases {
        let (from, to) = (first(AgentInstallResp, from_agent), first(AgentInstallReq, to_agent));
        let cluster = Cluster::filtered(name, 1, from, to).start();
        let _patch = counting(&cluster).applied(&cluster);
        let shown = cluster.thimble(&["host-install", "agent-1"]).ok();
        assert!(shown.contains("1 of 1 installed"), "{name}: {shown}");
        assert_eq!(installs(&cluster.nodes[1]), 1, "{name}");
        assert_eq!(cluster.host(1)["current"], "yes", "{name}");
    }
}

#[test]
fn an_install_without_an_answer_is_known_from_the_next_ack() {
    need_root!();
    need_udp!("a TIPC link repairs what a wire does to it, or fails as a whole");
    let cluster = Cluster::filtered("no-answer", 1, lose_all(AgentInstallResp), pass_all()).start();
    let _patch = counting(&cluster).applied(&cluster);
    let shown = cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("1 of 1 installed"), "{shown}");
    assert_eq!(installs(&cluster.nodes[1]), 1);
}

#[test]
fn a_request_that_never_arrives_is_given_up_and_reported() {
    need_root!();
    need_udp!("a TIPC link repairs what a wire does to it, or fails as a whole");
    let mut cluster = Cluster::filtered("no-request", 1, pass_all(), lose_all(AgentInstallReq));
    cluster.timers.insert("install_give_up_ms", 1_000);
    let cluster = cluster.start();
    let _patch = counting(&cluster).applied(&cluster);
    let shown = cluster.thimble(&["host-install", "agent-1"]).failed(6);
    assert!(shown.contains("agent-1: no answer"), "{shown}");
    assert!(!is_patched(&cluster.nodes[1]));
    assert_eq!(cluster.host(1)["install"], "no-answer");
    assert_ne!(cluster.host(1)["current"], "yes");
}

#[test]
fn a_recorded_request_sent_again_after_the_agents_restart_changes_nothing() {
    need_root!();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&recorded);
    let to_agent: Judge = Box::new(move |msgtype, bytes| {
        if msgtype == AgentInstallReq {
            record.lock().unwrap().push(bytes.to_vec());
        }
        Pass
    });
    let mut cluster = Cluster::filtered("recorded", 1, pass_all(), to_agent).start();
    let patch = counting(&cluster).applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    let of_install = recorded.lock().unwrap().clone();
    assert!(!of_install.is_empty());
    cluster.thimble(&["remove", &patch.id]).ok();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(!is_patched(&cluster.nodes[1]));

    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    let agent = &cluster.nodes[1];
    let refused =
        || agent.refused("replay") + agent.refused("stale_incarnation") + agent.counter("stale_nonces");
    let before = refused();
    let socket = Datagrams::new(&cluster.stranger);
    for datagram in &of_install {
        socket.send(datagram, To::One(Role::Agent, agent.address));
    }
    let all = before + of_install.len() as u64;
    wait::until_true("every recorded request is refused and counted", || refused() >= all);
    assert_eq!(installs(agent), 1);
    assert!(!is_patched(agent));
    assert_eq!(cluster.host(1)["state"], "idle");
}

/// A cluster whose agent is in the middle of an install, in a script that waits for the
/// host's file `go`.
fn in_the_middle_of_an_install(name: &str) -> Cluster {
    let cluster = Cluster::new(name, 1).start();
    let waits = "while ! test -e \"$THIMBLE_ROOT/go\"; do sleep 0.02; done";
    let _patch = counting(&cluster).script("pre-install", waits).applied(&cluster);
    let asked = cluster
        .namespace
        .command(&crate::cluster::thimble())
        .arg("--config")
        .arg(cluster.config_file())
        .args(["host-install", "agent-1"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait::until_true("the install waits in its script", || cluster.host(1)["step"] == "pre scripts");
    // Interrupting the command does not stop the install.
    crate::sys::signal(asked.id(), libc::SIGINT).unwrap();
    let left = asked.wait_with_output().unwrap();
    assert_eq!(left.status.code(), Some(6));
    cluster
}

#[test]
fn a_killed_agent_rolls_back_and_reports_the_failure() {
    need_root!();
    let mut cluster = in_the_middle_of_an_install("kill-agent");
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    wait::until_true("the operator sees that it failed", || cluster.host(1)["current"] == "failed");
    assert!(!is_patched(&cluster.nodes[1]));

    fs::write(cluster.nodes[1].root().join("go"), "").unwrap();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(is_patched(&cluster.nodes[1]));
    assert_eq!(cluster.host(1)["current"], "yes");
}

#[test]
fn an_agent_stopped_during_an_install_rolls_back_and_can_install_again() {
    need_root!();
    let mut cluster = in_the_middle_of_an_install("stop-agent");
    // The script would wait forever.
    cluster.nodes[1].stop();
    cluster.nodes[1].start();
    wait::until_true("the operator sees that it failed", || cluster.host(1)["current"] == "failed");
    assert!(!is_patched(&cluster.nodes[1]));
    fs::write(cluster.nodes[1].root().join("go"), "").unwrap();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert_eq!(cluster.host(1)["current"], "yes");
}

#[test]
fn a_killed_controller_finds_the_install_done_after_its_restart() {
    need_root!();
    let mut cluster = in_the_middle_of_an_install("kill-controller");
    cluster.nodes[0].kill();
    fs::write(cluster.nodes[1].root().join("go"), "").unwrap();
    cluster.nodes[0].start();
    wait::until_true("the host is current", || cluster.host(1)["current"] == "yes");
    assert_eq!(installs(&cluster.nodes[1]), 1);
}

#[test]
fn hellos_are_answered_throughout_an_install() {
    need_root!();
    let cluster = in_the_middle_of_an_install("busy");
    for _ in 0..3 {
        crate::datagrams::next_good_datagram_is_served(&cluster, 1);
        assert_eq!(cluster.host(1)["state"], "installing");
    }
    fs::write(cluster.nodes[1].root().join("go"), "").unwrap();
    wait::until_true("the host is current", || cluster.host(1)["current"] == "yes");
}
