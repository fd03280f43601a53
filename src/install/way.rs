//! What installed patches have on the way to the members of others.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;

use super::conflict::Conflict;
use super::error::{ErrorContext, InstallError};
use super::record_file::Record;
use super::sys;
use super::tree::{After, OnTheWay, RootTree};
use crate::sorted::FlatMap;
use crate::types::PatchId;

/// How many paths are remembered. A host has few links on the way to its files.
const PATHS: usize = 64;

/// The record of the installed patches, some of which leave.
pub(super) struct Ways<'h> {
    tree: &'h RootTree,
    record: &'h Record,
    /// Of each rank, whether the patch leaves.
    leaving: Vec<bool>,
    /// What was looked up.
    known: RefCell<FlatMap<String, Known>>,
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
        Self { tree, record, leaving, known: RefCell::default() }
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

    fn look_up(&self, path: &str) -> Result<Known, InstallError> {
        let leaves = |rank: u16| self.leaving.get(usize::from(rank)).copied().unwrap_or_default();
        let stack = self.record.stack(path)?;
        Ok(match stack.filter(|stack| stack.layers.iter().all(|layer| leaves(layer.rank))) {
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
}
