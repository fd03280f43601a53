//! What an operator's change may do.
//!
//! Each check looks at a whole command at once and at what the map would be
//! after it, so the order of names in a command does not matter, and a command
//! is done as a whole or refused as a whole. A check changes nothing; it gives
//! the slots whose entries the command changes, less those that are already as
//! asked. The refusals name both facts that stand against each other.

use core::fmt;

use crate::limits::EFFECTIVE;
use crate::repo::effective::{entries, missing, wanted};
use crate::repo::entry::{Entry, EntryState, Stamp};
use crate::repo::map::{Full, Map};
use crate::repo::slots::{Slot, SlotSet};
use crate::types::{Hash, Hostname, PatchId};

/// Why a change is refused, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<'m> {
    /// The command names no patch, and does not mean all.
    NothingNamed,
    /// No such patch, or it has been deleted.
    Unknown {
        /// What was named.
        id: &'m PatchId,
    },
    /// To be applied, and lacks what it requires.
    Requires {
        /// The patch named, or one that it requires.
        id: &'m PatchId,
        /// What that one requires.
        requires: &'m PatchId,
        /// Whether what is required could be applied: it is in the repository.
        in_repository: bool,
    },
    /// Together with what is applied it is more than a host may have.
    TooMany {
        /// Patches that would be applied.
        patches: usize,
    },
    /// To be removed, and a patch that stays requires it.
    RequiredBy {
        /// The patch to be removed.
        id: &'m PatchId,
        /// The patch that stays.
        by: &'m PatchId,
    },
    /// To be removed or deleted, and committed.
    Committed {
        /// The patch.
        id: &'m PatchId,
    },
    /// To be removed, and made never to be.
    Unremovable {
        /// The patch.
        id: &'m PatchId,
    },
    /// To be deleted, and applied.
    Applied {
        /// The patch.
        id: &'m PatchId,
    },
    /// To be deleted, and still on a host.
    OnHost {
        /// The patch.
        id: &'m PatchId,
        /// One of the hosts that have it.
        host: Hostname,
    },
    /// To be deleted, and a host may have it.
    MayBeOnHost {
        /// The patch.
        id: &'m PatchId,
        /// One of the hosts that have not told.
        host: Hostname,
    },
    /// To be uploaded, and its id stands for other content.
    OtherContent {
        /// The id.
        id: &'m PatchId,
        /// What the repository holds.
        held: Hash,
        /// What was offered.
        offered: Hash,
    },
    /// To be uploaded, and there is no room for another id.
    Full {
        /// The id.
        id: &'m PatchId,
        /// How full.
        full: Full,
    },
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingNamed => f.write_str("No patch is named: name those that are meant."),
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
            Self::Committed { id } => write!(f, "{id} is committed: it stays for good."),
            Self::Unremovable { id } => {
                write!(f, "{id} is unremovable: its makers say that it stays once it is applied.")
            }
            Self::Applied { id } => {
                write!(f, "{id} is applied: remove it, install the hosts that have it, then delete it.")
            }
            Self::OnHost { id, host } => {
                write!(f, "{id} is still on host {host}: run host-install {host} first.")
            }
            Self::MayBeOnHost { id, host } => write!(
                f,
                "{id} may be on host {host}, which has not told yet: try again soon, or drop-host it if it is gone."
            ),
            Self::OtherContent { id, held, offered } => write!(
                f,
                "{id} is in the repository with other content (hash {held:.16}, offered {offered:.16}): \
                 give the new content another id."
            ),
            Self::Full { id, full } => write!(f, "{id} is not uploaded. {full}"),
        }
    }
}

impl core::error::Error for Refusal<'_> {}

/// Whether a patch is on a host, as far as the controller knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnHosts {
    /// On none.
    Nowhere,
    /// On this host, and perhaps on others.
    On(Hostname),
    /// On none that has told; this host has not.
    MayBeOn(Hostname),
}

/// What an upload of a patch comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// The id is new, or has been deleted: the entry is to be stored and merged.
    New,
    /// The repository has this very file: nothing is to be done.
    Already,
}

/// Whether these patches may be applied; no `ids` means all that are Available.
///
/// What each requires must be applied after the command, and what that requires
/// as well. The bound on a host's patches counts all that are applied for any
/// kind of host, since a host of a new kind may come any day.
///
/// # Errors
/// [`Refusal::Unknown`], [`Refusal::Requires`], [`Refusal::TooMany`].
pub fn check_apply<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, Refusal<'m>> {
    let mut applied = wanted(map);
    let mut to_apply = SlotSet::new();
    for found in named(map, ids) {
        let (slot, entry) = found?;
        if entry.state == EntryState::Available && applied.insert(slot) {
            to_apply.insert(slot);
        }
    }
    for slot in &to_apply {
        if let Some((entry, requires)) = missing(map, slot, &applied) {
            let in_repository = present(map, requires).is_some();
            return Err(Refusal::Requires { id: &entry.id, requires, in_repository });
        }
    }
    if applied.len() > EFFECTIVE && !to_apply.is_empty() {
        return Err(Refusal::TooMany { patches: applied.len() });
    }
    Ok(to_apply)
}

/// Whether these patches may be made Available again: none is committed or
/// unremovable, and no patch that stays applied requires one of them.
///
/// # Errors
/// [`Refusal::NothingNamed`], [`Refusal::Unknown`], [`Refusal::Committed`],
/// [`Refusal::Unremovable`], [`Refusal::RequiredBy`].
pub fn check_remove<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, Refusal<'m>> {
    if ids.is_empty() {
        return Err(Refusal::NothingNamed);
    }
    let mut staying = wanted(map);
    let mut to_remove = SlotSet::new();
    for found in named(map, ids) {
        let (slot, entry) = found?;
        match entry.state {
            EntryState::Committed => return Err(Refusal::Committed { id: &entry.id }),
            EntryState::Applied if entry.meta.unremovable => {
                return Err(Refusal::Unremovable { id: &entry.id });
            }
            EntryState::Applied => {
                staying.remove(slot);
                to_remove.insert(slot);
            }
            EntryState::Available | EntryState::Deleted => {}
        }
    }
    for (_, by) in entries(map, &staying) {
        let removed = |id: &&PatchId| map.get(id).is_some_and(|(slot, _)| to_remove.contains(slot));
        if let Some(id) = by.meta.requires.iter().find(removed) {
            return Err(Refusal::RequiredBy { id, by: &by.id });
        }
    }
    Ok(to_remove)
}

/// Whether these patches may be deleted: each is Available in the repository
/// and, as `on_hosts` says, on no host. A caller that is to go on although a
/// lost host has not told leaves that host out.
///
/// # Errors
/// [`Refusal::NothingNamed`], [`Refusal::Unknown`], [`Refusal::Applied`],
/// [`Refusal::Committed`], [`Refusal::OnHost`], [`Refusal::MayBeOnHost`].
pub fn check_delete<'m>(
    map: &'m Map<'_>,
    ids: &'m [PatchId],
    on_hosts: impl Fn(Slot) -> OnHosts,
) -> Result<SlotSet, Refusal<'m>> {
    if ids.is_empty() {
        return Err(Refusal::NothingNamed);
    }
    let mut to_delete = SlotSet::new();
    for found in named(map, ids) {
        let (slot, entry) = found?;
        let id = &entry.id;
        match (entry.state, on_hosts(slot)) {
            (EntryState::Applied, _) => return Err(Refusal::Applied { id }),
            (EntryState::Committed, _) => return Err(Refusal::Committed { id }),
            (_, OnHosts::On(host)) => return Err(Refusal::OnHost { id, host }),
            (_, OnHosts::MayBeOn(host)) => return Err(Refusal::MayBeOnHost { id, host }),
            (_, OnHosts::Nowhere) => to_delete.insert(slot),
        };
    }
    Ok(to_delete)
}

/// Whether a patch may be uploaded as `offered`. A deleted id may be used
/// again, with any content.
///
/// # Errors
/// [`Refusal::OtherContent`], [`Refusal::Full`].
pub fn check_upload<'m>(map: &Map<'_>, offered: &'m Entry) -> Result<Upload, Refusal<'m>> {
    let id = &offered.id;
    match map.get(id) {
        None if map.is_full() => Err(Refusal::Full { id, full: Full { entries: map.len() } }),
        None => Ok(Upload::New),
        Some((_, held)) if held.state == EntryState::Deleted => Ok(Upload::New),
        Some((_, held)) if held.hash == offered.hash => Ok(Upload::Already),
        Some((_, held)) => Err(Refusal::OtherContent { id, held: held.hash, offered: offered.hash }),
    }
}

/// The entry as a change leaves it. To win the merge, `stamp` must be higher
/// than the entry's own.
#[must_use]
pub fn changed(entry: &Entry, to: EntryState, stamp: Stamp) -> Entry {
    Entry { state: to, stamp, ..entry.clone() }
}

/// The entries of a command's ids, in its order; of none, all that are
/// Available, by id.
fn named<'m>(
    map: &'m Map<'_>,
    ids: &'m [PatchId],
) -> impl Iterator<Item = Result<(Slot, &'m Entry), Refusal<'m>>> {
    let all = map.iter_by_id().filter(|(_, entry)| entry.state == EntryState::Available);
    let all = all.take_while(|_| ids.is_empty());
    let each = ids.iter().map(|id| present(map, id).ok_or(Refusal::Unknown { id }));
    each.chain(all.map(Ok))
}

/// The entry of an id that is in the repository: a tombstone is not.
fn present<'m>(map: &'m Map<'_>, id: &PatchId) -> Option<(Slot, &'m Entry)> {
    map.get(id).filter(|(_, entry)| entry.state != EntryState::Deleted)
}
