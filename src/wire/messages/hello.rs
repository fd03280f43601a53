//! 1, `Hello`: a controller says that it is there, and what its repository is.

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Controller to controllers, at start and every hello interval. A receiver
/// pulls where the digest is news, and answers `HelloAck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's counter of changes, for people.
    pub op_counter: u64,
    /// The digest of the sender's repository map.
    pub digest: Digest,
}
