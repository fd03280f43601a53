//! 9, `AgentInstallReq`: a controller asks one agent to install.

use serde::{Deserialize, Serialize};

use crate::types::{Digest, Nonce, RequestId};

/// Controller to one agent; sent again until it is answered or given up. The
/// only datagram with a lasting effect, and so bound to a nonce that accepting
/// it uses up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInstallReq {
    /// The request's number; one that is in the agent's journal is answered
    /// from it, whatever its nonce.
    pub request_id: RequestId,
    /// The agent's current nonce, from its last `HelloAgentAck`.
    pub nonce: Nonce,
    /// The effective set to end with.
    pub digest: Digest,
    /// Install although the lock file says no.
    pub force: bool,
}
