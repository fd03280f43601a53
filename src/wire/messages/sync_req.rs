//! 3, `SyncReq`: a controller's repository has changed.

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Controller to controllers, after a change. A receiver pulls from the sender, and
/// answers `SyncComplete` only after the merge is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReq {
    /// The sender's counter of changes, for people.
    pub op_counter: u64,
    /// The digest of the sender's repository map.
    pub digest: Digest,
}
