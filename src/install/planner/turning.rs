//! Directories that turn into files or links, if all that is in them leaves, and back.

use std::os::fd::AsFd;

use super::Planner;
use crate::install::conflict::{Conflict, InTheWay};
use crate::install::error::{ErrorContext, InstallError};
use crate::install::moves::{Clear, Move};
use crate::install::notice::Notice;
use crate::install::order::Left;
use crate::install::plan::PathPlan;
use crate::install::record::{Directory, Stack};
use crate::install::sys::{self, InodeKind, Stat};
use crate::install::tree::is_absent;

/// How many names of a directory are looked for in the record at once.
const NAMES: usize = 1_024;

/// A directory that makes way for what a patch has in its place, while the walk is in it.
pub(super) struct Turning {
    /// The rank of the patch.
    by: u16,
    /// The mount point of its filesystem, and how the system knows that.
    mount: String,
    filesystem: Filesystem,
    /// The directories that the walk is in, and how many names of each leave.
    inside: Left<u64>,
}

/// The device and the mount.
type Filesystem = ((u32, u32), Option<u64>);

fn filesystem(stat: &Stat) -> Filesystem {
    (stat.device, stat.mount)
}

impl Turning {
    /// A name that leaves, if it is in the directory that the walk is in. One in a directory
    /// that the record does not have is found by that.
    fn count(&mut self, path: &str) {
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        if let Some((_, leaving)) = self.inside.inside().last_mut().filter(|(inside, _)| inside == above) {
            *leaving += 1;
        }
    }
}

impl Planner<'_, '_> {
    /// Plans to clear a directory that an install made: what the patch with this rank has in
    /// its place enters.
    pub(super) fn turn(&mut self, path: &str, mount: &str, by: u16) -> Result<(), InstallError> {
        let parent = self.host.tree.parent(path).and_then(|(dir, _)| sys::stat_dir(dir.as_fd()));
        let filesystem = filesystem(&parent.context("look at the directory of", path)?);
        let mut turning = Turning { by, mount: mount.to_owned(), filesystem, inside: Left::default() };
        let is_mounted = self.stat(path)?.is_some_and(|stat| self::filesystem(&stat) != filesystem);
        if is_mounted {
            return Err(Conflict::MountPoint(self.ranks.id(by), path.to_owned()).into());
        }
        self.clear(&mut turning, path)?;
        self.turning = Some(turning);
        Ok(())
    }

    /// Plans a directory of the record in one that makes way.
    pub(super) fn turn_below(&mut self, path: &str, is_made: bool) -> Result<(), InstallError> {
        let Some(mut turning) = self.turning.take() else { return Ok(()) };
        if let Some(stat) = self.stat(path)? {
            let refuse =
                |why| Err(Conflict::InTheWay(self.ranks.id(turning.by), path.to_owned(), why).into());
            if stat.kind != InodeKind::Directory || !is_made {
                return refuse(InTheWay::Foreign);
            }
            if filesystem(&stat) != turning.filesystem {
                return refuse(InTheWay::MountPoint);
            }
            turning.count(path);
            self.clear(&mut turning, path)?;
        }
        self.turning = Some(turning);
        Ok(())
    }

    fn clear(&mut self, turning: &mut Turning, path: &str) -> Result<(), InstallError> {
        self.open(&turning.mount)?;
        // The directory that is kept for it.
        self.needs.add(&turning.mount, 0);
        let number = self.next_number;
        self.next_number += 1;
        turning.inside.enter(path.to_owned(), 0);
        self.journal.plan(&Move::Clear(Clear { path: path.to_owned(), mount: turning.mount.clone(), number }))
    }

    /// Checks that a file of a patch leaves for good, if it is in a directory that makes way.
    /// Returns whether it is.
    pub(super) fn leaves_way(
        &mut self,
        path: &str,
        plan: &PathPlan,
        is_there: bool,
    ) -> Result<bool, InstallError> {
        let Some(turning) = &mut self.turning else { return Ok(false) };
        let why = match plan.switch.as_ref().and_then(|switch| switch.to) {
            _ if plan.save.is_some() || plan.stays_as_it_is() => InTheWay::Changed,
            Some(_) => InTheWay::Before,
            None => {
                if is_there {
                    turning.count(path);
                }
                return Ok(true);
            }
        };
        Err(Conflict::InTheWay(self.ranks.id(turning.by), path.to_owned(), why).into())
    }

    /// Checks that nothing is at a path any more where a patch with this rank needs a directory.
    pub(super) fn leaves_for_directory(
        &self,
        path: &str,
        plan: &PathPlan,
        old: Option<&Stack>,
        directory_of: u16,
    ) -> Result<(), InstallError> {
        if plan.stays_as_it_is() {
            return Err(Conflict::NotDirectory(self.ranks.id(directory_of), path.to_owned()).into());
        }
        match old.and_then(Stack::top) {
            Some(top) if plan.switch.as_ref().is_some_and(|switch| switch.to.is_some()) => {
                Err(self.file_and_directory(self.ranks.old_id(top.rank), Some(directory_of), path))
            }
            _ => Ok(()),
        }
    }

    /// The walk goes on to a path, or ends: in the directories that it leaves there must be
    /// nothing that stays.
    pub(super) fn leave_turning(&mut self, path: Option<&str>) -> Result<(), InstallError> {
        let Some(mut turning) = self.turning.take() else { return Ok(()) };
        while let Some((directory, leaving)) = match path {
            Some(path) => turning.inside.leave(path),
            None => turning.inside.inside().pop(),
        } {
            if let Some(foreign) = self.foreign(&directory, leaving)? {
                return Err(Conflict::InTheWay(self.ranks.id(turning.by), foreign, InTheWay::Foreign).into());
            }
        }
        if !turning.inside.inside().is_empty() {
            self.turning = Some(turning);
        }
        Ok(())
    }

    /// A path in a directory that the record does not have, if more names are there than leave.
    fn foreign(&self, directory: &str, leaving: u64) -> Result<Option<String>, InstallError> {
        let dir = self.host.tree.dir(directory).context("open", directory)?;
        let mut there = 0;
        sys::each_raw_name(dir.as_fd(), |_| there += 1).context("list", directory)?;
        if there <= leaving {
            return Ok(None);
        }
        let mut looked_at = 0;
        loop {
            let (mut names, mut at) = (Vec::new(), 0);
            let each = sys::each_raw_name(dir.as_fd(), |name| {
                at += 1;
                if at > looked_at && names.len() < NAMES {
                    names.push((name.to_string_lossy().into_owned(), false));
                }
            });
            each.context("list", directory)?;
            looked_at += names.len();
            names.sort_unstable();
            if names.is_empty() {
                return Ok(None);
            }
            let mut items = self.record.items();
            while let Some(item) = items.next_raw()? {
                let Some((_, name)) = item.path.rsplit_once('/').filter(|(above, _)| *above == directory)
                else {
                    continue;
                };
                if let Ok(at) = names.binary_search_by(|(other, _)| other.as_str().cmp(name)) {
                    names.get_mut(at).into_iter().for_each(|(_, is_known)| *is_known = true);
                }
            }
            if let Some((name, _)) = names.into_iter().find(|(_, is_known)| !is_known) {
                return Ok(Some(format!("{directory}/{name}")));
            }
        }
    }

    /// The attributes of what is at a path, if anything is.
    fn stat(&self, path: &str) -> Result<Option<Stat>, InstallError> {
        match self.host.tree.parent(path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name)) {
            Err(error) if is_absent(&error) => Ok(None),
            other => other.map(Some).context("look at", path),
        }
    }

    /// The rank of a patch that stays and needs a directory at a path or above it.
    pub(super) fn stays_below(&self, stack: Option<&Stack>, directory: Option<&Directory>) -> Option<u16> {
        let layers = stack.into_iter().flat_map(|stack| stack.layers.iter().map(|layer| layer.rank));
        let members = directory.into_iter().flat_map(|directory| directory.members_of.iter().copied());
        layers.chain(members).filter_map(|rank| self.ranks.moved(rank)).min()
    }
}

impl PathPlan {
    /// Whether what was changed by hand stays.
    fn stays_as_it_is(&self) -> bool {
        matches!(self.notice, Some(Notice::Stays(_) | Notice::NewBeside(..)))
    }
}
