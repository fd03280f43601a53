//! Hashes stand for the paths of members where there may be many.

use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A hash of a member's path, the same for the whole install.
pub(super) fn path_hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_os_str().as_bytes());
    hasher.finish()
}
