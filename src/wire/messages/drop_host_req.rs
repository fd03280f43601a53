//! 11, `DropHostReq`: controllers are to forget a host.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Controller to controllers. The host returns with its next `HelloAgentAck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropHostReq {
    /// The host to forget.
    pub host: NodeId,
}
