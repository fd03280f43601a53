//! Each alert, provoked for real: `status` shows it at its top, with the node, the
//! address and what to do.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use thimble::config::keys::KeyFile;
use thimble::store::incarnation;
use thimble::types::{ClusterId, Digest, NodeId};
use thimble::wire::codec::Roles;
use thimble::wire::frame::Role;
use thimble::wire::messages::{Hello, Message};

use crate::cluster::{Cluster, Node, STRANGER};
use crate::datagrams::ack;
use crate::forge::{Forger, with_keys_of};
use crate::over::{self, Datagrams, To};
use crate::patch::Patch;
use crate::{sys, wait};

const CONTROLLER: Roles = Roles { is_controller: true, is_agent: false };

/// Waits until one alert at the top of `status` contains all of these words; returns it.
fn reports_first(node: &Node, words: &[&str]) -> String {
    wait::until(&format!("{} says {words:?}", node.name), || {
        let status = node.thimble(&["status"]).ok();
        let mut troubles = status.lines().take_while(|line| line.starts_with("TROUBLE: "));
        let trouble = troubles.find(|line| words.iter().all(|word| line.contains(word)))?;
        println!("{trouble}");
        Some(trouble.to_owned())
    })
}

fn troubles(node: &Node) -> String {
    node.json(&["status"])["troubles"].to_string()
}

fn hello() -> Message {
    Message::Hello(Hello { op_counter: 1, digest: Digest([0; 32]) })
}

#[test]
fn a_healthy_cluster_has_no_alert() {
    need_root!();
    let cluster = Cluster::of("well", 2, 1).start();
    for node in &cluster.nodes {
        wait::until_true("no trouble is left", || troubles(node) == "[]");
    }
}

#[test]
fn refused_senders_are_reported_with_their_addresses() {
    need_root!();
    let mut cluster = Cluster::new("refused", 1);
    let agent = KeyFile::read(&cluster.nodes[1].key_file()).unwrap().node;
    cluster.nodes[0].settings.push(("security", format!("revoked = [\"{}\"]", NodeId(0xDEAD))));
    let cluster = cluster.start();
    let controller = &cluster.nodes[0];
    let keys = KeyFile::read(&controller.key_file()).unwrap();
    let socket = Datagrams::new(&cluster.stranger);
    let send = |forger: &mut Forger, message: &Message| {
        socket.send(&forger.encode(message, NodeId(0)), To::All(Role::Controller));
    };
    let from = &*format!("from {STRANGER}");

    send(&mut Forger::new(ClusterId(7), NodeId(9), CONTROLLER, keys.ring()), &hello());
    reports_first(controller, &["Nodes of another cluster are heard: 1 so far", "as 0000000000000009", from]);
    send(&mut with_keys_of(&cluster.nodes[1], Role::Controller, Some(NodeId(0xBAD))), &hello());
    reports_first(controller, &["refused for their key: 1 so far", "as 0000000000000bad", from]);
    send(&mut Forger::new(keys.cluster, NodeId(0xDEAD), CONTROLLER, keys.ring()), &hello());
    reports_first(
        controller,
        &["A revoked node sends datagrams", "000000000000dead", from, "security.revoked"],
    );

    // Two nodes with the agent's key file, one of them started later.
    send(&mut with_keys_of(&cluster.nodes[1], Role::Agent, None), &ack());
    let said = reports_first(controller, &["Two nodes use the id", "a cloned image?", "thimble keygen"]);
    assert!(said.contains(&agent.to_string()), "{said}");
    let [own, clones] = [cluster.nodes[1].address, STRANGER].map(|address| address.to_string());
    assert!(said.contains(&own) && said.contains(&clones), "{said}");
}

#[test]
fn a_controller_and_an_agent_that_hear_no_controller_report_it() {
    need_root!();
    let cluster = Cluster::of("lonely", 2, 1).timer("controller_lost_ms", 700);
    let mut cluster = cluster.timer("sync_wait_ms", 100).start();
    cluster.nodes[1].stop();
    reports_first(&cluster.nodes[0], &["This controller is alone: controller-1 is known", "drop-controller"]);
    let first = KeyFile::read(&cluster.nodes[0].key_file()).unwrap().node.to_string();
    wait::until_true("the agent knows who asks it", || {
        cluster.nodes[2].json(&["status"])["agent"]["asked_by"]["node"] == *first
    });
    cluster.nodes[0].stop();
    let said =
        reports_first(&cluster.nodes[2], &["No controller has been heard for", "nothing is installed"]);
    assert!(said.contains(&format!("the last was {first} at {}", cluster.nodes[0].address)), "{said}");
    cluster.nodes[2].stop();
    cluster.nodes[2].start();
    reports_first(&cluster.nodes[2], &["No controller has been heard", "not since the start"]);
}

#[test]
fn another_release_is_reported_and_noise_is_not() {
    need_root!();
    let cluster = Cluster::new("versions", 0).start();
    let socket = Datagrams::new(&cluster.stranger);
    let to = To::All(Role::Controller);
    for byte in 2..9 {
        let mut noise = [byte; 100];
        noise[..4].copy_from_slice(b"THMB");
        socket.send(&noise, to);
    }
    wait::until_true("all are counted", || cluster.refused("version") == 7);
    assert_eq!(troubles(&cluster), "[]");
    let mut forger = with_keys_of(&cluster, Role::Controller, Some(NodeId(0x5EC0)));
    let mut later = forger.encode(&hello(), NodeId(0));
    later[4] = 2;
    socket.send(&later, to);
    let words = ["of another message version", "as 0000000000005ec0", "one release of thimble"];
    reports_first(&cluster, &words);
    socket.send(&[&b"THMB"[..], &[9; 96]].concat(), to);
    wait::until_true("that is counted too", || cluster.refused("version") == 9);
    reports_first(&cluster, &words);
}

#[test]
fn datagrams_that_the_system_refuses_to_send_are_reported_until_it_takes_them() {
    need_root!();
    need_udp!("a link needs no route");
    let cluster = Cluster::new("prohibited", 1).timer("install_give_up_ms", 8_000).start();
    let (node, other) = (&cluster.nodes[0], cluster.nodes[1].address);
    node.namespace.ip(&format!("route add prohibit {other}/32\n"));
    let _ = Patch::new(&cluster, "SENT-1").file("etc/sent", b"x").applied(&cluster);
    let _ = node.thimble(&["host-install", "agent-1"]);
    let to = format!("Datagrams cannot be sent to {other}");
    reports_first(node, &[&to, "(Permission denied (os error 13)), last ", "ago: check routes"]);
    node.namespace.ip(&format!("route delete prohibit {other}/32\n"));
    wait::until_true("it is over", || !troubles(node).contains("Datagrams cannot be sent"));
}

#[test]
fn the_log_tells_who_is_lost_and_who_is_back() {
    need_root!();
    let cluster =
        Cluster::bridged("lost-log", 2, 1).timer("controller_lost_ms", 1_000).timer("host_lost_ms", 1_000);
    let mut cluster = cluster.start();
    let says = |node: &Node, line: &str| {
        wait::until_true(&format!("{} logs: {line}", node.name), || node.log().contains(line));
    };
    cluster.agree("each knows the other's name");
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    says(&cluster.nodes[0], "controller controller-1 is lost: ");
    says(&cluster.nodes[0], "host agent-1 is lost: ");
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    says(&cluster.nodes[0], "controller controller-1 is back");
    says(&cluster.nodes[0], "host agent-1 is back");
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    says(&cluster.nodes[2], "no controller has been heard for ");
    cluster.nodes[1].start();
    says(&cluster.nodes[2], " is heard, after ");
}

#[test]
fn an_interface_that_is_down_is_reported() {
    need_root!();
    let cluster = Cluster::new("unplugged", 1).start();
    let node = &cluster.nodes[1];
    let mut down = node.namespace.command("ip");
    assert!(down.args(["link", "set", "net0", "down"]).status().unwrap().success());
    let controller = &cluster.nodes[0];
    let mut down = controller.namespace.command("ip");
    assert!(down.args(["link", "set", "net0", "down"]).status().unwrap().success());
    reports_first(controller, over::UNPLUGGED);
    // What cannot be asked is not counted as failed.
    if cfg!(not(feature = "tipc")) {
        for hosts in ["agent-1", "--all"] {
            let said = controller.thimble(&["host-install", hosts]).failed(1);
            assert!(said.contains("No interface of this controller is up"), "{hosts}: {said}");
        }
    }
    let [gone, back] = over::UNPLUGGED_LOG;
    // What is over within a second is not logged.
    wait::until_true("the log tells it", || controller.log().contains(gone));
    for node in &cluster.nodes {
        node.namespace.ip("link set net0 up\n");
    }
    wait::until_true("it is over", || !troubles(controller).contains(over::UNPLUGGED[0]));
    wait::until_true("the log tells the end", || controller.log().contains(back));
}

#[test]
fn a_clock_that_was_set_back_is_reported() {
    need_root!();
    let mut cluster = Cluster::new("clock", 0);
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    incarnation::next(&cluster.state_dir(), since_1970 + 2 * 3_600_000).unwrap();
    cluster.nodes[0].start();
    let said = reports_first(&cluster.nodes[0], &["The clock was set back", "keep the state directory"]);
    assert!(said.contains("1 h 59 min") || said.contains("2 h 0 min"), "{said}");
}

#[test]
fn a_full_table_is_reported_with_the_setting_to_raise() {
    need_root!();
    let mut cluster = Cluster::new("full", 2);
    cluster.nodes[0].settings.push(("controller", "max_hosts = 1".to_owned()));
    cluster.nodes.iter_mut().for_each(Node::start);
    reports_first(&cluster.nodes[0], &["There is no room for all hosts", "controller.max_hosts (now 1)"]);
}

#[test]
fn a_node_without_keys_reports_it_once() {
    need_root!();
    let cluster = Cluster::new("keyless", 0);
    let node = &cluster.nodes[0];
    node.write_config();
    let text = fs::read_to_string(node.config_file()).unwrap();
    let lines = text.lines().map(|line| if line.starts_with("key_file") { "auth = \"none\"" } else { line });
    fs::write(node.config_file(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    let mut daemon = node.namespace.command(&crate::node::thimble());
    daemon.arg("--config").arg(node.config_file()).arg("run").stderr(Stdio::null());
    let mut daemon = sys::dies_with_parent(&mut daemon).spawn().unwrap();
    wait::until_true("it answers", || node.thimble(&["status"]).code == 0);
    reports_first(&cluster.nodes[0], &["No keys (auth = \"none\")", "thimble keygen"]);
    let status = cluster.thimble(&["status"]).ok();
    assert_eq!(status.matches("auth = ").count(), 2, "the trouble, and what to set: {status}");
    assert!(!status.contains("WARNING"), "{status}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_running_worker_is_shown_with_its_task() {
    need_root!();
    let cluster = Cluster::new("still", 1).start();
    let patch = Patch::new(&cluster, "STILL-1").script("health", "sleep 5").file("etc/s", b"1");
    let _patch = patch.applied(&cluster);
    cluster.thimble(&["host-install-async", "agent-1"]).ok();
    let worker = wait::until("the worker is seen", || {
        let status = cluster.nodes[1].json(&["status"]);
        status["at_work"].as_array()?.first().cloned()
    });
    assert_eq!(worker["work"], "install");
    assert!(cluster.nodes[1].thimble(&["status"]).ok().contains("worker        installs, for "));
}

/// A directory that a script mounts something over; unmounted when dropped.
struct Covered(PathBuf);

impl Covered {
    fn uncover(&self) -> bool {
        Command::new("umount").arg(&self.0).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        self.uncover();
    }
}

/// Waits until `metrics` of a node has this line.
fn measures(node: &Node, line: &str) {
    wait::until_true(line, || node.thimble(&["metrics"]).ok().lines().any(|other| other == line));
}

#[test]
fn a_host_that_cannot_go_back_is_reported_until_it_could() {
    need_root!();
    let cluster = Cluster::new("blocked", 1).start();
    let (controller, agent) = (&cluster.nodes[0], &cluster.nodes[1]);
    let covered = Covered(agent.root().join("srv"));
    let patch = Patch::new(&cluster, "STUCK-1").file("srv/new", b"1");
    let patch = patch.script("post-install", "mount -t tmpfs -o size=1m tmpfs $THIMBLE_ROOT/srv");
    let _patch = patch.script("health", "echo no pulse; exit 3").applied(&cluster);
    let cause = "cannot remove /srv/new: ";
    let shown = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(shown.contains("failed, and the previous patches could not be restored: "), "{shown}");
    assert!(shown.contains(cause), "{shown}");

    let words = ["This host could not be recovered", "every 30 s", cause, "unmount that"];
    reports_first(agent, &words);
    assert!(agent.log().contains(cause), "{}", agent.log());
    assert!(agent.log().contains("it was to come back because health of STUCK-1"), "{}", agent.log());
    let status = agent.json(&["status"]);
    let seen = &status["agent"];
    assert_eq!((seen["installed_digest"].is_null(), seen["installed"].is_null()), (true, true), "{status}");
    assert_eq!(seen["state"], "install-failed");
    reports_first(controller, &["A host could not be recovered: agent-1: ", cause]);
    let host = cluster.host(1);
    assert_eq!((host["state"].as_str(), host["install"].as_str()), (Some("install-failed"), Some("broken")));
    assert!(host["installed_digest"].is_null() && host["reason"].as_str().unwrap().contains(cause), "{host}");
    measures(agent, "thimble_troubles 1");
    measures(agent, "thimble_install_failed 1");
    measures(controller, "thimble_troubles 1");
    measures(controller, "thimble_hosts{state=\"failed\"} 1");
    let refused = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(refused.contains("The host has an install to recover from first"), "{refused}");

    // Nothing but the agent's own next attempt.
    assert!(covered.uncover());
    for node in [agent, controller] {
        wait::until_true("no trouble is left", || troubles(node) == "[]");
    }
    assert!(!agent.root().join("srv").exists());
    let host = wait::until("the controller has the outcome", || {
        let host = cluster.host(1);
        let is_told = host["reason"].as_str()?.starts_with("health of STUCK-1 ended with status 3");
        (host["install"] == "rolled-back" && is_told).then_some(host)
    });
    assert!(host["installed_digest"].is_string(), "{host}");
}
