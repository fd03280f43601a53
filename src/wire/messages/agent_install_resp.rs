//! 10, `AgentInstallResp`: how an install ended.

use serde::{Deserialize, Serialize};

use crate::types::{Reason, RequestId};
use crate::wire::install::Outcome;

/// Agent to the controller that asked; a `HelloAgentAck` follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInstallResp {
    /// The request that it answers.
    pub request_id: RequestId,
    /// The set asked for is in place.
    pub status: bool,
    /// How it ended; `None` where the request was refused without a trace,
    /// since the agent is busy with another.
    pub outcome: Option<Outcome>,
    /// Why, where `status` is false.
    pub reject_reason: Reason,
    /// The host must restart before all of it is in effect.
    pub reboot_required: bool,
}
