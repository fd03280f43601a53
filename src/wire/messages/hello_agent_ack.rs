//! 6, `HelloAgentAck`: an agent reports the state of its host.

use serde::{Deserialize, Serialize};

use crate::types::{Digest, Hostname, NodeType, Nonce, RequestId, SwVersion};
use crate::wire::install::{Outcome, Step};

/// What an agent is doing (StarlingX: `idle`, `installing`, `install-failed`,
/// `install-rejected`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AgentState {
    /// Nothing.
    #[default]
    Idle,
    /// An install.
    Installing,
    /// Nothing, after an install that failed.
    InstallFailed,
    /// Nothing, shortly after an install that was rejected.
    InstallRejected,
}

impl AgentState {
    /// StarlingX's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Installing => "installing",
            Self::InstallFailed => "install-failed",
            Self::InstallRejected => "install-rejected",
        }
    }
}

/// The state of the last install request that the agent accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RequestState {
    /// There was none.
    #[default]
    None,
    /// It is running.
    Running,
    /// It ended with this outcome.
    Ended(Outcome),
}

/// Agent to controllers, in answer to `HelloAgent` and whenever its state changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAgentAck {
    /// The number of the snapshot that a detailed query would return. Each snapshot has
    /// another number.
    pub query_id: u64,
    /// The digest of the installed set.
    pub installed_digest: Digest,
    /// The host's name.
    pub hostname: Hostname,
    /// Its kind.
    pub nodetype: NodeType,
    /// It must restart before all of its patches are in effect.
    pub requires_reboot: bool,
    /// Its last install failed.
    pub patch_failed: bool,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// What the agent is doing.
    pub state: AgentState,
    /// The current step of an install.
    pub step: Step,
    /// The progress of an install, 0 to 100.
    pub progress: u8,
    /// The nonce that the next `AgentInstallReq` must carry.
    pub nonce: Nonce,
    /// The last install request that the agent accepted.
    pub request_id: RequestId,
    /// The state of that request.
    pub request: RequestState,
}

impl HelloAgentAck {
    /// Whether its sender may be a new thimble that waits to hear a controller, which only a
    /// message with its own key shows.
    #[must_use]
    pub fn may_be_unproven(&self) -> bool {
        self.request == RequestState::Running && self.step == Step::Health
    }
}
