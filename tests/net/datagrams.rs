//! Invalid, replayed and forged datagrams.

use thimble::config::keys::KeyFile;
use thimble::limits;
use thimble::types::{Digest, Hostname, NodeId, Nonce, RequestId};
use thimble::wire::frame::Role;
use thimble::wire::messages::{AgentInstallReq, Hello, HelloAgent, HelloAgentAck, Message};

use crate::cluster::{Cluster, Node};
use crate::forge::with_keys_of;
use crate::over::{self, Datagrams, To};
use crate::wait;

const CONTROLLERS: To = To::All(Role::Controller);
const GROUP: NodeId = NodeId(0);

/// A socket on the cluster's network that belongs to no node.
fn stranger(cluster: &Cluster) -> Datagrams {
    Datagrams::new(&cluster.stranger)
}

fn id_of(node: &Node) -> NodeId {
    KeyFile::read(&node.key_file()).unwrap().node
}

fn hello_agent() -> Message {
    Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms: 10 })
}

/// Sends `datagram` and waits until the node has counted it under `reason`.
fn is_counted(node: &Node, socket: &Datagrams, to: To, datagram: &[u8], reason: &str) {
    let before = node.refused(reason);
    socket.send(datagram, to);
    wait::until_true(&format!("{} counts {reason}", node.name), || node.refused(reason) > before);
}

/// A host's report with nothing in it but a name.
pub fn ack() -> Message {
    let hostname = Hostname::new("stranger").unwrap();
    Message::HelloAgentAck(HelloAgentAck { hostname, ..HelloAgentAck::default() })
}

/// Waits until the controller has received another ack of an agent.
pub fn next_good_datagram_is_served(cluster: &Cluster, agent: usize) {
    let asked = std::time::Instant::now();
    wait::until_true("the next hello is answered and heard", || {
        // A controller that has just started knows no host yet.
        let age_ms = cluster.host(agent)["age_ms"].as_u64();
        age_ms.is_some_and(|age_ms| u128::from(age_ms) < asked.elapsed().as_millis())
    });
}

#[test]
fn bad_datagrams_are_counted_by_reason_and_the_next_good_one_is_served() {
    need_root!();
    let cluster = Cluster::new("bad", 1).start();
    let socket = stranger(&cluster);
    let mut second = with_keys_of(&cluster, Role::Controller, Some(NodeId(0x5EC0)));
    let mut agent = with_keys_of(&cluster, Role::Agent, Some(NodeId(0xA6E7)));
    let nameless = agent.encode(&Message::HelloAgentAck(HelloAgentAck::default()), GROUP);
    let mut good = || agent.encode(&ack(), GROUP);
    let changed = |mut bytes: Vec<u8>, at: usize, byte: u8| {
        bytes[at] = byte;
        bytes
    };
    let wrong_direction = second.encode(&hello_agent(), GROUP);
    let cases: [(&str, Vec<u8>); 13] = [
        ("no_hostname", nameless),
        ("too_short", Vec::new()),
        ("too_short", good()[..30].to_vec()),
        ("too_long", vec![0xFF; limits::DATAGRAM_BYTES + 1]),
        ("too_long", vec![0xFF; 9_000]),
        ("magic", b"{\"msgtype\": 1, \"msgversion\": 1, \"patch_op_counter\": 5}       ".to_vec()),
        ("version", changed(good(), 4, 2)),
        ("cluster", changed(good(), 8, 0xEE)),
        ("unknown_type", changed(good(), 5, 7)),
        ("no_key", changed(good(), 6, 3)),
        ("tag", changed(good(), 60, 0xEE)),
        ("wrong_direction", wrong_direction),
        ("too_long", {
            let mut longer = good();
            longer.push(0);
            longer
        }),
    ];
    for (reason, datagram) in cases {
        if datagram.is_empty() && !over::CARRIES_NOTHING {
            continue;
        }
        is_counted(&cluster, &socket, CONTROLLERS, &datagram, reason);
    }
    next_good_datagram_is_served(&cluster, 1);
}

#[test]
fn a_replayed_datagram_is_refused_and_counted() {
    need_root!();
    let cluster = Cluster::new("replay", 1).start();
    let socket = stranger(&cluster);
    let mut neighbour = with_keys_of(&cluster, Role::Controller, Some(NodeId(0x5EC0)));
    let hello = Message::Hello(Hello { op_counter: 1, digest: Digest([0; 32]) });
    let recorded = neighbour.encode(&hello, GROUP);
    socket.send(&recorded, CONTROLLERS);
    is_counted(&cluster, &socket, CONTROLLERS, &recorded, "replay");
    let agent = &cluster.nodes[1];
    let to_agent = To::One(Role::Agent, agent.address);
    let recorded = neighbour.encode(&hello_agent(), id_of(agent));
    socket.send(&recorded, to_agent);
    is_counted(agent, &socket, to_agent, &recorded, "replay");
    next_good_datagram_is_served(&cluster, 1);
}

#[test]
fn an_agents_key_is_refused_for_a_controller_and_for_another_agent() {
    need_root!();
    let cluster = Cluster::new("thief", 2).start();
    let socket = stranger(&cluster);
    let (stolen, other) = (&cluster.nodes[1], &cluster.nodes[2]);
    let known = cluster.json(&["query-hosts"])["hosts"].as_array().unwrap().len();

    let mut as_controller = with_keys_of(stolen, Role::Controller, Some(id_of(&cluster)));
    let hello = Message::Hello(Hello { op_counter: u64::MAX, digest: Digest([0; 32]) });
    is_counted(&cluster, &socket, CONTROLLERS, &as_controller.encode(&hello, GROUP), "tag");
    let install = Message::AgentInstallReq(AgentInstallReq {
        request_id: RequestId(1),
        nonce: Nonce(1),
        digest: Digest([0; 32]),
        force: true,
    });
    let to_other = To::One(Role::Agent, other.address);
    is_counted(other, &socket, to_other, &as_controller.encode(&install, id_of(other)), "tag");

    let mut as_other = with_keys_of(stolen, Role::Agent, Some(id_of(other)));
    is_counted(&cluster, &socket, CONTROLLERS, &as_other.encode(&ack(), GROUP), "tag");

    assert_eq!(cluster.json(&["query-hosts"])["hosts"].as_array().unwrap().len(), known);
    for agent in [1, 2] {
        assert_eq!(cluster.host(agent)["state"], "idle");
    }
}

#[test]
fn two_nodes_with_one_id_are_reported() {
    need_root!();
    let cluster = Cluster::new("clone", 1).start();
    let socket = stranger(&cluster);
    // Its incarnation is later than that of the agent whose key file it has.
    let mut clone = with_keys_of(&cluster.nodes[1], Role::Agent, None);
    socket.send(&clone.encode(&ack(), GROUP), CONTROLLERS);
    wait::until_true("the agent itself is heard after it", || cluster.refused("duplicate_node_id") > 0);
    let status = cluster.json(&["status"]);
    let troubles = status["troubles"].to_string();
    let id = id_of(&cluster.nodes[1]).to_string();
    assert!(troubles.contains(&id) && troubles.contains("cloned image"), "{troubles}");
}
