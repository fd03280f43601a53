//! An install: the request, its step and its outcome, as the agent's state machine,
//! its worker and journal, the messages and the controller's tables share them.

use serde::{Deserialize, Serialize};

use crate::types::{Digest, NodeId, Reason, RequestId};

/// A request to install a set of patches on a host. The journal on disk holds its
/// postcard form: the fields and their order stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// The controller's number for the request. A request that has ended is not
    /// executed again.
    pub request_id: RequestId,
    /// The controller that asks.
    pub controller: NodeId,
    /// The digest of the effective set to end with.
    pub digest: Digest,
    /// Install even if the lock file is absent.
    pub force: bool,
}

/// The step that an install is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Checks the lock, the free space, the release and the kind of host.
    #[default]
    Checking,
    /// Fetches patches from the controller.
    Fetching,
    /// Verifies signatures and hashes.
    Verifying,
    /// Writes new files beside their targets.
    Staging,
    /// Runs `pre-*` scripts.
    PreScripts,
    /// Renames the new files to their targets.
    Switching,
    /// Runs `post-*` and `restart` scripts.
    PostScripts,
    /// Runs `health` scripts.
    Health,
    /// Restores the previous set.
    RollingBack,
}

impl Step {
    /// As shown to the operator.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Fetching => "fetching",
            Self::Verifying => "verifying",
            Self::Staging => "staging",
            Self::PreScripts => "pre scripts",
            Self::Switching => "switching",
            Self::PostScripts => "post scripts",
            Self::Health => "health",
            Self::RollingBack => "rolling back",
        }
    }
}

/// How an install ended, as the journal records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The requested set is installed.
    Installed,
    /// It did not begin: refused for lock, space, release, signature or digest.
    Rejected,
    /// It failed, and the previous set was restored.
    RolledBack,
    /// It failed, and the previous set could not be restored completely.
    Broken,
}

/// The last install in the agent's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastInstall {
    /// The request's number, chosen by the controller.
    pub request_id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was not `Installed`; otherwise which files it found changed by hand.
    pub reason: Reason,
    /// The host must restart before all of it is in effect.
    pub reboot_required: bool,
}
