//! Several controllers that hear each other: each gets the changes of the others and
//! sees the installs that they request.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use thimble::repo::entry::EntryState;
use thimble::wire::messages::MsgType::{SyncComplete, SyncReq};

use crate::cluster::{Cluster, Node, thimble};
use crate::patch::Patch;
use crate::wait;

/// Whether the file of these tests' patches is installed.
fn is_patched(agent: &Node) -> bool {
    agent.root().join("etc/patched").exists()
}

fn patch(cluster: &Cluster, id: &str) -> Patch {
    Patch::new(cluster, id).file("etc/patched", b"yes\n")
}

/// Asks a controller to install on a host, without waiting for the command.
fn asks_to_install(controller: &Node, host: &str) -> Child {
    let mut command = controller.namespace.command(&thimble());
    command.arg("--config").arg(controller.config_file()).args(["host-install", host]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn an_upload_is_copied_to_the_other_controller_which_can_install_it_alone() {
    need_root!();
    let mut cluster = Cluster::of("pair", 2, 1).start();
    let before = cluster.sent_by_controllers();
    let said = patch(&cluster, "PAIR-1").uploaded_at(&cluster, 0);
    assert!(said.contains("Durable here, and on controller-1."), "{said}");
    assert_eq!(cluster.nodes[1].state_of("PAIR-1"), Some(EntryState::Available));
    wait::until_true("the other holds the file", || cluster.nodes[1].holds_all_files());
    let said = cluster.nodes[1].thimble(&["apply", "PAIR-1"]).ok();
    assert!(said.contains("Durable here, and on controller-0."), "{said}");
    assert_eq!(cluster.nodes[0].state_of("PAIR-1"), Some(EntryState::Applied));
    let said = cluster.sent_by_controllers() - before;
    assert!(said.of(SyncReq) >= 2 && said.of(SyncComplete) >= 2, "{said:?}");

    wait::until_true("the other holds the file", || cluster.nodes[1].holds_all_files());
    cluster.nodes[0].kill();
    let shown = cluster.nodes[1].thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("1 of 1 installed"), "{shown}");
    assert!(is_patched(&cluster.nodes[2]));
    assert_eq!(cluster.nodes[1].host("agent-1")["current"], "yes");
}

#[test]
fn every_kind_of_change_is_on_the_other_controller_when_its_command_ends() {
    need_root!();
    let cluster = Cluster::of("kinds", 2, 1).start();
    let states = |id: &str| [0, 1].map(|number| cluster.nodes[number].state_of(id));
    for id in ["KIND-1", "KIND-2"] {
        patch(&cluster, id).uploaded_at(&cluster, 0);
    }
    wait::until_true("both know what hosts have", || cluster.controllers().iter().all(Node::is_settled));
    wait::until_true("the other holds the files", || cluster.nodes[1].holds_all_files());
    let steps: [(usize, &[&str], Option<EntryState>); 4] = [
        (1, &["apply", "KIND-1"], Some(EntryState::Applied)),
        (0, &["remove", "KIND-1"], Some(EntryState::Available)),
        (1, &["delete", "KIND-1"], None),
        (1, &["apply", "KIND-2"], Some(EntryState::Applied)),
    ];
    let is_done = |at: usize, command: &[&str], then: Option<EntryState>| {
        let said = cluster.nodes[at].thimble(command).ok();
        assert!(said.contains("Durable here, and on controller-"), "{command:?}: {said}");
        assert_eq!(states(command[command.len() - 1]), [then; 2], "{command:?}");
    };
    for (at, command, then) in steps {
        is_done(at, command, then);
    }
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    is_done(0, &["commit", "--yes", "KIND-2"], Some(EntryState::Committed));
}

#[test]
fn a_change_right_after_the_start_waits_for_the_first_merge_and_gets_a_higher_stamp() {
    need_root!();
    let cluster = Cluster::of("early", 2, 0).timer("hello_start_ms", 200);
    let mut cluster = cluster.timer("sync_wait_ms", 50).start();
    patch(&cluster, "EARLY-1").uploaded_at(&cluster, 0);
    cluster.nodes[1].kill();
    for command in ["apply", "remove", "apply", "remove", "apply"] {
        cluster.nodes[0].thimble(&[command, "EARLY-1"]).ok();
    }
    cluster.nodes[1].spawn();
    let started = Instant::now();
    wait::until_true("the command reaches the daemon", || {
        cluster.nodes[1].thimble(&["remove", "EARLY-1"]).code == 0
    });
    assert!(started.elapsed() > Duration::from_millis(500), "{:?}", started.elapsed());
    assert!(cluster.nodes[1].status().row.is_started);
    cluster.agree("both have the change");
    assert_eq!(cluster.nodes[0].state_of("EARLY-1"), Some(EntryState::Available));
    assert_eq!(cluster.nodes[1].status().replaced, [""; 0], "it knew what it changed");
}

#[test]
fn the_other_controller_sees_an_installs_step_and_why_it_failed() {
    need_root!();
    let cluster = Cluster::of("seen", 2, 1).start();
    let waits = "while ! test -e \"$THIMBLE_ROOT/go\"; do sleep 0.02; done";
    let sick = patch(&cluster, "SEEN-1").script("pre-install", waits);
    let _sick = sick.script("health", "echo no pulse; exit 3").applied(&cluster);
    let mut asked = asks_to_install(&cluster.nodes[0], "agent-1");
    let other = &cluster.nodes[1];
    wait::until_true("the other sees the step", || other.host("agent-1")["step"] == "pre scripts");
    assert_eq!(other.host("agent-1")["state"], "installing");
    fs::write(cluster.nodes[2].root().join("go"), "").unwrap();
    wait::until_true("the other sees that it failed", || other.host("agent-1")["current"] == "failed");
    assert_eq!(asked.wait().unwrap().code(), Some(1));
    let why = "health of SEEN-1 ended with status 3: no pulse";
    wait::until_true("and why", || {
        [0, 1].iter().all(|number| cluster.nodes[*number].host("agent-1")["reason"] == why)
    });
    assert!(!is_patched(&cluster.nodes[2]));
}

#[test]
fn the_other_controller_installs_on_after_one_dies_during_an_install() {
    need_root!();
    let mut cluster = Cluster::of("dies", 2, 2).start();
    let waits = "while ! test -e \"$THIMBLE_ROOT/go\"; do sleep 0.02; done";
    let _patch = patch(&cluster, "DIES-1").script("pre-install", waits).applied(&cluster);
    wait::until_true("the other holds the file", || cluster.nodes[1].holds_all_files());
    let mut asked = asks_to_install(&cluster.nodes[0], "agent-1");
    wait::until_true("the install is under way", || {
        cluster.nodes[1].host("agent-1")["step"] == "pre scripts"
    });
    cluster.nodes[0].kill();
    asked.wait().unwrap();
    for agent in ["agent-1", "agent-2"] {
        fs::write(cluster.dir.join(agent).join("root/go"), "").unwrap();
    }
    let other = &cluster.nodes[1];
    wait::until_true("the other knows how it ended", || other.host("agent-1")["current"] == "yes");
    let shown = other.thimble(&["host-install", "agent-1", "agent-2"]).ok();
    assert!(shown.contains("agent-2: installed"), "{shown}");
    assert!(cluster.nodes[2..].iter().all(is_patched));
    cluster.nodes[0].start();
    wait::until_true("the first knows it when it is back", || {
        [2, 3].iter().all(|number| cluster.host(*number)["current"] == "yes")
    });
}

#[test]
fn a_host_dropped_on_one_controller_is_dropped_on_the_other() {
    need_root!();
    let mut cluster = Cluster::of("drop", 2, 2).start();
    cluster.nodes[2].kill();
    cluster.nodes[0].thimble(&["drop-host", "agent-1"]).ok();
    wait::until_true("the other has forgotten it", || cluster.nodes[1].host("agent-1").is_null());
    assert!(!cluster.nodes[1].host("agent-2").is_null());
    cluster.nodes[2].start();
    wait::until_true("it returns with its next ack", || {
        cluster.controllers().iter().all(|controller| !controller.host("agent-1").is_null())
    });
}
