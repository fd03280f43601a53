//! 4, `SyncComplete`: what a `SyncReq` announced is durable here too.

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Controller to controllers, in answer to `SyncReq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncComplete {
    /// The digest that the `SyncReq` carried.
    pub digest: Digest,
    /// Patch files that the sender of this still lacks.
    pub blobs_missing: u16,
}
