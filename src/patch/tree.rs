//! The paths that an archive held so far, as a tree: no part of a path is stored
//! twice, so that memory grows with the number of paths, however deep they go.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::fault::MemberFault;

/// What is known of a path once some members were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// A member lies below it, and it may still come as a directory.
    #[default]
    Above,
    /// It came, as a directory.
    Directory,
    /// It came, as a file of this size.
    File(u64),
    /// It came, as a symbolic link.
    Symlink,
}

/// A path's part, and what lies below it.
#[derive(Default)]
pub(super) struct ArchiveTree {
    known: Known,
    below: HashMap<OsString, ArchiveTree>,
}

impl ArchiveTree {
    /// What is known of a path, if anything.
    pub(super) fn get(&self, path: &Path) -> Option<Known> {
        let mut node = self;
        for part in path {
            node = node.below.get(part)?;
        }
        Some(node.known)
    }

    /// Takes a path for a member, unless that contradicts what came before.
    /// Returns how many paths are new: the member's, and directories that it implies.
    pub(super) fn place(&mut self, path: &Path, known: Known) -> Result<usize, MemberFault> {
        let (mut node, mut new) = (self, 0);
        for (depth, part) in path.iter().enumerate() {
            if matches!(node.known, Known::File(_) | Known::Symlink) {
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
