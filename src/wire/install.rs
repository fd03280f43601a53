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
    /// Lock, space, release, kind of host.
    #[default]
    Checking,
    /// Patches come from the controller.
    Fetching,
    /// Signatures and hashes.
    Verifying,
    /// New files beside their targets.
    Staging,
    /// `pre-*` scripts.
    PreScripts,
    /// Renames.
    Switching,
    /// `post-*` and `restart` scripts.
    PostScripts,
    /// `health` scripts.
    Health,
    /// Back to the previous set.
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

/// How an install ended, as the journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The set asked for is in place.
    Installed,
    /// Not begun: lock, space, release, signature, digest.
    Rejected,
    /// Begun, failed, and the previous set is back in place.
    RolledBack,
    /// Begun, failed, and the previous set could not be restored whole.
    Broken,
}

/// The last install that the agent's journal remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastInstall {
    /// The controller's number for it.
    pub request_id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it was not `Installed`; else what it found changed by hand.
    pub reason: Reason,
    /// The host must restart before all of it is in effect.
    pub reboot_required: bool,
}
