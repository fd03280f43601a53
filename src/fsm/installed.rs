//! What is installed on the agent's host: the last complete snapshot.
//!
//! A worker reads it from the disk and reports it patch by patch. The previous
//! snapshot stays until the report is complete, because a detailed query may be
//! reading it.

use crate::list::List;
use crate::types::Digest;
use crate::wire::frame::InstalledPatch;

/// Two borrowed lists: the current snapshot and the incoming one.
#[derive(Debug)]
pub struct Installed<'a> {
    current: &'a mut dyn List<InstalledPatch>,
    incoming: &'a mut dyn List<InstalledPatch>,
    digest: Digest,
    /// The snapshot's number; each snapshot has another.
    query_id: u64,
}

impl<'a> Installed<'a> {
    /// Nothing installed. Both lists must have room for every patch that a host can
    /// have.
    #[must_use]
    pub fn new(
        standing: &'a mut dyn List<InstalledPatch>,
        incoming: &'a mut dyn List<InstalledPatch>,
    ) -> Self {
        Self { current: standing, incoming, digest: Digest::default(), query_id: 0 }
    }

    /// Adds a patch to the incoming snapshot.
    pub fn push(&mut self, patch: &InstalledPatch) {
        self.incoming.push(patch.clone());
    }

    /// The incoming snapshot is complete and becomes the current one.
    pub fn complete(&mut self, digest: Digest, query_id: u64) {
        core::mem::swap(&mut self.current, &mut self.incoming);
        self.incoming.clear();
        self.digest = digest;
        self.query_id = query_id;
    }

    /// Drops an incomplete incoming snapshot.
    pub fn abandon(&mut self) {
        self.incoming.clear();
    }

    /// The patches, sorted by id.
    #[must_use]
    pub fn patches(&self) -> &[InstalledPatch] {
        self.current.items()
    }

    /// The digest of the set.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The snapshot's number.
    #[must_use]
    pub fn query_id(&self) -> u64 {
        self.query_id
    }
}
