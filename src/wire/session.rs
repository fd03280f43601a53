//! What both ends of a stream session must know once it is proven.
//!
//! A session has one key per direction, derived from both node ids and both
//! opening nonces, and counts its frames; a worker takes a session over by
//! taking this.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// The keys and counters of a proven stream session: all that is needed to
/// carry it on, in this process or in a worker that inherits the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKeys {
    /// Who is at the other end, proven by key.
    pub peer: NodeId,
    /// Tags the frames that we send.
    pub send_key: [u8; 32],
    /// Frames sent so far.
    pub send_counter: u64,
    /// Checks the frames that we receive.
    pub recv_key: [u8; 32],
    /// Frames received so far.
    pub recv_counter: u64,
}
