//! What a sender tells its driver: what to send, what hosts said, and how it ended.

use super::Offer;
use crate::types::NodeId;
pub use crate::types::SpreadEnding as Ending;
use crate::wire::packet::Part;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Step {
    /// This offer, to all agents.
    Offer(Offer),
    /// This packet.
    Packet(Part),
}

/// What hosts said in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Hosts that answered and take part.
    pub hosts: u32,
    /// Of them, those that have the whole section.
    pub complete: u32,
    /// Of them, those that need no packets, and still find and hash blocks.
    pub working: u32,
    /// Hosts that take no part.
    pub out: u32,
    /// Hosts that take part in another's transmission, which goes first.
    pub busy: u32,
    /// Packets that all of them lack together.
    pub missing: u64,
    /// The host that lacks most, and how many packets.
    pub slowest: Option<(NodeId, u32)>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Source packets.
    pub source: u64,
    /// Repair packets.
    pub repair: u64,
    /// Proofs and offers.
    pub other: u64,
}
