//! Networks as they are in the field, on the kernel's own bridge: a switch that forgets groups, two
//! interfaces in one subnet, and neighbours in the same group.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use thimble::types::{Digest, NodeId};
use thimble::wire::frame::Role;
use thimble::wire::messages::{Hello, Message};

use crate::cluster::{Cluster, Node};
use crate::forge::with_keys_of;
use crate::netns::Namespace;
use crate::over::is_ipv6;
use crate::patch::Patch;
use crate::wait;

fn troubles(node: &Node) -> String {
    node.json(&["status"])["troubles"].to_string()
}

/// A patch goes to all hosts.
fn installs(cluster: &Cluster, id: &str) {
    let _ = Patch::new(cluster, id).file(&format!("etc/{id}"), b"x").applied(cluster);
    let agents = &cluster.nodes[cluster.controllers().len()..];
    wait::until_true("all hosts have it", || {
        let _ = cluster.thimble(&["host-install", "--all"]);
        agents.iter().all(|node| node.root().join(format!("etc/{id}")).exists())
    });
}

/// By which way a controller hears another node.
fn heard_by(controller: &Node, name: &str) -> String {
    let status = controller.json(&["status"]);
    let neighbours = status["controller"]["neighbours"].as_array().unwrap();
    let neighbour = neighbours.iter().find(|row| row["hostname"] == name).cloned();
    let row = neighbour.unwrap_or_else(|| controller.host(name));
    row["heard_by"].as_str().unwrap_or("not").to_owned()
}

/// A switch that snoops, and forgets who is in a group before anybody asks again: it forwards what
/// is to the group to nobody then. (Without any querier the kernel's bridge floods.)
#[test]
fn where_a_switch_forgets_the_groups_unicast_takes_over_and_nobody_is_lost() {
    need_root!();
    if is_ipv6() {
        return crate::skip("a switch that forgets groups", "it forgets those of neighbour discovery too");
    }
    let cluster = Cluster::bridged("snooping", 2, 2).timer("hello_interval_ms", 500).start();
    let pairs = [(0, "controller-1"), (1, "controller-0"), (0, "agent-1"), (0, "agent-2"), (1, "agent-1")];
    let all_by = |way: &str| {
        wait::until_true(&format!("all are heard by {way}"), || {
            pairs.iter().all(|(at, name)| heard_by(&cluster.nodes[*at], name) == way)
        });
    };
    all_by("multicast");
    let before: Vec<u64> = cluster.controllers().iter().map(|node| node.counter("lost_unanswered")).collect();
    cluster
        .hub
        .namespace
        .ip("link set br0 type bridge mcast_query_response_interval 10 mcast_membership_interval 100 \
         mcast_query_interval 100000 mcast_startup_query_count 1 mcast_querier 1 mcast_snooping 1\n");
    all_by("unicast");
    installs(&cluster, "SNOOP-1");
    cluster.agree("the controllers have one repository");
    for (controller, before) in cluster.controllers().iter().zip(before) {
        assert_eq!(controller.counter("lost_unanswered"), before, "{} has lost some", controller.name);
        let wide = controller.thimble(&["query-hosts", "--wide"]).ok();
        assert!(wide.contains(" ago by unicast") && !wide.contains("lost"), "{wide}");
    }
    for node in &cluster.nodes {
        assert_eq!(troubles(node), "[]", "{}", node.name);
    }
    cluster.hub.namespace.ip("link set br0 type bridge mcast_snooping 0\n");
    all_by("multicast");
}

/// The address of an interface on Ethernet.
fn mac(at: &Namespace, name: &str) -> String {
    let shown = at.run("ip", &format!("-o link show dev {name}"), "");
    shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

/// The kernel answers for the address of one interface on the other, too ("ARP flux"), and sends by
/// the first route.
#[test]
fn with_two_interfaces_in_one_subnet_the_wrong_one_is_told() {
    need_root!();
    if is_ipv6() {
        return crate::skip("two interfaces in one subnet", "IPv6 answers on each for its own addresses");
    }
    let cluster = Cluster::bridged("one-subnet", 1, 1)
        .timer("install_give_up_ms", 8_000)
        .timer("hello_interval_ms", 500)
        .start();
    let (controller, agent) = (&cluster.nodes[0], &cluster.nodes[1]);
    let path = agent.namespace.path();
    cluster.hub.namespace.ip(&format!(
        "link add name extra type veth peer name net1 netns {path}\nlink set extra up master br0\n"
    ));
    agent.namespace.ip("address add 10.84.0.102/24 dev net1\nlink set net1 up\n");
    // What an answer of the wrong one leads to.
    let wrong = mac(&agent.namespace, "net1");
    let flux = |lladdr: &str| {
        controller
            .namespace
            .ip(&format!("neigh replace {} lladdr {lladdr} dev net0 nud permanent\n", agent.address));
    };
    flux(&wrong);
    let _ = Patch::new(&cluster, "SUBNET-2").file("etc/subnet", b"x").applied(&cluster);
    let said = cluster.thimble(&["host-install", "agent-1"]);
    assert_ne!(said.code, 0, "{}{}", said.stdout, said.stderr);
    wait::until_true("the agent says that they come in by another interface", || {
        let said = troubles(agent);
        said.contains("Datagrams arrive on another interface: ")
            && said.contains("See routes, and the interfaces in [network]")
    });
    assert_ne!(cluster.host(1)["state"], "lost", "its multicast is heard");
    assert!(cluster.thimble(&["explain", "agent-1"]).ok().contains("agent-1"));
    // Each interface answers for its own address alone then, as the guide says.
    agent.namespace.enter(|| std::fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1")).unwrap();
    controller.namespace.ip(&format!("neigh delete {} dev net0\n", agent.address));
    installs(&cluster, "SUBNET-3");
    assert_eq!(cluster.host(1)["address"], agent.address.to_string());
}

/// Gives a node another network, on which another program of this node has joined the groups; and
/// returns what else is on it, a socket there that has joined them, and that program.
fn with_a_neighbour(node: &Node) -> (Namespace, UdpSocket, UdpSocket) {
    let other = Namespace::new();
    let path = other.path();
    node.namespace
        .ip(&format!("link add name net1 type veth peer name net0 netns {path}\nlink set net1 up\n"));
    let join = |at: &Namespace, port: u16, interface: &str| {
        let shown = at.run("ip", &format!("-o link show dev {interface}"), "");
        let index: u32 = shown.split(':').next().unwrap().parse().unwrap();
        let address: Ipv4Addr =
            if interface == "net1" { [10, 85, 0, 1].into() } else { [10, 85, 0, 2].into() };
        at.enter(|| {
            let any =
                if is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { std::net::IpAddr::from([0, 0, 0, 0]) };
            let socket = UdpSocket::bind((any, port)).unwrap();
            for last in [0x48, 0x49] {
                match is_ipv6() {
                    true => {
                        socket.join_multicast_v6(&Ipv6Addr::new(0xFF15, 0, 0, 0, 0, 0, 0x54, last), index)
                    }
                    false => socket.join_multicast_v4(&Ipv4Addr::new(239, 255, 84, last as u8), &address),
                }
                .unwrap();
            }
            socket
        })
    };
    other.ip("link set lo up\nlink set net0 up\n");
    let (here, there) = match is_ipv6() {
        true => ("address add fd85::1/64 dev net1 nodad\n", "address add fd85::2/64 dev net0 nodad\n"),
        false => (
            "address add 10.85.0.1/24 dev net1\n",
            "address add 10.85.0.2/24 dev net0\nroute add 239.0.0.0/8 dev net0\n",
        ),
    };
    node.namespace.ip(here);
    other.ip(there);
    let (program, outside) = (join(&node.namespace, 9_999, "net1"), join(&other, 7_488, "net0"));
    (other, outside, program)
}

#[test]
fn a_program_in_the_same_group_on_another_interface_is_not_heard_and_does_not_hear() {
    need_root!();
    let mut cluster = Cluster::new("same-group", 1).timer("hello_interval_ms", 300);
    let (other, outside, program) = with_a_neighbour(&cluster.nodes[0]);
    cluster.nodes.iter_mut().for_each(Node::start);
    let node = &cluster.nodes[0];
    wait::until_true("the agent is heard", || {
        cluster.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1)
    });
    // A hello that would be taken, and something else, to the group and the port.
    let mut forger = with_keys_of(node, Role::Controller, Some(NodeId(0x5EC0)));
    let hello = Message::Hello(Hello { op_counter: 1, digest: Digest([0; 32]) });
    let group: std::net::SocketAddr = match is_ipv6() {
        true => (Ipv6Addr::new(0xFF15, 0, 0, 0, 0, 0, 0x54, 0x48), 7_488).into(),
        false => (Ipv4Addr::new(239, 255, 84, 72), 7_488).into(),
    };
    let other_port: std::net::SocketAddr = (group.ip(), 9_999).into();
    let refused = |node: &Node| -> u64 {
        let counters = node.json(&["status"])["counters"].clone();
        let all = counters.as_object().unwrap().iter();
        all.filter(|(name, _)| name.starts_with("refused_") && *name != "refused_own_echo")
            .map(|(_, count)| count.as_u64().unwrap())
            .sum()
    };
    let before = refused(node);
    let sender = other.enter(|| {
        let any: std::net::IpAddr =
            if is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { [0, 0, 0, 0].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        // The one outside is to hear nothing but ours.
        if is_ipv6() { socket.set_multicast_loop_v6(false) } else { socket.set_multicast_loop_v4(false) }
            .unwrap();
        socket
    });
    for _ in 0..20 {
        sender.send_to(&forger.encode(&hello, NodeId(0)), group).unwrap();
        sender.send_to(b"of another program", group).unwrap();
    }
    // The program of this node that is in the group gets what is for it, so they came this far.
    sender.send_to(b"for the program", other_port).unwrap();
    program.set_read_timeout(Some(wait::LONG)).unwrap();
    let mut room = [0; 64];
    let (len, _) = wait::uninterrupted(|| program.recv_from(&mut room)).unwrap();
    assert_eq!(&room[..len], b"for the program");
    // Datagrams that came before would be counted by the next round.
    let received = node.counter("datagrams_received");
    wait::until_true("some rounds later", || node.counter("datagrams_received") > received + 4);
    // Over IPv6 the kernel gives a socket what comes for its group by any interface.
    let elsewhere = node.refused("other_interface");
    assert_eq!(elsewhere, if is_ipv6() { 40 } else { 0 });
    assert_eq!(refused(node), before + elsewhere, "{}", node.json(&["status"]));
    let neighbours = node.json(&["status"])["controller"]["neighbours"].to_string();
    assert!(!neighbours.contains("5ec0"), "{neighbours}");
    // And nothing of ours went there.
    outside.set_nonblocking(true).unwrap();
    let mut ours = 0;
    while let Ok((len, _)) = outside.recv_from(&mut room) {
        ours += usize::from(room[..len].starts_with(b"THMB"));
    }
    assert_eq!(ours, 0);
    installs(&cluster, "GROUP-1");
}

/// Two sockets that both allow it would share the datagrams of a port.
#[test]
fn a_program_that_shares_its_port_gets_none_of_ours() {
    need_root!();
    let mut cluster = Cluster::new("shared-port", 0);
    let node = &mut cluster.nodes[0];
    let program = |node: &Node| node.namespace.enter(|| crate::sys::shared_udp(7_488, is_ipv6()));
    let first = program(node).unwrap();
    node.spawn();
    let (code, log) = node.ended();
    assert!(code != Some(0) && log.contains("UDP port 7488 cannot be bound: is another thimble, "), "{log}");
    drop(first);
    node.start();
    assert_eq!(program(node).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
}
