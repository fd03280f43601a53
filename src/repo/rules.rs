//! What an operator's change may do.
//!
//! Each check looks at a whole command at once and at what the map would be
//! after it, so the order of names in a command does not matter, and a command
//! is done as a whole or refused as a whole. A check changes nothing; it gives
//! the slots whose entries the command changes, less those that are already as
//! asked.

use crate::limits::EFFECTIVE;
use crate::repo::effective::{entries, missing, wanted};
use crate::repo::entry::{Entry, EntryState, Stamp};
use crate::repo::map::{Full, Map};
pub use crate::repo::refusal::Refusal;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::{Hostname, PatchId};

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
        if let Some((entry, requires)) = missing(map, slot, |slot, _| applied.contains(slot)) {
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

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use super::*;
    use crate::repo::fixture::{self, entry, ids, slot};
    use crate::types::{Hash, Name};

    fn available(text: &str) -> Entry {
        entry(text).state(EntryState::Available)
    }

    fn committed(text: &str) -> Entry {
        entry(text).state(EntryState::Committed)
    }

    fn deleted(text: &str) -> Entry {
        entry(text).state(EntryState::Deleted)
    }

    type Check = for<'m> fn(&'m Map<'_>, &'m [PatchId]) -> Result<SlotSet, Refusal<'m>>;

    fn check_delete_nowhere<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, Refusal<'m>> {
        check_delete(map, ids, |_| OnHosts::Nowhere)
    }

    /// The ids that a command changes, or why it is refused.
    fn outcome(check: Check, entries: &[Entry], named: &[&str]) -> Result<Vec<PatchId>, std::string::String> {
        let mut slots = fixture::slots(entries.len());
        let map = fixture::map(&mut slots, entries);
        let named = ids(named);
        let changed = check(&map, &named).map_err(|refusal| format!("{refusal}"))?;
        Ok(super::entries(&map, &changed).map(|(_, entry)| entry.id.clone()).collect())
    }

    #[track_caller]
    fn refused(check: Check, entries: &[Entry], named: &[&str], why: &str) {
        assert_eq!(outcome(check, entries, named).unwrap_err(), why);
    }

    #[test]
    fn a_patch_that_is_not_in_the_repository_is_refused_and_nothing_is_done() {
        for check in [check_apply as Check, check_remove, check_delete_nowhere] {
            for unknown in ["X", "GONE"] {
                let why = format!(
                    "{unknown} is not in the repository: look for its name with query, or upload it."
                );
                refused(check, &[available("A"), deleted("GONE")], &["A", unknown], &why);
            }
        }
    }

    #[test]
    fn apply_takes_what_is_available_and_leaves_what_is_applied() {
        let entries = [available("A"), entry("B"), committed("C"), available("D")];
        assert_eq!(outcome(check_apply, &entries, &["A", "B", "C", "A"]), Ok(ids(&["A"])));
        assert_eq!(outcome(check_apply, &entries, &[]), Ok(ids(&["A", "D"])), "all");
        assert_eq!(outcome(check_apply, &[deleted("A")], &[]), Ok(ids(&[])));
    }

    #[test]
    fn apply_wants_what_is_required_first_or_in_the_same_command() {
        let entries = [available("A").requires(&["B"]), available("B").requires(&["C"]), available("C")];
        let why = "A requires B, which is not applied: apply that first, or both in one command.";
        refused(check_apply, &entries, &["A"], why);
        refused(check_apply, &entries, &["C", "A"], why);
        let why = "B requires C, which is not applied: apply that first, or both in one command.";
        refused(check_apply, &entries, &["A", "B"], why);
        for named in [["A", "B", "C"], ["C", "B", "A"]] {
            assert_eq!(outcome(check_apply, &entries, &named), Ok(ids(&["A", "B", "C"])));
        }
        assert_eq!(outcome(check_apply, &entries, &[]), Ok(ids(&["A", "B", "C"])));
        let entries = [available("A").requires(&["B"]), committed("B")];
        assert_eq!(outcome(check_apply, &entries, &["A"]), Ok(ids(&["A"])));
    }

    #[test]
    fn apply_names_a_requirement_that_is_not_in_the_repository() {
        let why = "A requires B, which is not in the repository: upload and apply that first.";
        refused(check_apply, &[available("A").requires(&["B"])], &["A"], why);
        refused(check_apply, &[available("A").requires(&["B"]), deleted("B")], &[], why);
    }

    #[test]
    fn apply_does_not_rest_on_a_blocked_patch() {
        let entries = [available("A").requires(&["B"]), entry("B").requires(&["C"]), available("C")];
        let why = "B requires C, which is not applied: apply that first, or both in one command.";
        refused(check_apply, &entries, &["A"], why);
        assert_eq!(outcome(check_apply, &entries, &["A", "C"]), Ok(ids(&["A", "C"])));
    }

    #[test]
    fn apply_keeps_to_what_a_host_may_have() {
        let mut entries: Vec<_> = (1..EFFECTIVE).map(|number| entry(&format!("P-{number}"))).collect();
        entries.push(available("A"));
        assert_eq!(outcome(check_apply, &entries, &["A"]), Ok(ids(&["A"])), "the last that has room");
        entries.push(available("B"));
        let why = format!(
            "{} patches would be applied, and a host may have {EFFECTIVE}: remove some first.",
            EFFECTIVE + 1
        );
        refused(check_apply, &entries, &[], &why);
        entries.extend([entry("C"), entry("D")]);
        let none = outcome(check_apply, &entries, &["P-1"]);
        assert_eq!(
            none,
            Ok(ids(&[])),
            "what a merge brought is not held against a command that adds nothing"
        );
    }

    #[test]
    fn remove_takes_what_is_applied_and_leaves_what_is_available() {
        assert_eq!(outcome(check_remove, &[available("A"), entry("B")], &["A", "B"]), Ok(ids(&["B"])));
    }

    #[test]
    fn remove_keeps_what_a_staying_patch_requires() {
        let entries = [entry("A"), entry("B").requires(&["A"]), committed("C").requires(&["A"])];
        let why = "A is required by B, which is applied: remove that first, or both in one command.";
        refused(check_remove, &entries[..2], &["A"], why);
        for named in [["A", "B"], ["B", "A"]] {
            assert_eq!(outcome(check_remove, &entries[..2], &named), Ok(ids(&["A", "B"])));
        }
        let why = "A is required by C, which is applied: remove that first, or both in one command.";
        refused(check_remove, &entries, &["A", "B"], why);
        let entries = [entry("A"), available("B").requires(&["A"])];
        assert_eq!(outcome(check_remove, &entries, &["A"]), Ok(ids(&["A"])), "B is not applied");
    }

    #[test]
    fn a_committed_and_an_unremovable_patch_stay() {
        let entries = [committed("A"), entry("B").unremovable(), entry("C")];
        refused(check_remove, &entries, &["C", "A"], "A is committed: it stays for good.");
        let why = "B is unremovable: its makers say that it stays once it is applied.";
        refused(check_remove, &entries, &["C", "B"], why);
        refused(check_delete_nowhere, &entries, &["A"], "A is committed: it stays for good.");
        assert_eq!(outcome(check_remove, &[available("B").unremovable()], &["B"]), Ok(ids(&[])));
    }

    #[test]
    fn remove_and_delete_want_names() {
        for check in [check_remove as Check, check_delete_nowhere] {
            refused(check, &[entry("A")], &[], "No patch is named: name those that are meant.");
        }
    }

    #[test]
    fn delete_wants_a_patch_available_and_on_no_host() {
        let entries = [entry("A"), available("B"), available("C").unremovable()];
        let why = "A is applied: remove it, install the hosts that have it, then delete it.";
        refused(check_delete_nowhere, &entries, &["B", "A"], why);
        assert_eq!(outcome(check_delete_nowhere, &entries, &["B", "C"]), Ok(ids(&["B", "C"])));

        let mut slots = fixture::slots(entries.len());
        let map = fixture::map(&mut slots, &entries);
        let (named, host, b) = (ids(&["C", "B"]), Name::new("worker-1").unwrap(), slot(&map, "B"));
        let only_b = |on: &OnHosts| {
            let refusal =
                check_delete(&map, &named, |slot| if slot == b { on.clone() } else { OnHosts::Nowhere });
            format!("{}", refusal.unwrap_err())
        };
        assert_eq!(
            only_b(&OnHosts::On(host.clone())),
            "B is still on host worker-1: run host-install worker-1 first."
        );
        assert_eq!(
            only_b(&OnHosts::MayBeOn(host)),
            "B may be on host worker-1, which has not told yet: \
             try again soon, or drop-host it if it is gone."
        );
    }

    #[test]
    fn upload_takes_new_and_deleted_ids_and_knows_what_it_has() {
        let entries = [available("A"), entry("B"), deleted("C")];
        let mut slots = fixture::slots(4);
        let map = fixture::map(&mut slots, &entries);
        assert_eq!(check_upload(&map, &entry("NEW")), Ok(Upload::New));
        assert_eq!(check_upload(&map, &Entry { hash: Hash([7; 32]), ..available("C") }), Ok(Upload::New));
        assert_eq!(check_upload(&map, &available("A")), Ok(Upload::Already));
        assert_eq!(check_upload(&map, &available("B")), Ok(Upload::Already));
    }

    #[test]
    fn upload_of_other_content_names_both_hashes() {
        for held in [available("A"), entry("A"), committed("A")] {
            let held = Entry { hash: Hash([0xab; 32]), ..held };
            let offered = Entry { hash: Hash([0xcd; 32]), ..available("A") };
            let mut slots = fixture::slots(1);
            let map = fixture::map(&mut slots, &[held]);
            assert_eq!(
                format!("{}", check_upload(&map, &offered).unwrap_err()),
                "A is in the repository with other content \
                 (hash abababababababab, offered cdcdcdcdcdcdcdcd): give the new content another id."
            );
        }
    }

    #[test]
    fn upload_into_a_full_table_is_refused_but_for_ids_that_it_has() {
        let mut slots = fixture::slots(1);
        let map = fixture::map(&mut slots, &[deleted("A")]);
        assert_eq!(check_upload(&map, &available("A")), Ok(Upload::New));
        assert_eq!(
            format!("{}", check_upload(&map, &available("B")).unwrap_err()),
            "B is not uploaded. The repository is full: 1 entries, those of deleted patches included. \
             Run purge to drop them."
        );
    }

    #[test]
    fn a_change_sets_state_and_stamp_and_wins_the_merge() {
        let before = available("A").requires(&["B"]).stamp(3, 9);
        let after = changed(&before, EntryState::Applied, Stamp { counter: 4, replica: 1 });
        assert_eq!(after, before.clone().state(EntryState::Applied).stamp(4, 1));
        assert!(after.merge_order(&before).is_gt());
    }
}
