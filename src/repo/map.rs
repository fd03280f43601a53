//! The repository map: one entry per patch id, in memory that the caller lends.
//!
//! An entry keeps its slot as long as it is in the map, because the bitmaps of hosts are
//! over slots. A list of slots sorted by id serves lookups. A deleted patch leaves a
//! tombstone. Only a purge removes entries: all tombstones up to the map's
//! [floor](Map::floor), and entries that another controller's purge removed. A caller
//! that purges must drop its references to the freed slots before the next entry is
//! inserted.

use core::cell::Cell;
use core::cmp::Ordering;
use core::fmt;

use heapless::Vec;

use crate::limits::ENTRIES;
use crate::list::List;
use crate::repo::digest::map_digest;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::rollout::Rollout;
use crate::repo::slots::{Slot, SlotSet};
use crate::types::{Digest, PatchId};

/// The result of [`Map::merge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The map's entry of this id is greater or equal. Or the map has none, and the entry
    /// is a tombstone that was purged.
    Unchanged,
    /// The id is new in this map.
    Inserted(Slot),
    /// The entry replaced a lesser one.
    Replaced(Slot),
    /// The entry is a tombstone that was purged: the lesser entry is removed, and its slot
    /// is free.
    Purged(Slot),
}

/// The map has no slot for another id. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Entries in the map, tombstones included.
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

/// One entry per patch id. A merge keeps for each id the greater entry under
/// [`Entry::merge_order`], so it is commutative, associative and idempotent.
pub struct Map<'a> {
    slots: &'a mut dyn List<Entry>,
    /// The slots in use, sorted by their entries' ids.
    by_id: Vec<Slot, ENTRIES, u16>,
    /// Slots below `slots.len()` that are not in use.
    free: SlotSet,
    rollout: Option<Rollout>,
    highest_counter: u64,
    floor: u64,
    /// The digest, cached until the next change.
    digest: Cell<Option<Digest>>,
}

impl<'a> Map<'a> {
    /// An empty map with room for as many entries as `slots`, at most [`ENTRIES`]. The
    /// content of `slots` is dropped.
    #[must_use]
    pub fn new(slots: &'a mut dyn List<Entry>) -> Self {
        slots.clear();
        let (by_id, free, digest) = (Vec::new(), SlotSet::new(), Cell::new(None));
        Self { slots, by_id, free, rollout: None, highest_counter: 0, floor: 0, digest }
    }

    /// Merges `entry`: it replaces the map's entry of its id if it is greater. A tombstone
    /// up to the [floor](Self::floor) removes the entry. A caller that merges a live entry
    /// of another controller checks [`is_purged`](Self::is_purged) first.
    ///
    /// # Errors
    /// [`Full`]: the id is new and no slot is free; nothing has changed.
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

    /// Merges `rollout`: it replaces the map's rollout if it is greater; true if it did.
    pub fn merge_rollout(&mut self, rollout: &Rollout) -> bool {
        let is_news = self.rollout.is_none_or(|held| rollout.merge_order(&held) == Ordering::Greater);
        if is_news {
            self.rollout = Some(*rollout);
            self.digest.set(None);
        }
        self.highest_counter = self.highest_counter.max(rollout.stamp.counter);
        is_news
    }

    /// The last rollout, if there was one.
    #[must_use]
    pub fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    fn replace(&mut self, slot: Slot, entry: &Entry) -> Merged {
        let floor = self.floor;
        match self.slots.items_mut().get_mut(slot.index()) {
            Some(held) if entry.merge_order(held) != Ordering::Greater => Merged::Unchanged,
            // The id was purged, and used again.
            Some(held) if is_tombstone_up_to(entry, floor) && entry.stamp < held.stamp => Merged::Unchanged,
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
        // The lowest free slot, else a new one.
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

    /// The purge floor: a counter, 0 in a new map, that only rises. A map with a floor has
    /// seen every change with a counter up to it by any controller known at the purge, and
    /// contains no tombstone up to it. So a patch with such a change that is not in the map
    /// was deleted and purged, unless it is committed.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Raises the floor and drops the tombstones up to it; a lower floor changes nothing.
    /// Returns the freed slots.
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

    /// Whether this entry was deleted and purged: the map does not contain its id, and the
    /// entry's counter is not above the floor.
    #[must_use]
    pub fn is_purged(&self, entry: &Entry) -> bool {
        self.is_below_floor(entry) && self.find(&entry.id).is_err()
    }

    fn is_below_floor(&self, entry: &Entry) -> bool {
        entry.state != EntryState::Committed && entry.stamp.counter <= self.floor
    }

    /// Removes an entry that was purged here or elsewhere, and returns its freed slot. A live
    /// entry that is committed or above the floor stays: it was changed since the purge.
    pub fn remove(&mut self, id: &PatchId) -> Option<Slot> {
        let (slot, entry) = self.get(id)?;
        if !entry.state.is_deleted() && !self.is_below_floor(entry) {
            return None;
        }
        self.free(slot);
        Some(slot)
    }

    /// The slot of an id, or the position in `by_id` to insert it at.
    fn find(&self, id: &PatchId) -> Result<Slot, usize> {
        let order = |slot: &Slot| self.entry(*slot).map_or(Ordering::Less, |entry| entry.id.cmp(id));
        let at = self.by_id.binary_search_by(order)?;
        self.by_id.get(at).copied().ok_or(at)
    }

    /// The slot and entry of an id.
    #[must_use]
    pub fn get(&self, id: &PatchId) -> Option<(Slot, &Entry)> {
        let slot = self.find(id).ok()?;
        Some((slot, self.entry(slot)?))
    }

    /// The entry in a slot; `None` if the slot is not in use.
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

    /// The digest over all entries, tombstones included, and the rollout. It is computed
    /// once after a change.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.get().unwrap_or_else(|| {
            let digest = map_digest(self.iter_by_id().map(|(_, entry)| entry), self.rollout());
            self.digest.set(Some(digest));
            digest
        })
    }

    /// The highest counter of the floor and of all entries and rollouts passed to a merge,
    /// including those that did not win or were replaced since: a commit outranks higher
    /// counters.
    #[must_use]
    pub fn highest_counter(&self) -> u64 {
        self.highest_counter
    }

    /// How many entries the map contains, tombstones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether the map is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a new id would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.by_id.len() >= self.slots.room().min(ENTRIES)
    }
}

fn is_tombstone_up_to(entry: &Entry, floor: u64) -> bool {
    entry.state.is_deleted() && entry.stamp.counter <= floor
}

#[cfg(test)]
mod tests;
