//! Encodes and decodes datagrams: the only place where bytes become authenticated
//! messages.
//!
//! [`Codec::decode`] checks, in this order: length, magic, version, body length, cluster,
//! own echo, type, revoked sender, key, tag, duplicate node id, replay, direction, body,
//! leftovers, hostname. The first check that fails is the [`Refusal`]; later checks do not run.
//! Decoding changes nothing but the replay window, and only after a valid tag. [`Codec::encode`] adds the sequence
//! number and the tag; it cannot fail.

use heapless::Vec;

use super::frame::Role;
use super::header::{self, Header, RawDatagram};
use super::keys::{Key, KeyClass, KeyRing};
use super::messages::{Message, MsgType};
use super::refusal::Refusal;
use super::replay::ReplayGuard;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{ClusterId, NodeId};

/// The roles that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It keeps the repository.
    pub is_controller: bool,
    /// It installs patches on its host.
    pub is_agent: bool,
}

impl Roles {
    /// Whether the node has this role.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        match role {
            Role::Controller => self.is_controller,
            Role::Agent => self.is_agent,
        }
    }
}

/// This node's identity on the wire.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its node id.
    pub node: NodeId,
    /// The number of its start, durable before the first datagram.
    pub incarnation: u64,
    /// Its roles.
    pub roles: Roles,
    /// Its keys.
    pub ring: KeyRing,
    /// Nodes whose keys are revoked.
    pub revoked: Vec<NodeId, { limits::REVOKED }>,
}

/// A datagram that every check of [`Codec::decode`] accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// The authenticated sender.
    pub sender: NodeId,
    /// The slot of the key ring that holds the key of its tag.
    pub key_slot: u8,
    /// The decoded body.
    pub message: Message,
    /// Its tag was made with the group key, which every agent has: so any agent may have made
    /// it, in any controller's name.
    pub is_forgeable: bool,
}

/// A datagram that a check of [`Codec::decode`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedDatagram {
    /// The first check that failed.
    pub refusal: Refusal,
    /// The sender that the header names, not authenticated; the zero id where there
    /// is no readable header.
    pub claimed_sender: NodeId,
    /// It is stale, and new all the same: two starts of its sender are alive.
    pub is_past_alive: bool,
}

/// Encodes and decodes for one node.
#[derive(Debug)]
pub struct Codec<'a> {
    identity: Identity,
    sequence: u64,
    replay: ReplayGuard<'a>,
}

impl<'a> Codec<'a> {
    /// A codec that has sent and received nothing.
    #[must_use]
    pub fn new(identity: Identity, replay: ReplayGuard<'a>) -> Self {
        Self { identity, sequence: 0, replay }
    }

    /// Changes the keys, the revoked nodes and the lifetime of silent senders. Replay
    /// windows and the sequence continue, so a change of keys neither loses a datagram nor
    /// admits an old one.
    pub fn renew(
        &mut self,
        ring: Option<KeyRing>,
        revoked: Vec<NodeId, { limits::REVOKED }>,
        lifetime: Duration,
    ) {
        if let Some(ring) = ring {
            self.identity.ring = ring;
        }
        self.identity.revoked = revoked;
        self.replay.set_lifetime(lifetime);
    }

    /// This node's identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Writes `message` as a datagram and returns its length. `to` is the receiver, or the
    /// zero id for a group.
    pub fn encode(&mut self, message: &Message, to: NodeId, out: &mut [u8; limits::DATAGRAM_BYTES]) -> usize {
        self.sequence = self.sequence.saturating_add(1);
        let msgtype = message.msgtype();
        let agent = if msgtype.receiver() == Role::Agent { to } else { self.identity.node };
        let key_slot = self.identity.ring.send_slot();
        // The key is missing only if an agent sends a controller's message, which no
        // state machine does. The receiver would refuse the tag.
        let key = self.identity.ring.key(key_slot, msgtype.key_class(agent)).unwrap_or(Key([0; 32]));

        let (head, body) = out.split_at_mut(limits::HEADER_BYTES);
        let body_len = message.encode_body(body);
        let header = Header {
            msgtype: msgtype as u8,
            key_slot,
            minor: header::MINOR,
            cluster: self.identity.cluster,
            sender: self.identity.node,
            incarnation: self.identity.incarnation,
            sequence: self.sequence,
            body_len_bytes: u16::try_from(body_len).unwrap_or(0),
        };
        head.copy_from_slice(&header.emit());
        let tagged_len = limits::HEADER_BYTES.saturating_add(body_len);
        let Some((tagged, rest)) = out.split_at_mut_checked(tagged_len) else { return 0 };
        let Some(tag) = rest.first_chunk_mut() else { return 0 };
        *tag = tag_of(&key, tagged);
        tagged_len.saturating_add(limits::TAG_BYTES)
    }

    /// Decodes a datagram that arrived at `now`.
    ///
    /// # Errors
    /// The first check that fails; the module lists their order.
    pub fn decode(&mut self, now: Instant, datagram: &[u8]) -> Result<ReceivedDatagram, RefusedDatagram> {
        let refused = |refusal, claimed_sender, is_past_alive| {
            Err(RefusedDatagram { refusal, claimed_sender, is_past_alive })
        };
        let raw = match Header::parse(datagram) {
            Ok(raw) => raw,
            Err(refusal) => return refused(refusal, NodeId(0), false),
        };
        let Header { sender, key_slot, .. } = raw.header;
        match self.authenticate(now, &raw) {
            Ok((message, class)) => {
                Ok(ReceivedDatagram { sender, key_slot, message, is_forgeable: class == KeyClass::Group })
            }
            Err(refusal) => {
                let is_past_alive = refusal == Refusal::StaleIncarnation && self.is_past_alive(&raw.header);
                refused(refusal, sender, is_past_alive)
            }
        }
    }

    fn is_past_alive(&mut self, header: &Header) -> bool {
        self.replay.is_past_alive(header.sender, header.incarnation, header.sequence)
    }

    /// The class of the key that a datagram's tag was made with.
    fn class_of_tag(&self, msgtype: MsgType, raw: &RawDatagram<'_>) -> Result<KeyClass, Refusal> {
        let me = &self.identity;
        let Header { sender, key_slot, .. } = raw.header;
        let is_to_agent = msgtype.receiver() == Role::Agent;
        let to_one = msgtype.key_class(if is_to_agent { me.node } else { sender });
        // A message to one agent has the key of that agent; a hello may be to all.
        let to_all = Some(msgtype.key_class(NodeId(0))).filter(|class| *class == KeyClass::Group);
        let mut refusal = Refusal::NoKey;
        for class in [Some(to_one), to_all].into_iter().flatten() {
            match me.ring.key(key_slot, class) {
                Some(key) if is_equal_in_constant_time(&tag_of(&key, raw.tagged), raw.tag) => {
                    return Ok(class);
                }
                Some(_) => refusal = Refusal::Tag,
                None => {}
            }
        }
        Err(refusal)
    }

    /// Whether this node has sent a datagram with these numbers: in this start, or in an
    /// earlier one.
    fn has_sent(&self, header: &Header) -> bool {
        let (own, theirs) = (self.identity.incarnation, header.incarnation);
        theirs < own || (theirs == own && header.sequence <= self.sequence)
    }

    /// The sender that a datagram's header names, not authenticated; the zero id where there
    /// is no readable header.
    #[must_use]
    pub fn claimed_sender(datagram: &[u8]) -> NodeId {
        Header::parse(datagram).map_or(NodeId(0), |raw| raw.header.sender)
    }

    /// Runs the checks that follow the header's own, and decodes the body.
    fn authenticate(&mut self, now: Instant, raw: &RawDatagram<'_>) -> Result<(Message, KeyClass), Refusal> {
        let me = &self.identity;
        let header = raw.header;
        if header.cluster != me.cluster {
            return Err(Refusal::Cluster);
        }
        let msgtype = MsgType::from_number(header.msgtype);
        let is_own = header.sender == me.node;
        let to_other_role =
            me.roles.is_controller && me.roles.is_agent && msgtype.is_some_and(MsgType::crosses_roles);
        let is_own_start = header.incarnation == me.incarnation;
        let is_echo = is_own && self.has_sent(&header);
        // A copy of what it has sent is no sign of a second node, whoever sends it again.
        if is_echo && !(to_other_role && is_own_start) {
            return Err(Refusal::OwnEcho);
        }
        let msgtype = msgtype.ok_or(Refusal::UnknownType)?;
        if me.revoked.contains(&header.sender) {
            return Err(Refusal::Revoked);
        }
        let class = self.class_of_tag(msgtype, raw)?;
        if is_own && !is_echo {
            // Every agent can make a datagram with the group key in this node's name.
            let is_forgeable = class == KeyClass::Group;
            return Err(if is_forgeable { Refusal::OwnEcho } else { Refusal::DuplicateNodeId });
        }
        if class != KeyClass::Group {
            self.replay.accept(now, header.sender, header.incarnation, header.sequence)?;
        }
        if !self.identity.roles.has(msgtype.receiver()) {
            return Err(Refusal::WrongDirection);
        }
        let message = Message::decode_body(msgtype, raw.body, header.minor, header::MINOR)?;
        Ok((message, class))
    }
}

/// The tag over header and body: keyed BLAKE3, truncated.
#[must_use]
pub fn tag_of(key: &Key, tagged: &[u8]) -> [u8; limits::TAG_BYTES] {
    let mut tag = [0; limits::TAG_BYTES];
    for (to, from) in tag.iter_mut().zip(blake3::keyed_hash(&key.0, tagged).as_bytes()) {
        *to = *from;
    }
    tag
}

/// Compares tags in constant time, so that the time does not reveal how many bytes agree.
#[must_use]
pub fn is_equal_in_constant_time(a: &[u8; limits::TAG_BYTES], b: &[u8; limits::TAG_BYTES]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    core::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Table, index_len};
    use crate::types::{Digest, Hostname, Nonce, RequestId};
    use crate::wire::messages::{AgentInstallReq, Hello, HelloAgent, HelloAgentAck};
    use crate::wire::replay::Window;

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
        let slots = Box::leak(vec![Window::default(); 8].into_boxed_slice());
        let index = Box::leak(vec![0; index_len(8)].into_boxed_slice());
        let replay = ReplayGuard::new(Table::new(slots, index), Duration::from_secs(100));
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
            let keys = super::super::keys::SlotKeys::controller(&SECRET);
            KeyRing::new([None, None, Some(keys), None], 2).unwrap()
        };
        let bytes = encode(&mut codec(NodeId(2), AS_CONTROLLER, ring()), &hello(), GROUP);
        let received = codec(CONTROLLER, AS_CONTROLLER, ring()).decode(NOW, &bytes);
        let expected =
            ReceivedDatagram { sender: NodeId(2), key_slot: 2, message: hello(), is_forgeable: false };
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
            Some(super::super::keys::SlotKeys::controller(&old)),
            Some(super::super::keys::SlotKeys::controller(&new)),
            None,
            None,
        ];
        let mut rotating = codec(CONTROLLER, AS_CONTROLLER, KeyRing::new(slots, 1).unwrap());
        let ack = ack();
        let mut on_old = codec(AGENT, AS_AGENT, KeyRing::agent(&old, AGENT));
        assert!(decode(&mut rotating, &encode(&mut on_old, &ack, GROUP)).is_ok());
        let keys = super::super::keys::SlotKeys::Agent {
            node: NodeId(6),
            node_key: super::super::keys::derive::node(&new, NodeId(6)),
            group: super::super::keys::derive::group(&new),
        };
        let ring = KeyRing::new([None, Some(keys), None, None], 1).unwrap();
        let mut on_new = codec(NodeId(6), AS_AGENT, ring);
        assert!(decode(&mut rotating, &encode(&mut on_new, &ack, GROUP)).is_ok());
    }
}
