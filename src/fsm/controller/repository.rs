//! How a controller applies its workers' reports of the repository. All that they
//! report is already on the disk.

use super::Controller;
use crate::fsm::hosts::Knowledge;
use crate::repo::entry::Entry;
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
        if entry.state.is_deleted() {
            self.sync.blobs_mut().on_here(slot);
        }
        Ok(merged)
    }

    /// The content of a slot has changed. Hosts reported this id for the old content, or
    /// as one that the map did not know, so they are queried again.
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

    /// Removes an entry that was durably purged.
    pub fn purge_entry(&mut self, now: Instant, id: &PatchId) {
        if let Some(slot) = self.map.remove(id) {
            self.kinds.refresh(&self.map);
            self.on_content(now, slot);
        }
    }

    /// Raises the map's purge floor, which is durable.
    pub fn raise_floor(&mut self, now: Instant, floor: u64) {
        for slot in &self.map.raise_floor(floor) {
            self.on_content(now, slot);
        }
    }

    /// A worker begins to read the repository, and will report every entry.
    pub fn on_loading(&mut self) {
        self.unconfirmed = self.map.iter().map(|(slot, _)| slot).collect();
        self.sync.blobs_mut().on_loading();
    }

    /// The repository is read, and other controllers may learn of it. An entry that was
    /// not reported was purged by a worker that died before its report.
    pub fn on_loaded(&mut self, now: Instant) {
        for slot in &core::mem::take(&mut self.unconfirmed) {
            if let Some(id) = self.map.entry(slot).map(|entry| entry.id.clone()) {
                self.purge_entry(now, &id);
            }
        }
        self.sync.blobs_mut().on_loaded();
        self.sync.on_loaded(now);
    }

    /// This controller lacks the file of a patch. `reason` is empty if no fetch was tried.
    pub fn blob_missing(&mut self, hash: &Hash, reason: &Reason) {
        let named = |entry: &Entry| entry.hash == *hash && !entry.state.is_deleted();
        for (slot, _) in self.map.iter().filter(|(_, entry)| named(entry)) {
            self.sync.blobs_mut().on_missing(slot, hash, reason);
        }
    }

    /// The file of a patch that was missing has arrived.
    pub fn blob_here(&mut self, hash: &Hash) {
        for (slot, _) in self.map.iter().filter(|(_, entry)| entry.hash == *hash) {
            self.sync.blobs_mut().on_here(slot);
        }
    }
}
