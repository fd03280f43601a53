//! 15 and 16, `SpreadOffer` and `SpreadReport`: a file is sent to all hosts at once
//! ([`spread`](crate::fsm::spread)), and each says what it lacks of it.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limits::SECTION_BLOCKS;
use crate::types::{Hash, NodeType, PatchId};

/// Controller to all agents: this file is being sent. With the key of all agents, so it is a hint: what a
/// host keeps for it is bounded, and is used only where a session names the same hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadOffer {
    /// The number of the transmission, random.
    pub transmission: u64,
    /// The patch whose file it is.
    pub id: PatchId,
    /// BLAKE3 of the file.
    pub file: Hash,
    /// The file's size.
    pub size_bytes: u64,
    /// The hosts that it concerns: the [bits](kind_bit) of their kinds; 0 for all.
    pub kinds: u64,
    /// Bytes of a packet.
    pub packet_bytes: u16,
    /// The section that is being sent; [`OVER`] once the transmission has ended.
    pub section: u32,
    /// Which question about this section it is; a host answers each once.
    pub round: u16,
    /// The window for the answers, in milliseconds; 0 if it asks nothing.
    pub window_ms: u32,
}

/// As a section: nothing more is sent.
pub const OVER: u32 = u32::MAX;

/// The bit of a kind of hosts. Some kinds share one: their hosts keep a file for nothing.
#[must_use]
pub fn kind_bit(kind: &NodeType) -> u64 {
    let hash = blake3::hash(kind.as_str().as_bytes());
    let [first, ..] = hash.as_bytes();
    1 << (first % 64)
}

impl SpreadOffer {
    /// Whether the file concerns hosts of this kind.
    #[must_use]
    pub fn concerns(&self, kind: &NodeType) -> bool {
        self.kinds == 0 || self.kinds & kind_bit(kind) != 0
    }
}

/// Agent to the controller that asked: what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadReport {
    /// The transmission's number.
    pub transmission: u64,
    /// The section that was asked for.
    pub section: u32,
    /// The question that it answers.
    pub round: u16,
    /// The host takes no part: there is no room, or it goes over to sessions.
    pub is_out: bool,
    /// The transmission that it takes part in instead, if there is one; else 0.
    pub other: u64,
    /// How many packets more each block of the section needs. All 0 while the host works on blocks that need none;
    /// empty once it has the section.
    pub missing: Vec<u16, SECTION_BLOCKS, u8>,
}
