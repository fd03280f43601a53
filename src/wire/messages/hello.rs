//! 1, `Hello`: a controller announces itself and the digest of its repository.

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Controller to controllers, at start and every hello interval. A receiver answers
/// `HelloAck`, and pulls if the digest is new to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's counter of changes, for people.
    pub op_counter: u64,
    /// The digest of the sender's repository map.
    pub digest: Digest,
}
