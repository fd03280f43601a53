//! What the workers are told that send a file to all hosts and receive it, and what they report.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::types::{Hash, NodeId, PatchId, SpreadEnding};
use crate::wire::keys::Key;
use crate::wire::messages::{SpreadOffer, SpreadReport};

/// Sends a file to all hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpreadJob {
    /// The transmission's number.
    pub transmission: u64,
    /// The patch.
    pub id: PatchId,
    /// BLAKE3 of its file.
    pub file: Hash,
    /// The kinds of hosts that it concerns, as an offer has them.
    pub kinds: u64,
    /// Bytes for a second.
    pub rate: u64,
    /// How many hosts may answer.
    pub hosts: u32,
    /// The slot of the key ring, and the key of all agents in it.
    pub key: (u8, Key),
}

/// Receives a file that is sent to all hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiveJob {
    /// What is sent.
    pub offer: SpreadOffer,
    /// The keys of all agents, by slot of the key ring.
    pub keys: [Option<Key>; limits::KEY_SLOTS],
}

/// What the loop passes on to a worker that sends to all hosts or receives, on its channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum SpreadInput {
    /// To the receiver: the sender's next offer.
    Offer(SpreadOffer),
    /// To the sender: a host's answer, and how many hosts may answer.
    Lacks(NodeId, SpreadReport, u32),
    /// To the sender: end.
    Stop,
}

/// How far a file is sent to all hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadState {
    /// The transmission's number.
    pub transmission: u64,
    /// The file's size, in bytes.
    pub size_bytes: u64,
    /// Bytes of the sections that are sent and repaired.
    pub done_bytes: u64,
    /// Bytes of datagrams with source packets, with repair packets, and with anything else.
    pub sent_bytes: [u64; 3],
    /// Bytes for a second, now.
    pub rate: u64,
    /// Hosts that answered last and take part.
    pub hosts: u32,
    /// Of them, those that have all that was sent.
    pub complete: u32,
    /// Hosts that take no part: without room, or gone over to sessions.
    pub out: u32,
    /// The host that lacks most, and how many packets.
    pub slowest: Option<(NodeId, u32)>,
    /// Packets that the system did not take.
    pub unsent: u64,
    /// How it ended, once it has.
    pub ending: Option<SpreadEnding>,
}

/// How far a file is received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveState {
    /// Its blocks, and those that are here.
    pub blocks: (u32, u32),
    /// Packets that were written or kept.
    pub taken: u64,
    /// Packets that were refused: of another cluster or damaged; of another transmission; here already; of a
    /// shape that the file does not have; proofs that are none.
    pub refused: [u64; 5],
    /// Blocks whose hash did not agree.
    pub poisoned: u32,
    /// How long ago the sender was heard, in milliseconds.
    pub silent_ms: u64,
}
