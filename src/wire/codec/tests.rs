//! One codec's datagrams, as others accept or refuse them.

use super::*;
use crate::list::reserved;
use crate::table::{Table, index_len};
use crate::types::{Digest, Hostname, Nonce, RequestId};
use crate::wire::messages::{AgentInstallReq, Hello, HelloAgent, HelloAgentAck};

const SECRET: Key = Key([7; 32]);
const CLUSTER: ClusterId = ClusterId(0xC1);
const CONTROLLER: NodeId = NodeId(1);
const AGENT: NodeId = NodeId(5);
const GROUP: NodeId = NodeId(0);
const NOW: Instant = Instant::from_millis(0);

const AS_CONTROLLER: Roles = Roles { is_controller: true, is_agent: false };
const AS_AGENT: Roles = Roles { is_controller: false, is_agent: true };
const AS_BOTH: Roles = Roles { is_controller: true, is_agent: true };

fn codec(node: NodeId, roles: Roles, ring: KeyRing) -> Codec<'static> {
    let index = Box::leak(vec![0; index_len(8)].into_boxed_slice());
    let replay = ReplayGuard::new(Table::new(reserved(8), index), Duration::from_secs(100));
    let identity = Identity { cluster: CLUSTER, node, incarnation: 1, roles, ring, revoked: Vec::new() };
    Codec::new(identity, replay)
}

fn controller() -> Codec<'static> {
    codec(CONTROLLER, AS_CONTROLLER, KeyRing::controller(&SECRET))
}

fn agent() -> Codec<'static> {
    codec(AGENT, AS_AGENT, KeyRing::agent(&SECRET, AGENT))
}

fn encode(codec: &mut Codec<'_>, message: &Message, to: NodeId) -> std::vec::Vec<u8> {
    let mut out = [0; limits::DATAGRAM_BYTES];
    let len = codec.encode(message, to, &mut out);
    out[..len].to_vec()
}

/// The sender and the message, or the refusal.
fn decode(codec: &mut Codec<'_>, bytes: &[u8]) -> Result<(NodeId, Message), Refusal> {
    let decoded = codec.decode(NOW, bytes).map(|datagram| (datagram.sender, datagram.message));
    decoded.map_err(|refused| refused.refusal)
}

fn hello_agent() -> Message {
    Message::HelloAgent(HelloAgent { op_counter: 7, ack_window_ms: 100 })
}

fn hello() -> Message {
    Message::Hello(Hello { op_counter: 1, digest: Digest([0; 32]) })
}

fn ack() -> Message {
    let hostname = Hostname::new("host").unwrap();
    Message::HelloAgentAck(HelloAgentAck { hostname, ..HelloAgentAck::default() })
}

fn install() -> Message {
    let digest = Digest([3; 32]);
    Message::AgentInstallReq(AgentInstallReq {
        request_id: RequestId(1),
        nonce: Nonce(2),
        digest,
        force: false,
    })
}

#[test]
fn a_datagram_of_another_version_names_its_sender_only_if_it_is_of_this_cluster() {
    let mut receiver = agent();
    let mut sent = encode(&mut controller(), &hello_agent(), GROUP);
    let mut claimed = |bytes: &[u8]| {
        let refused = receiver.decode(NOW, bytes).unwrap_err();
        assert_eq!(refused.refusal, Refusal::Version);
        refused.claimed_sender
    };
    sent[4] = 2;
    assert_eq!(claimed(&sent), CONTROLLER);
    sent[8] ^= 1;
    assert_eq!(claimed(&sent), NodeId(0));
    let mut noise = [0xA5; 100];
    noise[..4].copy_from_slice(b"THMB");
    assert_eq!(claimed(&noise), NodeId(0));
}

#[test]
fn a_controller_and_an_agent_decode_each_other_s_datagrams() {
    let (mut controller, mut agent) = (controller(), agent());
    for (message, to) in [(hello_agent(), GROUP), (install(), AGENT)] {
        let bytes = encode(&mut controller, &message, to);
        assert_eq!(decode(&mut agent, &bytes), Ok((CONTROLLER, message)));
    }
    let ack = ack();
    let bytes = encode(&mut agent, &ack, GROUP);
    assert_eq!(decode(&mut controller, &bytes), Ok((AGENT, ack)));
}

#[test]
fn each_check_has_its_own_refusal() {
    let good = encode(&mut controller(), &hello_agent(), GROUP);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode(&mut agent(), &bytes)
    };
    assert_eq!(decode(&mut agent(), &good[..57]), Err(Refusal::TooShort));
    assert_eq!(decode(&mut agent(), &[b'x'; 1201]), Err(Refusal::TooLong));
    assert_eq!(with(0, b't'), Err(Refusal::Magic));
    assert_eq!(with(4, 2), Err(Refusal::Version));
    assert_eq!(with(8, 0), Err(Refusal::Cluster));
    assert_eq!(with(5, 7), Err(Refusal::UnknownType));
    assert_eq!(with(6, 1), Err(Refusal::NoKey));
    assert_eq!(with(6, 200), Err(Refusal::NoKey));
    for at in [7, 16, 24, 32, 42, good.len() - 1] {
        assert_eq!(with(at, 0xEE), Err(Refusal::Tag), "byte {at}");
    }
}

#[test]
fn a_received_datagram_names_its_sender_and_key_slot() {
    let ring = || {
        let keys = crate::wire::keys::SlotKeys::controller(&SECRET);
        KeyRing::new([None, None, Some(keys), None], 2).unwrap()
    };
    let bytes = encode(&mut codec(NodeId(2), AS_CONTROLLER, ring()), &hello(), GROUP);
    let received = codec(CONTROLLER, AS_CONTROLLER, ring()).decode(NOW, &bytes);
    let expected = ReceivedDatagram { sender: NodeId(2), key_slot: 2, message: hello(), is_forgeable: false };
    assert_eq!(received, Ok(expected));
}

#[test]
fn a_refused_datagram_names_the_sender_that_its_header_claims() {
    let mut bytes = encode(&mut controller(), &hello_agent(), GROUP);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let refused =
        |refusal, claimed_sender| Err(RefusedDatagram { refusal, claimed_sender, is_past_alive: false });
    assert_eq!(agent().decode(NOW, &bytes), refused(Refusal::Tag, CONTROLLER));
    assert_eq!(agent().decode(NOW, &bytes[..57]), refused(Refusal::TooShort, NodeId(0)));
}

#[test]
fn the_same_datagram_is_accepted_once() {
    let (mut controller, mut agent) = (controller(), agent());
    for message in [install(), hello_agent()] {
        let bytes = encode(&mut controller, &message, AGENT);
        assert!(decode(&mut agent, &bytes).is_ok());
        assert_eq!(decode(&mut agent, &bytes), Err(Refusal::Replay));
        let next = encode(&mut controller, &message, AGENT);
        assert!(decode(&mut agent, &next).is_ok());
    }
}

#[test]
fn a_hello_that_every_agent_can_make_is_marked_and_moves_nothing() {
    let (mut controller, mut agent) = (controller(), agent());
    let is_forgeable = |agent: &mut Codec<'_>, bytes: &[u8]| {
        agent.decode(NOW, bytes).map(|received| received.is_forgeable).map_err(|refused| refused.refusal)
    };
    let mut thief = codec(CONTROLLER, AS_CONTROLLER, KeyRing::agent(&SECRET, NodeId(6)));
    thief.identity.incarnation = u64::MAX;
    thief.sequence = u64::MAX - 1;
    let forged = encode(&mut thief, &hello_agent(), GROUP);
    assert_eq!(is_forgeable(&mut agent, &forged), Ok(true));
    assert_eq!(is_forgeable(&mut agent, &forged), Ok(true), "it has no window");
    let true_one = encode(&mut controller, &hello_agent(), GROUP);
    assert_eq!(is_forgeable(&mut agent, &true_one), Ok(true));
    // To the agent alone, only a controller can make one.
    let own = encode(&mut controller, &hello_agent(), AGENT);
    assert_eq!(is_forgeable(&mut agent, &own), Ok(false));
    let forged = encode(&mut thief, &hello_agent(), AGENT);
    assert_eq!(is_forgeable(&mut agent, &forged), Err(Refusal::Tag));
}

#[test]
fn a_forged_tag_does_not_move_the_window() {
    let (mut controller, mut agent) = (controller(), agent());
    let good = encode(&mut controller, &install(), AGENT);
    let mut forged = good.clone();
    forged[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(decode(&mut agent, &forged), Err(Refusal::Tag));
    assert!(decode(&mut agent, &good).is_ok());
}

#[test]
fn a_role_refuses_messages_that_it_only_sends() {
    let mut other = codec(NodeId(2), AS_CONTROLLER, KeyRing::controller(&SECRET));
    let bytes = encode(&mut other, &hello_agent(), GROUP);
    assert_eq!(decode(&mut controller(), &bytes), Err(Refusal::WrongDirection));
}

#[test]
fn an_agents_key_authenticates_that_agent_alone() {
    // As a controller to controllers, and to agents; as another agent.
    assert_eq!(decode(&mut controller(), &encode(&mut agent(), &hello(), GROUP)), Err(Refusal::Tag));
    let mut thief = codec(CONTROLLER, AS_AGENT, KeyRing::agent(&SECRET, NodeId(6)));
    assert_eq!(decode(&mut agent(), &encode(&mut thief, &install(), AGENT)), Err(Refusal::Tag));
    let mut thief = codec(AGENT, AS_AGENT, KeyRing::agent(&SECRET, NodeId(6)));
    let ack = ack();
    assert_eq!(decode(&mut controller(), &encode(&mut thief, &ack, GROUP)), Err(Refusal::Tag));
}

#[test]
fn own_datagrams_come_back_only_between_two_roles() {
    let mut both = codec(CONTROLLER, AS_BOTH, KeyRing::controller(&SECRET));
    let bytes = encode(&mut both, &hello(), GROUP);
    assert_eq!(decode(&mut both, &bytes), Err(Refusal::OwnEcho));
    let bytes = encode(&mut both, &hello_agent(), GROUP);
    assert_eq!(decode(&mut both, &bytes), Ok((CONTROLLER, hello_agent())));
    let mut alone = controller();
    let bytes = encode(&mut alone, &hello_agent(), GROUP);
    assert_eq!(decode(&mut alone, &bytes), Err(Refusal::OwnEcho));
}

#[test]
fn a_clone_is_named_but_no_copy_and_a_revoked_node_is_refused() {
    let mut clone = controller();
    clone.identity.incarnation = 2;
    let bytes = encode(&mut clone, &hello(), GROUP);
    assert_eq!(decode(&mut controller(), &bytes), Err(Refusal::DuplicateNodeId));

    // A copy of what this node has sent itself, now or in an earlier start, is not.
    let mut own = controller();
    let sent = encode(&mut own, &hello(), GROUP);
    assert_eq!(decode(&mut own, &sent), Err(Refusal::OwnEcho));
    own.identity.incarnation = 2;
    own.sequence = 0;
    assert_eq!(decode(&mut own, &sent), Err(Refusal::OwnEcho));
    // Of the same start, with a number that this node has not sent.
    assert_eq!(decode(&mut controller(), &sent), Err(Refusal::DuplicateNodeId));

    // Every agent has the group key.
    for roles in [AS_CONTROLLER, AS_BOTH] {
        let mut forger = codec(CONTROLLER, roles, KeyRing::agent(&SECRET, AGENT));
        forger.identity.incarnation = 2;
        let forged = encode(&mut forger, &hello_agent(), GROUP);
        let mut own = codec(CONTROLLER, roles, KeyRing::controller(&SECRET));
        assert_eq!(decode(&mut own, &forged), Err(Refusal::OwnEcho), "{roles:?}");
    }

    let mut strict = controller();
    strict.identity.revoked.push(AGENT).unwrap();
    let ack = ack();
    assert_eq!(decode(&mut strict, &encode(&mut agent(), &ack, GROUP)), Err(Refusal::Revoked));
}

#[test]
fn a_ring_with_two_slots_accepts_both() {
    let (old, new) = (Key([1; 32]), Key([2; 32]));
    let slots = [
        Some(crate::wire::keys::SlotKeys::controller(&old)),
        Some(crate::wire::keys::SlotKeys::controller(&new)),
        None,
        None,
    ];
    let mut rotating = codec(CONTROLLER, AS_CONTROLLER, KeyRing::new(slots, 1).unwrap());
    let ack = ack();
    let mut on_old = codec(AGENT, AS_AGENT, KeyRing::agent(&old, AGENT));
    assert!(decode(&mut rotating, &encode(&mut on_old, &ack, GROUP)).is_ok());
    let keys = crate::wire::keys::SlotKeys::Agent {
        node: NodeId(6),
        node_key: crate::wire::keys::derive::node(&new, NodeId(6)),
        group: crate::wire::keys::derive::group(&new),
    };
    let ring = KeyRing::new([None, Some(keys), None, None], 1).unwrap();
    let mut on_new = codec(NodeId(6), AS_AGENT, ring);
    assert!(decode(&mut rotating, &encode(&mut on_new, &ack, GROUP)).is_ok());
}
