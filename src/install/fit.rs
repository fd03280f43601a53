//! Whether the filesystems of a host can hold what a patch brings: links, modes, owners,
//! names.

use std::cmp::Ordering;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::conflict::{Conflict, Unfit};
use super::error::{ErrorContext, InstallError};
use super::holds::{self, AttributeKinds, NAMES};
use super::kept::Kept;
use super::sorter::{Sorted, Sorter};
use super::sys;
use super::tree::RootTree;
use crate::failpoint;
use crate::sorted::FlatSet;
use crate::types::PatchId;

/// The bits of set-user-id, set-group-id and sticky.
const SPECIAL: u32 = 0o7000;

/// A file, link or directory that an install will make.
pub(super) struct Candidate<'p> {
    pub patch: &'p PatchId,
    pub mount: &'p str,
    pub path: &'p str,
    pub is_link: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub attributes: AttributeKinds,
}

/// A name on a filesystem that cannot have all names.
#[derive(Clone, Serialize, Deserialize)]
struct NewName {
    mount: String,
    /// The directory of the name.
    above: String,
    name: String,
    /// The file that is to be made, of this patch.
    path: String,
    patch: PatchId,
}

impl Sorted for NewName {
    fn order(&self, other: &Self) -> Ordering {
        // Of those that need a directory, the first is the one that is told: a file.
        self.key().cmp(&other.key()).then(other.path.len().cmp(&self.path.len()))
    }

    fn heap_bytes(&self) -> usize {
        self.mount.len() + self.above.len() + self.name.len() + self.path.len()
    }
}

impl NewName {
    fn key(&self) -> (&str, &str, &str) {
        (&self.mount, &self.above, &self.name)
    }
}

/// What has been checked so far.
pub(super) struct Fit<'h> {
    /// Owners that the filesystem at a mount point takes.
    owners: FlatSet<(String, u32, u32)>,
    /// Kinds of attributes that it takes: capabilities, or `user.*`.
    attributes: FlatSet<(String, bool)>,
    names: Sorter<'h, NewName>,
}

impl<'h> Fit<'h> {
    /// Nothing yet. `home` is the directory for a file.
    pub fn new(home: BorrowedFd<'h>) -> Self {
        Self { owners: FlatSet::default(), attributes: FlatSet::default(), names: Sorter::new(home) }
    }

    /// Refuses what its filesystem cannot hold. Names are checked at the [end](Self::end).
    pub fn check(&mut self, kept: &Kept<'_>, candidate: &Candidate<'_>) -> Result<(), InstallError> {
        let Candidate { patch, mount, path, is_link, mode, uid, gid, attributes } = *candidate;
        let holds = kept.holds(mount);
        let refuse =
            |unfit| Err(Conflict::Unfit { patch: patch.clone(), path: path.to_owned(), unfit }.into());
        if is_link && !holds.links {
            return refuse(Unfit::Link);
        }
        if !holds.modes && !is_link && mode & SPECIAL != 0 {
            return refuse(Unfit::Mode(mode));
        }
        // Root's files are taken as they come: the mount says whose they are.
        if (uid, gid) != (0, 0) {
            let owner = (mount.to_owned(), uid, gid);
            if !self.owners.contains(&owner) {
                let takes = holds::tries_owner(kept.dir(mount)?, uid, gid);
                if !takes.context("try out owners in .thimble/kept in", mount)? {
                    return refuse(Unfit::Owner((uid, gid), holds.owner));
                }
                self.owners.insert(owner);
            }
        }
        for is_capability in
            [attributes.user.then_some(false), attributes.capability.then_some(true)].into_iter().flatten()
        {
            let kind = (mount.to_owned(), is_capability);
            if !self.attributes.contains(&kind) {
                let takes = holds::tries_attribute(kept.dir(mount)?, is_capability);
                if !takes.context("try out attributes in .thimble/kept in", mount)? {
                    return refuse(if is_capability { Unfit::Capability } else { Unfit::Attribute });
                }
                self.attributes.insert(kind);
            }
        }
        if !holds.names {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            for end in ends.filter(|end| *end > mount.len()) {
                let (step, _) = path.split_at(end);
                let (above, name) = step.rsplit_once('/').unwrap_or(("", step));
                let [mount, above, name, path] = [mount, above, name, path].map(str::to_owned);
                let name = NewName { mount, above, name, path, patch: patch.clone() };
                self.names.push(name).context("sort in", ".thimble")?;
            }
        }
        Ok(())
    }

    /// Refuses the first name that cannot be had, or that is another one's in other
    /// letters. Each name that does not exist yet is made in a directory for trials, with
    /// those of the same directory.
    pub fn end(self, tree: &RootTree, kept: &Kept<'_>) -> Result<(), InstallError> {
        let names = self.names.sorted().context("sort in", ".thimble")?;
        let mut names = names.iter().context("sort in", ".thimble")?;
        let mut trial: Option<Trial<'_>> = None;
        let mut last: Option<NewName> = None;
        while let Some(name) = names.next().context("sort in", ".thimble")? {
            if last.as_ref().is_some_and(|last| last.key() == name.key()) {
                continue;
            }
            let trial = match &mut trial {
                Some(trial) if trial.mount == name.mount => trial,
                other => {
                    *other = None;
                    other.insert(Trial::begin(kept, &name.mount)?)
                }
            };
            if last.as_ref().is_none_or(|last| last.above != name.above) {
                trial.clear(&name.above)?;
            }
            if let Some(unfit) = trial.check(tree, &name)? {
                let NewName { patch, path, .. } = name;
                return Err(Conflict::Unfit { patch, path, unfit }.into());
            }
            last = Some(name);
        }
        Ok(())
    }
}

/// The directory that names are tried out in, while it exists.
struct Trial<'k> {
    mount: String,
    kept: BorrowedFd<'k>,
    dir: OwnedFd,
}

/// A trial leaves nothing. What a crash leaves, the next sweep removes.
impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let _ = holds::clear_names(self.kept);
    }
}

impl<'k> Trial<'k> {
    fn begin(kept: &'k Kept<'_>, mount: &str) -> Result<Self, InstallError> {
        let kept = kept.dir(mount)?;
        holds::clear_names(kept).context("clear .thimble/kept in", mount)?;
        failpoint::hit("trying out names");
        sys::mkdir_at(kept, NAMES).context("make a directory in .thimble/kept in", mount)?;
        let dir = sys::open_dir(kept, NAMES).context("open a directory in .thimble/kept in", mount)?;
        Ok(Self { mount: mount.to_owned(), kept, dir })
    }

    fn clear(&self, above: &str) -> Result<(), InstallError> {
        for name in sys::names(self.dir.as_fd()).context("list", above)? {
            sys::remove_if_there(self.dir.as_fd(), &name).context("remove", &name)?;
        }
        Ok(())
    }

    fn check(&self, tree: &RootTree, new: &NewName) -> Result<Option<Unfit>, InstallError> {
        let NewName { above, name, path, .. } = new;
        let trial = self.dir.as_fd();
        let there = tree.dir(above).and_then(|dir| sys::stat_at(dir.as_fd(), name).map(|_| dir));
        let there = match there {
            Ok(dir) => sys::names(dir.as_fd()),
            Err(_) => match sys::create_new(trial, name) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Err(error),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Ok(Some(Unfit::Name)),
                _ => sys::names(trial),
            },
        };
        let there = there.context("try out the name of", path)?;
        if there.iter().any(|other| other == name) {
            return Ok(None);
        }
        let lower = name.to_lowercase();
        let other = there.into_iter().find(|other| other.to_lowercase() == lower);
        let join = |name| if above.is_empty() { name } else { format!("{above}/{name}") };
        Ok(Some(other.map_or(Unfit::Name, |other| Unfit::SameName(join(other)))))
    }
}
