//! IPv6: nodes of one family and of both in one cluster, addresses of the link, other interfaces.
//! With `THIMBLE_TEST_FAMILY=ipv6` the tests of clusters run over IPv6 alone.

use std::io::{ErrorKind, Write};
use std::net::{Ipv6Addr, TcpStream, UdpSocket};
use std::time::Duration;

use thimble::types::{Digest, NodeId};
use thimble::wire::frame::Role;
use thimble::wire::messages::{Hello, Message};

use crate::cluster::{Cluster, Node};
use crate::forge::with_keys_of;
use crate::netns::Namespace;
use crate::over::{attach6, is_ipv6};
use crate::patch::Patch;
use crate::switch::VNET_BYTES;
use crate::wait;

fn says(node: &mut Node, families: &str) {
    node.settings.push(("network", format!("families = {families}")));
    // Groups of the link, whose interface must be said.
    node.settings.push(("network", "controller_group6 = \"ff02::5448\"".into()));
    node.settings.push(("network", "agent_group6 = \"ff02::5449\"".into()));
}

/// Takes a node's address over IPv4 away.
fn without_ipv4(node: &Node) {
    node.namespace.ip(&format!("address delete {}/24 dev net0\n", node.address.v4()));
}

/// The address of the link that the kernel has given to a node's interface.
fn of_link(node: &Node) -> String {
    wait::until("it has an address of the link", || {
        let shown = node.namespace.run("ip", "-6 -o address show dev net0 scope link", "");
        let address = shown.split_whitespace().nth(3)?.split('/').next()?.to_owned();
        (!shown.contains("tentative")).then_some(address)
    })
}

/// A controller of both families, an agent of each, and one that has an address of the link only.
fn mixed(name: &str) -> Option<Cluster> {
    if is_ipv6() {
        // Its nodes would have no address over IPv4.
        return None;
    }
    let mut cluster = Cluster::of(name, 1, 3);
    for (number, families) in [(0, "[\"ipv4\", \"ipv6\"]"), (2, "[\"ipv6\"]"), (3, "[\"ipv6\"]")] {
        let node = &mut cluster.nodes[number];
        says(node, families);
        if number < 3 {
            attach6(&node.namespace, node.address);
        }
        if number > 0 {
            without_ipv4(node);
        }
        of_link(node);
    }
    Some(cluster)
}

/// A patch goes to all three agents: by unicast and sessions of both families.
fn installs(cluster: &Cluster) {
    Patch::new(cluster, "MIXED-1").file("etc/mixed", b"x").applied(cluster);
    wait::until_true("all have it", || {
        let _ = cluster.thimble(&["host-install", "--all"]);
        cluster.nodes[1..].iter().all(|agent| agent.root().join("etc/mixed").exists())
    });
    let [v4, v6, link] = [1, 2, 3].map(|number| cluster.host(number)["address"].as_str().unwrap().to_owned());
    assert_eq!(v4, cluster.nodes[1].address.v4().to_string());
    // The kernel chooses between its addresses.
    assert!(v6.starts_with("fe80::") || v6 == cluster.nodes[2].address.v6().to_string(), "{v6}");
    assert!(link.starts_with(&format!("{}%", of_link(&cluster.nodes[3]))), "{link}");
}

#[test]
fn one_cluster_has_nodes_of_either_family_and_of_both() {
    need_root!();
    let Some(cluster) = mixed("mixed") else { return };
    let cluster = cluster.start();
    installs(&cluster);
    for node in &cluster.nodes {
        let status = node.json(&["status"]);
        assert_eq!(status["troubles"].to_string(), "[]", "{}", node.name);
        assert_eq!(status["interface"]["state"], "up", "{}", node.name);
    }
    let shown = cluster.json(&["status"])["interface"]["address"].as_str().unwrap().to_owned();
    assert!(shown.starts_with("10.84.0.1 and f"), "{shown}");
}

#[test]
fn peers_of_either_family_are_served_where_multicast_is_dropped() {
    need_root!();
    let Some(mut cluster) = mixed("mixed-peers") else { return };
    let controller = &cluster.nodes[0];
    let peers = [
        controller.address.v4().to_string(),
        format!("[{}]:7488", controller.address.v6()),
        format!("{}%net0", of_link(controller)),
    ];
    for (agent, peer) in cluster.nodes[1..].iter_mut().zip(peers) {
        agent.settings.push(("network", format!("peers = [\"{peer}\"]")));
    }
    let cluster = cluster.without_multicast().start();
    for number in 1..4 {
        assert_eq!(cluster.host(number)["heard_by"], "unicast");
    }
    Patch::new(&cluster, "MIXED-2").file("etc/mixed", b"x").applied(&cluster);
    wait::until_true("all have it", || {
        let _ = cluster.thimble(&["host-install", "--all"]);
        cluster.nodes[1..].iter().all(|agent| agent.root().join("etc/mixed").exists())
    });
}

/// Both families carry each message to a group.
#[test]
fn nodes_of_both_families_take_each_message_once() {
    need_root!();
    if is_ipv6() {
        return;
    }
    let mut cluster = Cluster::of("both", 2, 1);
    for node in &mut cluster.nodes {
        says(node, "[\"ipv4\", \"ipv6\"]");
        attach6(&node.namespace, node.address);
        of_link(node);
    }
    let cluster = cluster.start();
    Patch::new(&cluster, "BOTH-6").file("etc/both", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "--all"]).ok();
    for node in &cluster.nodes[..2] {
        wait::until_true("copies are counted", || node.counter("datagrams_doubled") > 0);
        assert_eq!(node.refused("replay"), 0, "{}", node.name);
        assert_eq!(node.json(&["status"])["troubles"].to_string(), "[]", "{}", node.name);
    }
}

/// Without IPv6 on its interface, and with it later.
#[test]
fn a_node_of_both_families_goes_on_with_the_one_that_it_has() {
    need_root!();
    if is_ipv6() {
        return;
    }
    let mut cluster = Cluster::new("one-left", 1);
    for node in &mut cluster.nodes {
        says(node, "[\"ipv4\", \"ipv6\"]");
        node.namespace.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/net0/disable_ipv6", "1")).unwrap();
    }
    let cluster = cluster.start();
    let address = |node: &Node| node.json(&["status"])["interface"]["address"].as_str().unwrap().to_owned();
    for node in &cluster.nodes {
        assert_eq!(address(node), node.address.v4().to_string());
        assert_eq!(node.json(&["status"])["troubles"].to_string(), "[]", "{}", node.name);
        node.namespace.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/net0/disable_ipv6", "0")).unwrap();
        attach6(&node.namespace, node.address);
        wait::until_true("it is told", || address(node).contains(" and f"));
        without_ipv4(node);
        wait::until_true("it is told", || !address(node).contains("10.84"));
    }
    let is_heard = || {
        cluster.host(1)["address"].as_str().is_some_and(|address| address.contains(':'))
            && cluster.host(1)["age_ms"].as_u64().is_some_and(|age| age < 2_000)
    };
    wait::until_true("the host is heard over IPv6", is_heard);
    // The kernel takes IPv6 away from an interface with so small an MTU, memberships too.
    let agent = &cluster.nodes[1];
    agent.namespace.ip("link set net0 mtu 1200\n");
    let says = |words: &str| {
        wait::until_true(words, || agent.json(&["status"])["troubles"].to_string().contains(words));
    };
    says("The interface net0 is without an IP address, for ");
    wait::until_true("the host is silent", || !is_heard());
    agent.namespace.ip("link set net0 mtu 1500\n");
    wait::until_true("the host is heard over IPv6 again", is_heard);
    Patch::new(&cluster, "LEFT-6").file("etc/left", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "--all"]).ok();
}

/// A frame with a datagram from an address to the same, from and to port 7488.
fn datagram6([to, from]: [[u8; 6]; 2], address: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let addresses = [address.octets(), address.octets()].concat();
    let ports = [7488u16.to_be_bytes(), 7488u16.to_be_bytes(), len.to_be_bytes()].concat();
    // RFC 8200: over the addresses, the length, the protocol and the datagram.
    let summed =
        [&addresses[..], &[0, 0], &len.to_be_bytes(), &[0, 0, 0, 17], &ports, &[0, 0], payload].concat();
    let words = summed.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    let head = [0x60, 0, 0, 0, (len >> 8) as u8, len as u8, 17, 64];
    let mut frame = vec![0; VNET_BYTES];
    for part in
        [&to[..], &from, &[0x86, 0xDD], &head, &addresses, &ports, &(!(sum as u16)).to_be_bytes(), payload]
    {
        frame.extend_from_slice(part);
    }
    frame
}

/// Unlike IPv4, the kernel takes from a wire what says that it comes from this host.
#[test]
fn over_ipv6_another_interface_is_not_answered() {
    need_root!();
    let mut cluster = Cluster::new("interfaces6", 0);
    let node = &mut cluster.nodes[0];
    if !is_ipv6() {
        says(node, "[\"ipv4\", \"ipv6\"]");
        attach6(&node.namespace, node.address);
    }
    let other = Namespace::new();
    let to_other = other.path();
    node.namespace.ip(&format!(
        "link add name net1 type veth peer name net0 netns {to_other}\nlink set net1 up\n\
         address add fd85::1/64 dev net1 nodad\n"
    ));
    other.ip("link set lo up\nlink set net0 up\naddress add fd85::2/64 dev net0 nodad\n\
              route add fd84::/64 via fd85::1\n");
    let own = node.address.v6();
    node.start();
    let node = &cluster.nodes[0];
    let mut forger = with_keys_of(node, Role::Controller, Some(NodeId(0x5EC0)));
    let hello = Message::Hello(Hello { op_counter: 1, digest: Digest([0; 32]) });
    for to in [own, "fd85::1".parse().unwrap()] {
        let socket = other.enter(|| UdpSocket::bind("[::]:0")).unwrap();
        let before = node.refused("other_interface");
        wait::until_true("it is refused", || {
            let _ = socket.send_to(&forger.encode(&hello, NodeId(0)), (to, 7488));
            node.refused("other_interface") > before
        });
        let connect = || TcpStream::connect_timeout(&(to, 7488).into(), Duration::from_secs(2));
        let connected = other.enter(connect).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(connected, Err(ErrorKind::TimedOut), "{to}");
    }
    // What comes off the wire with the node's address as its source and its destination.
    let mac = |at: &Namespace, name: &str| -> [u8; 6] {
        let shown = at.run("ip", &format!("-o link show dev {name}"), "");
        let text = shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let bytes: Vec<_> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        bytes.try_into().unwrap()
    };
    let macs = [mac(&node.namespace, "net1"), mac(&other, "net0")];
    let socket = other.enter(|| crate::sys::packet_socket("net0")).unwrap();
    let before = node.refused("other_interface");
    wait::until_true("it is refused", || {
        let frame = datagram6(macs, own, &forger.encode(&hello, NodeId(0)));
        (&socket).write_all(&frame).unwrap();
        assert_eq!(node.counter("hello_received"), 0);
        node.refused("other_interface") > before
    });
}
