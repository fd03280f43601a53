//! The repository map: one entry per patch id, in memory that the caller lends.
//!
//! An entry keeps its slot for the life of the process, since hosts keep
//! bitmaps over slots; a sorted list of slots stands beside for all that goes
//! by id. Entries are never taken out: a deleted patch leaves its tombstone.

use core::cell::Cell;
use core::cmp::Ordering;
use core::fmt;

use heapless::Vec;

use crate::limits::ENTRIES;
use crate::list::List;
use crate::repo::digest::map_digest;
use crate::repo::entry::Entry;
use crate::repo::slots::Slot;
use crate::types::{Digest, PatchId};

/// What [`Map::merge`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// What the map holds of this id is the greater, or the same.
    Unchanged,
    /// The id is new here.
    Inserted(Slot),
    /// The entry took the place of a lesser one.
    Replaced(Slot),
}

/// The map has no slot left for another id. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Entries that it holds, tombstones included.
    pub entries: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The repository is full: {} entries, those of deleted patches included. Run purge to drop them.",
            self.entries
        )
    }
}

impl core::error::Error for Full {}

/// One entry per patch id. Merging takes, per id, the greater entry under
/// [`Entry::merge_order`], so it is commutative, associative and idempotent.
pub struct Map<'a> {
    slots: &'a mut dyn List<Entry>,
    /// The slots in use, sorted by their entries' ids.
    by_id: Vec<Slot, ENTRIES, u16>,
    highest_counter: u64,
    /// The digest, until the next change.
    digest: Cell<Option<Digest>>,
}

impl<'a> Map<'a> {
    /// An empty map that may hold as many entries as `slots` has room for, at
    /// most [`ENTRIES`]. What the slots hold is dropped.
    #[must_use]
    pub fn new(slots: &'a mut dyn List<Entry>) -> Self {
        slots.clear();
        Self { slots, by_id: Vec::new(), highest_counter: 0, digest: Cell::new(None) }
    }

    /// Takes `entry` where it is greater than what the map holds of its id.
    ///
    /// # Errors
    /// [`Full`]: the id is new and there is no slot left; nothing has changed.
    pub fn merge(&mut self, entry: &Entry) -> Result<Merged, Full> {
        let merged = match self.find(&entry.id) {
            Ok(slot) => self.replace(slot, entry),
            Err(at) => self.insert(at, entry)?,
        };
        self.highest_counter = self.highest_counter.max(entry.stamp.counter);
        if merged != Merged::Unchanged {
            self.digest.set(None);
        }
        Ok(merged)
    }

    fn replace(&mut self, slot: Slot, entry: &Entry) -> Merged {
        match self.slots.items_mut().get_mut(slot.index()) {
            Some(held) if entry.merge_order(held) == Ordering::Greater => {
                held.clone_from(entry);
                Merged::Replaced(slot)
            }
            _ => Merged::Unchanged,
        }
    }

    fn insert(&mut self, at: usize, entry: &Entry) -> Result<Merged, Full> {
        // Slots are filled in order and never emptied: the next is the count.
        let full = Full { entries: self.by_id.len() };
        let slot = Slot::new(self.by_id.len()).ok_or(full)?;
        if self.is_full() {
            return Err(full);
        }
        self.by_id.insert(at, slot).map_err(|_| full)?;
        self.slots.push(entry.clone());
        Ok(Merged::Inserted(slot))
    }

    /// The slot of an id, or where it would go among the sorted ones.
    fn find(&self, id: &PatchId) -> Result<Slot, usize> {
        let order = |slot: &Slot| self.entry(*slot).map_or(Ordering::Less, |entry| entry.id.cmp(id));
        let at = self.by_id.binary_search_by(order)?;
        self.by_id.get(at).copied().ok_or(at)
    }

    /// The entry of an id, and its slot.
    #[must_use]
    pub fn get(&self, id: &PatchId) -> Option<(Slot, &Entry)> {
        let slot = self.find(id).ok()?;
        Some((slot, self.entry(slot)?))
    }

    /// The entry in a slot; `None` where the slot is not in use.
    #[must_use]
    pub fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.slots.items().get(slot.index())
    }

    /// All entries in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let used = self.slots.items().iter().enumerate();
        used.filter_map(|(index, entry)| Some((Slot::new(index)?, entry)))
    }

    /// All entries sorted by id.
    pub fn iter_by_id(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.by_id.iter().filter_map(|slot| Some((*slot, self.entry(*slot)?)))
    }

    /// The digest over all entries, tombstones included: equal exactly where
    /// the entries are. Computed once after a change, then remembered.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.get().unwrap_or_else(|| {
            let digest = map_digest(self.iter_by_id().map(|(_, entry)| entry));
            self.digest.set(Some(digest));
            digest
        })
    }

    /// The highest counter of all entries merged, of those too that were not
    /// taken or have been replaced since: a commit outranks higher counters.
    #[must_use]
    pub fn highest_counter(&self) -> u64 {
        self.highest_counter
    }

    /// How many entries it holds, tombstones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether an id that it does not hold would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.by_id.len() >= self.slots.room().min(ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::repo::entry::{EntryState, Stamp};
    use crate::repo::fixture::{self, Random, entry, id};

    /// Entries of few ids, states and stamps, so that many stand against each
    /// other, some with equal stamps.
    fn random_entries(random: &mut Random, count: usize) -> Vec<Entry> {
        use EntryState::{Applied, Available, Committed, Deleted};
        let mut one = || {
            let mut made = entry(["A", "B", "C", "D", "E"][random.below(5)]);
            made.state = [Deleted, Available, Applied, Committed][random.below(4)];
            made.stamp = Stamp { counter: random.below(4) as u64, replica: random.below(3) as u64 };
            made.size_bytes = random.below(2) as u64;
            made.meta.unremovable = random.below(2) == 1;
            made
        };
        (0..count).map(|_| one()).collect()
    }

    /// What a map holds, by id, and its digest.
    fn merged(entries: &[&Entry]) -> (Vec<Entry>, Digest) {
        let mut slots = fixture::slots(8);
        let mut map = Map::new(&mut slots);
        for entry in entries {
            map.merge(entry).unwrap();
        }
        (map.iter_by_id().map(|(_, entry)| entry.clone()).collect(), map.digest())
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let entries = random_entries(&mut random, 24);
            let mut order: Vec<&Entry> = entries.iter().collect();
            let whole = merged(&order);
            // Commutative: in any order. Idempotent: any of them again.
            random.shuffle(&mut order);
            order.extend_from_within(..random.below(24));
            assert_eq!(merged(&order), whole, "seed {seed}");
            // Associative: two parts merged first, then one into the other.
            let (left, right) = order.split_at(random.below(order.len()));
            let (left, right) = (merged(left).0, merged(right).0);
            assert_eq!(merged(&left.iter().chain(&right).collect::<Vec<_>>()), whole, "seed {seed}");
        }
    }

    #[test]
    fn a_commit_wins_over_any_stamp_and_a_later_stamp_over_any_state() {
        let committed = entry("A").state(EntryState::Committed).stamp(1, 1);
        let deleted = entry("A").state(EntryState::Deleted).stamp(9, 1);
        let applied = entry("A").state(EntryState::Applied).stamp(8, 2);
        assert_eq!(merged(&[&committed, &deleted, &applied]).0, [committed]);
        assert_eq!(merged(&[&applied, &deleted]).0, [deleted]);
        let other = entry("A").state(EntryState::Available).stamp(8, 1);
        assert_eq!(merged(&[&applied, &other]).0, [applied], "equal counters: the replica decides");
    }

    #[test]
    fn merge_says_what_it_did() {
        let mut slots = fixture::slots(2);
        let mut map = Map::new(&mut slots);
        let slot = |index| Slot::new(index).unwrap();
        assert_eq!(map.merge(&entry("B").stamp(2, 0)), Ok(Merged::Inserted(slot(0))));
        assert_eq!(map.merge(&entry("A").stamp(2, 0)), Ok(Merged::Inserted(slot(1))));
        assert_eq!(map.merge(&entry("B").stamp(3, 0)), Ok(Merged::Replaced(slot(0))));
        assert_eq!(map.merge(&entry("B").stamp(3, 0)), Ok(Merged::Unchanged));
        assert_eq!(map.merge(&entry("B").stamp(1, 0)), Ok(Merged::Unchanged));
        assert_eq!(map.entry(slot(0)).unwrap().stamp.counter, 3);
        assert_eq!(map.get(&id("C")), None);
        assert_eq!(map.get(&id("A")).unwrap().0, slot(1));
    }

    #[test]
    fn a_full_map_takes_changes_but_no_new_id() {
        let mut slots = fixture::slots(1);
        let mut map = fixture::map(&mut slots, &[entry("A").stamp(1, 0)]);
        let before = map.digest();
        assert!(map.is_full());
        assert_eq!(map.merge(&entry("B").stamp(7, 0)), Err(Full { entries: 1 }));
        assert_eq!((map.len(), map.digest(), map.highest_counter()), (1, before, 1));
        assert!(map.merge(&entry("A").stamp(2, 0)).is_ok());
        assert_eq!(map.highest_counter(), 2);
    }

    #[test]
    fn a_map_has_room_for_the_bound_and_finds_every_entry() {
        let mut slots = fixture::slots(ENTRIES + 1);
        let mut names: Vec<_> = (0..=ENTRIES).map(|number| std::format!("P-{number}")).collect();
        Random::new(1).shuffle(&mut names);
        let mut map = Map::new(&mut slots);
        for name in &names[..ENTRIES] {
            assert!(map.merge(&entry(name)).is_ok());
        }
        assert_eq!(map.merge(&entry(&names[ENTRIES])), Err(Full { entries: ENTRIES }));
        for (slot, held) in map.iter() {
            assert_eq!(held.id.as_str(), names[slot.index()], "slots are given in order and keep");
            assert_eq!(map.get(&held.id).unwrap().0, slot);
        }
        assert_eq!(map.iter().count(), ENTRIES);
        assert!(map.iter_by_id().is_sorted_by(|(_, a), (_, b)| a.id < b.id));
        assert_eq!(map.iter_by_id().count(), ENTRIES);
    }

    #[test]
    fn the_digest_follows_every_change_and_tombstones_count() {
        let mut slots = fixture::slots(4);
        let mut map = Map::new(&mut slots);
        let mut digests = std::vec![map.digest()];
        let deleted = entry("B").state(EntryState::Deleted);
        for change in [entry("A"), entry("A").stamp(2, 2), deleted.clone(), deleted.stamp(3, 1)] {
            map.merge(&change).unwrap();
            assert!(!digests.contains(&map.digest()), "{change:?}");
            digests.push(map.digest());
        }
        map.merge(&entry("A")).unwrap();
        assert_eq!(digests.last(), Some(&map.digest()), "nothing has changed");
    }

    #[test]
    fn the_highest_counter_never_falls_when_a_commit_takes_an_entry_back() {
        let mut slots = fixture::slots(1);
        let mut map = fixture::map(&mut slots, &[entry("A").stamp(9, 0)]);
        let committed = entry("A").state(EntryState::Committed).stamp(4, 0);
        assert!(matches!(map.merge(&committed), Ok(Merged::Replaced(_))));
        assert_eq!(map.highest_counter(), 9);
    }
}
