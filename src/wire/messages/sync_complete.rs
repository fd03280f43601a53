//! 4, `SyncComplete`: the change that a `SyncReq` announced is durable at the sender too.

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Controller to one controller, in answer to its `SyncReq`; to all controllers, when the
/// sender no longer lacks a patch file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncComplete {
    /// The digest that the `SyncReq` carried; to all, that of the sender's map.
    pub digest: Digest,
    /// How many patch files the sender of this still lacks.
    pub blobs_missing: u16,
}
