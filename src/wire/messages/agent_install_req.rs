//! 9, `AgentInstallReq`: a controller asks one agent to install.

use serde::{Deserialize, Serialize};

use crate::types::{Digest, Nonce, RequestId};

/// Controller to one agent; sent again until it is answered or given up. It is the only
/// datagram with a lasting effect, so it carries a nonce, which its acceptance uses up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInstallReq {
    /// The request's number. A request whose number is in the agent's journal is answered
    /// from there, whatever its nonce.
    pub request_id: RequestId,
    /// The agent's current nonce, from its last `HelloAgentAck`.
    pub nonce: Nonce,
    /// The effective set to install.
    pub digest: Digest,
    /// Install even if the lock file forbids it.
    pub force: bool,
}
