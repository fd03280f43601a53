//! What a controller learns of its repository from workers: all of it is on the
//! disk already.

use super::Controller;
use crate::fsm::hosts::Knowledge;
use crate::repo::entry::{Entry, EntryState};
use crate::repo::map::{Full, Merged};
use crate::repo::slots::Slot;
use crate::time::Instant;
use crate::types::{Digest, Hash, PatchId, Reason};

impl Controller<'_> {
    /// Merges an entry that is durable.
    ///
    /// # Errors
    /// [`Full`]: the map has no room for it.
    pub fn merge(&mut self, now: Instant, entry: &Entry) -> Result<Merged, Full> {
        let old_hash = self.map.get(&entry.id).map(|(_, held)| held.hash);
        let merged = self.map.merge(entry)?;
        if let Some((slot, _)) = self.map.get(&entry.id) {
            self.unconfirmed.remove(slot);
        }
        let slot = match merged {
            Merged::Inserted(slot) | Merged::Replaced(slot) | Merged::Purged(slot) => slot,
            Merged::Unchanged => return Ok(merged),
        };
        self.kinds.refresh(&self.map);
        if old_hash != Some(entry.hash) || merged == Merged::Purged(slot) {
            self.on_content(now, slot);
        }
        if entry.state == EntryState::Deleted {
            self.sync.blobs_mut().on_here(slot);
        }
        Ok(merged)
    }

    /// The content of a slot is new, another, or gone: what hosts said of this id
    /// was about other content, or about content that the map did not know. They
    /// must say it again.
    fn on_content(&mut self, now: Instant, slot: Slot) {
        self.sync.blobs_mut().on_here(slot);
        self.queries.on_content(slot);
        for host in self.hosts.iter_mut() {
            if host.foreign > 0 || host.installed.contains(slot) {
                host.installed.remove(slot);
                host.known_digest = Digest::default();
                if host.knowledge == Knowledge::Known {
                    host.knowledge = Knowledge::Wanted;
                    self.queries.want(now);
                }
            }
        }
    }

    /// Takes an entry out that was purged, durably.
    pub fn purge_entry(&mut self, now: Instant, id: &PatchId) {
        if let Some(slot) = self.map.remove(id) {
            self.kinds.refresh(&self.map);
            self.on_content(now, slot);
        }
    }

    /// The map's purge floor has risen, durably.
    pub fn raise_floor(&mut self, now: Instant, floor: u64) {
        for slot in &self.map.raise_floor(floor) {
            self.on_content(now, slot);
        }
    }

    /// A worker is about to read the repository: it will tell of all that is there.
    pub fn on_loading(&mut self) {
        self.unconfirmed = self.map.iter().map(|(slot, _)| slot).collect();
        self.sync.blobs_mut().on_loading();
    }

    /// The repository is read, and other controllers may hear of it. What was here
    /// before and is not there was purged by a worker that died before it said so.
    pub fn on_loaded(&mut self, now: Instant) {
        for slot in &core::mem::take(&mut self.unconfirmed) {
            if let Some(id) = self.map.entry(slot).map(|entry| entry.id.clone()) {
                self.purge_entry(now, &id);
            }
        }
        self.sync.blobs_mut().on_loaded();
        self.sync.on_loaded(now);
    }

    /// The file of a patch is not here; `why` is empty where nobody tried to fetch it.
    pub fn blob_missing(&mut self, hash: &Hash, why: &Reason) {
        let named = |entry: &Entry| entry.hash == *hash && entry.state != EntryState::Deleted;
        for (slot, _) in self.map.iter().filter(|(_, entry)| named(entry)) {
            self.sync.blobs_mut().on_missing(slot, hash, why);
        }
    }

    /// The file of a patch that was missing is here.
    pub fn blob_here(&mut self, hash: &Hash) {
        for (slot, _) in self.map.iter().filter(|(_, entry)| entry.hash == *hash) {
            self.sync.blobs_mut().on_here(slot);
        }
    }
}
