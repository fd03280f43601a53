//! The owner and mode of directories that patches list: an install sets them, and undoing it
//! gives the former ones back.
//!
//! A power cut may leave the new owner with the old mode, or the other way round. So undoing
//! takes any mixture of the two as the install's own work, and all else as a change by hand.

use std::io;
use std::os::fd::AsFd;

use super::error::{ErrorContext, InstallError};
use super::kept::Kept;
use super::moves::AccessChange;
use super::record::Access;
use super::sys::{self, Stat};
use super::tree::RootTree;
use crate::failpoint;
use crate::patch::archive::Owner;

impl Access {
    /// That of an inode.
    pub fn of(stat: &Stat) -> Self {
        Self { mode: stat.mode as u16, uid: stat.uid, gid: stat.gid }
    }

    /// That of a member.
    pub fn of_member(owner: &Owner) -> Self {
        Self { mode: owner.mode as u16, uid: owner.uid, gid: owner.gid }
    }

    /// Whether an interrupted change between these two can have left it.
    fn is_between(self, a: Self, b: Self) -> bool {
        let owner = |access: Self| (access.uid, access.gid);
        [a.mode, b.mode].contains(&self.mode) && [owner(a), owner(b)].contains(&owner(self))
    }
}

/// Gives a directory its new owner and mode. If they were changed since the plan, returns what
/// they are, and changes nothing.
pub(super) fn set(
    tree: &RootTree,
    kept: &Kept<'_>,
    change: &AccessChange,
) -> Result<Option<Access>, InstallError> {
    give(tree, kept, change, change.to, |has| has == change.from)
}

/// Gives a directory its former owner and mode back. If they were changed by hand, returns what
/// they are, and changes nothing.
pub(super) fn set_back(
    tree: &RootTree,
    kept: &Kept<'_>,
    change: &AccessChange,
) -> Result<Option<Access>, InstallError> {
    give(tree, kept, change, change.from, |has| has.is_between(change.from, change.to))
}

/// The directory is looked at where it is changed: its owner may put another one in its place.
fn give(
    tree: &RootTree,
    kept: &Kept<'_>,
    AccessChange { path, mount, .. }: &AccessChange,
    to: Access,
    is_known: impl Fn(Access) -> bool,
) -> Result<Option<Access>, InstallError> {
    let dir = tree.dir(path).context("open the directory", path)?;
    let stat = sys::stat_dir(dir.as_fd()).context("look at", path)?;
    let own = sys::stat_dir(kept.dir(mount)?).context("look at .thimble/kept in", mount)?;
    if (stat.device, stat.mount) != (own.device, own.mount) {
        return Err(io::Error::from_raw_os_error(libc::EXDEV)).context("set the owner of", path);
    }
    let has = Access::of(&stat);
    if !is_known(has) {
        return Ok(Some(has));
    }
    failpoint::hit("setting a directory's owner");
    sys::chown_at(dir.as_fd(), "", to.uid, to.gid).context("set the owner of", path)?;
    failpoint::hit("setting a directory's mode");
    sys::chmod(dir.as_fd(), to.mode.into()).context("set the mode of", path)?;
    Ok(None)
}
