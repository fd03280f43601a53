//! The space that an install takes, on each filesystem.

use super::check::Needed;
use super::kept::BLOCK_BYTES;
use crate::sorted::FlatMap;

/// Objects by mount point and number.
pub(super) type Objects = Vec<(String, u64)>;

/// What an install takes.
#[derive(Default)]
pub(super) struct Needs {
    /// What it takes on each filesystem, by mount point.
    pub by_mount: FlatMap<String, Needed>,
    /// Objects from before any patch that moved to the root's filesystem and come back.
    pub returning: Objects,
}

impl Needs {
    /// Adds a file of this size.
    pub fn add(&mut self, mount: &str, bytes: u64) {
        let needed = self.of(mount);
        let bytes = bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
        needed.bytes = needed.bytes.saturating_add(bytes);
        needed.inodes += 1;
    }

    /// What it takes on one filesystem.
    pub fn of(&mut self, mount: &str) -> &mut Needed {
        self.by_mount.get_or_insert_with(mount.to_owned(), Needed::default)
    }
}
