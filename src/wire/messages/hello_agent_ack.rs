//! 6, `HelloAgentAck`: an agent says how its host is.

use serde::{Deserialize, Serialize};

use crate::types::{Digest, Hostname, NodeType, Nonce, RequestId, SwVersion};
use crate::wire::install::{Outcome, Step};

/// What an agent does (StarlingX: `idle`, `installing`, `install-failed`,
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
    /// As StarlingX writes it.
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

/// What became of the last install request that the agent took up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RequestState {
    /// There was none.
    #[default]
    None,
    /// It is under way.
    Running,
    /// It ended, like this.
    Ended(Outcome),
}

/// Agent to controllers, in answer to `HelloAgent` and whenever its state changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAgentAck {
    /// The number of the snapshot that a detailed query would give; another
    /// number is another installed set.
    pub query_id: u64,
    /// The digest of the installed set.
    pub installed_digest: Digest,
    /// What the host calls itself.
    pub hostname: Hostname,
    /// Its kind.
    pub nodetype: NodeType,
    /// It must restart before all of its patches are in effect.
    pub requires_reboot: bool,
    /// Its last install failed.
    pub patch_failed: bool,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// What the agent does.
    pub state: AgentState,
    /// Of an install: at which step.
    pub step: Step,
    /// Of an install: how far, 0 to 100.
    pub progress: u8,
    /// What the next `AgentInstallReq` must carry.
    pub nonce: Nonce,
    /// The last install request that the agent took up.
    pub request_id: RequestId,
    /// What became of it.
    pub request: RequestState,
}
