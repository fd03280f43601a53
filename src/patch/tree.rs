//! The paths that have been read of an archive, in one flat table.
//!
//! A path is kept as a hash of 64 bits and one word of what is known of it, so 65,536 paths
//! take 2 MiB, however long and deep they are. The hash has a random key: nobody can choose
//! two paths that have the same. That two paths have it by chance, which refuses a good
//! patch once, happens in one of ten thousand million patches of the greatest size.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::fault::MemberFault;

/// What is known of a path from the members so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A member is below it. It may still come as a directory.
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

/// [`Known`] in one word: a file's size above the three lowest bits, which say what it is.
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    /// Sizes beyond what a patch may unpack to are refused before they are looked up.
    const MOST_SIZE: u64 = u64::MAX >> 3;

    fn new(known: Known) -> Self {
        Self(match known {
            Known::Above => 0,
            Known::Directory => 1,
            Known::Symlink => 2,
            Known::Removed => 3,
            Known::File(size) => (size.min(Self::MOST_SIZE) << 3) | 4,
        })
    }

    fn known(self) -> Known {
        match self.0 & 7 {
            0 => Known::Above,
            1 => Known::Directory,
            2 => Known::Symlink,
            3 => Known::Removed,
            _ => Known::File(self.0 >> 3),
        }
    }
}

/// The paths of an archive and what is known of each.
#[derive(Default)]
pub(super) struct ArchiveTree {
    state: RandomState,
    paths: HashMap<u64, Packed>,
}

impl ArchiveTree {
    /// What is known of a path; `None` if nothing is.
    pub(super) fn get(&self, path: &Path) -> Option<Known> {
        let key = self.keys(path).last()?;
        self.paths.get(&key).map(|packed| packed.known())
    }

    /// Adds a member's path, unless it contradicts earlier members. Returns how many paths
    /// are new: the member's, and directories that it implies.
    pub(super) fn insert(&mut self, path: &Path, known: Known) -> Result<usize, MemberFault> {
        let (mut new, mut above) = (0, None);
        for (depth, key) in self.keys(path).enumerate() {
            // One that has a path below it is not the last, so it is above the member.
            if let Some(above) = above.replace(key) {
                new += self.add_above(above, path, depth)?;
            }
        }
        let Some(key) = above else { return Err(MemberFault::Duplicate) };
        match self.paths.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Packed::new(known));
                new += 1;
            }
            Entry::Occupied(mut there) => match there.get().known() {
                Known::Above if known == Known::Directory => *there.get_mut() = Packed::new(known),
                Known::Above => return Err(MemberFault::MustBeDirectory),
                _ => return Err(MemberFault::Duplicate),
            },
        }
        Ok(new)
    }

    /// Adds the first `depth` components of a path, which is below them.
    fn add_above(&mut self, key: u64, path: &Path, depth: usize) -> Result<usize, MemberFault> {
        match self.paths.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Packed::new(Known::Above));
                Ok(1)
            }
            Entry::Occupied(there) => match there.get().known() {
                Known::Above | Known::Directory => Ok(0),
                Known::File(_) | Known::Symlink | Known::Removed => {
                    let parent = path.iter().take(depth).collect::<PathBuf>();
                    Err(MemberFault::Beneath { parent: parent.display().to_string() })
                }
            },
        }
    }

    /// The keys of a path's prefixes, the shortest first and the path's own last. No
    /// component has a slash, so no two paths hash the same bytes.
    fn keys<'p>(&self, path: &'p Path) -> impl Iterator<Item = u64> + use<'p> {
        let mut hasher = self.state.build_hasher();
        path.iter().map(move |part| {
            hasher.write(part.as_bytes());
            hasher.write(b"/");
            hasher.finish()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(tree: &mut ArchiveTree, path: &str, known: Known) -> Result<usize, MemberFault> {
        tree.insert(Path::new(path), known)
    }

    #[test]
    fn a_path_is_known_with_those_above_it_and_no_other() {
        let mut tree = ArchiveTree::default();
        assert_eq!(insert(&mut tree, "files/a/b", Known::File(7)), Ok(3));
        assert_eq!(insert(&mut tree, "files/a/c", Known::Symlink), Ok(1));
        let get = |path: &str| tree.get(Path::new(path));
        assert_eq!((get("files"), get("files/a")), (Some(Known::Above), Some(Known::Above)));
        assert_eq!((get("files/a/b"), get("files/a/c")), (Some(Known::File(7)), Some(Known::Symlink)));
        for unknown in ["a", "files/ab", "files/a/b/c", "files/b", "files/a/bc", ""] {
            assert_eq!(get(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_has_something_below_it_can_become_a_directory_once() {
        let mut tree = ArchiveTree::default();
        insert(&mut tree, "a/b/c", Known::Removed).unwrap();
        for known in [Known::File(0), Known::Symlink, Known::Removed] {
            assert_eq!(insert(&mut tree, "a/b", known), Err(MemberFault::MustBeDirectory));
        }
        assert_eq!(insert(&mut tree, "a/b", Known::Directory), Ok(0));
        assert_eq!(insert(&mut tree, "a/b", Known::Directory), Err(MemberFault::Duplicate));
        assert_eq!(insert(&mut tree, "a/b/d", Known::Directory), Ok(1));
        for known in [Known::File(0), Known::Symlink, Known::Removed] {
            let mut tree = ArchiveTree::default();
            insert(&mut tree, "a/b", known).unwrap();
            assert_eq!(insert(&mut tree, "a/b", known), Err(MemberFault::Duplicate));
            let beneath = Err(MemberFault::Beneath { parent: "a/b".to_owned() });
            assert_eq!(insert(&mut tree, "a/b/c", known), beneath);
            assert_eq!(insert(&mut tree, "a/b/c/d/e", known), beneath);
        }
    }

    #[test]
    fn sizes_come_back() {
        for size in [0, 1, 7, 8, crate::limits::PATCH_UNPACKED_BYTES, Packed::MOST_SIZE] {
            assert_eq!(Packed::new(Known::File(size)).known(), Known::File(size));
        }
        assert_eq!(Packed::new(Known::File(u64::MAX)).known(), Known::File(Packed::MOST_SIZE));
    }
}
