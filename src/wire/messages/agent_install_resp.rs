//! 10, `AgentInstallResp`: how an install ended.

use serde::{Deserialize, Serialize};

use crate::types::{Reason, RequestId};
use crate::wire::install::Outcome;

/// Agent to the controller that asked; a `HelloAgentAck` follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInstallResp {
    /// The request that it answers.
    pub request_id: RequestId,
    /// The requested set is installed.
    pub status: bool,
    /// How it ended; `None` if the agent refused the request because it is busy with
    /// another. Such a request is not in the journal.
    pub outcome: Option<Outcome>,
    /// The reason, if `status` is false.
    pub reject_reason: Reason,
    /// The host must restart before all of it is in effect.
    pub reboot_required: bool,
}
