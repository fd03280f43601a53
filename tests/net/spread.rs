//! A file that is sent to all hosts at once, between real daemons.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
#[cfg(not(feature = "tipc"))]
use {
    std::net::UdpSocket,
    thimble::config::keys::KeyFile,
    thimble::limits::{DATAGRAM_BYTES, PACKET_BYTES},
    thimble::wire::keys::{Key, KeyClass},
    thimble::wire::packet::{Packet, Part},
};

use crate::cluster::{Cluster, Node, thimble};
use crate::files::noise;
use crate::patch::Patch;
use crate::wait;

const MIB: usize = 1 << 20;

/// How far it is, at a controller or a host.
fn spread(node: &Node) -> Value {
    node.json(&["spread"])
}

/// A patch whose file has about so many bytes, in the repository.
fn patch(cluster: &Cluster, id: &str, bytes: usize) -> Patch {
    let patch = Patch::new(cluster, id).file(&format!("opt/{id}"), &noise(bytes));
    patch.uploaded_at(cluster, 0);
    patch
}

/// Has a file sent, without waiting for its end.
fn begin(node: &Node, arguments: &[&str]) -> Child {
    let mut command: Command = node.namespace.command(&thimble());
    command.args(["--config", node.config_file().to_str().unwrap(), "spread"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a command printed that has ended with this exit code.
fn ended(child: Child, code: i32) -> String {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Whether a host has all of what it received last.
fn has_all(node: &Node) -> bool {
    let received = &spread(node)["received"];
    received["blocks"].as_u64().is_some_and(|blocks| blocks > 0)
        && received["blocks"] == received["blocks_here"]
}

fn is_installed(node: &Node, id: &str, bytes: usize) -> bool {
    fs::read(node.root().join(format!("opt/{id}"))).is_ok_and(|content| content == noise(bytes))
}

#[test]
fn all_hosts_get_a_file_by_one_transmission_and_install_it_from_there() {
    need_root!();
    let cluster = Cluster::of("spread", 1, 3).start();
    patch(&cluster, "SPREAD-1", 3 * MIB);
    let said = cluster.thimble(&["spread", "SPREAD-1", "--rate", "100Mbit"]).ok();
    assert!(
        said.contains("SPREAD-1 was sent to all hosts: ") && said.contains("3 of 3 hosts have it all"),
        "{said}"
    );
    let sent = &spread(&cluster)["sent"];
    let number = |key: &str| sent[key].as_u64().unwrap();
    assert_eq!((sent["ending"].as_str(), number("complete"), number("out")), (Some("all"), 3, 0), "{sent}");
    assert!(number("source_bytes") * 100 <= number("size_bytes") * 104, "{sent}");
    assert!(cluster.nodes[1..].iter().all(has_all));
    assert!(cluster.counter("spread_source_bytes") >= 3 * MIB as u64);
    let before: Vec<_> = (1..4).map(|host| cluster.passed(0, host)).collect();

    cluster.thimble(&["apply", "SPREAD-1"]).ok();
    cluster.thimble(&["host-install", "agent-1", "agent-2", "agent-3"]).ok();
    for (host, before) in (1..4).zip(before) {
        assert!(is_installed(&cluster.nodes[host], "SPREAD-1", 3 * MIB));
        let more = cluster.passed(0, host) - before;
        assert!(more < MIB as u64, "host {host} fetched {more} bytes for itself");
        let left = fs::read_dir(cluster.nodes[host].state_dir().join("spread")).unwrap().count();
        assert_eq!(left, 0, "what is installed is not kept twice");
    }
}

#[test]
fn a_rollout_sends_what_its_hosts_lack_before_it_asks_them() {
    need_root!();
    let mut cluster = Cluster::of("spread-rollout", 1, 3);
    let settings = ["spread_kbit_s = 100000", "spread_least_bytes = 500000"];
    cluster.settings.extend(settings.map(|line| ("controller", line.to_owned())));
    let cluster = cluster.start();
    // Small files are left to sessions; of two large ones each is sent.
    for (id, bytes) in [("LARGE-1", 2 * MIB), ("LARGE-2", MIB), ("SMALL-1", 1000)] {
        patch(&cluster, id, bytes);
    }
    cluster.thimble(&["apply", "--all"]).ok();
    let before: Vec<_> = (1..4).map(|host| cluster.passed(0, host)).collect();
    cluster.thimble(&["host-install", "--all"]).ok();
    for (host, before) in (1..4).zip(before) {
        for (id, bytes) in [("LARGE-1", 2 * MIB), ("LARGE-2", MIB), ("SMALL-1", 1000)] {
            assert!(is_installed(&cluster.nodes[host], id, bytes), "{id}");
        }
        let passed = cluster.passed(0, host) - before;
        assert!(passed < 7 * MIB as u64 / 2, "host {host} was sent {passed} bytes");
    }
    assert_eq!(cluster.counter("spread_files_sent"), 2);
    let log = cluster.log();
    assert!(!log.contains("takes the rollout over"), "{log}");
}

#[test]
fn a_host_that_restarts_again_and_again_ends_with_the_whole_file_and_installs_it() {
    need_root!();
    let mut cluster = Cluster::of("spread-restart", 1, 2).start();
    patch(&cluster, "AGAIN-1", 6 * MIB);
    // About six seconds.
    let sending = begin(&cluster, &["AGAIN-1", "--rate", "8Mbit"]);
    for blocks in [1, 3] {
        wait::until_true("some blocks are here", || {
            spread(&cluster.nodes[1])["received"]["blocks_here"].as_u64().is_some_and(|here| here >= blocks)
                || spread(&cluster)["sending"].is_null()
        });
        cluster.nodes[1].kill();
        cluster.nodes[1].start();
    }
    ended(sending, 0);
    assert!(has_all(&cluster.nodes[2]));
    wait::until_true("the host is heard again", || cluster.host(1)["state"] == "idle");
    // What it lacks comes by another transmission, or by a session.
    cluster.thimble(&["apply", "AGAIN-1"]).ok();
    let kept = spread(&cluster.nodes[1])["received"]["blocks_here"].as_u64().unwrap_or(0);
    let before = cluster.passed(0, 1);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(is_installed(&cluster.nodes[1], "AGAIN-1", 6 * MIB));
    let passed = cluster.passed(0, 1) - before;
    assert!(passed < (8 - kept) * MIB as u64, "{kept} blocks were kept, and {passed} bytes fetched");
}

/// A disk that gives other bytes than were written: nothing of it is installed, and the install ends well.
#[test]
fn a_kept_file_that_was_damaged_is_fetched_again() {
    need_root!();
    let cluster = Cluster::of("spread-damaged", 1, 2).start();
    patch(&cluster, "DAMAGED-1", 3 * MIB);
    cluster.thimble(&["spread", "DAMAGED-1", "--rate", "100Mbit"]).ok();
    let kept =
        fs::read_dir(cluster.nodes[1].state_dir().join("spread")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&kept).unwrap();
    bytes[MIB + 7] ^= 1;
    fs::write(&kept, bytes).unwrap();
    cluster.thimble(&["apply", "DAMAGED-1"]).ok();
    cluster.thimble(&["host-install", "agent-1", "agent-2"]).ok();
    assert!((1..3).all(|host| is_installed(&cluster.nodes[host], "DAMAGED-1", 3 * MIB)));
    assert!(!kept.exists());
}

#[test]
fn hosts_without_room_take_no_part_and_install_all_the_same() {
    need_root!();
    let mut cluster = Cluster::of("spread-room", 1, 3);
    cluster.nodes[1].settings.push(("agent", "spread_cache_bytes = 1000000".to_owned()));
    cluster.nodes[2].settings.push(("agent", "spread_cache_bytes = 0".to_owned()));
    let cluster = cluster.start();
    patch(&cluster, "ROOM-1", 2 * MIB);
    let said = cluster.thimble(&["spread", "ROOM-1", "--rate", "100Mbit"]).ok();
    assert!(said.contains("1 of 2 hosts have it all, the others fetch what they lack"), "{said}");
    assert!(
        cluster.nodes[1].log().contains("agent.spread_cache_bytes is 1000000"),
        "{}",
        cluster.nodes[1].log()
    );
    cluster.thimble(&["apply", "ROOM-1"]).ok();
    cluster.thimble(&["host-install", "--all"]).ok();
    assert!((1..4).all(|host| is_installed(&cluster.nodes[host], "ROOM-1", 2 * MIB)));
}

#[test]
fn a_disk_that_is_full_in_the_middle_costs_its_host_the_transmission_alone() {
    need_root!();
    let mut cluster = Cluster::of("spread-full", 1, 2);
    cluster.nodes[1].settings.push(("agent", "reserve_bytes = 0".to_owned()));
    let cluster = cluster.start();
    let disk = cluster.nodes[1].state_dir().join("spread");
    fs::create_dir_all(&disk).unwrap();
    let _mounted = Mounted::tmpfs(&disk, "size=16m");
    patch(&cluster, "FULL-1", 6 * MIB);
    let sending = begin(&cluster, &["FULL-1", "--rate", "16Mbit"]);
    wait::until_true("a block is here", || {
        spread(&cluster.nodes[1])["received"]["blocks_here"].as_u64() >= Some(1)
    });
    // Somebody else takes what is left.
    let _ = fs::write(disk.join("other"), vec![1; 16 * MIB]);
    let said = ended(sending, 0);
    assert!(said.contains("1 of 2 hosts have it all, the others fetch what they lack"), "{said}");
    assert!(cluster.nodes[1].log().contains("it cannot be kept"), "{}", cluster.nodes[1].log());
    cluster.thimble(&["apply", "FULL-1"]).ok();
    cluster.thimble(&["host-install", "--all"]).ok();
    assert!((1..3).all(|host| is_installed(&cluster.nodes[host], "FULL-1", 6 * MIB)));
}

#[test]
fn a_patch_that_is_deleted_or_stopped_is_not_sent_any_more() {
    need_root!();
    let cluster = Cluster::of("spread-deleted", 1, 2).start();
    patch(&cluster, "GONE-1", 4 * MIB);
    patch(&cluster, "STAYS-1", 4 * MIB);
    let sending = begin(&cluster, &["GONE-1", "STAYS-1", "--rate", "500kbit"]);
    wait::until_true("it is sent", || spread(&cluster)["sent"]["source_bytes"].as_u64() > Some(0));
    wait::until_true("what hosts have is known", || cluster.is_settled());
    cluster.thimble(&["delete", "GONE-1"]).ok();
    wait::until_true("the next is sent", || spread(&cluster)["sending"] == "STAYS-1");
    wait::until_true("it is under way", || spread(&cluster)["sent"]["source_bytes"].as_u64() > Some(0));
    cluster.thimble(&["spread", "--stop"]).ok();
    let said = ended(sending, 1);
    assert_eq!(spread(&cluster)["sent"]["done_bytes"], 0, "no section was sent to its end");
    let stopped = "is not sent to all hosts any more: it was stopped";
    assert!(
        said.contains(&format!("GONE-1 {stopped}")) && said.contains(&format!("STAYS-1 {stopped}")),
        "{said}"
    );
    assert!(spread(&cluster)["sending"].is_null());
    let refused = cluster.thimble(&["spread", "--stop"]).failed(1);
    assert!(refused.contains("there is nothing to stop"), "{refused}");
    // Of neither a block was whole, so nothing of them is kept.
    let keeps = |host: &Node| fs::read_dir(host.state_dir().join("spread")).unwrap().next().is_some();
    wait::until_true("no host receives or keeps anything", || {
        cluster.nodes[1..].iter().all(|host| spread(host)["receiving"] == false && !keeps(host))
    });
}

#[test]
fn a_host_that_joins_late_gets_what_is_left_and_fetches_the_rest() {
    need_root!();
    let mut cluster = Cluster::of("spread-late", 1, 2).start();
    cluster.nodes[2].stop();
    // Two sections.
    patch(&cluster, "LATE-1", 17 * MIB);
    let sending = begin(&cluster, &["LATE-1", "--rate", "80Mbit"]);
    wait::until_true("it is sent", || spread(&cluster)["sent"]["source_bytes"].as_u64() > Some(0));
    cluster.nodes[2].start();
    ended(sending, 0);
    assert!(has_all(&cluster.nodes[1]));
    cluster.thimble(&["apply", "LATE-1"]).ok();
    wait::until_true("the host is heard again", || cluster.host(2)["state"] == "idle");
    cluster.thimble(&["host-install", "--all"]).ok();
    assert!((1..3).all(|host| is_installed(&cluster.nodes[host], "LATE-1", 17 * MIB)));
}

#[test]
fn another_controller_goes_on_with_a_rollout_whose_controller_dies_while_it_sends() {
    need_root!();
    let mut cluster = Cluster::of("spread-dies", 2, 3).timer("controller_lost_ms", 3_000);
    for (controller, rate) in cluster.nodes.iter_mut().zip([500, 100_000]) {
        controller.settings.push(("controller", format!("spread_kbit_s = {rate}")));
    }
    let mut cluster = cluster.start();
    patch(&cluster, "DIES-1", 5 * MIB);
    cluster.thimble(&["apply", "DIES-1"]).ok();
    wait::until_true("both have the file", || cluster.controllers().iter().all(Node::holds_all_files));
    cluster.agree("both have applied it");
    let mut first = begin_rollout(&cluster.nodes[0]);
    wait::until_true("it is sent", || spread(&cluster)["sent"]["source_bytes"].as_u64() > Some(0));
    cluster.nodes[0].kill();
    let _ = first.wait();
    let second = &cluster.nodes[1];
    second.thimble(&["watch", "--until-done"]).ok();
    assert!((2..5).all(|host| is_installed(&cluster.nodes[host], "DIES-1", 5 * MIB)));
    assert!(second.log().contains("DIES-1 was sent to all hosts"), "{}", second.log());
}

#[test]
fn of_two_controllers_that_send_at_once_one_waits_and_all_hosts_have_both() {
    need_root!();
    let cluster = Cluster::of("spread-two", 2, 3).start();
    patch(&cluster, "TWO-1", 3 * MIB);
    patch(&cluster, "TWO-2", 3 * MIB);
    wait::until_true("both have the files", || cluster.controllers().iter().all(Node::holds_all_files));
    cluster.agree("both have them");
    let children =
        [("TWO-1", 0), ("TWO-2", 1)].map(|(id, at)| begin(&cluster.nodes[at], &[id, "--rate", "20Mbit"]));
    let said = children.map(|sending| ended(sending, 0)).concat();
    // One waits for the other.
    assert_eq!(said.matches("3 of 3 hosts have it all").count(), 2, "{said}");
    cluster.thimble(&["apply", "--all"]).ok();
    cluster.thimble(&["host-install", "--all"]).ok();
    for id in ["TWO-1", "TWO-2"] {
        assert!((2..5).all(|host| is_installed(&cluster.nodes[host], id, 3 * MIB)), "{id}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    need_root!();
    let cluster = Cluster::of("spread-refused", 1, 1).start();
    let refused = |arguments: &[&str], code| cluster.thimble(&[&["spread"], arguments].concat()).failed(code);
    assert!(refused(&["NONE-1"], 1).contains("NONE-1"));
    assert!(refused(&["NONE-1", "--rate", "20"], 2).contains("--rate wants a rate such as 20Mbit"));
    assert!(refused(&["--rate", "20Mbit"], 2).contains("--rate is allowed only with ID"));
    assert!(refused(&["A", "--stop"], 2).contains("--stop takes neither ID nor --rate"));
    let said = cluster.nodes[1].thimble(&["spread", "A"]).failed(1);
    assert!(said.contains("This node is no controller"), "{said}");
    let said = cluster.thimble(&["spread"]).ok();
    assert!(said.contains("Nothing was sent to all hosts since the daemon started."), "{said}");
    // Of more than can wait none is sent.
    let many: Vec<_> = (0..18).map(|at| format!("MANY-{at}")).collect();
    many.iter().for_each(|id| drop(patch(&cluster, id, 1000)));
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(refused(&many, 1).contains("17 files are sent or wait at most"));
    assert!(spread(&cluster)["sending"].is_null());
    // One that all hosts have is not sent.
    patch(&cluster, "HERE-1", 1000);
    cluster.thimble(&["apply", "HERE-1"]).ok();
    cluster.thimble(&["host-install", "--all"]).ok();
    let said = cluster.thimble(&["spread", "HERE-1"]).ok();
    assert!(said.contains("none that listens lacks it"), "{said}");
    assert_eq!(spread(&cluster)["sent"]["source_bytes"], 0);
}

/// What has the key of all agents and is not of the file costs hosts their blocks, after three of which they go over to
/// sessions. None of it is ever installed.
#[test]
#[cfg(not(feature = "tipc"))]
fn false_packets_cost_blocks_and_never_reach_an_install() {
    need_root!();
    let cluster = Cluster::of("spread-false", 1, 2).start();
    patch(&cluster, "FALSE-1", 4 * MIB);
    let sending = begin(&cluster, &["FALSE-1", "--rate", "12Mbit"]);
    wait::until_true("it is sent", || spread(&cluster)["sent"]["source_bytes"].as_u64() > Some(0));
    let text = spread(&cluster)["sent"]["transmission"].as_str().unwrap().to_owned();
    let transmission = u64::from_str_radix(&text, 16).unwrap();
    let keys = KeyFile::read(&cluster.nodes[1].key_file()).unwrap().ring();
    let slot = keys.send_slot();
    let key = keys.key(slot, KeyClass::Group).unwrap();
    let (any, group) = match crate::over::is_ipv6() {
        true => ("[::]:0", "[ff15::54:4a]:7490"),
        false => ("0.0.0.0:0", "239.255.84.74:7490"),
    };
    let socket = cluster.stranger.enter(|| UdpSocket::bind(any)).unwrap();
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut send = |part, content: &[u8], key| {
        let length = Packet { transmission, part, content }.emit(slot, key, &mut datagram);
        socket.send_to(&datagram[..length], group).unwrap();
    };
    // Of each block that is still to come its last packets, before the true ones; and some that are nothing.
    wait::until_true("each host has lost three blocks", || {
        for number in 500..520 {
            for block in 0..5 {
                send(Part::Source { block, number }, &[7; PACKET_BYTES], &key);
            }
        }
        send(Part::Proof { section: 0 }, &[7; 64], &key);
        send(Part::Source { block: 99, number: 0 }, &[7; PACKET_BYTES], &key);
        send(Part::Source { block: 0, number: 3 }, &[7; 5], &key);
        send(Part::Source { block: 0, number: 3 }, &[7; PACKET_BYTES], &Key([9; 32]));
        cluster.nodes[1..].iter().all(|host| host.counter("spread_blocks_false") >= 3)
    });
    ended(sending, 0);
    for host in &cluster.nodes[1..] {
        assert!(
            host.counter("spread_packets_unauthenticated") > 0
                && host.counter("spread_packets_malformed") > 0
        );
        let log = host.log();
        assert!(log.contains("somebody with the key of all agents sends what is not of the file"), "{log}");
    }
    cluster.thimble(&["apply", "FALSE-1"]).ok();
    cluster.thimble(&["host-install", "agent-1", "agent-2"]).ok();
    assert!((1..3).all(|host| is_installed(&cluster.nodes[host], "FALSE-1", 4 * MIB)));
}

/// Begins a rollout, without waiting for its end.
fn begin_rollout(node: &Node) -> Child {
    let mut command: Command = node.namespace.command(&thimble());
    command.args(["--config", node.config_file().to_str().unwrap(), "host-install", "--all"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A file system, until it is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &std::path::Path, options: &str) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
