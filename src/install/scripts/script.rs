//! The scripts that a patch may have, and what they are run for.

use serde::{Deserialize, Serialize};

/// A script of a patch, named by its step of an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::install) enum Script {
    PreInstall,
    PostInstall,
    PreRemove,
    PostRemove,
    Restart,
    Health,
    PreApply,
    PreRemoveCheck,
}

impl Script {
    const ALL: [Self; 8] = [
        Self::PreInstall,
        Self::PostInstall,
        Self::PreRemove,
        Self::PostRemove,
        Self::Restart,
        Self::Health,
        Self::PreApply,
        Self::PreRemoveCheck,
    ];

    /// Its file name in a patch.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::PostInstall => "post-install",
            Self::PreRemove => "pre-remove",
            Self::PostRemove => "post-remove",
            Self::Restart => "restart",
            Self::Health => "health",
            Self::PreApply => "pre-apply",
            Self::PreRemoveCheck => "pre-remove-check",
        }
    }

    /// The script with this file name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|script| script.as_str() == name)
    }
}

/// What a script is run for, as it finds it in `THIMBLE_ACTION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::install) enum ScriptAction {
    Install,
    Remove,
    Rollback,
}

impl ScriptAction {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Remove => "remove",
            Self::Rollback => "rollback",
        }
    }
}
