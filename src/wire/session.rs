//! The handshake of a stream session, and the sealing of its frames.
//!
//! Both ends begin with an [`Opening`]: their identity and 32 random bytes. Two keys, one
//! for each direction, are derived from both openings and the key that the roles and the
//! initiator's slot select. Every frame is `length u16 | body | tag 16`. Its tag covers the
//! number of frames before it in that direction, so frames cannot be dropped, repeated or
//! reordered. The first frame in each direction ([`Frame::Open`]) proves that its sender
//! has the key.

use serde::{Deserialize, Serialize};

use super::codec::is_equal_in_constant_time;
use super::frame::{Frame, Role};
use super::keys::{Key, KeyClass, KeyRing};
use crate::limits;
use crate::types::{ClusterId, NodeId};

/// The first bytes of every session.
pub const MAGIC: [u8; 4] = *b"THMS";
/// The version of the session protocol; another version is not compatible.
pub const VERSION: u8 = 1;
/// An opening as bytes: magic 4, version 1, key slot 1, role 1, zero 1,
/// cluster 8, node id 8, nonce 32.
pub const OPENING_BYTES: usize = 56;

/// Why a session fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The opening is not thimble's, or of another version.
    Opening,
    /// The other end belongs to another cluster.
    Cluster,
    /// This node does not have the key for the session.
    NoKey,
    /// A frame's tag is not valid.
    Tag,
    /// A frame is too long, or its body is not a [`Frame`].
    Frame,
}

impl core::fmt::Display for SessionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Opening => "the other end does not use thimble's session protocol, version 1",
            Self::Cluster => "the other end belongs to another cluster",
            Self::NoKey => "the key that the session needs is not on this node",
            Self::Tag => "a frame's tag is not valid: the ends have different keys",
            Self::Frame => "the other end sent an invalid frame",
        })
    }
}

impl core::error::Error for SessionError {}

/// The first bytes that each end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The slot of the key ring. The initiator's is used.
    pub key_slot: u8,
    /// The role of this end.
    pub role: Role,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node id that this end claims.
    pub node: NodeId,
    /// Random, new for each session.
    pub nonce: [u8; 32],
}

impl Opening {
    /// Encodes the opening.
    #[must_use]
    pub fn emit(&self) -> [u8; OPENING_BYTES] {
        let mut bytes = [0; OPENING_BYTES];
        let role = u8::from(self.role == Role::Agent);
        let fields: [&[u8]; 5] = [
            &MAGIC,
            &[VERSION, self.key_slot, role, 0],
            &self.cluster.0.to_le_bytes(),
            &self.node.0.to_le_bytes(),
            &self.nonce,
        ];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Decodes an opening.
    ///
    /// # Errors
    /// `Opening`: the bytes are not an opening of this version.
    pub fn parse(bytes: &[u8; OPENING_BYTES]) -> Result<Self, SessionError> {
        let [t, h, m, s, version, key_slot, role, zero, rest @ ..] = bytes;
        if [*t, *h, *m, *s] != MAGIC || *version != VERSION || *zero != 0 {
            return Err(SessionError::Opening);
        }
        let role = match role {
            0 => Role::Controller,
            1 => Role::Agent,
            _ => return Err(SessionError::Opening),
        };
        let (cluster, rest) = rest.split_first_chunk().ok_or(SessionError::Opening)?;
        let (node, nonce) = rest.split_first_chunk().ok_or(SessionError::Opening)?;
        Ok(Self {
            key_slot: *key_slot,
            role,
            cluster: ClusterId(u64::from_le_bytes(*cluster)),
            node: NodeId(u64::from_le_bytes(*node)),
            nonce: *nonce.first_chunk().ok_or(SessionError::Opening)?,
        })
    }
}

/// The keys and counters of a proven stream session: all that is needed to continue it,
/// in this process or in a worker that inherits the socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKeys {
    /// The node at the other end, which has proven its key.
    pub peer: NodeId,
    /// Authenticates the frames that this end sends.
    #[serde(with = "crate::types::bytes")]
    pub send_key: [u8; 32],
    /// Frames sent so far.
    pub send_counter: u64,
    /// Authenticates the frames that this end receives.
    #[serde(with = "crate::types::bytes")]
    pub recv_key: [u8; 32],
    /// Frames received so far.
    pub recv_counter: u64,
}

impl core::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SessionKeys(peer {}, {} out, {} in)", self.peer, self.send_counter, self.recv_counter)
    }
}

impl SessionKeys {
    /// Derives the keys of a session from both openings, for the end that sent `mine`.
    ///
    /// # Errors
    /// `Cluster`, `NoKey`.
    pub fn derive(
        ring: &KeyRing,
        mine: &Opening,
        theirs: &Opening,
        is_initiator: bool,
    ) -> Result<Self, SessionError> {
        if mine.cluster != theirs.cluster {
            return Err(SessionError::Cluster);
        }
        let (initiator, acceptor) = if is_initiator { (mine, theirs) } else { (theirs, mine) };
        let class = match (initiator.role, acceptor.role) {
            (Role::Controller, Role::Controller) => KeyClass::Controller,
            (Role::Agent, _) => KeyClass::Node(initiator.node),
            (_, Role::Agent) => KeyClass::Node(acceptor.node),
        };
        let Key(base) = ring.key(initiator.key_slot, class).ok_or(SessionError::NoKey)?;
        let direction = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(&base);
            hasher.update(&initiator.emit());
            hasher.update(&acceptor.emit());
            *hasher.finalize().as_bytes()
        };
        let to_acceptor = direction("thimble 1 session, initiator to acceptor");
        let to_initiator = direction("thimble 1 session, acceptor to initiator");
        let (send_key, recv_key) =
            if is_initiator { (to_acceptor, to_initiator) } else { (to_initiator, to_acceptor) };
        Ok(Self { peer: theirs.node, send_key, send_counter: 0, recv_key, recv_counter: 0 })
    }

    /// Writes a sealed frame to the front of `out` and returns its length. Zero if it does
    /// not fit, which needs an `out` shorter than [`limits::FRAME_BYTES`].
    pub fn seal(&mut self, frame: &Frame, out: &mut [u8]) -> usize {
        let Some((length, rest)) = out.split_first_chunk_mut::<2>() else { return 0 };
        let body_most = rest.len().saturating_sub(limits::TAG_BYTES).min(limits::FRAME_BODY_BYTES);
        let Some(body) = rest.get_mut(..body_most) else { return 0 };
        let Ok(used) = postcard::to_slice(frame, body).map(|body| body.len()) else { return 0 };
        *length = u16::try_from(used).unwrap_or(0).to_le_bytes();
        let tag = frame_tag(&self.send_key, self.send_counter, length, body.get(..used).unwrap_or(&[]));
        let Some(tag_bytes) = rest.get_mut(used..).and_then(|rest| rest.first_chunk_mut()) else { return 0 };
        *tag_bytes = tag;
        self.send_counter = self.send_counter.saturating_add(1);
        used.saturating_add(2 + limits::TAG_BYTES)
    }

    /// Reads the frame at the front of `bytes`, and returns it with its length; `None` if it
    /// is not complete.
    ///
    /// # Errors
    /// `Tag`, `Frame`: the session must be closed.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, SessionError> {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
        let body_len = usize::from(u16::from_le_bytes(*length));
        if body_len > limits::FRAME_BODY_BYTES {
            return Err(SessionError::Frame);
        }
        let Some((body, rest)) = rest.split_at_checked(body_len) else { return Ok(None) };
        let Some((tag, _)) = rest.split_first_chunk() else { return Ok(None) };
        if !is_equal_in_constant_time(&frame_tag(&self.recv_key, self.recv_counter, length, body), tag) {
            return Err(SessionError::Tag);
        }
        self.recv_counter = self.recv_counter.saturating_add(1);
        match postcard::take_from_bytes(body) {
            Ok((frame, [])) => Ok(Some((frame, body_len.saturating_add(2 + limits::TAG_BYTES)))),
            Ok(_) | Err(_) => Err(SessionError::Frame),
        }
    }
}

/// How many bytes of the frame at the front of `bytes` are known to be needed: two until
/// its length is read. A reader that takes no more than this leaves the bytes after the
/// frame in the socket.
#[must_use]
pub fn frame_len(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<2>() {
        Some(head) => usize::from(u16::from_le_bytes(*head)).saturating_add(2 + limits::TAG_BYTES),
        None => 2,
    }
}

fn frame_tag(key: &[u8; 32], counter: u64, length: &[u8; 2], body: &[u8]) -> [u8; limits::TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&counter.to_le_bytes());
    hasher.update(length);
    hasher.update(body);
    let mut tag = [0; limits::TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Reason;
    use crate::wire::frame::Purpose;

    const SECRET: Key = Key([7; 32]);

    fn opening(role: Role, node: u64, nonce: u8) -> Opening {
        Opening { key_slot: 0, role, cluster: ClusterId(1), node: NodeId(node), nonce: [nonce; 32] }
    }

    /// Both ends of a session: the agent 5 opens it to the controller 1.
    fn both_ends() -> (SessionKeys, SessionKeys) {
        let (agent, controller) = (opening(Role::Agent, 5, 1), opening(Role::Controller, 1, 2));
        let agent_ring = KeyRing::agent(&SECRET, NodeId(5));
        let controller_ring = KeyRing::controller(&SECRET);
        (
            SessionKeys::derive(&agent_ring, &agent, &controller, true).unwrap(),
            SessionKeys::derive(&controller_ring, &controller, &agent, false).unwrap(),
        )
    }

    #[test]
    fn an_opening_decodes_to_what_was_encoded() {
        let opening = opening(Role::Agent, 5, 1);
        assert_eq!(Opening::parse(&opening.emit()), Ok(opening));
        for at in 0..8 {
            let mut bytes = opening.emit();
            bytes[at] ^= 0x80;
            // The key slot is checked against the ring, not here.
            assert_eq!(Opening::parse(&bytes).is_err(), at != 5, "{at}");
        }
    }

    #[test]
    fn frames_are_accepted_both_ways_and_only_in_order() {
        let (mut agent, mut controller) = both_ends();
        let open =
            Frame::Open { role: Role::Agent, node: NodeId(5), peer: NodeId(1), purpose: Purpose::Fetch };
        let mut out = [0; limits::FRAME_BYTES];
        let first = agent.seal(&open, &mut out);
        let first_bytes = out[..first].to_vec();
        assert_eq!(controller.open(&out[..first]), Ok(Some((open, first))));
        let len = controller.seal(&Frame::End, &mut out);
        assert_eq!(agent.open(&out[..len]), Ok(Some((Frame::End, len))));
        assert_eq!(controller.open(&first_bytes), Err(SessionError::Tag), "a repeated frame");
    }

    #[test]
    fn an_altered_frame_is_refused_at_every_byte() {
        let (mut agent, controller) = both_ends();
        let frame = Frame::Refused { reason: Reason::truncated("no") };
        let mut out = [0; limits::FRAME_BYTES];
        let len = agent.seal(&frame, &mut out);
        for at in 0..len {
            let mut altered = out[..len].to_vec();
            altered[at] ^= 1;
            assert_ne!(controller.clone().open(&altered), Ok(Some((frame.clone(), len))), "byte {at}");
        }
        for cut in 0..len {
            assert_eq!(frame_len(&out[..cut]), if cut < 2 { 2 } else { len });
            assert_eq!(controller.clone().open(&out[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn another_agents_key_does_not_open_a_session() {
        let (_, mut controller) = both_ends();
        let (thief, other) = (opening(Role::Agent, 5, 1), opening(Role::Controller, 1, 2));
        assert_eq!(
            SessionKeys::derive(&KeyRing::agent(&SECRET, NodeId(6)), &thief, &other, true),
            Err(SessionError::NoKey)
        );
        let stolen = KeyRing::agent(&Key([8; 32]), NodeId(5));
        let mut thief = SessionKeys::derive(&stolen, &thief, &other, true).unwrap();
        let mut out = [0; limits::FRAME_BYTES];
        let len = thief.seal(&Frame::End, &mut out);
        assert_eq!(controller.open(&out[..len]), Err(SessionError::Tag));
    }
}
