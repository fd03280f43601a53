//! Which of many paths are there, without asking for each: a directory's names are read
//! once, and remembered while the paths are below it.

use std::os::fd::AsFd;

use super::error::{ErrorContext, InstallError};
use super::order::Left;
use super::sys;
use super::tree::RootTree;

/// How many names are remembered at most.
const NAMES: usize = 32 * 1024;

/// The directories that a walk in the order of the paths is in, with the sorted hashes of
/// their names; `None` where there are too many.
#[derive(Default)]
pub(super) struct Presence {
    directories: Left<Option<Vec<u64>>>,
    held: usize,
}

impl Presence {
    /// Whether anything is at a path. Asked in the order of the paths.
    pub fn has(&mut self, tree: &RootTree, path: &str) -> Result<bool, InstallError> {
        while let Some((_, names)) = self.directories.leave(path) {
            self.held -= names.map_or(0, |names| names.len());
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if self.directories.inside().last().is_none_or(|(inside, _)| inside != above) {
            let names = match tree.parent(path) {
                // It does not exist, or cannot be opened.
                Err(_) => return tree.exists(path),
                Ok((dir, _)) => {
                    let most = NAMES - self.held;
                    let mut names = Vec::new();
                    let mut count = 0;
                    let read = sys::each_name(dir.as_fd(), |name| {
                        count += 1;
                        if count <= most {
                            names.push(hash(name));
                        }
                    });
                    read.context("list", above)?;
                    names.sort_unstable();
                    (count <= most).then_some(names)
                }
            };
            self.held += names.as_ref().map_or(0, Vec::len);
            self.directories.enter(above.to_owned(), names);
        }
        match self.directories.inside().last() {
            Some((_, Some(names))) => Ok(names.binary_search(&hash(name)).is_ok()),
            _ => tree.exists(path),
        }
    }
}

/// FNV-1a: if two names have the same, a file that was deleted is not told.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_found_whether_or_not_they_are_remembered() {
        let root = std::env::temp_dir().join(format!("thimble-presence-{}", std::process::id()));
        for directory in ["a/b/c", "a/x", "e"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["a/1", "a/b/2", "a/b/c/3", "a/z", "e/4", "0"] {
            fs::write(root.join(file), "").unwrap();
        }
        let tree = RootTree::open(&root).unwrap();
        let asked = [
            ("0", true),
            ("1", false),
            ("a/1", true),
            ("a/b", true),
            ("a/b/2", true),
            ("a/b/3", false),
            ("a/b/c/3", true),
            ("a/b/d/3", false),
            ("a/x/3", false),
            ("a/z", true),
            ("c/3", false),
            ("e/4", true),
            ("e/4/5", false),
            ("e/5", false),
        ];
        for held in [0, NAMES - 5, NAMES] {
            let mut presence = Presence { held, ..Presence::default() };
            for (path, is_there) in asked {
                assert_eq!(presence.has(&tree, path).unwrap(), is_there, "{path}, {held} names held");
                assert!(presence.held <= NAMES);
            }
            while presence.directories.leave("").is_some() {}
        }
        fs::remove_dir_all(root).unwrap();
    }
}
