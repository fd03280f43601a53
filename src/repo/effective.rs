//! The patches that a host should have.
//!
//! A patch is *wanted* if it is Applied or Committed. A wanted patch is *unblocked* if
//! every patch that it requires is unblocked too; otherwise it is *blocked* until the
//! missing patch is wanted again. The effective set of a kind of host is the unblocked
//! patches that concern it.
//!
//! Whether a patch is blocked does not depend on the kind of host. A required patch
//! that is unblocked but does not concern a host counts as present there, because the
//! patches' metadata says that the host does not need it. So "blocked" has one meaning
//! in the whole cluster. Patches that require each other are blocked together.

use core::fmt;

use heapless::Vec;

use crate::limits::EFFECTIVE;
use crate::repo::digest::set_digest;
use crate::repo::entry::Entry;
use crate::repo::layers::layer_order;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::{Digest, NodeType, PatchId};

/// An effective set in layer order, bottom layer first.
pub type Layers<'m> = Vec<&'m Entry, EFFECTIVE, u16>;

/// The effective set of a kind of host is larger than a host may have. The rules do not
/// allow an operator to cause this; the merged changes of two controllers can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// The size of the set.
    pub patches: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} patches are applied for this kind of host, and a host may have {EFFECTIVE}: remove some.",
            self.patches
        )
    }
}

impl core::error::Error for TooMany {}

/// The wanted patches.
#[must_use]
pub fn wanted(map: &Map<'_>) -> SlotSet {
    map.iter().filter(|(_, entry)| entry.is_wanted()).map(|(slot, _)| slot).collect()
}

/// The unblocked patches: what remains of the wanted patches after repeatedly dropping
/// those that require a patch that is not among them.
#[must_use]
pub fn unblocked(map: &Map<'_>) -> SlotSet {
    let mut unblocked = wanted(map);
    let is_there = |id: &PatchId| map.get(id).is_some_and(|(slot, _)| unblocked.contains(slot));
    let mut blocked: SlotSet = entries(map, &unblocked)
        .filter(|(_, entry)| !entry.meta.requires.iter().all(is_there))
        .map(|(slot, _)| slot)
        .collect();
    while let Some(slot) = blocked.pop() {
        unblocked.remove(slot);
        let Some(dropped) = map.entry(slot) else { continue };
        for (slot, entry) in entries(map, &unblocked) {
            if entry.meta.requires.contains(&dropped.id) {
                blocked.insert(slot);
            }
        }
    }
    unblocked
}

/// The slots of the effective set for a kind of host.
#[must_use]
pub fn effective_set(map: &Map<'_>, nodetype: &NodeType) -> SlotSet {
    let unblocked = unblocked(map);
    entries(map, &unblocked)
        .filter(|(_, entry)| entry.meta.concerns(nodetype))
        .map(|(slot, _)| slot)
        .collect()
}

/// Fills `layers` with the effective set for a kind of host, in layer order.
///
/// # Errors
/// [`TooMany`]: `layers` has no room for all patches; it is then empty.
pub fn effective<'m>(map: &'m Map<'_>, nodetype: &NodeType, layers: &mut Layers<'m>) -> Result<(), TooMany> {
    layers.clear();
    let set = effective_set(map, nodetype);
    if set.len() > layers.capacity() {
        return Err(TooMany { patches: set.len() });
    }
    layers.extend(entries(map, &set).map(|(_, entry)| entry));
    layer_order(layers, |entry: &Entry| (&entry.id, &entry.meta.requires));
    Ok(())
}

/// The digest of the effective set for a kind of host: a current host reports it as
/// installed, and an install request names it.
#[must_use]
pub fn effective_digest(map: &Map<'_>, nodetype: &NodeType) -> Digest {
    let set = effective_set(map, nodetype);
    let sorted = map.iter_by_id().filter(|(slot, _)| set.contains(*slot));
    set_digest(sorted.map(|(_, entry)| (&entry.id, &entry.hash)))
}

/// What blocks a wanted patch: the id that it requires, directly or indirectly, and that
/// is not wanted. Of several the nearest, then the lowest. `None` if the patch is
/// unblocked or not wanted.
#[must_use]
pub fn blocked_by<'m>(map: &'m Map<'_>, slot: Slot) -> Option<&'m PatchId> {
    if !map.entry(slot)?.is_wanted() {
        return None;
    }
    missing(map, slot, |_, entry| entry.is_wanted()).map(|(_, id)| id)
}

/// The nearest patch that blocks the one in `slot`, if the patches for which `is_wanted`
/// is true are wanted; with the patch that requires it, which is the one in `slot` or one
/// that that requires.
pub(super) fn missing<'m>(
    map: &'m Map<'_>,
    slot: Slot,
    is_wanted: impl Fn(Slot, &Entry) -> bool,
) -> Option<(&'m Entry, &'m PatchId)> {
    let mut seen = SlotSet::new();
    let mut level: SlotSet = [slot].into_iter().collect();
    while !level.is_empty() {
        let mut nearest: Option<(&Entry, &PatchId)> = None;
        let mut next = SlotSet::new();
        for (slot, entry) in entries(map, &level) {
            seen.insert(slot);
            for id in &entry.meta.requires {
                match map.get(id) {
                    Some((required, entry)) if is_wanted(required, entry) => {
                        next.insert(required);
                    }
                    // Of several, by id and never by slot: slots differ among
                    // controllers.
                    _ => {
                        nearest =
                            nearest.into_iter().chain([(entry, id)]).min_by_key(|(by, id)| (*id, &by.id))
                    }
                }
            }
        }
        if nearest.is_some() {
            return nearest;
        }
        level = next.iter().filter(|slot| !seen.contains(*slot)).collect();
    }
    None
}

/// The entries in these slots.
pub(super) fn entries<'m>(map: &'m Map<'_>, slots: &SlotSet) -> impl Iterator<Item = (Slot, &'m Entry)> {
    slots.iter().filter_map(|slot| Some((slot, map.entry(slot)?)))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::repo::entry::EntryState;
    use crate::repo::fixture::{self, SplitMix, entry, id, nodetype, slot};

    /// The effective set of these entries for a worker, in layer order.
    fn for_worker(entries: &[Entry]) -> Vec<PatchId> {
        let mut slots = fixture::slots(entries.len());
        let map = fixture::map(&mut slots, entries);
        let mut layers = Layers::new();
        effective(&map, &nodetype("worker"), &mut layers).unwrap();
        layers.iter().map(|entry| entry.id.clone()).collect()
    }

    /// What blocks the patch `A` among these entries.
    fn blocks_a(entries: &[Entry]) -> Option<PatchId> {
        let mut slots = fixture::slots(entries.len());
        let map = fixture::map(&mut slots, entries);
        blocked_by(&map, slot(&map, "A")).cloned()
    }

    fn available(text: &str) -> Entry {
        entry(text).state(EntryState::Available)
    }

    #[test]
    fn applied_and_committed_patches_are_wanted() {
        let states = [
            available("A"),
            entry("B").state(EntryState::Deleted),
            entry("C").state(EntryState::Committed),
            entry("D"),
        ];
        assert_eq!(for_worker(&states), fixture::ids(&["C", "D"]));
        assert!(for_worker(&[]).is_empty());
    }

    #[test]
    fn a_missing_requirement_drops_all_that_depend_on_it_and_is_named() {
        let chain = [
            entry("A").requires(&["B"]),
            entry("B").requires(&["C"]),
            available("C").requires(&["E"]),
            entry("D"),
            available("E"),
        ];
        assert_eq!(for_worker(&chain), [id("D")]);
        assert_eq!(blocks_a(&chain), Some(id("C")), "not B, which is wanted; not E, which only C requires");
        let chain = [entry("A").requires(&["B"]), entry("B").requires(&["C"]), entry("C")];
        assert_eq!(for_worker(&chain), fixture::ids(&["C", "B", "A"]));
        assert_eq!(blocks_a(&chain), None);
    }

    #[test]
    fn an_unknown_requirement_blocks_as_well() {
        assert!(for_worker(&[entry("A").requires(&["X"])]).is_empty());
        assert_eq!(blocks_a(&[entry("A").requires(&["X"])]), Some(id("X")));
        let gone = entry("X").state(EntryState::Deleted);
        assert_eq!(blocks_a(&[gone, entry("A").requires(&["X"])]), Some(id("X")));
    }

    #[test]
    fn the_nearest_missing_requirement_is_named_and_the_lowest_of_several() {
        let far = [entry("A").requires(&["B", "Z"]), entry("B").requires(&["C"])];
        assert_eq!(blocks_a(&far), Some(id("Z")));
        assert_eq!(blocks_a(&[entry("A").requires(&["Y", "X"])]), Some(id("X")));
        let two =
            [entry("A").requires(&["B", "C"]), entry("C").requires(&["X"]), entry("B").requires(&["Y"])];
        assert_eq!(blocks_a(&two), Some(id("X")), "whichever slot comes first");
    }

    #[test]
    fn a_patch_that_is_not_wanted_is_not_blocked() {
        assert_eq!(blocks_a(&[available("A").requires(&["X"])]), None);
    }

    #[test]
    fn patches_that_require_each_other_are_blocked_together() {
        let circle = [entry("A").requires(&["B"]), entry("B").requires(&["A"])];
        assert_eq!(for_worker(&circle).len(), 2);
        assert_eq!(blocks_a(&circle), None);
        let broken = [entry("A").requires(&["B", "C"]), entry("B").requires(&["A"])];
        assert!(for_worker(&broken).is_empty());
        let broken = [entry("A").requires(&["B"]), entry("B").requires(&["A", "C"])];
        assert_eq!(blocks_a(&broken), Some(id("C")));
    }

    #[test]
    fn a_host_gets_what_concerns_its_kind() {
        let kinds = [
            entry("A").concerning(&["controller", "storage"]),
            entry("B").concerning(&["storage", "worker"]),
            entry("C"),
        ];
        assert_eq!(for_worker(&kinds), fixture::ids(&["B", "C"]));
    }

    #[test]
    fn a_requirement_that_does_not_concern_the_host_counts_as_present_while_unblocked() {
        let elsewhere = entry("B").concerning(&["controller"]);
        assert_eq!(for_worker(&[entry("A").requires(&["B"]), elsewhere.clone()]), [id("A")]);
        let blocked = elsewhere.requires(&["X"]);
        assert!(for_worker(&[entry("A").requires(&["B"]), blocked]).is_empty());
    }

    #[test]
    fn a_set_larger_than_a_host_may_have_is_an_error() {
        let names: Vec<_> = (0..=EFFECTIVE).map(|number| std::format!("P-{number}")).collect();
        let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
        assert_eq!(for_worker(&entries[1..]).len(), EFFECTIVE);
        let mut slots = fixture::slots(entries.len());
        let map = fixture::map(&mut slots, &entries);
        let mut layers = Layers::new();
        let refused = effective(&map, &nodetype("worker"), &mut layers);
        assert_eq!(refused, Err(TooMany { patches: EFFECTIVE + 1 }));
        assert!(layers.is_empty());
    }

    #[test]
    fn the_digest_is_that_of_the_set_sorted_by_id() {
        let entries = [entry("B"), entry("A").requires(&["B"]), available("C")];
        let mut slots = fixture::slots(entries.len());
        let map = fixture::map(&mut slots, &entries);
        let expected = set_digest([&entries[1], &entries[0]].map(|entry| (&entry.id, &entry.hash)));
        assert_eq!(effective_digest(&map, &nodetype("worker")), expected);
    }

    #[test]
    fn a_patch_is_unblocked_if_nothing_blocks_it() {
        for seed in 0..100 {
            let mut random = SplitMix::new(seed);
            let names = ["A", "B", "C", "D", "E", "F", "G", "H", "X"];
            let mut entries: Vec<_> = names[..8].iter().map(|name| entry(name)).collect();
            for made in &mut entries {
                made.state = [EntryState::Applied, EntryState::Available][random.below(8) / 7];
                let requires: Vec<_> = (0..random.below(3)).map(|_| names[random.below(9)]).collect();
                *made = made.clone().requires(&requires);
            }
            random.shuffle(&mut entries);
            let mut slots = fixture::slots(8);
            let map = fixture::map(&mut slots, &entries);
            let expected = wanted(&map).iter().filter(|slot| blocked_by(&map, *slot).is_none()).collect();
            assert_eq!(unblocked(&map), expected, "seed {seed}");
        }
    }
}
