//! thimble's own file, where a patch replaces it.
//!
//! The new one is tried before it is switched in, and the old one keeps a second
//! name, `.thimble/guard`: on the disk that the tree is on, where programs may run
//! and beside the journal, whose words it knows. While the new one has not shown
//! that it hears a controller, a supervisor runs `/.thimble/guard guard` before each
//! start of it, and that old one brings itself back where the new one does not do.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::installer::Installer;
use super::kept::duplicate;
use super::plan::{Moves, Switch};
use super::scripts::Trial;
use super::sys;
use crate::failpoint;

/// The old thimble's second name.
pub(super) const GUARD: &str = "guard";
/// What it is called until it is whole.
pub(super) const GUARD_DRAFT: &str = ".thimble~guard";

/// What the kernel puts behind the path of a file that has lost its name.
const LOST: &[u8] = b" (deleted)";

/// The file that this process was started from, and whether another one has its
/// name now. `None` without /proc.
#[must_use]
pub fn own_file() -> Option<(PathBuf, bool)> {
    let path = fs::read_link("/proc/self/exe").ok()?.into_os_string().into_vec();
    Some(match path.strip_suffix(LOST) {
        Some(path) => (PathBuf::from(std::ffi::OsStr::from_bytes(path)), true),
        None => (PathBuf::from(std::ffi::OsString::from_vec(path)), false),
    })
}

/// The switch that replaces thimble's own file, and whether that has been done:
/// this process is then the one that is not in place.
pub(super) fn own_switch<'m>(root: &Path, moves: &'m Moves) -> Option<(&'m Switch, bool)> {
    let (path, is_superseded) = own_file()?;
    let path = path.strip_prefix(root).ok()?.to_str()?;
    let switch = moves.switches.iter().find(|switch| switch.path == path)?;
    Some((switch, is_superseded))
}

impl Installer<'_> {
    /// Whether thimble's own file is among what changes places; `Some(true)` where it
    /// has, and this process is not what is in place.
    pub fn own(&self, moves: &Moves) -> Option<bool> {
        own_switch(self.scripts.root(), moves).map(|(_, is_superseded)| is_superseded)
    }

    /// Refuses a plan that would leave no thimble.
    pub fn check_own(&self, moves: &Moves) -> Result<(), InstallError> {
        match own_switch(self.scripts.root(), moves) {
            Some((Switch { path, to: None, .. }, _)) => {
                Err(InstallRefusal::NoThimbleLeft(path.clone()).into())
            }
            _ => Ok(()),
        }
    }

    /// Tries the thimble that is to come, where it waits; nothing is switched yet.
    pub fn try_out(&self, moves: &Moves) -> Result<(), InstallError> {
        let root = self.scripts.root();
        let Some((Switch { mount, to: Some(to), .. }, _)) = own_switch(root, moves) else { return Ok(()) };
        failpoint::hit("trying the new thimble");
        let mut command = Command::new(root.join(mount).join(".thimble/kept").join(to.number.to_string()));
        command.arg("--version");
        match self.scripts.try_out(command) {
            Trial { how: None, said } if said.starts_with("thimble ") => {
                log::info!("the new thimble runs: {said}");
                Ok(())
            }
            trial => Err(InstallError::NewThimble(trial)),
        }
    }

    /// Keeps the old thimble as the guard of the new one.
    pub fn keep_guard(&self, moves: &Moves) -> Result<(), InstallError> {
        let Some((Switch { path, .. }, _)) = own_switch(self.scripts.root(), moves) else { return Ok(()) };
        let (parent, name) = self.tree.parent(path).context("open the directory of", path)?;
        self.forget_guard()?;
        duplicate(parent.as_fd(), name, self.home.as_fd(), GUARD).context("keep", path)
    }

    /// Whether this process is the old thimble's copy.
    pub fn is_guard(&self) -> bool {
        own_file().is_some_and(|(path, _)| path == self.scripts.root().join(".thimble").join(GUARD))
    }

    /// Removes the guard: what is in place needs none.
    pub fn forget_guard(&self) -> Result<(), InstallError> {
        for name in [GUARD, GUARD_DRAFT] {
            failpoint::hit("removing the guard");
            sys::remove_if_there(self.home.as_fd(), name).context("remove", ".thimble/guard")?;
        }
        Ok(())
    }
}
