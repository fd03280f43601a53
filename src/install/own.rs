//! Installs that replace thimble's own file.
//!
//! The new file is tried out before the switch, and the old one gets a second name,
//! `.thimble/guard`: on the tree's filesystem, from which programs may run, and beside
//! the journal, whose format it knows. Until the new thimble has heard a controller, a
//! supervisor runs `/.thimble/guard guard` before each start of it; the guard undoes the
//! install if the new thimble does not work.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::duplicate::duplicate;
use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::installer::Installer;
use super::journal::Journal;
use super::moves::Switch;
use super::scripts::Trial;
use super::sys;
use crate::failpoint;

/// The old thimble's second name.
pub(super) const GUARD: &str = "guard";
/// Its name while a copy of it is being written.
pub(super) const GUARD_DRAFT: &str = ".thimble~guard";

/// The kernel's suffix on the path of a file that was unlinked or replaced.
const DELETED: &[u8] = b" (deleted)";

/// The file that this process was started from, and whether another file has its name
/// now. `None` if there is no /proc.
#[must_use]
pub fn own_file() -> Option<(PathBuf, bool)> {
    let path = fs::read_link("/proc/self/exe").ok()?.into_os_string().into_vec();
    Some(match path.strip_suffix(DELETED) {
        Some(path) => (PathBuf::from(std::ffi::OsStr::from_bytes(path)), true),
        None => (PathBuf::from(std::ffi::OsString::from_vec(path)), false),
    })
}

/// The switch of thimble's own file, and whether it has been done: this process then
/// runs a file that is not in place.
fn own_switch(root: &Path, journal: &Journal) -> Result<Option<(Switch, bool)>, InstallError> {
    let Some((file, is_superseded)) = own_file() else { return Ok(None) };
    let Some(path) = file.strip_prefix(root).ok().and_then(Path::to_str) else { return Ok(None) };
    let mut moves = journal.moves();
    while let Some(switch) = moves.next_switch()? {
        if switch.path == path {
            return Ok(Some((switch, is_superseded)));
        }
    }
    Ok(None)
}

impl Installer<'_> {
    /// `Some` if an install switches thimble's own file; `Some(true)` if it has done so and
    /// this process runs the file that is not in place.
    pub fn own(&self, journal: &Journal) -> Result<Option<bool>, InstallError> {
        Ok(own_switch(self.scripts.root(), journal)?.map(|(_, is_superseded)| is_superseded))
    }

    /// Refuses a plan that would remove thimble and bring no other.
    pub fn check_own(&self, journal: &Journal) -> Result<(), InstallError> {
        match own_switch(self.scripts.root(), journal)? {
            Some((Switch { path, to: None, .. }, _)) => Err(InstallRefusal::NoThimbleLeft(path).into()),
            _ => Ok(()),
        }
    }

    /// Tries out the new thimble where it is staged, before the switch.
    pub fn try_out(&self, journal: &Journal) -> Result<(), InstallError> {
        let root = self.scripts.root();
        let Some((Switch { mount, to: Some(to), .. }, _)) = own_switch(root, journal)? else {
            return Ok(());
        };
        failpoint::hit("trying the new thimble");
        let mut command = Command::new(root.join(mount).join(".thimble/kept").join(to.number.to_string()));
        command.arg("--version");
        match self.scripts.try_out(command) {
            Trial { error: None, output } if output.starts_with("thimble ") => {
                log::info!("the new thimble runs: {output}");
                Ok(())
            }
            trial => Err(InstallError::NewThimble(trial)),
        }
    }

    /// Keeps the old thimble as the guard.
    pub fn keep_guard(&self, journal: &Journal) -> Result<(), InstallError> {
        let own = own_switch(self.scripts.root(), journal)?;
        let Some((Switch { path, .. }, _)) = &own else { return Ok(()) };
        let (parent, name) = self.tree.parent(path).context("open the directory of", path)?;
        self.remove_guard()?;
        duplicate(parent.as_fd(), name, self.home.as_fd(), GUARD).context("keep", path)
    }

    /// Whether this process runs the guard.
    pub fn is_guard(&self) -> bool {
        own_file().is_some_and(|(path, _)| path == self.scripts.root().join(".thimble").join(GUARD))
    }

    /// Removes the guard.
    pub fn remove_guard(&self) -> Result<(), InstallError> {
        for name in [GUARD, GUARD_DRAFT] {
            failpoint::hit("removing the guard");
            sys::remove_if_there(self.home.as_fd(), name).context("remove", ".thimble/guard")?;
        }
        Ok(())
    }
}
