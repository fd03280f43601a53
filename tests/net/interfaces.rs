//! A node that has a second network: only the configured interface is served.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use thimble::types::{Digest, NodeId};
use thimble::wire::frame::Role;
use thimble::wire::messages::{Hello, HelloAgent, Message};

use crate::cluster::{Cluster, Node};
use crate::forge::with_keys_of;
use crate::netns::Namespace;
use crate::patch::Patch;
use crate::wait;

/// The node's address on the configured interface, and on the other one.
const NODE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 84, 0, 1), Ipv4Addr::new(10, 85, 0, 1)];

/// Each role, its port, and a datagram that it answers.
fn asked() -> [(Role, u16, Message); 2] {
    let hello = Message::Hello(Hello { op_counter: 1, digest: Digest([0; 32]) });
    let hello_agent = Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms: 1 });
    [(Role::Controller, 7488, hello), (Role::Agent, 7489, hello_agent)]
}

/// A controller that is an agent too, with another network on its `net1`, and an agent on
/// the configured network.
fn two_networks(name: &str) -> (Cluster, Namespace) {
    let mut cluster = Cluster::new(name, 1);
    cluster.nodes[0].has_both_roles = true;
    let other = second_network(&cluster.nodes[0]);
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.nodes.iter_mut().for_each(Node::answers);
    cluster.agree("the controller takes changes");
    wait::until_true("the controller hears the agent, and itself", || {
        cluster.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2)
    });
    (cluster, other)
}

/// Gives a node another network, and returns what else is on it.
fn second_network(node: &Node) -> Namespace {
    let other = Namespace::new();
    let to_other = other.path();
    node.namespace.ip(&format!(
        "link add name net1 type veth peer name net0 netns {to_other}\n\
         address add 10.85.0.1/24 dev net1\nlink set net1 up\n"
    ));
    other.ip("link set lo up\naddress add 10.85.0.2/24 dev net0\nlink set net0 up\n\
              route add 10.84.0.0/24 via 10.85.0.1\n");
    other
}

/// A socket for datagrams in a namespace, which waits for an answer as long as the test.
fn socket(at: &Namespace) -> UdpSocket {
    let socket = at.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(wait::LONG)).unwrap();
    socket
}

#[test]
fn what_comes_in_by_another_interface_is_not_answered() {
    need_root!();
    let (cluster, other) = two_networks("interfaces");
    let node = &cluster.nodes[0];
    let mut forger = with_keys_of(node, Role::Controller, Some(NodeId(0x5EC0)));
    for (role, port, message) in asked() {
        for address in NODE {
            let to = SocketAddrV4::new(address, port);
            let socket = socket(&other);
            let before = node.refused("other_interface");
            socket.send_to(&forger.encode(&message, NodeId(0)), to).unwrap();
            wait::until_true("it is counted", || node.refused("other_interface") > before);
            socket.set_nonblocking(true).unwrap();
            let answer = socket.recv_from(&mut [0; 1_500]).map_err(|error| error.kind());
            assert_eq!(answer.map(|_| ()), Err(ErrorKind::WouldBlock), "{role:?} at {to} answers");
            let connected = other.enter(|| TcpStream::connect_timeout(&to.into(), Duration::from_secs(2)));
            let refused = connected.map(|_| ()).map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::TimedOut), "{role:?} at {to} accepts");
        }
        // From the configured network, whichever address of the node it asks, and from the
        // node itself.
        let stranger = &cluster.stranger;
        stranger.ip("route replace 10.85.0.0/24 via 10.84.0.1\n");
        let itself = &node.namespace;
        for (from, address) in
            [(stranger, NODE[0]), (stranger, NODE[1]), (itself, NODE[0]), (itself, Ipv4Addr::LOCALHOST)]
        {
            let to = SocketAddrV4::new(address, port);
            from.enter(|| TcpStream::connect(to)).unwrap();
            if role == Role::Controller {
                let socket = socket(from);
                socket.send_to(&forger.encode(&message, NodeId(0)), to).unwrap();
                wait::uninterrupted(|| socket.recv_from(&mut [0; 1_500])).expect("an answer");
            }
        }
    }
    let said = node.json(&["status"])["troubles"].to_string();
    assert!(said.contains("arrive on another interface: 4 so far"), "{said}");
}

/// Where a filter on the listener takes a capability.
#[test]
fn without_capabilities_another_interface_is_not_answered_either() {
    need_root!();
    let mut cluster = Cluster::new("no-capabilities", 1);
    let node = &mut cluster.nodes[0];
    node.give_no_capabilities();
    let other = second_network(node);
    cluster.nodes.iter_mut().for_each(Node::start);
    let node = &cluster.nodes[0];
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    for address in NODE {
        let to = SocketAddrV4::new(address, 7488);
        let connected = other.enter(|| TcpStream::connect_timeout(&to.into(), Duration::from_secs(2)));
        assert!(connected.is_err(), "{to} accepts");
    }
    cluster.agree("the controller takes changes");
    let patch = Patch::new(&cluster, "BARE-1").file("etc/bare", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "--all"]).ok();
    assert!(cluster.nodes[1].root().join("etc/bare").exists(), "it serves {}", patch.id.as_str());
}

#[test]
fn a_node_with_both_roles_serves_itself() {
    need_root!();
    let (cluster, _other) = two_networks("both-roles");
    let patch = Patch::new(&cluster, "BOTH-1").file("etc/both", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "--all"]).ok();
    for node in &cluster.nodes {
        assert!(node.root().join("etc/both").exists(), "{} has {}", node.name, patch.id.as_str());
        assert_eq!(node.refused("other_interface"), 0, "{}", node.name);
    }
}

/// So it is with `lo`: the node sends from an address of another interface, to which it
/// answers itself.
#[test]
fn a_node_serves_itself_by_an_interface_without_an_address() {
    need_root!();
    let mut cluster = Cluster::new("no-address", 0);
    let node = &mut cluster.nodes[0];
    node.has_both_roles = true;
    node.namespace.ip("link set net0 down\nlink set net0 name wire\nlink set wire up\n\
                       link add net0 type veth peer name end\nlink set end up\nlink set net0 up\n\
                       route replace 239.0.0.0/8 dev net0\n");
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.nodes.iter_mut().for_each(Node::answers);
    cluster.agree("the controller takes changes");
    wait::until_true("the controller hears itself", || {
        cluster.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1)
    });
    Patch::new(&cluster, "ALONE-1").file("etc/alone", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "--all"]).ok();
    assert!(cluster.nodes[0].root().join("etc/alone").exists());
    assert_eq!(cluster.nodes[0].refused("other_interface"), 0);
}
