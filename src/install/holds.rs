//! What a filesystem can hold of a patch's files. It is tried out on the filesystem
//! itself: types and mount options would have to be known one by one.
//!
//! vfat, for instance, has one mode and one owner for all files, no links of either kind,
//! and names that ignore case and cannot have a `:`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use super::error::is_full;
use super::sys::{self, Stat};
use crate::failpoint;
use crate::patch::archive::{Attribute, Owner};

/// The file that is tried out. Names here are no kept objects, so the sweep removes them.
const PROBE: &str = "probe";
/// A second name of it.
const SECOND: &str = "probe-2";
/// A directory that names are tried out in.
pub(super) const NAMES: &str = "probe-names";

/// What a filesystem can hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds {
    /// Each file has its own permission bits.
    pub modes: bool,
    /// A file can belong to root.
    pub root: bool,
    /// Hard links.
    pub hard_links: bool,
    /// Symbolic links.
    pub links: bool,
    /// Any name of up to 255 bytes, and case makes a difference.
    pub names: bool,
    /// The permission bits that a plain file has where it cannot have its own.
    mode: u32,
    /// The owner that a file has where it cannot have its own.
    pub owner: (u32, u32),
}

impl Holds {
    /// A filesystem on which nothing was tried out.
    pub const ALL: Self = Self {
        modes: true,
        root: true,
        hard_links: true,
        links: true,
        names: true,
        mode: 0o600,
        owner: (0, 0),
    };
}

/// Whether a filesystem gives the files in this directory a mode of its own choice.
///
/// Another user may own the directory: so only the descriptor of a new file is asked,
/// which he cannot change.
pub(super) fn imposes_modes(dir: BorrowedFd<'_>) -> io::Result<bool> {
    sys::remove_if_there(dir, PROBE)?;
    let file = sys::create_new(dir, PROBE)?;
    let imposes = !takes_modes(file.as_fd());
    sys::remove_if_there(dir, PROBE)?;
    Ok(imposes)
}

fn takes_modes(file: BorrowedFd<'_>) -> bool {
    [0o640, 0o600].into_iter().all(|mode| {
        // A refusal is seen in the mode, as is a success that changes nothing.
        let _ = sys::chmod(file, mode);
        sys::stat_dir(file).is_ok_and(|stat| stat.mode == mode)
    })
}

fn takes_owner(dir: BorrowedFd<'_>, uid: u32, gid: u32) -> bool {
    let _ = sys::chown_at(dir, PROBE, uid, gid);
    sys::stat_at(dir, PROBE).is_ok_and(|stat| (stat.uid, stat.gid) == (uid, gid))
}

/// Tries out the filesystem of a kept directory.
pub(super) fn try_out(dir: BorrowedFd<'_>) -> io::Result<Holds> {
    failpoint::hit("trying out a filesystem");
    sys::remove_if_there(dir, PROBE)?;
    sys::remove_if_there(dir, SECOND)?;
    let file = sys::create_new(dir, PROBE)?;
    let modes = takes_modes(file.as_fd());
    let stat = sys::stat_dir(file.as_fd())?;
    let holds = Holds {
        modes,
        root: takes_owner(dir, 0, 0),
        hard_links: is_possible(dir, SECOND, |name| sys::link_at(dir, PROBE, dir, name))?,
        links: is_possible(dir, SECOND, |name| sys::symlink_at(b"probe", dir, name))?,
        // Other case, special characters with a special ending, and length.
        names: ["Probe", "probe:?*\\.", &"p".repeat(255)].into_iter().try_fold(true, |all, name| {
            Ok::<_, io::Error>(all && is_possible(dir, name, |name| sys::create_new(dir, name).map(drop))?)
        })?,
        mode: stat.mode,
        owner: (stat.uid, stat.gid),
    };
    sys::remove_if_there(dir, PROBE)?;
    Ok(holds)
}

/// Makes a name and removes it again. A full disk does not tell what is possible.
fn is_possible(dir: BorrowedFd<'_>, name: &str, make: impl Fn(&str) -> io::Result<()>) -> io::Result<bool> {
    match make(name) {
        Err(error) if is_full(&error) => Err(error),
        made => Ok(made.is_ok() && sys::unlink_at(dir, name).is_ok()),
    }
}

/// The kinds of extended attributes that a file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttributeKinds {
    /// Any `user.*`.
    pub user: bool,
    /// `security.capability`.
    pub capability: bool,
}

impl AttributeKinds {
    /// The kinds of these.
    pub fn of(attributes: &[Attribute]) -> Self {
        let user = attributes.iter().any(|attribute| attribute.name.starts_with("user."));
        Self { user, capability: attributes.iter().any(|attribute| !attribute.name.starts_with("user.")) }
    }
}

/// Whether the filesystem of a kept directory lets a file have `user.*`, or capabilities.
pub(super) fn tries_attribute(kept: BorrowedFd<'_>, is_capability: bool) -> io::Result<bool> {
    // Revision 2 of `vfs_cap_data` with no capability (linux/capability.h).
    let none = [0x0200_0000_u32, 0, 0, 0, 0].map(u32::to_le_bytes);
    let (name, value) = if is_capability {
        (c"security.capability", none.as_flattened())
    } else {
        (c"user.thimble", &[][..])
    };
    failpoint::hit("trying out an attribute");
    sys::remove_if_there(kept, PROBE)?;
    let file = sys::create_new(kept, PROBE)?;
    let takes = sys::set_xattr(&file, name, value).is_ok();
    sys::remove_if_there(kept, PROBE)?;
    Ok(takes)
}

/// Whether the filesystem of a kept directory lets a file have this owner.
pub(super) fn tries_owner(kept: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<bool> {
    failpoint::hit("trying out an owner");
    sys::remove_if_there(kept, PROBE)?;
    drop(sys::create_new(kept, PROBE)?);
    let takes = takes_owner(kept, uid, gid);
    sys::remove_if_there(kept, PROBE)?;
    Ok(takes)
}

/// Removes the directory that names are tried out in, if a crash left it.
pub(super) fn clear_names(kept: BorrowedFd<'_>) -> io::Result<()> {
    let dir = match sys::open_dir(kept, NAMES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for name in sys::names(dir.as_fd())? {
        sys::remove_if_there(dir.as_fd(), &name)?;
    }
    sys::rmdir_at(kept, NAMES)
}

/// Gives a new file or directory its extended attributes.
pub(super) fn set_attributes(file: BorrowedFd<'_>, attributes: &[Attribute]) -> io::Result<()> {
    attributes.iter().try_for_each(|Attribute { name, value }| {
        let name = CString::new(name.as_str()).map_err(|_| io::ErrorKind::InvalidInput)?;
        sys::set_xattr(&file, &name, value)
    })
}

/// Gives a new inode its owner, mode, attributes and time, as far as its filesystem takes
/// them.
/// `file` is its descriptor; a link has none. Returns what was granted.
pub(super) fn grant(
    dir: BorrowedFd<'_>,
    name: &str,
    file: Option<BorrowedFd<'_>>,
    owner: &Owner,
    attributes: &[Attribute],
    holds: &Holds,
) -> io::Result<Stat> {
    let Owner { mode, uid, gid, mtime_s, mtime_ns } = *owner;
    if holds.root || (uid, gid) != (0, 0) {
        sys::chown_at(dir, name, uid, gid)?;
    }
    // Mode after owner: a change of owner clears set-user-id.
    if let Some(file) = file
        && holds.modes
    {
        sys::chmod(file, mode)?;
    }
    // After the owner: a change of it clears capabilities.
    if let Some(file) = file {
        set_attributes(file, attributes)?;
    }
    match sys::set_mtime_at(dir, name, mtime_s, mtime_ns) {
        // The time is not compared.
        Err(_) if !holds.modes => {}
        other => other?,
    }
    sys::stat_at(dir, name)
}

impl Holds {
    /// The mode that a file gets in place of `mode`, if all users may read it then who may
    /// not by `mode`.
    pub fn opened(&self, mode: u32) -> Option<u32> {
        (!self.modes && self.mode & !mode & 0o004 != 0).then_some(self.mode)
    }
}
