//! How far a file is that is sent to all hosts, or received.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::job::{ReceiveState, SpreadState};
use crate::types::{Hostname, PatchId, Reason};

/// What a node sends to all hosts, and receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadRow {
    /// The patch that is sent now.
    pub sending: Option<PatchId>,
    /// How many files wait.
    pub waiting: u32,
    /// Transmissions that have ended since the start.
    pub files_sent: u64,
    /// The patch that is sent, or was sent last, and how far it is.
    pub sent: Option<(PatchId, SpreadState)>,
    /// The last that have ended, the latest last.
    pub ended: Vec<SpreadEnded, 8, u8>,
    /// The name of the host that lacks most of it; empty if it has none, or all have it.
    pub slowest: Hostname,
    /// A patch is received now.
    pub is_receiving: bool,
    /// The patch that is received, or was received last, and how far it is.
    pub received: Option<(PatchId, ReceiveState)>,
}

/// A transmission that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadEnded {
    /// How many had ended before it, since the start.
    pub number: u64,
    /// The patch.
    pub id: PatchId,
    /// How far it came.
    pub state: SpreadState,
    /// Why it failed; empty if it did not.
    pub failed: Reason,
}
