//! What is installed on the agent's host: the last whole snapshot.
//!
//! A worker reads it off the disk and reports it patch by patch. Until the
//! report is complete the previous snapshot stands, since a detailed query may
//! be reading it.

use crate::list::List;
use crate::types::Digest;
use crate::wire::frame::InstalledPatch;

/// Two borrowed lists: the snapshot that stands and the one that comes in.
#[derive(Debug)]
pub struct Installed<'a> {
    current: &'a mut dyn List<InstalledPatch>,
    incoming: &'a mut dyn List<InstalledPatch>,
    digest: Digest,
    /// The snapshot's number: another one is another installed set.
    query_id: u64,
}

impl<'a> Installed<'a> {
    /// Nothing installed. Both lists must have room for all that a host may have.
    #[must_use]
    pub fn new(
        standing: &'a mut dyn List<InstalledPatch>,
        incoming: &'a mut dyn List<InstalledPatch>,
    ) -> Self {
        Self { current: standing, incoming, digest: Digest::default(), query_id: 0 }
    }

    /// A patch of the snapshot that comes in.
    pub fn push(&mut self, patch: &InstalledPatch) {
        self.incoming.push(patch.clone());
    }

    /// The snapshot that came in is whole: it stands from now on.
    pub fn complete(&mut self, digest: Digest, query_id: u64) {
        core::mem::swap(&mut self.current, &mut self.incoming);
        self.incoming.clear();
        self.digest = digest;
        self.query_id = query_id;
    }

    /// A snapshot that came in only in part is dropped.
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
