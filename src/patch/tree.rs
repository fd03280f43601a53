//! The paths that have been read of an archive, as a tree: no component of a path is
//! stored twice, so memory grows with the number of paths, however deep they are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::fault::MemberFault;

/// What is known of a path from the members so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// A member is below it. It may still come as a directory.
    #[default]
    Above,
    /// It is a member, a directory.
    Directory,
    /// It is a member, a file of this size.
    File(u64),
    /// It is a member, a symbolic link.
    Symlink,
    /// The patch removes it.
    Removed,
}

/// One component of a path, and the components below it.
#[derive(Default)]
pub(super) struct ArchiveTree {
    known: Known,
    below: HashMap<OsString, ArchiveTree>,
}

impl ArchiveTree {
    /// What is known of a path; `None` if nothing is.
    pub(super) fn get(&self, path: &Path) -> Option<Known> {
        let mut node = self;
        for part in path {
            node = node.below.get(part)?;
        }
        Some(node.known)
    }

    /// Adds a member's path, unless it contradicts earlier members. Returns how many paths
    /// are new: the member's, and directories that it implies.
    pub(super) fn insert(&mut self, path: &Path, known: Known) -> Result<usize, MemberFault> {
        let (mut node, mut new) = (self, 0);
        for (depth, part) in path.iter().enumerate() {
            if matches!(node.known, Known::File(_) | Known::Symlink | Known::Removed) {
                let parent = path.iter().take(depth).collect::<PathBuf>().display().to_string();
                return Err(MemberFault::Beneath { parent });
            }
            node = match node.below.entry(part.to_owned()) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(free) => {
                    new += 1;
                    free.insert(Self::default())
                }
            };
        }
        match node.known {
            Known::Above if known == Known::Directory || node.below.is_empty() => node.known = known,
            Known::Above => return Err(MemberFault::MustBeDirectory),
            _ => return Err(MemberFault::Duplicate),
        }
        Ok(new)
    }
}
