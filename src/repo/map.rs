//! The repository map: one entry per patch id, in memory that the caller lends.
//!
//! An entry keeps its slot for as long as it is in the map, since hosts keep
//! bitmaps over slots; a sorted list of slots stands beside for all that goes
//! by id. A deleted patch leaves its tombstone. Entries go by a purge alone: all
//! tombstones up to the map's [floor](Map::floor), and what another controller's
//! purge has taken from us as well. Whoever purges must forget the freed slots
//! wherever it kept them, before the next entry gets one.

use core::cell::Cell;
use core::cmp::Ordering;
use core::fmt;

use heapless::Vec;

use crate::limits::ENTRIES;
use crate::list::List;
use crate::repo::digest::map_digest;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::slots::{Slot, SlotSet};
use crate::types::{Digest, PatchId};

/// What [`Map::merge`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// What the map holds of this id is the greater, or the same; or it holds
    /// nothing, and the entry is a tombstone that has been purged.
    Unchanged,
    /// The id is new here.
    Inserted(Slot),
    /// The entry took the place of a lesser one.
    Replaced(Slot),
    /// The entry is a tombstone that has been purged: the lesser one is gone, and
    /// its slot will be used again.
    Purged(Slot),
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
    /// The slots whose entries are gone, to be used again.
    free: SlotSet,
    highest_counter: u64,
    floor: u64,
    /// The digest, until the next change.
    digest: Cell<Option<Digest>>,
}

impl<'a> Map<'a> {
    /// An empty map that may hold as many entries as `slots` has room for, at
    /// most [`ENTRIES`]. What the slots hold is dropped.
    #[must_use]
    pub fn new(slots: &'a mut dyn List<Entry>) -> Self {
        slots.clear();
        let (by_id, free, digest) = (Vec::new(), SlotSet::new(), Cell::new(None));
        Self { slots, by_id, free, highest_counter: 0, floor: 0, digest }
    }

    /// Takes `entry` where it is greater than what the map holds of its id. A
    /// tombstone up to the [floor](Self::floor) leaves nothing there. Whether a
    /// live entry was purged is a question to ask before, where it comes from
    /// another controller: see [`is_purged`](Self::is_purged).
    ///
    /// # Errors
    /// [`Full`]: the id is new and there is no slot left; nothing has changed.
    pub fn merge(&mut self, entry: &Entry) -> Result<Merged, Full> {
        let merged = match self.find(&entry.id) {
            Ok(slot) => self.replace(slot, entry),
            Err(_) if is_tombstone_up_to(entry, self.floor) => Merged::Unchanged,
            Err(at) => self.insert(at, entry)?,
        };
        self.highest_counter = self.highest_counter.max(entry.stamp.counter);
        if merged != Merged::Unchanged {
            self.digest.set(None);
        }
        Ok(merged)
    }

    fn replace(&mut self, slot: Slot, entry: &Entry) -> Merged {
        let floor = self.floor;
        match self.slots.items_mut().get_mut(slot.index()) {
            Some(held) if entry.merge_order(held) != Ordering::Greater => Merged::Unchanged,
            Some(_) if is_tombstone_up_to(entry, floor) => {
                self.free(slot);
                Merged::Purged(slot)
            }
            Some(held) => {
                held.clone_from(entry);
                Merged::Replaced(slot)
            }
            None => Merged::Unchanged,
        }
    }

    fn free(&mut self, slot: Slot) {
        self.by_id.retain(|other| *other != slot);
        self.free.insert(slot);
        self.digest.set(None);
    }

    fn insert(&mut self, at: usize, entry: &Entry) -> Result<Merged, Full> {
        let full = Full { entries: self.by_id.len() };
        if self.is_full() {
            return Err(full);
        }
        // The lowest that is free; all below the count of slots are in use or free.
        let free = self.free.iter().next();
        let slot = free.or_else(|| Slot::new(self.slots.items().len())).ok_or(full)?;
        self.by_id.insert(at, slot).map_err(|_| full)?;
        self.free.remove(slot);
        match self.slots.items_mut().get_mut(slot.index()) {
            Some(freed) => freed.clone_from(entry),
            None => self.slots.push(entry.clone()),
        }
        Ok(Merged::Inserted(slot))
    }

    /// The purge floor: a counter, 0 in a new map, that only rises. A map with a
    /// floor has seen every change with a counter up to it that was made by a
    /// controller known when it was purged, and holds no tombstone up to it. So a
    /// patch that such a change concerned and that the map lacks has been deleted
    /// and purged, unless it is committed.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Raises the floor and drops the tombstones up to it; a floor that is lower
    /// than the map's changes nothing. Gives the slots that are free now: they
    /// will be used again.
    pub fn raise_floor(&mut self, floor: u64) -> SlotSet {
        self.floor = self.floor.max(floor);
        self.highest_counter = self.highest_counter.max(floor);
        let is_over = |entry: &Entry| is_tombstone_up_to(entry, self.floor);
        let dropped: SlotSet =
            self.iter().filter(|(_, entry)| is_over(entry)).map(|(slot, _)| slot).collect();
        for slot in &dropped {
            self.free(slot);
        }
        dropped
    }

    /// Whether the floor says that this entry has been deleted and purged: the
    /// map lacks its id, and has seen its change.
    #[must_use]
    pub fn is_purged(&self, entry: &Entry) -> bool {
        self.is_below_floor(entry) && self.find(&entry.id).is_err()
    }

    fn is_below_floor(&self, entry: &Entry) -> bool {
        entry.state != EntryState::Committed && entry.stamp.counter <= self.floor
    }

    /// Takes an entry out that was purged elsewhere, and gives its slot, which
    /// will be used again. One that is committed or stands above the floor stays:
    /// it is no longer what was purged.
    pub fn remove(&mut self, id: &PatchId) -> Option<Slot> {
        let (slot, entry) = self.get(id)?;
        if !self.is_below_floor(entry) {
            return None;
        }
        self.free(slot);
        Some(slot)
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
        self.slots.items().get(slot.index()).filter(|_| !self.free.contains(slot))
    }

    /// All entries in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let used = self.slots.items().iter().enumerate();
        let used = used.filter_map(|(index, entry)| Some((Slot::new(index)?, entry)));
        used.filter(|(slot, _)| !self.free.contains(*slot))
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

    /// The highest counter of the floor and of all entries merged, of those too
    /// that were not taken or have been replaced since: a commit outranks higher
    /// counters.
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

fn is_tombstone_up_to(entry: &Entry, floor: u64) -> bool {
    entry.state == EntryState::Deleted && entry.stamp.counter <= floor
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

    /// A map of A (live), B (tombstone) and C (live), of counters 3, 5 and 7.
    fn three(slots: &mut Vec<Entry>) -> Map<'_> {
        let b = entry("B").state(EntryState::Deleted).stamp(5, 1);
        fixture::map(slots, &[entry("A").stamp(3, 1), b, entry("C").stamp(7, 1)])
    }

    #[test]
    fn the_floor_only_rises_and_drops_the_tombstones_up_to_it() {
        let mut slots = fixture::slots(3);
        let mut map = three(&mut slots);
        let before = map.digest();
        assert!(map.raise_floor(4).is_empty());
        assert_eq!((map.floor(), map.digest(), map.len()), (4, before, 3));
        let freed = map.raise_floor(5);
        assert!(freed.iter().map(Slot::index).eq([1]));
        assert_eq!((map.floor(), map.len(), map.get(&id("B"))), (5, 2, None));
        assert!(map.iter().map(|(slot, entry)| (slot.index(), entry.id.as_str())).eq([(0, "A"), (2, "C")]));
        assert!(map.iter_by_id().map(|(_, entry)| entry.id.as_str()).eq(["A", "C"]));
        assert_eq!(map.entry(Slot::new(1).unwrap()), None);
        assert!(map.raise_floor(2).is_empty());
        assert_eq!(map.floor(), 5);
        map.raise_floor(20);
        assert_eq!(map.highest_counter(), 20, "a stamp given out after a purge is above its floor");
    }

    #[test]
    fn a_digest_is_that_of_the_entries_whatever_floor_and_holes_there_are() {
        let mut slots = fixture::slots(4);
        let mut map = three(&mut slots);
        map.raise_floor(5);
        let entries = [entry("A").stamp(3, 1), entry("C").stamp(7, 1)];
        assert_eq!(map.digest(), merged(&entries.iter().collect::<Vec<_>>()).1);
    }

    #[test]
    fn a_freed_slot_is_used_again_and_a_full_map_has_room() {
        let mut slots = fixture::slots(3);
        let mut map = three(&mut slots);
        assert!(map.is_full() && map.merge(&entry("D")).is_err());
        map.raise_floor(5);
        assert!(!map.is_full());
        assert_eq!(map.merge(&entry("D").stamp(8, 1)), Ok(Merged::Inserted(Slot::new(1).unwrap())));
        assert!(map.is_full() && map.merge(&entry("E")).is_err());
        assert_eq!(map.remove(&id("A")), Slot::new(0));
        assert_eq!(map.merge(&entry("0").stamp(9, 1)), Ok(Merged::Inserted(Slot::new(0).unwrap())));
        assert!(map.iter_by_id().map(|(_, entry)| entry.id.as_str()).eq(["0", "C", "D"]));
    }

    #[test]
    fn a_purged_tombstone_stays_away_and_a_live_entry_or_a_later_one_does_not() {
        let mut slots = fixture::slots(4);
        let mut map = three(&mut slots);
        map.raise_floor(5);
        let b = |state, counter| entry("B").state(state).stamp(counter, 1);
        assert!(map.is_purged(&b(EntryState::Deleted, 5)) && map.is_purged(&b(EntryState::Applied, 4)));
        assert!(!map.is_purged(&b(EntryState::Applied, 6)) && !map.is_purged(&b(EntryState::Committed, 1)));
        assert!(!map.is_purged(&entry("A").stamp(2, 1)), "what the map holds is merged as ever");
        assert_eq!(map.merge(&b(EntryState::Deleted, 5)), Ok(Merged::Unchanged));
        assert!(matches!(map.merge(&b(EntryState::Deleted, 6)), Ok(Merged::Inserted(_))));
        // As a store's own entries come back at a start, after its floor.
        assert!(matches!(map.merge(&entry("D").stamp(1, 1)), Ok(Merged::Inserted(_))));
        let late = entry("A").state(EntryState::Deleted).stamp(4, 1);
        assert_eq!(map.merge(&late), Ok(Merged::Purged(Slot::new(0).unwrap())));
        assert_eq!(map.get(&id("A")), None, "no tombstone up to the floor is ever in the map");
    }

    #[test]
    fn only_what_a_purge_can_have_meant_is_removed() {
        let mut slots = fixture::slots(4);
        let mut map = three(&mut slots);
        map.merge(&entry("D").state(EntryState::Committed).stamp(1, 1)).unwrap();
        map.raise_floor(3);
        assert_eq!(map.remove(&id("C")), None, "changed since");
        assert_eq!(map.remove(&id("D")), None, "committed");
        assert_eq!(map.remove(&id("X")), None, "not here");
        let before = map.digest();
        assert_eq!(map.remove(&id("A")), Slot::new(0));
        assert_ne!(map.digest(), before);
        assert_eq!((map.len(), map.remove(&id("A"))), (3, None));
    }
}
