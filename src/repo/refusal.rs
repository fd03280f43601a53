//! Why a change is refused. Each message names the two facts that conflict, and what to
//! do about it.

use core::fmt;

use crate::limits::EFFECTIVE;
use crate::repo::entry::Status;
use crate::repo::map::Full;
use crate::types::{Hash, Hostname, PatchId};

/// Why a change is refused; displayed for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeRefusal<'m> {
    /// The command names no patch and does not apply to all.
    NothingNamed,
    /// There is no such patch, or it was deleted.
    Unknown {
        /// The id that was named.
        id: &'m PatchId,
    },
    /// Apply: a required patch is not applied.
    Requires {
        /// The named patch, or one that it requires.
        id: &'m PatchId,
        /// The patch that `id` requires.
        requires: &'m PatchId,
        /// Whether the required patch is in the repository, so that it could be applied.
        in_repository: bool,
    },
    /// Apply: more patches would be applied than a host may have.
    TooMany {
        /// Patches that would be applied.
        patches: usize,
    },
    /// Remove: a patch that stays requires it.
    RequiredBy {
        /// The patch to be removed.
        id: &'m PatchId,
        /// The patch that stays.
        by: &'m PatchId,
    },
    /// Remove or delete: it is committed.
    Committed {
        /// The patch.
        id: &'m PatchId,
    },
    /// Remove: it is unremovable.
    Unremovable {
        /// The patch.
        id: &'m PatchId,
    },
    /// Delete: it is applied.
    Applied {
        /// The patch.
        id: &'m PatchId,
    },
    /// Delete: a host still has it.
    OnHost {
        /// The patch.
        id: &'m PatchId,
        /// One of the hosts that have it.
        host: Hostname,
    },
    /// Delete: a host may still have it.
    MayBeOnHost {
        /// The patch.
        id: &'m PatchId,
        /// One of the hosts that have not reported.
        host: Hostname,
    },
    /// Commit: it is not applied.
    NotApplied {
        /// The patch.
        id: &'m PatchId,
    },
    /// Commit: it is not released.
    NotReleased {
        /// The patch.
        id: &'m PatchId,
        /// Its release status.
        status: Status,
    },
    /// Commit: a required patch is not applied.
    Blocked {
        /// The named patch, or one that it requires.
        id: &'m PatchId,
        /// The patch that `id` requires.
        requires: &'m PatchId,
    },
    /// Commit: a host that it concerns does not have it yet.
    NotOnHost {
        /// The patch.
        id: &'m PatchId,
        /// One of the hosts that lack it.
        host: Hostname,
    },
    /// Commit: a host that it concerns may lack it.
    MayNotBeOnHost {
        /// The patch.
        id: &'m PatchId,
        /// One of the hosts that have not reported.
        host: Hostname,
    },
    /// Upload: the repository has other content with this id.
    OtherContent {
        /// The id.
        id: &'m PatchId,
        /// The hash in the repository.
        held: Hash,
        /// The hash of the uploaded file.
        offered: Hash,
    },
    /// Upload: it was deleted although it was committed, and not purged yet.
    Voided {
        /// The id.
        id: &'m PatchId,
    },
    /// Upload: a patch that it requires requires it.
    Circle {
        /// The uploaded patch.
        id: &'m PatchId,
        /// The patch that it requires, and that requires it, directly or through others.
        requires: &'m PatchId,
    },
    /// Upload: there is no room for another id.
    Full {
        /// The id.
        id: &'m PatchId,
        /// How full.
        full: Full,
    },
}

impl fmt::Display for ChangeRefusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingNamed => f.write_str("No patch is named: give one or more patch ids."),
            Self::Unknown { id } => {
                write!(f, "{id} is not in the repository: look for its name with query, or upload it.")
            }
            Self::Requires { id, requires, in_repository: true } => write!(
                f,
                "{id} requires {requires}, which is not applied: apply that first, or both in one command."
            ),
            Self::Requires { id, requires, in_repository: false } => write!(
                f,
                "{id} requires {requires}, which is not in the repository: upload and apply that first."
            ),
            Self::TooMany { patches } => write!(
                f,
                "{patches} patches would be applied, and a host may have {EFFECTIVE}: remove some first."
            ),
            Self::RequiredBy { id, by } => write!(
                f,
                "{id} is required by {by}, which is applied: remove that first, or both in one command."
            ),
            Self::Committed { id } => write!(f, "{id} is committed and cannot be removed."),
            Self::Voided { id } => write!(
                f,
                "{id} was deleted although it was committed, and that prevails over an upload: purge it \
                 first (thimble purge), then upload."
            ),
            Self::Unremovable { id } => {
                write!(f, "{id} is unremovable: once applied it cannot be removed.")
            }
            Self::Applied { id } => {
                write!(f, "{id} is applied: remove it, install the hosts that have it, then delete it.")
            }
            Self::OnHost { id, host } => {
                write!(f, "{id} is still on host {host}: run host-install {host} first.")
            }
            Self::MayBeOnHost { id, host } => write!(
                f,
                "{id} may be on host {host}, which has not reported yet: try again soon, or drop-host it if it is gone."
            ),
            Self::NotApplied { id } => {
                write!(
                    f,
                    "{id} is not applied: apply it, install the hosts that it concerns, then commit it."
                )
            }
            Self::NotReleased { id, status } => write!(
                f,
                "{id} has status {}: only a released patch (REL) can be committed.",
                status.as_str()
            ),
            Self::Blocked { id, requires } => {
                write!(f, "{id} requires {requires}, which is not applied: apply that first, then commit.")
            }
            Self::NotOnHost { id, host } => {
                write!(f, "{id} is not on host {host} yet: run host-install {host} first.")
            }
            Self::MayNotBeOnHost { id, host } => write!(
                f,
                "{id} may not be on host {host}, which has not reported: try again soon, or drop-host it if it is gone."
            ),
            Self::OtherContent { id, held, offered } => write!(
                f,
                "{id} is in the repository with other content (hash {held:.16}, offered {offered:.16}): \
                 give the new content another id."
            ),
            Self::Circle { id, requires } => write!(
                f,
                "{id} requires {requires}, which requires it, directly or through others: \
                 take one of them out of the other's `requires`."
            ),
            Self::Full { id, full } => write!(f, "{id} is not uploaded. {full}"),
        }
    }
}

impl core::error::Error for ChangeRefusal<'_> {}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::limits;
    use crate::repo::fixture::id;
    use crate::types::{Name, Reason};

    #[test]
    fn every_refusal_fits_the_reason_that_reaches_the_operator() {
        let longest = &id(&"P".repeat(limits::PATCH_ID_BYTES));
        let host: Hostname = Name::new(&"h".repeat(limits::HOSTNAME_BYTES)).unwrap();
        let (held, offered) = (Hash([1; 32]), Hash([2; 32]));
        let refusals = [
            ChangeRefusal::NothingNamed,
            ChangeRefusal::Unknown { id: longest },
            ChangeRefusal::Requires { id: longest, requires: longest, in_repository: true },
            ChangeRefusal::Requires { id: longest, requires: longest, in_repository: false },
            ChangeRefusal::TooMany { patches: limits::ENTRIES },
            ChangeRefusal::RequiredBy { id: longest, by: longest },
            ChangeRefusal::Committed { id: longest },
            ChangeRefusal::Voided { id: longest },
            ChangeRefusal::Unremovable { id: longest },
            ChangeRefusal::Applied { id: longest },
            ChangeRefusal::OnHost { id: longest, host: host.clone() },
            ChangeRefusal::MayBeOnHost { id: longest, host: host.clone() },
            ChangeRefusal::NotApplied { id: longest },
            ChangeRefusal::NotReleased { id: longest, status: Status::Development },
            ChangeRefusal::Blocked { id: longest, requires: longest },
            ChangeRefusal::NotOnHost { id: longest, host: host.clone() },
            ChangeRefusal::MayNotBeOnHost { id: longest, host },
            ChangeRefusal::OtherContent { id: longest, held, offered },
            ChangeRefusal::Circle { id: longest, requires: longest },
            ChangeRefusal::Full { id: longest, full: Full { entries: limits::ENTRIES } },
        ];
        for refusal in refusals {
            let said = format!("{refusal}");
            assert_eq!(Reason::format(format_args!("{refusal}")).raw(), said, "{} bytes", said.len());
        }
    }
}
