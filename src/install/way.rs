//! What installed patches have on the way to the members of others.

use std::cell::{OnceCell, RefCell};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::AsFd;

use super::conflict::Conflict;
use super::error::{ErrorContext, InstallError};
use super::record::Stack;
use super::record_file::Record;
use super::sys;
use super::tree::{After, OnTheWay, RootTree};
use crate::sorted::{FlatMap, FlatSet};
use crate::types::PatchId;

/// How many paths are remembered. A host has few links on the way to its files.
const PATHS: usize = 64;

/// How many paths that patches removed are remembered. A patch whose path leads through
/// another is refused until those patches have left.
const REMOVED: usize = 16 * 1_024;

/// The record of the installed patches, some of which leave.
pub(super) struct Ways<'h> {
    tree: &'h RootTree,
    record: &'h Record,
    /// Of each rank, whether the patch leaves.
    leaving: Vec<bool>,
    /// What was looked up.
    known: RefCell<FlatMap<String, Known>>,
    /// Hashes of the paths at which nothing is and something comes back, once they are needed.
    removed: OnceCell<FlatSet<u64>>,
}

/// What will be at a path.
#[derive(Clone)]
enum Known {
    Same,
    Nothing,
    /// The object with this number, of the filesystem with this mount point.
    Base(String, u64),
}

impl<'h> Ways<'h> {
    /// `leaving` tells of each rank of the record whether that patch leaves.
    pub fn new(tree: &'h RootTree, record: &'h Record, leaving: Vec<bool>) -> Self {
        Self { tree, record, leaving, known: RefCell::default(), removed: OnceCell::new() }
    }

    /// A kept object: on its own filesystem, or moved to the root's.
    fn kept(&self, path: &str, mount: &str, number: u64) -> Result<After, InstallError> {
        let name = number.to_string();
        for mount in [mount, ""] {
            let kept = self.tree.dir(&format!("{mount}/.thimble/kept"));
            let kept = kept.context("open .thimble/kept in", mount)?;
            match sys::stat_at(kept.as_fd(), &name) {
                Ok(_) => return Ok(After::Kept(kept, name)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("look at what is kept of", path),
            }
        }
        let id = self.patch_at(path)?.unwrap_or_default();
        Err(Conflict::Lost(id, path.to_owned()).into())
    }

    /// Whether all patches of a stack leave.
    fn leaves(&self, stack: &Stack) -> bool {
        let leaves = |rank: u16| self.leaving.get(usize::from(rank)).copied().unwrap_or_default();
        stack.layers.iter().all(|layer| leaves(layer.rank))
    }

    fn removed(&self) -> Result<&FlatSet<u64>, InstallError> {
        if let Some(removed) = self.removed.get() {
            return Ok(removed);
        }
        let mut removed = Vec::new();
        let mut items = self.record.items();
        while let Some((path, stack)) = items.next_stack()? {
            if stack.base.is_some() && !stack.has_file() && self.leaves(&stack) && removed.len() < REMOVED {
                removed.push(path_hash(&path));
            }
        }
        Ok(self.removed.get_or_init(|| removed.into()))
    }

    fn look_up(&self, path: &str) -> Result<Known, InstallError> {
        Ok(match self.record.stack(path)?.filter(|stack| self.leaves(stack)) {
            None => Known::Same,
            Some(stack) => match stack.base {
                None => Known::Nothing,
                Some(base) => Known::Base(stack.mount, base.number),
            },
        })
    }
}

impl OnTheWay for Ways<'_> {
    fn patch_at(&self, path: &str) -> Result<Option<PatchId>, InstallError> {
        let top = self.record.stack(path)?.and_then(|stack| stack.top().map(|top| top.rank));
        Ok(top.map(|rank| self.record.id(rank)))
    }

    fn after(&self, path: &str) -> Result<After, InstallError> {
        if !self.leaving.contains(&true) {
            return Ok(After::Same);
        }
        let known = self.known.borrow().get(path).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let known = self.look_up(path)?;
                let mut all = self.known.borrow_mut();
                if all.len() == PATHS {
                    *all = FlatMap::default();
                }
                all.insert(path.to_owned(), known.clone());
                known
            }
        };
        match known {
            Known::Same => Ok(After::Same),
            Known::Nothing => Ok(After::Nothing),
            Known::Base(mount, number) => self.kept(path, &mount, number),
        }
    }

    fn after_nothing(&self, path: &str) -> Result<After, InstallError> {
        // Most directories that are missing are new: the record is not read for each.
        if !self.leaving.contains(&true) || !self.removed()?.contains(&path_hash(path)) {
            return Ok(After::Same);
        }
        self.after(path)
    }
}

fn path_hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_bytes());
    hasher.finish()
}
