//! 4, `SyncComplete`: the change that a `SyncReq` announced is durable at the sender too.

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Controller to controllers, in answer to `SyncReq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncComplete {
    /// The digest that the `SyncReq` carried.
    pub digest: Digest,
    /// How many patch files the sender of this still lacks.
    pub blobs_missing: u16,
}
