//! The files and links that an install unpacks, in the order of the archives.

use std::cmp::Ordering;
use std::fs::File;

use serde::{Deserialize, Serialize};

use super::sorter::Sorted;
use crate::patch::archive::Owner;
use crate::sorted::FlatSet;
use crate::types::PatchId;

/// A verified patch file.
pub(super) struct PatchFile {
    pub id: PatchId,
    pub file: File,
    /// The number of its first member's object.
    pub first_number: u64,
    /// Hashes of the paths of its members that others of it are hard links to.
    pub linked: FlatSet<u64>,
}

/// A file or symbolic link to unpack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Staged {
    /// Its object's number. The members of a patch are numbered in their order.
    pub number: u64,
    /// Its path on the host.
    pub path: String,
    /// The mount point of its filesystem.
    pub mount: String,
    pub size_bytes: u64,
    pub owner: Owner,
    /// Where the layers of its path are in the draft of the record, and which is its own.
    pub layers_at: u64,
    pub layer: u16,
}

impl Sorted for Staged {
    fn order(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }

    fn heap_bytes(&self) -> usize {
        self.path.len() + self.mount.len()
    }
}
