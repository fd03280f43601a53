//! Which patches require which. Each function returns the next result by id, so that a
//! long answer needs no buffer.
//!
//! The patches that are asked about are in the map and not deleted. Those that they
//! require may be missing: a patch can be uploaded before the ones that it requires.

use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::PatchId;

/// These patches and all patches in the repository that they require, directly or
/// indirectly.
#[must_use]
pub fn with_requirements(map: &Map<'_>, of: &SlotSet) -> SlotSet {
    closure(*of, |slot| {
        let requires = map.entry(slot).into_iter().flat_map(|entry| &entry.meta.requires);
        requires.filter_map(|id| Some(present(map, id)?.0))
    })
}

/// These slots and all that follow from them, directly or through others, if those that
/// `direct` returns follow from one.
pub fn closure<I: Iterator<Item = Slot>>(of: SlotSet, direct: impl Fn(Slot) -> I) -> SlotSet {
    let (mut found, mut next) = (of, of);
    while let Some(slot) = next.pop() {
        for slot in direct(slot) {
            if found.insert(slot) {
                next.insert(slot);
            }
        }
    }
    found
}

/// The first id after this one that a patch of the set requires directly, and its entry.
#[must_use]
pub fn next_required<'m>(
    map: &'m Map<'_>,
    of: &SlotSet,
    after: Option<&PatchId>,
) -> Option<(&'m PatchId, Option<&'m Entry>)> {
    let entries = of.iter().filter_map(|slot| map.entry(slot));
    let required = entries.flat_map(|entry| &entry.meta.requires);
    let next = required.filter(|id| after.is_none_or(|after| *id > after)).min()?;
    Some((next, present(map, next).map(|(_, entry)| entry)))
}

/// The first pair after this one of a patch of the set and a patch that requires it
/// directly, ordered by the first id, then by the second.
#[must_use]
pub fn next_requiring<'m>(
    map: &'m Map<'_>,
    of: &SlotSet,
    after: Option<(&PatchId, &PatchId)>,
) -> Option<(&'m PatchId, &'m PatchId)> {
    let asked = map.iter_by_id().filter(|(slot, _)| of.contains(*slot)).map(|(_, entry)| &entry.id);
    asked.filter(|id| after.is_none_or(|(last, _)| *id >= last)).find_map(|id| {
        let last = after.filter(|(last, _)| *last == id).map(|(_, by)| by);
        let by = map.iter_by_id().map(|(_, entry)| entry).find(|entry| {
            !entry.state.is_deleted()
                && entry.meta.requires.contains(id)
                && last.is_none_or(|last| entry.id > *last)
        })?;
        Some((id, &by.id))
    })
}

fn present<'m>(map: &'m Map<'_>, id: &PatchId) -> Option<(Slot, &'m Entry)> {
    map.get(id).filter(|(_, entry)| !entry.state.is_deleted())
}

#[cfg(test)]
mod tests {
    use crate::repo::entry::EntryState;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;
    use crate::repo::fixture::{entry, map, slot, slots};

    /// A diamond over a missing patch, with an unrelated patch and a tombstone.
    fn entries() -> Vec<Entry> {
        [
            entry("TOP").requires(&["LEFT", "RIGHT"]),
            entry("LEFT").requires(&["BASE"]),
            entry("RIGHT").requires(&["BASE"]),
            entry("BASE").requires(&["ABSENT"]),
            entry("ALONE"),
            entry("GONE").requires(&["BASE"]).state(EntryState::Deleted),
        ]
        .into()
    }

    fn set(map: &Map<'_>, names: &[&str]) -> SlotSet {
        names.iter().map(|name| slot(map, name)).collect()
    }

    fn required(map: &Map<'_>, of: &SlotSet) -> String {
        let (mut said, mut after) = (String::new(), None);
        while let Some((id, entry)) = next_required(map, of, after) {
            let absent = if entry.is_none() { "? " } else { " " };
            said = said + &id.to_string() + absent;
            after = Some(id);
        }
        said
    }

    fn requiring(map: &Map<'_>, of: &SlotSet) -> String {
        let (mut said, mut after) = (String::new(), None);
        while let Some((id, by)) = next_requiring(map, of, after) {
            said = said + &id.to_string() + "<" + &by.to_string() + " ";
            after = Some((id, by));
        }
        said
    }

    #[test]
    fn required_patches_come_once_sorted_by_id_present_or_not() {
        let mut slots = slots(8);
        let map = map(&mut slots, &entries());
        assert_eq!(required(&map, &set(&map, &["TOP"])), "LEFT RIGHT ");
        assert_eq!(required(&map, &set(&map, &["LEFT", "RIGHT", "ALONE"])), "BASE ");
        assert_eq!(required(&map, &set(&map, &["ALONE"])), "");
        let all = with_requirements(&map, &set(&map, &["TOP"]));
        assert_eq!(required(&map, &all), "ABSENT? BASE LEFT RIGHT ");
    }

    #[test]
    fn a_deleted_required_patch_counts_as_missing() {
        let mut slots = slots(2);
        let gone = entry("GONE").requires(&["DEEPER"]).state(EntryState::Deleted);
        let map = map(&mut slots, &[entry("P").requires(&["GONE"]), gone]);
        assert_eq!(required(&map, &with_requirements(&map, &set(&map, &["P"]))), "GONE? ");
    }

    #[test]
    fn patches_that_require_each_other_end_the_search() {
        let mut slots = slots(2);
        let map = map(&mut slots, &[entry("A").requires(&["B"]), entry("B").requires(&["A"])]);
        assert_eq!(required(&map, &with_requirements(&map, &set(&map, &["A"]))), "A B ");
        assert_eq!(requiring(&map, &set(&map, &["A", "B"])), "A<B B<A ");
    }

    #[test]
    fn requiring_patches_come_for_each_patch_asked_about_without_deleted_ones() {
        let mut slots = slots(8);
        let map = map(&mut slots, &entries());
        assert_eq!(requiring(&map, &set(&map, &["BASE"])), "BASE<LEFT BASE<RIGHT ");
        assert_eq!(requiring(&map, &set(&map, &["TOP", "ALONE"])), "");
        assert_eq!(requiring(&map, &set(&map, &["RIGHT", "BASE", "TOP"])), "BASE<LEFT BASE<RIGHT RIGHT<TOP ");
    }
}
