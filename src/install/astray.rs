//! Whether somebody other than root can lead a path astray, or has done so.
//!
//! Who owns a directory on the way to a file, or may write there, can put something else in
//! its place at any time. That must not stop an install from being undone: what is not there
//! any more is told, and the rest is put back. What root did is an obstacle that the operator
//! must mend.

use std::os::fd::{AsFd, OwnedFd};

use super::error::{ErrorContext, InstallError};
use super::kept::Kept;
use super::sys::{self, InodeKind};
use super::tree::{RootTree, is_absent};

/// What was found on the way to a directory.
struct Way {
    /// The last directory of it that is there.
    reached: OwnedFd,
    /// All of it is there.
    is_whole: bool,
    /// A user has mounted a filesystem of his own on it.
    is_users: bool,
    /// Root alone may write to the directories that are there.
    is_roots_alone: bool,
}

fn walk(tree: &RootTree, directory: &str) -> Result<Way, InstallError> {
    let reached = tree.dir("").context("open", "")?;
    let is_roots_alone = sys::stat_dir(reached.as_fd()).context("look at", "")?.is_roots_alone();
    let mut way = Way { reached, is_whole: true, is_users: false, is_roots_alone };
    let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
    for end in ends.filter(|end| *end > 0) {
        let (path, _) = directory.split_at(end);
        way.is_users = tree.is_users(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        match sys::open_dir(way.reached.as_fd(), name) {
            _ if way.is_users => way.is_whole = false,
            Err(error) if is_absent(&error) => way.is_whole = false,
            other => way.reached = other.context("open", path)?,
        }
        if !way.is_whole {
            break;
        }
        way.is_roots_alone &= sys::stat_dir(way.reached.as_fd()).context("look at", path)?.is_roots_alone();
    }
    Ok(way)
}

/// Whether root alone can change what a directory's path leads to.
pub(super) fn is_roots_alone(tree: &RootTree, directory: &str) -> Result<bool, InstallError> {
    walk(tree, directory).map(|way| way.is_whole && way.is_roots_alone)
}

/// Whether somebody other than root has led a directory's path astray: a part of it is
/// missing, or something else. Not so if another filesystem is mounted over it: root did that,
/// or the user's own one is known.
pub(super) fn is_led_astray(
    tree: &RootTree,
    kept: &Kept<'_>,
    mount: &str,
    directory: &str,
) -> Result<bool, InstallError> {
    let way = walk(tree, directory)?;
    if way.is_users || way.is_whole || way.is_roots_alone {
        return Ok(way.is_users);
    }
    let own = sys::stat_dir(kept.dir(mount)?).context("look at .thimble/kept in", mount)?;
    let stat = sys::stat_dir(way.reached.as_fd()).context("look at the directory of", directory)?;
    Ok((stat.device, stat.mount) == (own.device, own.mount))
}

/// The same of a file's path. There may also be a directory in the place of the file.
pub(super) fn is_file_led_astray(
    tree: &RootTree,
    kept: &Kept<'_>,
    mount: &str,
    path: &str,
) -> Result<bool, InstallError> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if tree.is_users(path) || is_led_astray(tree, kept, mount, directory)? {
        return Ok(true);
    }
    let way = walk(tree, directory)?;
    let is_directory = way.is_whole
        && !way.is_roots_alone
        && sys::stat_at(way.reached.as_fd(), name).is_ok_and(|stat| stat.kind == InodeKind::Directory);
    Ok(is_directory)
}
