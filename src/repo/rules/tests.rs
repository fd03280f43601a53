//! Which commands are allowed, and the messages of those that are refused.

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

type Check = for<'m> fn(&'m Map<'_>, &'m [PatchId]) -> Result<SlotSet, ChangeRefusal<'m>>;

fn check_delete_nowhere<'m>(map: &'m Map<'_>, ids: &'m [PatchId]) -> Result<SlotSet, ChangeRefusal<'m>> {
    check_delete(map, ids, |_| OnHosts::Nowhere, |_| true)
}

fn check_delete_without_files<'m>(
    map: &'m Map<'_>,
    ids: &'m [PatchId],
) -> Result<SlotSet, ChangeRefusal<'m>> {
    check_delete(map, ids, |_| OnHosts::Nowhere, |_| false)
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
fn refused(check: Check, entries: &[Entry], named: &[&str], message: &str) {
    assert_eq!(outcome(check, entries, named).unwrap_err(), message);
}

#[test]
fn a_patch_that_is_not_in_the_repository_is_refused_and_nothing_is_done() {
    for check in [check_apply as Check, check_remove, check_delete_nowhere, commit_closure] {
        for unknown in ["X", "GONE"] {
            let message =
                format!("{unknown} is not in the repository: look for its name with query, or upload it.");
            refused(check, &[available("A"), deleted("GONE")], &[unknown, "A"], &message);
        }
    }
}

#[test]
fn apply_changes_available_patches_and_skips_applied_ones() {
    let entries = [available("A"), entry("B"), committed("C"), available("D")];
    assert_eq!(outcome(check_apply, &entries, &["A", "B", "C", "A"]), Ok(ids(&["A"])));
    assert_eq!(outcome(check_apply, &entries, &[]), Ok(ids(&["A", "D"])), "all");
    assert_eq!(outcome(check_apply, &[deleted("A")], &[]), Ok(ids(&[])));
}

#[test]
fn apply_needs_required_patches_first_or_in_the_same_command() {
    let entries = [available("A").requires(&["B"]), available("B").requires(&["C"]), available("C")];
    let message = "A requires B, which is not applied: apply that first, or both in one command.";
    refused(check_apply, &entries, &["A"], message);
    refused(check_apply, &entries, &["C", "A"], message);
    let message = "B requires C, which is not applied: apply that first, or both in one command.";
    refused(check_apply, &entries, &["A", "B"], message);
    for named in [["A", "B", "C"], ["C", "B", "A"]] {
        assert_eq!(outcome(check_apply, &entries, &named), Ok(ids(&["A", "B", "C"])));
    }
    assert_eq!(outcome(check_apply, &entries, &[]), Ok(ids(&["A", "B", "C"])));
    let entries = [available("A").requires(&["B"]), committed("B")];
    assert_eq!(outcome(check_apply, &entries, &["A"]), Ok(ids(&["A"])));
}

#[test]
fn apply_names_a_requirement_that_is_not_in_the_repository() {
    let message = "A requires B, which is not in the repository: upload and apply that first.";
    refused(check_apply, &[available("A").requires(&["B"])], &["A"], message);
    refused(check_apply, &[available("A").requires(&["B"]), deleted("B")], &[], message);
}

#[test]
fn apply_does_not_accept_a_blocked_requirement() {
    let entries = [available("A").requires(&["B"]), entry("B").requires(&["C"]), available("C")];
    let message = "B requires C, which is not applied: apply that first, or both in one command.";
    refused(check_apply, &entries, &["A"], message);
    assert_eq!(outcome(check_apply, &entries, &["A", "C"]), Ok(ids(&["A", "C"])));
}

#[test]
fn apply_keeps_to_the_bound_of_a_host() {
    let mut entries: Vec<_> = (1..EFFECTIVE).map(|number| entry(&format!("P-{number}"))).collect();
    entries.push(available("A"));
    assert_eq!(outcome(check_apply, &entries, &["A"]), Ok(ids(&["A"])), "the last that has room");
    entries.push(available("B"));
    let message = format!(
        "{} patches would be applied, and a host may have {EFFECTIVE}: remove some first.",
        EFFECTIVE + 1
    );
    refused(check_apply, &entries, &[], &message);
    entries.extend([entry("C"), entry("D")]);
    let none = outcome(check_apply, &entries, &["P-1"]);
    assert_eq!(
        none,
        Ok(ids(&[])),
        "a command that adds nothing is allowed although a merge exceeded the bound"
    );
}

#[test]
fn remove_changes_applied_patches_and_skips_available_ones() {
    assert_eq!(outcome(check_remove, &[available("A"), entry("B")], &["A", "B"]), Ok(ids(&["B"])));
}

#[test]
fn remove_refuses_a_patch_that_a_staying_one_requires() {
    let entries = [entry("A"), entry("B").requires(&["A"]), committed("C").requires(&["A"])];
    let message = "A is required by B, which is applied: remove that first, or both in one command.";
    refused(check_remove, &entries[..2], &["A"], message);
    for named in [["A", "B"], ["B", "A"]] {
        assert_eq!(outcome(check_remove, &entries[..2], &named), Ok(ids(&["A", "B"])));
    }
    let message = "A is required by C, which is applied: remove that first, or both in one command.";
    refused(check_remove, &entries, &["A", "B"], message);
    let entries = [entry("A"), available("B").requires(&["A"])];
    assert_eq!(outcome(check_remove, &entries, &["A"]), Ok(ids(&["A"])), "B is not applied");
}

#[test]
fn a_committed_and_an_unremovable_patch_stay() {
    let entries = [committed("A"), entry("B").unremovable(), entry("C")];
    refused(check_remove, &entries, &["C", "A"], "A is committed and cannot be removed.");
    let message = "B is unremovable: once applied it cannot be removed.";
    refused(check_remove, &entries, &["C", "B"], message);
    refused(check_delete_nowhere, &entries, &["A"], "A is committed and cannot be removed.");
    assert_eq!(outcome(check_remove, &[available("B").unremovable()], &["B"]), Ok(ids(&[])));
}

#[test]
fn remove_and_delete_need_names() {
    for check in [check_remove as Check, check_delete_nowhere] {
        refused(check, &[entry("A")], &[], "No patch is named: give one or more patch ids.");
    }
}

#[test]
fn delete_needs_an_available_patch_on_no_host() {
    let entries = [entry("A"), available("B"), available("C").unremovable()];
    let message = "A is applied: remove it, install the hosts that have it, then delete it.";
    refused(check_delete_nowhere, &entries, &["B", "A"], message);
    assert_eq!(outcome(check_delete_nowhere, &entries, &["B", "C"]), Ok(ids(&["B", "C"])));

    let mut slots = fixture::slots(entries.len());
    let map = fixture::map(&mut slots, &entries);
    let (named, host, b) = (ids(&["C", "B"]), Name::new("worker-1").unwrap(), slot(&map, "B"));
    let only_b = |on: &OnHosts| {
        let refusal = check_delete(
            &map,
            &named,
            |slot| if slot == b { on.clone() } else { OnHosts::Nowhere },
            |_| true,
        );
        format!("{}", refusal.unwrap_err())
    };
    assert_eq!(
        only_b(&OnHosts::On(host.clone())),
        "B is still on host worker-1: run host-install worker-1 first."
    );
    assert_eq!(
        only_b(&OnHosts::MayBeOn(host)),
        "B may be on host worker-1, which has not reported yet: \
         try again soon, or drop-host it if it is gone."
    );
}

#[test]
fn a_committed_patch_is_deleted_only_if_its_file_is_nowhere_and_it_is_on_no_host() {
    let entries = [committed("A"), entry("B")];
    refused(check_delete_nowhere, &entries, &["A"], "A is committed and cannot be removed.");
    assert_eq!(outcome(check_delete_without_files, &entries, &["A"]), Ok(ids(&["A"])));
    let applied = "B is applied: remove it, install the hosts that have it, then delete it.";
    refused(check_delete_without_files, &entries, &["B"], applied);
    let mut slots = fixture::slots(2);
    let map = fixture::map(&mut slots, &entries);
    let (named, host) = (ids(&["A"]), Name::new("worker-1").unwrap());
    let refusal = check_delete(&map, &named, |_| OnHosts::On(host.clone()), |_| false).unwrap_err();
    assert_eq!(refusal, ChangeRefusal::OnHost { id: &named[0], host });

    let stamp = Stamp { counter: 9, replica: 9 };
    let void = changed(&entries[0], EntryState::Deleted, stamp);
    assert_eq!(void.state, EntryState::Voided);
    assert!(void.merge_order(&entries[0]).is_gt(), "it prevails over the commit");
    let early = changed(&entries[0], EntryState::Deleted, Stamp { counter: 0, replica: 9 });
    assert!(early.merge_order(&entries[0]).is_lt(), "but not over a later one");
    assert!(early.merge_order(&available("A").stamp(99, 9)).is_gt(), "and over all that is not final");
    assert_eq!(changed(&entries[1], EntryState::Deleted, stamp).state, EntryState::Deleted);
}

#[test]
fn an_id_that_is_void_is_free_again_after_a_purge() {
    let void = entry("A").state(EntryState::Voided);
    let mut slots = fixture::slots(2);
    let map = fixture::map(&mut slots, core::slice::from_ref(&void));
    let offered = available("A");
    assert_eq!(check_upload(&map, &offered), Err(ChangeRefusal::Voided { id: &offered.id }));
    let mut map = map;
    assert!(!map.raise_floor(void.stamp.counter).is_empty());
    assert_eq!(check_upload(&map, &offered), Ok(Upload::New));
}

#[test]
fn upload_accepts_new_and_deleted_ids_and_recognizes_a_file_that_it_has() {
    let entries = [available("A"), entry("B"), deleted("C")];
    let mut slots = fixture::slots(4);
    let map = fixture::map(&mut slots, &entries);
    assert_eq!(check_upload(&map, &entry("NEW")), Ok(Upload::New));
    assert_eq!(check_upload(&map, &Entry { hash: Hash([7; 32]), ..available("C") }), Ok(Upload::New));
    assert_eq!(check_upload(&map, &available("A")), Ok(Upload::Already));
    assert_eq!(check_upload(&map, &available("B")), Ok(Upload::Already));
}

#[test]
fn upload_refuses_a_circle_of_requirements() {
    let mut slots = fixture::slots(8);
    let chain = [
        available("B").requires(&["C", "ABSENT"]),
        available("C").requires(&["D"]),
        available("D").requires(&["A", "B"]),
        deleted("GONE").requires(&["A"]),
    ];
    let map = fixture::map(&mut slots, &chain);
    let said = |offered: &Entry| check_upload(&map, offered).map_err(|refusal| format!("{refusal}"));
    let expected = "A requires C, which requires it, directly or through others: \
                    take one of them out of the other's `requires`.";
    assert_eq!(said(&available("A").requires(&["ABSENT", "C"])), Err(expected.into()));
    assert_eq!(said(&available("A").requires(&["ABSENT", "GONE"])), Ok(Upload::New), "that one is deleted");
    assert_eq!(said(&available("E").requires(&["B"])), Ok(Upload::New), "a circle of others is not its own");
    let again = Entry { hash: Hash([7; 32]), ..deleted("GONE").requires(&["D"]) };
    assert_eq!(said(&again), Ok(Upload::New));
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

/// A patch that is not released.
fn unreleased(text: &str, status: Status) -> Entry {
    let mut entry = entry(text);
    entry.meta.status = status;
    entry
}

#[test]
fn commit_includes_all_required_patches_and_skips_committed_ones() {
    let entries = [
        entry("A").requires(&["B", "D"]),
        entry("B").requires(&["C"]),
        entry("C"),
        committed("D").requires(&["E"]),
        entry("E"),
        entry("F"),
        available("G"),
    ];
    assert_eq!(outcome(commit_closure, &entries, &["A"]), Ok(ids(&["A", "B", "C", "E"])));
    assert_eq!(outcome(commit_closure, &entries, &["C", "D"]), Ok(ids(&["C", "E"])));
    assert_eq!(outcome(commit_closure, &entries, &[]), Ok(ids(&["A", "B", "C", "E", "F"])), "all");
    assert_eq!(outcome(commit_closure, &[committed("A")], &["A"]), Ok(ids(&[])));
    assert_eq!(outcome(commit_closure, &[], &[]), Ok(ids(&[])));
    let circle = [entry("A").requires(&["B"]), entry("B").requires(&["A", "B"])];
    assert_eq!(outcome(commit_closure, &circle, &["B"]), Ok(ids(&["A", "B"])));
}

#[test]
fn commit_needs_applied_released_and_unblocked_patches() {
    let entries = [available("A"), entry("B")];
    let message = "A is not applied: apply it, install the hosts that it concerns, then commit it.";
    refused(commit_closure, &entries, &["B", "A"], message);
    for (status, word) in [(Status::Development, "DEV"), (Status::Obsolete, "OBS")] {
        let entries = [entry("A").requires(&["B"]), unreleased("B", status)];
        let message = format!("B has status {word}: only a released patch (REL) can be committed.");
        refused(commit_closure, &entries, &["A"], &message);
        refused(commit_closure, &entries, &[], &message);
    }
    for missing in [available("C"), deleted("C"), entry("OTHER")] {
        let entries = [entry("A").requires(&["B"]), entry("B").requires(&["C"]), missing];
        let message = "B requires C, which is not applied: apply that first, then commit.";
        refused(commit_closure, &entries, &["A"], message);
    }
}

#[test]
fn commit_waits_for_every_host_that_any_of_the_closure_concerns() {
    let entries = [entry("A").requires(&["B"]), entry("B"), committed("C")];
    let mut slots = fixture::slots(entries.len());
    let map = fixture::map(&mut slots, &entries);
    let (named, host, b) = (ids(&["A", "C"]), Name::new("worker-1").unwrap(), slot(&map, "B"));
    let only_b = |on: OnAllHosts| {
        let of = |slot| if slot == b { on.clone() } else { OnAllHosts::Everywhere };
        check_commit(&map, &named, of).map_err(|refusal| format!("{refusal}"))
    };
    assert_eq!(only_b(OnAllHosts::Everywhere), Ok([slot(&map, "A"), b].into_iter().collect()));
    let message = "B is not on host worker-1 yet: run host-install worker-1 first.";
    assert_eq!(only_b(OnAllHosts::NotOn(host.clone())).unwrap_err(), message);
    let message = "B may not be on host worker-1, which has not reported: \
               try again soon, or drop-host it if it is gone.";
    assert_eq!(only_b(OnAllHosts::MayNotBeOn(host)).unwrap_err(), message);
    let asked_of_c =
        |slot| if slot == b || slot == self::slot(&map, "A") { OnAllHosts::Everywhere } else { panic!() };
    assert!(check_commit(&map, &named, asked_of_c).is_ok(), "committed patches are not checked");
}
