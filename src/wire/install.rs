//! Where an install stands and how it ended: the words that the agent's worker,
//! the agent's messages, its journal and the controller's tables share.

use serde::{Deserialize, Serialize};

use crate::types::{Reason, RequestId};

/// Where an install stands.
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
