//! A network that carries no multicast, and nodes that list each other as peers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::wait;

/// A patch goes to all hosts of a controller.
fn installs(cluster: &Cluster, id: &str) {
    Patch::new(cluster, id).file(&format!("etc/{id}"), b"x").applied(cluster);
    let hosts = || cluster.nodes.iter().filter(|node| !node.is_controller || node.has_both_roles);
    wait::until_true("all hosts have it", || {
        let _ = cluster.thimble(&["host-install", "--all"]);
        hosts().all(|node| node.root().join(format!("etc/{id}")).exists())
    });
}

/// By which way a controller hears a host.
fn heard_by(controller: &Node, host: &Node) -> String {
    controller.host(&host.name)["heard_by"].as_str().unwrap_or("not").to_owned()
}

/// By which way a controller hears another.
fn neighbour_by(controller: &Node, other: &Node) -> String {
    let status = controller.json(&["status"]);
    let rows = status["controller"]["neighbours"].as_array().unwrap().clone();
    let row = rows.into_iter().find(|row| row["hostname"] == other.name.as_str());
    row.and_then(|row| row["heard_by"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// By which way an agent is asked.
fn asked_by(agent: &Node) -> String {
    agent.json(&["status"])["agent"]["asked_by"]["heard_by"].as_str().unwrap_or("not").to_owned()
}

fn is_well(node: &Node) {
    let troubles = || node.json(&["status"])["troubles"].to_string();
    wait::until_true(&format!("{} has no trouble: {}", node.name, troubles()), || troubles() == "[]");
}

#[test]
fn agents_that_list_a_controller_are_served_where_multicast_is_dropped() {
    need_root!();
    let cluster = Cluster::of("peers", 1, 2).peers(1, &[0]).peers(2, &[0]).without_multicast();
    let mut cluster = cluster.counting().start();
    installs(&cluster, "PEER-1");
    for agent in &cluster.nodes[1..] {
        assert_eq!(heard_by(&cluster, agent), "unicast", "{}", agent.name);
        wait::until_true("it is asked", || asked_by(agent) == "unicast");
        is_well(agent);
    }
    is_well(&cluster);
    // It knows no host then: they announce themselves.
    cluster.nodes[0].stop();
    cluster.nodes[0].start();
    for agent in &cluster.nodes[1..] {
        wait::until_true("it is heard again", || heard_by(&cluster, agent) == "unicast");
    }
    let wide = cluster.thimble(&["query-hosts", "--wide"]).ok();
    assert!(wide.contains(" ago by unicast"), "{wide}");

    cluster.with_multicast();
    for agent in &cluster.nodes[1..] {
        wait::until_true("it is heard by multicast", || heard_by(&cluster, agent) == "multicast");
        wait::until_true("it is asked by multicast", || asked_by(agent) == "multicast");
        is_well(agent);
    }
    for node in cluster.nodes.iter().filter(|_| cfg!(feature = "proof")) {
        assert_eq!(node.json(&["status"])["loop_allocations"], 0, "{}", node.name);
    }
}

#[test]
fn a_controller_that_lists_agents_serves_them() {
    need_root!();
    let cluster = Cluster::of("listed", 1, 2).peers(0, &[1, 2]).without_multicast().start();
    installs(&cluster, "LISTED-1");
    cluster.nodes[1..].iter().for_each(|agent| assert_eq!(heard_by(&cluster, agent), "unicast"));
}

#[test]
fn a_controller_that_lists_nobody_learns_those_that_list_it() {
    need_root!();
    let cluster = Cluster::of("learns", 2, 1).peers(1, &[0]).peers(2, &[0, 1]).without_multicast().start();
    for (one, other) in [(0, 1), (1, 0)] {
        let [one, other] = [one, other].map(|number| &cluster.nodes[number]);
        wait::until_true("they are heard by unicast", || neighbour_by(one, other) == "unicast");
    }
    installs(&cluster, "LEARNS-1");
    cluster.agree("both have it");
}

/// Each message comes twice then.
#[test]
fn peers_beside_multicast_are_served_once() {
    need_root!();
    let cluster = Cluster::of("beside", 2, 1).peers(0, &[1, 2]).peers(1, &[0, 2]).peers(2, &[0, 1]).start();
    installs(&cluster, "BESIDE-1");
    for node in &cluster.nodes[..2] {
        wait::until_true("copies are counted", || node.counter("datagrams_doubled") > 0);
        assert_eq!(node.refused("replay"), 0, "{}", node.name);
        wait::until_true("by multicast", || heard_by(node, &cluster.nodes[2]) == "multicast");
        is_well(node);
    }
}

#[test]
fn a_cluster_without_groups_needs_no_multicast() {
    need_root!();
    let mut cluster = Cluster::of("alone", 2, 1).peers(1, &[0]).peers(2, &[0, 1]);
    for node in &mut cluster.nodes {
        node.settings.push(("network", "multicast = false".into()));
    }
    let cluster = cluster.start();
    installs(&cluster, "ALONE-1");
    let groups = cluster.stranger.run("ip", "maddress show dev net0", "");
    let joined = cluster.nodes[0].namespace.run("ip", "maddress show dev net0", "");
    assert_eq!(groups.lines().count(), joined.lines().count(), "{joined}");
}

/// On loopback, and on an interface that is missing.
#[test]
fn one_node_with_both_roles_needs_no_network() {
    need_root!();
    for (interface, multicast) in [("lo", true), ("lo", false), ("net7", true), ("net7", false)] {
        let mut cluster = Cluster::new("itself", 0);
        let node = &mut cluster.nodes[0];
        node.has_both_roles = true;
        node.settings.push(("network", format!("multicast = {multicast}")));
        node.interface = interface.into();
        cluster.nodes[0].start();
        cluster.agree("it takes changes");
        wait::until_true("it hears itself", || {
            cluster.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1)
        });
        installs(&cluster, "ITSELF-1");
    }
}

/// An agent that lists one controller is known to all that this one knows.
#[test]
fn an_agent_learns_of_the_other_controllers() {
    need_root!();
    let cluster = Cluster::of("others", 3, 1).peers(0, &[1]).peers(2, &[0, 1]).peers(3, &[0]);
    let cluster = cluster.without_multicast().start();
    for controller in cluster.controllers() {
        assert_eq!(heard_by(controller, &cluster.nodes[3]), "unicast", "{}", controller.name);
    }
    installs(&cluster, "OTHERS-1");
    // By another controller than the one that it lists.
    Patch::new(&cluster, "OTHERS-2").file("etc/others", b"x").applied(&cluster);
    cluster.agree("all controllers have it");
    cluster.nodes[1].thimble(&["host-install", "--all"]).ok();
    assert!(cluster.nodes[3].root().join("etc/others").exists());
}

/// The system knows the name by a file that the daemon alone sees in place of `/etc/hosts`: what
/// machines say of `localhost` differs.
#[test]
fn a_peers_name_is_resolved_by_a_worker_and_told_where_that_fails() {
    need_root!();
    let mut cluster = Cluster::new("names", 0);
    let node = &mut cluster.nodes[0];
    let [hosts, script] = ["hosts", "thimble.sh"].map(|name| node.dir.join(name));
    fs::write(&hosts, "127.0.0.1 itself-by-name\n::1 itself-by-name\n").unwrap();
    let inside = format!("mount --bind {} /etc/hosts && exec {} \"$@\"", hosts.display(), node.binary);
    fs::write(&script, format!("#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.binary = script.to_str().unwrap().to_owned();
    node.has_both_roles = true;
    node.settings
        .push(("network", "multicast = false\npeers = [\"itself-by-name\", \"nobody.invalid:7\"]".into()));
    node.start();
    wait::until_true("one is resolved, the other is not", || {
        let log = node.log();
        log.contains("the peer itself-by-name is ")
            && log.contains("the peer nobody.invalid:7 has no address: its name does not resolve now")
    });
    // Its own hello comes back from there.
    wait::until_true("the peer is sent to", || node.refused("own_echo") > 0);
    let config = node.config_file();
    let checked = node.namespace.enter(|| {
        Command::new(&script).args(["--config", config.to_str().unwrap(), "check-config"]).output().unwrap()
    });
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.contains("WARNING: the peer nobody.invalid:7 has no address now"), "{checked}");
    assert!(!checked.contains("the peer itself-by-name"), "{checked}");
}
