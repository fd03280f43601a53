//! Whether an operator's change is allowed.
//!
//! Each check considers the whole command and the map as it would be after it. So the
//! order of names does not matter, and a command is executed or refused as a whole. A
//! check changes nothing. It returns the slots whose entries the command changes, without
//! those that already have the requested state.

use crate::limits::EFFECTIVE;
use crate::repo::effective::{entries, missing, wanted};
use crate::repo::entry::{Entry, EntryState, Stamp, Status};
use crate::repo::map::{Full, Map};
pub use crate::repo::refusal::ChangeRefusal;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::{Hostname, PatchId};

/// Whether a patch is on a host, as far as the controller knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnHosts {
    /// On no host.
    Nowhere,
    /// On this host, and perhaps on others.
    On(Hostname),
    /// On no host that has reported; this host has not reported.
    MayBeOn(Hostname),
}

/// Whether a patch is on all hosts that it concerns, as far as the controller
/// knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnAllHosts {
    /// On every host.
    Everywhere,
    /// This host lacks it, and perhaps others do.
    NotOn(Hostname),
    /// No host that has reported lacks it; this host has not reported.
    MayNotBeOn(Hostname),
}

/// The result of checking an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// The id is new or was deleted: the entry is to be stored and merged.
    New,
    /// The repository already has this file: nothing is to be done.
    Already,
}

/// Whether these patches may be applied; no `ids` means all that are Available.
///
/// All patches that they require, directly or indirectly, must be applied after the
/// command. The bound on a host's patches counts all applied patches, whatever kinds of
/// hosts they concern, because a host of a new kind may appear.
///
/// # Errors
/// [`ChangeRefusal::Unknown`], [`ChangeRefusal::Requires`], [`ChangeRefusal::TooMany`].
pub fn check_apply<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, ChangeRefusal<'m>> {
    let mut applied = wanted(map);
    let mut to_apply = SlotSet::new();
    for found in named(map, ids, EntryState::Available) {
        let (slot, entry) = found?;
        if entry.state == EntryState::Available && applied.insert(slot) {
            to_apply.insert(slot);
        }
    }
    for slot in &to_apply {
        if let Some((entry, requires)) = missing(map, slot, |slot, _| applied.contains(slot)) {
            let in_repository = present(map, requires).is_some();
            return Err(ChangeRefusal::Requires { id: &entry.id, requires, in_repository });
        }
    }
    if applied.len() > EFFECTIVE && !to_apply.is_empty() {
        return Err(ChangeRefusal::TooMany { patches: applied.len() });
    }
    Ok(to_apply)
}

/// Whether these patches may be made Available again: none is committed or
/// unremovable, and no patch that stays applied requires one of them.
///
/// # Errors
/// [`ChangeRefusal::NothingNamed`], [`ChangeRefusal::Unknown`], [`ChangeRefusal::Committed`],
/// [`ChangeRefusal::Unremovable`], [`ChangeRefusal::RequiredBy`].
pub fn check_remove<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, ChangeRefusal<'m>> {
    if ids.is_empty() {
        return Err(ChangeRefusal::NothingNamed);
    }
    let mut staying = wanted(map);
    let mut to_remove = SlotSet::new();
    for found in named(map, ids, EntryState::Available) {
        let (slot, entry) = found?;
        match entry.state {
            EntryState::Committed => return Err(ChangeRefusal::Committed { id: &entry.id }),
            EntryState::Applied if entry.meta.unremovable => {
                return Err(ChangeRefusal::Unremovable { id: &entry.id });
            }
            EntryState::Applied => {
                staying.remove(slot);
                to_remove.insert(slot);
            }
            EntryState::Available | EntryState::Deleted | EntryState::Voided => {}
        }
    }
    for (_, by) in entries(map, &staying) {
        let removed = |id: &&PatchId| map.get(id).is_some_and(|(slot, _)| to_remove.contains(slot));
        if let Some(id) = by.meta.requires.iter().find(removed) {
            return Err(ChangeRefusal::RequiredBy { id, by: &by.id });
        }
    }
    Ok(to_remove)
}

/// Whether these patches may be deleted: each is, according to `on_hosts`, on no host, and is
/// Available, or is committed without its file: one whose file is nowhere would otherwise keep
/// every controller incomplete for ever. To ignore lost hosts, the caller leaves them out of
/// `on_hosts`.
///
/// # Errors
/// [`ChangeRefusal::NothingNamed`], [`ChangeRefusal::Unknown`], [`ChangeRefusal::Applied`],
/// [`ChangeRefusal::Committed`], [`ChangeRefusal::OnHost`], [`ChangeRefusal::MayBeOnHost`].
pub fn check_delete<'m>(
    map: &'m Map<'_>,
    ids: &'m [PatchId],
    on_hosts: impl Fn(Slot) -> OnHosts,
    has_file: impl Fn(Slot) -> bool,
) -> Result<SlotSet, ChangeRefusal<'m>> {
    if ids.is_empty() {
        return Err(ChangeRefusal::NothingNamed);
    }
    let mut to_delete = SlotSet::new();
    for found in named(map, ids, EntryState::Available) {
        let (slot, entry) = found?;
        let id = &entry.id;
        match (entry.state, on_hosts(slot)) {
            (EntryState::Applied, _) => return Err(ChangeRefusal::Applied { id }),
            (EntryState::Committed, _) if has_file(slot) => return Err(ChangeRefusal::Committed { id }),
            (_, OnHosts::On(host)) => return Err(ChangeRefusal::OnHost { id, host }),
            (_, OnHosts::MayBeOn(host)) => return Err(ChangeRefusal::MayBeOnHost { id, host }),
            (_, OnHosts::Nowhere) => to_delete.insert(slot),
        };
    }
    Ok(to_delete)
}

/// The patches that a commit of these would commit: they and all that they require,
/// directly or indirectly, without those already committed. No `ids` means all that are
/// Applied.
///
/// Each of them must be Applied and released.
///
/// # Errors
/// [`ChangeRefusal::Unknown`], [`ChangeRefusal::NotApplied`], [`ChangeRefusal::Blocked`],
/// [`ChangeRefusal::NotReleased`].
pub fn commit_closure<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, ChangeRefusal<'m>> {
    let mut next = SlotSet::new();
    for found in named(map, ids, EntryState::Applied) {
        let (slot, entry) = found?;
        if entry.state == EntryState::Available {
            return Err(ChangeRefusal::NotApplied { id: &entry.id });
        }
        next.insert(slot);
    }
    let mut seen = SlotSet::new();
    while let Some(slot) = next.pop() {
        seen.insert(slot);
        let Some(entry) = map.entry(slot) else { continue };
        for requires in &entry.meta.requires {
            match map.get(requires).filter(|(_, required)| required.is_wanted()) {
                None => return Err(ChangeRefusal::Blocked { id: &entry.id, requires }),
                Some((required, _)) if !seen.contains(required) => {
                    next.insert(required);
                }
                Some(_) => {}
            }
        }
    }
    let by_id = map.iter_by_id().filter(|(slot, _)| seen.contains(*slot));
    let to_commit = by_id.filter(|(_, entry)| entry.state != EntryState::Committed);
    let mut closure = SlotSet::new();
    for (slot, entry) in to_commit {
        if entry.meta.status != Status::Released {
            return Err(ChangeRefusal::NotReleased { id: &entry.id, status: entry.meta.status });
        }
        closure.insert(slot);
    }
    Ok(closure)
}

/// Whether these patches may be committed: returns their [`commit_closure`] if each patch
/// of it is, according to `on_all_hosts`, on every host that it concerns. To ignore lost
/// hosts, the caller leaves them out of `on_all_hosts`.
///
/// # Errors
/// Those of [`commit_closure`], [`ChangeRefusal::NotOnHost`], [`ChangeRefusal::MayNotBeOnHost`].
pub fn check_commit<'m>(
    map: &'m Map<'_>,
    ids: &'m [PatchId],
    on_all_hosts: impl Fn(Slot) -> OnAllHosts,
) -> Result<SlotSet, ChangeRefusal<'m>> {
    let closure = commit_closure(map, ids)?;
    for (slot, Entry { id, .. }) in map.iter_by_id().filter(|(slot, _)| closure.contains(*slot)) {
        match on_all_hosts(slot) {
            OnAllHosts::Everywhere => {}
            OnAllHosts::NotOn(host) => return Err(ChangeRefusal::NotOnHost { id, host }),
            OnAllHosts::MayNotBeOn(host) => return Err(ChangeRefusal::MayNotBeOnHost { id, host }),
        }
    }
    Ok(closure)
}

/// Whether `offered` may be uploaded. A deleted id may be used again, with any content.
///
/// # Errors
/// [`ChangeRefusal::OtherContent`], [`ChangeRefusal::Full`], [`ChangeRefusal::Circle`],
/// [`ChangeRefusal::Voided`].
pub fn check_upload<'m>(map: &Map<'_>, offered: &'m Entry) -> Result<Upload, ChangeRefusal<'m>> {
    let id = &offered.id;
    let is_new = || match in_circle(map, offered) {
        Some(requires) => Err(ChangeRefusal::Circle { id, requires }),
        None => Ok(Upload::New),
    };
    match map.get(id) {
        None if map.is_full() => Err(ChangeRefusal::Full { id, full: Full { entries: map.len() } }),
        None => is_new(),
        Some((_, held)) if held.state == EntryState::Deleted => is_new(),
        Some((_, held)) if held.state == EntryState::Voided => Err(ChangeRefusal::Voided { id }),
        Some((_, held)) if held.hash == offered.hash => Ok(Upload::Already),
        Some((_, held)) => Err(ChangeRefusal::OtherContent { id, held: held.hash, offered: offered.hash }),
    }
}

/// The first patch that `offered` requires and that itself requires it, directly or through
/// others.
fn in_circle<'m>(map: &Map<'_>, offered: &'m Entry) -> Option<&'m PatchId> {
    offered.meta.requires.iter().find(|requires| {
        let mut seen = SlotSet::new();
        let mut next = SlotSet::new();
        if let Some((slot, _)) = present(map, requires) {
            next.insert(slot);
        }
        while let Some(slot) = next.pop() {
            seen.insert(slot);
            let Some(entry) = map.entry(slot) else { continue };
            for id in &entry.meta.requires {
                match present(map, id) {
                    _ if *id == offered.id => return true,
                    Some((slot, _)) if !seen.contains(slot) => {
                        next.insert(slot);
                    }
                    _ => {}
                }
            }
        }
        false
    })
}

/// The entry after a change. To win the merge, `stamp` must be higher than the entry's
/// own. A committed entry that is deleted is void.
#[must_use]
pub fn changed(entry: &Entry, to: EntryState, stamp: Stamp) -> Entry {
    let is_voided = entry.state == EntryState::Committed && to.is_deleted();
    let state = if is_voided { EntryState::Voided } else { to };
    Entry { state, stamp, ..entry.clone() }
}

/// The entries of a command's ids, in its order. For no ids, all entries in the state
/// `all`, by id.
fn named<'m>(
    map: &'m Map<'_>,
    ids: &'m [PatchId],
    all: EntryState,
) -> impl Iterator<Item = Result<(Slot, &'m Entry), ChangeRefusal<'m>>> {
    let all = map.iter_by_id().filter(move |(_, entry)| entry.state == all);
    let all = all.take_while(|_| ids.is_empty());
    let each = ids.iter().map(|id| present(map, id).ok_or(ChangeRefusal::Unknown { id }));
    each.chain(all.map(Ok))
}

/// The entry of an id, unless it is a tombstone.
fn present<'m>(map: &'m Map<'_>, id: &PatchId) -> Option<(Slot, &'m Entry)> {
    map.get(id).filter(|(_, entry)| !entry.state.is_deleted())
}

#[cfg(test)]
mod tests;
