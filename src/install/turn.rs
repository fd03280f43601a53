//! Directories that turn into files or links, and back.
//!
//! A directory goes by `rmdir`, so that what others put into it meanwhile is not lost: the
//! install fails then and is undone. Before that an empty directory with its attributes is
//! made in `.thimble/kept`, and takes its place if the install is undone:
//!
//! ```text
//! kept/N   the path is
//! no       a directory: not cleared, or already back
//! yes      a directory: not cleared yet; the sweep removes kept/N
//! yes      anything else: cleared
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::beside::free_beside;
use super::error::{ErrorContext, InstallError};
use super::installer::Installer;
use super::journal::Journal;
use super::kept::Kept;
use super::moves::{Clear, Move, Switch};
use super::order::Left;
use super::sys::{self, InodeKind};
use super::tree::is_absent;
use crate::failpoint;

impl Installer<'_> {
    /// Makes the directories that take the place of those that will be cleared, if the
    /// install is undone.
    pub fn keep_directories(&self, journal: &Journal, kept: &Kept<'_>) -> Result<(), InstallError> {
        let mut moves = journal.moves();
        while let Some(planned) = moves.next()? {
            if let Move::Clear(Clear { path, mount, number }) = planned {
                let (parent, name) = self.tree.parent(&path).context("open the directory of", &path)?;
                let copied = copy_directory(parent.as_fd(), name, kept.dir(&mount)?, &number.to_string());
                copied.context("keep", &path)?;
            }
        }
        Ok(())
    }

    /// Takes away what must go before directories are made and files put in place, and
    /// clears directories, the innermost first.
    pub fn make_way(&self, journal: &Journal, kept: &Kept<'_>) -> Result<(), InstallError> {
        let mut inside = Left::default();
        let mut moves = journal.moves();
        while let Some(planned) = moves.next()? {
            match planned {
                Move::MakeWay(Switch { path, mount, from, .. }) => {
                    while let Some((left, ())) = inside.leave(&path) {
                        self.clear(&left)?;
                    }
                    if let Some(from) = from {
                        kept.take(&path, &mount, &from.to_string())?;
                    }
                }
                Move::Clear(Clear { path, .. }) => {
                    while let Some((left, ())) = inside.leave(&path) {
                        self.clear(&left)?;
                    }
                    inside.enter(path, ());
                }
                _ => {}
            }
        }
        inside.end().try_for_each(|(left, ())| self.clear(&left))
    }

    fn clear(&self, path: &str) -> Result<(), InstallError> {
        failpoint::hit("clearing a directory");
        self.tree.forget();
        match self.tree.parent(path).and_then(|(dir, name)| sys::rmdir_at(dir.as_fd(), name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.context("clear", path),
        }
    }

    /// Puts a directory back that was cleared. What took its place is gone already.
    pub fn restore_directory(&self, kept: &Kept<'_>, clear: &Clear) -> Result<(), InstallError> {
        let Clear { path, mount, number } = clear;
        let name = number.to_string();
        if self.is_directory(path)? || !kept.has(mount, &name)? {
            return Ok(());
        }
        kept.put_new(mount, &name, path)
    }

    /// Puts what made way back in its place. A directory that is there still holds what the
    /// install did not bring: it gets a name beside it.
    pub fn restore_way(
        &self,
        kept: &Kept<'_>,
        switch: &Switch,
        restore: impl FnOnce(&Kept<'_>, &Switch) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let Switch { path, mount, from, .. } = switch;
        let Some(from) = from else { return Ok(()) };
        if kept.has(mount, &from.to_string())? && self.is_directory(path)? {
            let beside = free_beside(&self.tree, path, "thimble-saved")?;
            let (parent, name) = self.tree.parent(path).context("open the directory of", path)?;
            let to = beside.rsplit('/').next().unwrap_or(&beside);
            failpoint::hit("renaming a directory of others");
            sys::rename_new_at(parent.as_fd(), name, parent.as_fd(), to).context("save", path)?;
            self.tree.forget();
            log::warn!("the directory /{path} holds files that no patch brought: it is now /{beside}");
        }
        restore(kept, switch)
    }

    /// Whether a directory is at a path.
    pub fn is_directory(&self, path: &str) -> Result<bool, InstallError> {
        match self.tree.parent(path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name)) {
            Ok(stat) => Ok(stat.kind == InodeKind::Directory),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).context("look at", path),
        }
    }
}

/// Makes an empty directory with the attributes of another.
fn copy_directory(from: BorrowedFd<'_>, name: &str, to: BorrowedFd<'_>, to_name: &str) -> io::Result<()> {
    failpoint::hit("copying a directory");
    let from = File::from(sys::open_dir(from, name)?);
    sys::mkdir_at(to, to_name)?;
    let made = File::from(sys::open_dir(to, to_name)?);
    let (stat, own) = (sys::stat_dir(from.as_fd())?, sys::stat_dir(made.as_fd())?);
    // Where the mount says what all have, there is nothing to set.
    if (stat.uid, stat.gid) != (own.uid, own.gid) {
        sys::chown_at(made.as_fd(), "", stat.uid, stat.gid)?;
    }
    if stat.mode != own.mode {
        sys::chmod(made.as_fd(), stat.mode)?;
    }
    sys::copy_xattrs(&from, &made)
}
