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
use crate::repo::rollout::Rollout;
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
    rollout: Option<Rollout>,
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
        Self { slots, by_id, free, rollout: None, highest_counter: 0, floor: 0, digest }
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

    /// Takes `rollout` where it is greater than the one that the map has; true
    /// where it was taken.
    pub fn merge_rollout(&mut self, rollout: &Rollout) -> bool {
        let is_news = self.rollout.is_none_or(|held| rollout.merge_order(&held) == Ordering::Greater);
        if is_news {
            self.rollout = Some(*rollout);
            self.digest.set(None);
        }
        self.highest_counter = self.highest_counter.max(rollout.stamp.counter);
        is_news
    }

    /// The last rollout, if there ever was one.
    #[must_use]
    pub fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
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

    /// Takes out an entry that was purged, a tombstone or what a purge elsewhere
    /// has taken from us, and gives its slot, which will be used again. A live one
    /// that is committed or stands above the floor stays: it is no longer what was
    /// purged.
    pub fn remove(&mut self, id: &PatchId) -> Option<Slot> {
        let (slot, entry) = self.get(id)?;
        if entry.state != EntryState::Deleted && !self.is_below_floor(entry) {
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

    /// The digest over all entries, tombstones included, and the rollout: equal
    /// exactly where those are. Computed once after a change, then remembered.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.get().unwrap_or_else(|| {
            let digest = map_digest(self.iter_by_id().map(|(_, entry)| entry), self.rollout());
            self.digest.set(Some(digest));
            digest
        })
    }

    /// The highest counter of the floor, and of all entries and rollouts merged, of those too
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
mod tests;
