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
            // Of this cluster it is another release's; else it may be anything.
            Err(Refusal::Version) => {
                let names = Header::names(datagram).filter(|names| names.0 == self.identity.cluster);
                return refused(Refusal::Version, names.map_or(NodeId(0), |names| names.1), false);
            }
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
mod tests;
