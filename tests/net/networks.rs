//! An interface that comes late, goes, is made anew or gets another address while a daemon runs:
//! the daemon says so, follows it, and takes part again.

use std::fs;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::{sys, wait};

fn troubles(node: &Node) -> String {
    node.json(&["status"])["troubles"].to_string()
}

fn says(node: &Node, words: &str) {
    wait::until_true(&format!("{} says: {words}", node.name), || troubles(node).contains(words));
}

fn is_well(node: &Node) {
    wait::until_true(&format!("{} has no trouble", node.name), || troubles(node) == "[]");
}

fn state(node: &Node) -> String {
    node.json(&["status"])["interface"]["state"].as_str().unwrap().to_owned()
}

/// A patch goes from the controller to all hosts: by unicast and a session. Each hears the other's
/// multicast too.
fn installs(cluster: &Cluster, id: &str) {
    crate::datagrams::next_good_datagram_is_served(cluster, 1);
    Patch::new(cluster, id).file(&format!("etc/{id}"), b"x").applied(cluster);
    wait::until_true("all hosts have it", || {
        let _ = cluster.thimble(&["host-install", "--all"]);
        cluster.nodes[1..].iter().all(|node| node.root().join(format!("etc/{id}")).exists())
    });
}

#[test]
fn an_interface_that_is_deleted_and_made_again_is_followed() {
    need_root!();
    let cluster = Cluster::new("made-anew", 1).start();
    for number in [1, 0] {
        let node = &cluster.nodes[number];
        cluster.unplug(number);
        says(node, "The interface net0 is missing, for ");
        assert_eq!(state(node), "missing");
        let shown = node.thimble(&["status"]).ok();
        assert!(shown.contains("interface     net0: missing, for "), "{shown}");
        assert!(!troubles(node).contains("Datagrams cannot be sent"), "that is the same trouble");
        cluster.plug(number);
        installs(&cluster, &format!("ANEW-{number}"));
        is_well(node);
        let shown = node.thimble(&["status"]).ok();
        let up = format!("interface     net0: up with {}, for ", node.address);
        assert!(shown.contains(&up) && shown.contains("; before, "), "{shown}");
        let log = node.log();
        for line in
            ["the interface net0 is missing", &format!("the interface net0 is up with {}", node.address)]
        {
            assert!(log.contains(line), "{line}: {log}");
        }
        let rows = cluster.json(&["query-hosts"]);
        assert_eq!(rows["hosts"].as_array().unwrap().len(), 1, "{rows}");
    }
}

/// The daemon sees both reports at once, and the index tells nothing.
#[test]
fn one_with_the_same_index_is_another_interface() {
    need_root!();
    let cluster = Cluster::new("same-index", 1).start();
    for number in [1, 0] {
        let node = &cluster.nodes[number];
        let shown = node.namespace.run("ip", "-o link show dev net0", "");
        let index = shown.split(':').next().unwrap().to_owned();
        sys::signal(node.pid(), libc::SIGSTOP).unwrap();
        cluster.unplug(number);
        cluster.plug_as(number, &index);
        let shown = node.namespace.run("ip", "-o link show dev net0", "");
        assert!(shown.starts_with(&format!("{index}:")), "{shown}");
        sys::signal(node.pid(), libc::SIGCONT).unwrap();
        installs(&cluster, &format!("SAME-{number}"));
        wait::until_true("it is told", || {
            let log = node.log();
            log.contains("the interface net0 was made anew") || log.contains("the interface net0 is up with ")
        });
        is_well(node);
    }
}

#[test]
fn an_interface_that_comes_after_the_daemon_is_waited_for() {
    need_root!();
    let mut cluster = Cluster::new("late-link", 1);
    (0..2).for_each(|number| cluster.unplug(number));
    cluster.nodes.iter_mut().for_each(Node::start);
    for node in &cluster.nodes {
        says(node, "The interface net0 is missing, for ");
        let checked = node.thimble(&["check-config"]).ok();
        assert!(checked.contains("WARNING: this machine has no interface net0 now; it has lo"), "{checked}");
        assert!(node.log().contains("the interface net0 is missing"), "{}", node.log());
    }
    (0..2).for_each(|number| cluster.plug(number));
    installs(&cluster, "LATE-1");
    cluster.nodes.iter().for_each(is_well);
}

#[test]
fn an_address_that_comes_late_is_waited_for() {
    need_root!();
    let mut cluster = Cluster::new("late-address", 1);
    for node in &cluster.nodes {
        node.namespace.ip("address flush dev net0\n");
    }
    cluster.nodes.iter_mut().for_each(Node::start);
    for node in &cluster.nodes {
        says(node, "The interface net0 is without an IPv4 address, for ");
        let checked = node.thimble(&["check-config"]).ok();
        assert!(checked.contains("WARNING: the interface net0 is without an IPv4 address now"), "{checked}");
        assert!(node.log().contains("the interface net0 is without an IPv4 address"), "{}", node.log());
    }
    for node in &cluster.nodes {
        node.namespace.ip(&format!("address add {}/24 dev net0\n", node.address));
    }
    installs(&cluster, "LATE-2");
    cluster.nodes.iter().for_each(is_well);
}

/// A host with another network too sends from the address that it has there.
#[test]
fn an_address_of_another_interface_is_told() {
    need_root!();
    let cluster = Cluster::new("borrowed", 1).start();
    let node = &cluster.nodes[1];
    node.namespace.ip("link add net1 type veth peer name end\nlink set end up\nlink set net1 up\n\
                       address add 10.99.0.1/24 dev net1\n");
    is_well(node);
    node.namespace.ip("address flush dev net0\n");
    says(node, "The interface net0 is without an IPv4 address of its own");
    let shown = node.thimble(&["check-config"]).ok();
    assert!(shown.contains("datagrams go out from 10.99.0.1"), "{shown}");
    node.namespace.ip(&format!("address add {}/24 dev net0\n", node.address));
    is_well(node);
}

#[test]
fn another_address_is_told_and_taken_up() {
    need_root!();
    let cluster = Cluster::new("renumbered", 1).start();
    let node = &cluster.nodes[1];
    let old = node.address;
    node.namespace.ip(&format!(
        "address add 10.84.0.77/24 dev net0\naddress delete {old}/24 dev net0\n\
                                address add 10.84.0.77/24 dev net0\n"
    ));
    wait::until_true("the controller has the new address", || {
        cluster.host(1)["address"].as_str().is_some_and(|address| address.starts_with("10.84.0.77"))
    });
    let is_told = || node.log().contains("the address of the interface net0 is 10.84.0.77 now");
    wait::until_true("it is told", || is_told() || node.log().contains("is up with 10.84.0.77"));
    assert_eq!(node.json(&["status"])["interface"]["address"], "10.84.0.77");
    installs(&cluster, "MOVED-1");
    is_well(node);
}

#[test]
fn an_interface_that_is_down_or_without_a_carrier_is_told_until_it_is_up() {
    need_root!();
    let cluster = Cluster::new("down", 1).start();
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.namespace.ip("link set net0 down\n");
        says(node, "The interface net0 is down, for ");
        node.namespace.ip("link set net0 up\n");
        is_well(node);
        cluster.hub.namespace.ip(&format!("link set port{number} down\n"));
        says(node, "The interface net0 is without a carrier, for ");
        cluster.hub.namespace.ip(&format!("link set port{number} up\n"));
        is_well(node);
    }
    installs(&cluster, "DOWN-1");
}

/// Where a filter on the listener takes a capability, the listener is replaced.
#[test]
fn a_controller_without_capabilities_follows_too() {
    need_root!();
    let mut cluster = Cluster::new("bare-anew", 1);
    let node = &mut cluster.nodes[0];
    node.give_no_capabilities();
    let cluster = cluster.start();
    for round in 0..2 {
        cluster.unplug(0);
        says(&cluster.nodes[0], "The interface net0 is missing");
        cluster.plug(0);
        installs(&cluster, &format!("BARE-{round}"));
    }
}

/// Only the kernel's reports count.
#[test]
fn a_report_that_another_process_sends_is_ignored() {
    need_root!();
    let cluster = Cluster::new("forged-report", 0).start();
    let node = &cluster.nodes[0];
    let shown = node.namespace.run("ip", "-o link show dev net0", "");
    let index: u32 = shown.split(':').next().unwrap().parse().unwrap();
    // The columns: address, protocol (0 is rtnetlink), port, groups.
    let sockets = fs::read_to_string(format!("/proc/{}/net/netlink", node.pid())).unwrap();
    let rows = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ports: Vec<u32> =
        rows.filter(|row| row[1] == "0" && row[3] == "00000111").map(|row| row[2].parse().unwrap()).collect();
    assert_eq!(ports.len(), 1, "{sockets}");
    let mut removed = [0; 32];
    removed[..4].copy_from_slice(&32u32.to_ne_bytes());
    removed[4..6].copy_from_slice(&libc::RTM_DELLINK.to_ne_bytes());
    removed[20..24].copy_from_slice(&index.to_ne_bytes());
    node.namespace.enter(|| sys::send_to_netlink(ports[0], &removed)).unwrap();
    node.namespace.ip("link set net0 down\n");
    says(node, "The interface net0 is down");
    assert!(!node.log().contains("made anew"), "{}", node.log());
}

#[test]
fn the_loop_allocates_nothing_when_interfaces_change() {
    need_root!();
    if !cfg!(feature = "proof") {
        return crate::skip("networks", "needs a binary that counts: cargo test --features proof");
    }
    let cluster = Cluster::new("allocations-3", 1).counting().start();
    for (number, node) in cluster.nodes.iter().enumerate() {
        cluster.unplug(number);
        says(node, "The interface net0 is missing");
        wait::until_true("it cannot send", || node.counter("sends_failed") > 0 || number == 1);
        cluster.plug(number);
        is_well(node);
        assert_eq!(node.json(&["status"])["loop_allocations"], 0, "{}", node.name);
    }
}
