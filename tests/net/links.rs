//! Nodes with two links: what one cut takes away comes by the other, and only `status` tells.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::thread;

use serde_json::Value;

use crate::cluster::Node;
use crate::files::noise;
use crate::linked::{CUTS, Cut, Linked, installs};
use crate::netns::Namespace;
use crate::over;
use crate::patch::Patch;
use crate::wait;

#[test]
fn nodes_hear_each_other_by_both_links_and_take_each_message_once() {
    need_root!();
    let mut linked = Linked::new("two-links", 2, 2);
    linked.cluster = linked.cluster.counting();
    let linked = linked.start();
    let cluster = &linked.cluster;
    for number in 0..4 {
        let others = if number < 2 { 3 } else { 2 };
        (0..2).for_each(|link| linked.hears(number, link, others));
    }
    installs(cluster, "TWO-1", 100_000);
    cluster.agree("both have it");
    for node in &cluster.nodes {
        assert!(node.counter("datagrams_doubled_by_links") > 0, "{}", node.name);
        let shown = node.thimble(&["status"]).ok();
        for link in ["net0", "net1"] {
            assert!(shown.contains(&format!("interface     {link}: up with ")), "{shown}");
        }
    }
    linked.is_unhurt();
    for node in cluster.nodes.iter().filter(|_| cfg!(feature = "proof")) {
        assert_eq!(node.json(&["status"])["loop_allocations"], 0, "{}", node.name);
    }
}

/// At the host, at the controller, and of each link, while nothing is installed; then a patch.
#[test]
fn a_cut_of_one_link_is_seen_in_status_alone() {
    need_root!();
    let linked = Linked::new("one-cut", 1, 2).start();
    for (round, cut) in CUTS.into_iter().enumerate() {
        for (number, link) in [(1, 0), (0, 1)] {
            (0..3).for_each(|node| linked.hears(node, link, if node == 0 { 2 } else { 1 }));
            linked.cut(number, link, cut);
            // The host that was cut, by the controller, or each of both.
            linked.hears(0, link, if number == 0 { 0 } else { 1 });
            let state = linked.link(number, link)["state"].clone();
            assert_eq!(
                state,
                match cut {
                    Cut::Down => "down",
                    Cut::NoCarrier => "no-carrier",
                    Cut::Silent => "up",
                }
            );
            installs(&linked.cluster, &format!("CUT-{round}-{number}"), 300_000);
            linked.is_unhurt();
            linked.mend(number, link, cut);
        }
    }
}

/// A link is cut while a file of some MB is on its way over it: the session is begun again over
/// the other, and no rollout fails.
#[test]
fn a_cut_while_a_patch_is_fetched_is_gone_around() {
    need_root!();
    let mut linked = Linked::new("cut-fetch", 1, 2);
    // By a session, and not with all hosts.
    linked.cluster.settings.push(("controller", "spread_least_bytes = 100000000".to_owned()));
    let linked = linked.start();
    for (round, cut) in CUTS.into_iter().enumerate() {
        (0..2).for_each(|link| linked.hears(0, link, 2));
        (0..2).for_each(|link| (1..3).for_each(|node| linked.hears(node, link, 1)));
        // So slow that it takes some seconds.
        for port in ["port1", "port2"] {
            for switch in [&linked.cluster.hub, &linked.second] {
                switch.namespace.run(
                    "tc",
                    &format!("qdisc replace dev {port} root tbf rate 8mbit burst 64k latency 400ms"),
                    "",
                );
            }
        }
        let id = format!("FETCH-{round}");
        Patch::new(&linked.cluster, &id)
            .file(&format!("etc/{id}"), &noise(6_000_000))
            .applied(&linked.cluster);
        let cut_link = thread::scope(|scope| {
            let asked = scope.spawn(|| linked.cluster.thimble(&["host-install", "--all"]));
            let link = wait::until("a host fetches", || fetches_by(&linked.cluster.nodes[1]));
            linked.cut(1, link, cut);
            let shown = asked.join().unwrap().ok();
            assert!(shown.contains("rollout ended: 2 of 2 hosts, 2 installed"), "{shown}");
            link
        });
        let log = linked.cluster.nodes[1].log();
        let broken = log.lines().filter(|line| line.contains("the session to the controller broke")).count();
        assert!(broken > round, "{cut:?}: {log}");
        linked.is_unhurt();
        linked.mend(1, cut_link, cut);
        for port in ["port1", "port2"] {
            for switch in [&linked.cluster.hub, &linked.second] {
                switch.namespace.run("tc", &format!("qdisc delete dev {port} root"), "");
            }
        }
    }
}

/// The link by which a node fetches a file now, once some of it has come.
fn fetches_by(node: &Node) -> Option<usize> {
    let begun = fs::read_dir(node.root().join(".thimble/fetch")).ok()?;
    let some = begun.flatten().any(|file| file.metadata().is_ok_and(|meta| meta.len() > 500_000));
    let open = node.namespace.run("ss", "-tnH state established", "");
    let link = |line: &str| {
        let first = ["10.84.0.1:7488", "[fd84::1]:7488"].iter().any(|at| line.contains(at));
        let second = ["10.85.0.1:7488", "[fd85::1]:7488"].iter().any(|at| line.contains(at));
        if first { Some(0) } else { second.then_some(1) }
    };
    open.lines().find_map(link).filter(|_| some)
}

#[test]
fn a_link_that_is_deleted_and_made_again_or_comes_late_is_followed() {
    need_root!();
    let mut linked = Linked::new("link-again", 1, 1);
    linked.unplug(0);
    linked.cluster = linked.cluster.start();
    let node = &linked.cluster.nodes[0];
    assert_eq!(linked.link(0, 1)["state"], "missing");
    let checked = node.thimble(&["check-config"]).ok();
    assert!(
        checked.contains("WARNING: this machine has no interface net1 now; it has lo, net0"),
        "{checked}"
    );
    linked.is_unhurt();
    linked.plug(0);
    for (number, round) in [(0, 1), (1, 2), (0, 3)] {
        (0..2).for_each(|node| linked.hears(node, 1, 1));
        installs(&linked.cluster, &format!("AGAIN-{round}"), 1_000);
        linked.unplug(number);
        wait::until_true("it is missing", || linked.link(number, 1)["state"] == "missing");
        let log = linked.cluster.nodes[number].log();
        assert!(log.contains("the interface net1 is missing: thimble goes on over the others"), "{log}");
        linked.is_unhurt();
        linked.plug(number);
        wait::until_true("its return is told", || {
            linked.cluster.nodes[number].log().contains("the interface net1 is up with ")
        });
    }
    linked.is_unhurt();
}

/// Two hosts with one link each, on either network, and one with both.
#[test]
fn nodes_with_one_link_and_with_two_are_in_one_cluster() {
    need_root!();
    let mut linked = Linked::new("mixed-links", 2, 3);
    linked.cluster.nodes[2].interface = "net0".to_owned();
    linked.cluster.nodes[3].interface = "net1".to_owned();
    let linked = linked.start();
    linked.hears(0, 0, 3);
    linked.hears(0, 1, 3);
    installs(&linked.cluster, "MIXED-1", 100_000);
    linked.is_unhurt();
    assert_eq!(linked.link(2, 0)["heard"], Value::Null);
    assert_eq!(linked.link(2, 1), Value::Null);
}

#[test]
fn while_all_links_are_down_that_is_a_trouble() {
    need_root!();
    let linked = Linked::new("no-link", 1, 1).start();
    let host = &linked.cluster.nodes[1];
    linked.cut(1, 0, Cut::Down);
    linked.cut(1, 1, Cut::NoCarrier);
    let troubles = || host.json(&["status"])["troubles"].to_string();
    wait::until_true("both are told", || {
        let said = troubles();
        said.contains("The interface net0 is down, for ") && said.contains("net1 is without a carrier, for ")
    });
    wait::until_true("the host is lost", || linked.cluster.host(1)["state"] == "lost");
    linked.mend(1, 1, Cut::NoCarrier);
    wait::until_true("it is well", || troubles() == "[]" && linked.cluster.host(1)["state"] == "idle");
    installs(&linked.cluster, "BACK-1", 1_000);
}

/// The kernel sends what goes to the subnet by the first of them alone.
#[test]
fn a_second_link_in_the_same_subnet_is_not_used_and_that_is_told() {
    need_root!();
    need_udp!("bearers have no subnets");
    let mut linked = Linked::new("same-subnet", 1, 1);
    let address = if over::is_ipv6() { "fd84::101/64" } else { "10.84.0.101/24" };
    linked.cluster.nodes[1]
        .namespace
        .ip(&format!("address flush dev net1\naddress add {address} dev net1\n"));
    linked.cluster = linked.cluster.start();
    let host = &linked.cluster.nodes[1];
    wait::until_true("it is told", || linked.link(1, 1)["state"] == "same-subnet");
    let checked = host.thimble(&["check-config"]).ok();
    assert!(checked.contains("WARNING: the interface net1 is in the subnet of another one"), "{checked}");
    assert!(host.log().contains("the interface net1 is in the subnet of another one: it is not used"));
    installs(&linked.cluster, "SAME-1", 1_000);
    linked.is_unhurt();
}

/// The addresses of a node, as a list of peers has them.
fn addresses(number: usize) -> [String; 2] {
    let last = number + 1;
    match over::is_ipv6() {
        false => [format!("10.84.0.{last}"), format!("10.85.0.{last}")],
        true => [format!("fd84::{last}"), format!("fd85::{last}")],
    }
}

/// All nodes list addresses of the first controller. The hosts learn of the other one, those with
/// one link by that.
#[test]
fn where_multicast_is_dropped_a_cut_is_gone_around_too() {
    need_root!();
    let mut linked = Linked::new("links-peers", 2, 3);
    linked.cluster.nodes[3].interface = "net0".to_owned();
    linked.cluster.nodes[4].interface = "net1".to_owned();
    for (number, node) in linked.cluster.nodes.iter_mut().enumerate().skip(1) {
        let [first, second] = addresses(0);
        let peers = match number {
            3 => vec![first],
            4 => vec![second],
            _ => vec![first, second],
        };
        node.settings.push(("network", format!("peers = {peers:?}")));
    }
    linked
        .cluster
        .nodes
        .iter_mut()
        .for_each(|node| node.settings.push(("network", "multicast = false".into())));
    let linked = linked.start();
    let knows = |link, nodes| (0..2).for_each(|number| linked.hears(number, link, nodes));
    (0..2).for_each(|link| knows(link, 3));
    for (round, (number, link)) in [(2, 0), (0, 1), (1, 0)].into_iter().enumerate() {
        linked.cut(number, link, Cut::Silent);
        // A host with one link is gone with that of a controller.
        let whole = [2, if link == 0 { 4 } else { 3 }];
        wait::until_true("it is cut", || match number {
            2 => linked.link(0, link)["heard"] == 2,
            _ => linked.link(number, link)["heard"] == 0,
        });
        let id = format!("PEERS-{round}");
        Patch::new(&linked.cluster, &id).file(&format!("etc/{id}"), &noise(50_000)).applied(&linked.cluster);
        linked.cluster.agree("the controllers agree over the other link");
        for host in whole {
            let node = &linked.cluster.nodes[host];
            linked.cluster.thimble(&["host-install", &node.name]).ok();
            assert!(node.root().join(format!("etc/{id}")).exists(), "{}", node.name);
            let troubles = node.json(&["status"])["troubles"].to_string();
            assert_eq!(troubles, "[]", "{}", node.name);
            // Those with one link are lost with it.
            assert!(host != 2 || !linked.cluster.log().contains("agent-1 is lost"));
        }
        for node in &linked.cluster.nodes {
            assert_eq!(node.refused("replay"), 0, "{}", node.name);
            assert_eq!(node.counter("sends_failed"), 0, "{}: {}", node.name, node.log());
        }
        linked.mend(number, link, Cut::Silent);
        (0..2).for_each(|link| knows(link, 3));
    }
}

/// Installed means still there, by whichever link.
#[test]
fn a_set_that_takes_one_link_away_stays_and_one_that_takes_both_goes_back() {
    need_root!();
    let linked = Linked::new("links-proof", 1, 1);
    let cluster = crate::lost_network::impatient(linked.cluster, 1).timer("probe_ms", 20_000).start();
    let linked = Linked { cluster, ..linked };
    let host = &linked.cluster.nodes[1];
    (0..2).for_each(|link| linked.hears(1, link, 1));
    let restart = "ip -batch \"$THIMBLE_ROOT/etc/net\"";
    fs::create_dir_all(host.root().join("etc")).unwrap();
    fs::write(host.root().join("etc/net"), "link set net0 up\nlink set net1 up\n").unwrap();
    let cutting = |id: &str, lines: &[u8]| {
        Patch::new(&linked.cluster, id)
            .file("etc/net", lines)
            .script("restart", restart)
            .applied(&linked.cluster);
        linked.cluster.thimble(&["host-install", "agent-1"])
    };
    let said = cutting("BOTH-1", b"link set net0 down\nlink set net1 down\n").failed(1);
    assert!(said.contains("the network was lost with this set: no controller was heard"), "{said}");
    linked.cluster.thimble(&["remove", "BOTH-1"]).ok();
    if over::is_ipv6() {
        (0..2).for_each(|link| linked.mend(1, link, Cut::Down));
    }
    wait::until_true("the host is back", || linked.cluster.host(1)["state"] != "lost");
    cutting("ONE-1", b"link set net0 down\n").ok();
    assert_eq!(linked.link(1, 0)["state"], "down");
    assert_eq!(host.json(&["status"])["agent"]["installed"], 1);
}

/// Of both roles, over both families: each message comes four times.
#[test]
fn nodes_of_both_roles_and_families_take_each_message_once() {
    need_root!();
    if over::is_ipv6() {
        return;
    }
    let mut linked = Linked::new("links-families", 2, 1);
    for (number, node) in linked.cluster.nodes.iter_mut().enumerate() {
        node.has_both_roles = number == 0;
        let last = number + 1;
        node.namespace.ip(&format!(
            "address add fd84::{last}/64 dev net0 nodad\naddress add fd85::{last}/64 dev net1 nodad\n"
        ));
        node.settings.push(("network", "families = [\"ipv4\", \"ipv6\"]".into()));
    }
    linked.cluster.nodes.iter_mut().for_each(Node::start);
    linked.cluster.agree("the controllers take changes");
    wait::until_true("both controllers hear both hosts", || {
        linked
            .cluster
            .controllers()
            .iter()
            .all(|node| node.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2))
    });
    (0..2).for_each(|link| linked.hears(0, link, 2));
    Patch::new(&linked.cluster, "FOUR-1").file("etc/four", b"x").applied(&linked.cluster);
    let shown = linked.cluster.thimble(&["host-install", "--all"]).ok();
    assert!(shown.contains("rollout ended: 2 of 2 hosts, 2 installed"), "{shown}");
    linked.cut(2, 1, Cut::Silent);
    linked.hears(0, 1, 1);
    Patch::new(&linked.cluster, "FOUR-2").file("etc/four2", b"x").applied(&linked.cluster);
    let shown = linked.cluster.thimble(&["host-install", "--all"]).ok();
    assert!(shown.contains("rollout ended: 2 of 2 hosts, 2 installed"), "{shown}");
    linked.is_unhurt();
    for node in &linked.cluster.nodes {
        assert!(node.counter("datagrams_doubled_by_links") > 0, "{}", node.name);
    }
}

/// Where the filter on the listener takes a capability, each connection is asked by which
/// interface it came.
#[test]
fn without_capabilities_each_link_is_served_and_no_other_interface() {
    need_root!();
    let mut linked = Linked::new("links-bare", 1, 1);
    let stranger = Namespace::new();
    let node = &mut linked.cluster.nodes[0];
    node.give_no_capabilities();
    let path = stranger.path();
    node.namespace.ip(&format!(
        "link add name net2 type veth peer name net0 netns {path}\naddress add 10.86.0.1/24 dev net2\nlink set net2 up\n"
    ));
    stranger.ip("link set lo up\naddress add 10.86.0.2/24 dev net0\nlink set net0 up\n\
                 route add 10.84.0.0/24 via 10.86.0.1\n");
    let linked = linked.start();
    (0..2).for_each(|link| linked.hears(0, link, 1));
    for link in [0, 1] {
        linked.cut(1, link, Cut::Down);
        installs(&linked.cluster, &format!("BARE-{link}"), 1_000);
        linked.mend(1, link, Cut::Down);
        linked.hears(0, link, 1);
    }
    for address in
        [Ipv4Addr::new(10, 86, 0, 1), Ipv4Addr::new(10, 84, 0, 1)].into_iter().filter(|_| !over::is_ipv6())
    {
        let to = SocketAddrV4::new(address, 7488);
        let connected = stranger.enter(|| TcpStream::connect_timeout(&to.into(), wait::LONG));
        // It is closed, or was never there where the kernel has the filter.
        let got = connected.and_then(|mut stream| {
            stream.set_read_timeout(Some(wait::LONG))?;
            stream.read(&mut [0])
        });
        assert!(!got.is_ok_and(|got| got > 0), "{to} serves another interface");
    }
}
