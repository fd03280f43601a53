//! Where a plan keeps objects, and finds those that are kept.

use super::Planner;
use crate::install::conflict::Conflict;
use crate::install::error::InstallError;
use crate::install::moves::Switch;
use crate::install::record::{Access, Stack};

impl Planner<'_, '_> {
    /// Opens the kept directory of a filesystem. It may be missing only where no patch had
    /// files. Refuses one that its owner could take away with the directory above it.
    pub(super) fn open(&mut self, mount: &str) -> Result<(), InstallError> {
        if self.kept.is_open(mount) {
            return Ok(());
        }
        self.kept.add(mount, !self.record.mounts.iter().any(|known| known == mount))?;
        let top = self.host.tree.directory_stat(mount)?;
        // In a directory like /tmp, only root can take away what is root's.
        let is_shared = top.uid == 0 && top.mode & 0o1000 != 0;
        if !mount.is_empty() && !top.is_roots_alone() && !is_shared {
            self.kept.try_out(mount)?;
            // What the mount says of all files is known, and not one user's doing.
            if self.kept.holds(mount).modes {
                return Err(Conflict::OthersTop(mount.to_owned(), Access::of(&top).to_string()).into());
            }
        }
        Ok(())
    }

    /// Finds the kept object that enters a path: on its own filesystem, or moved to the
    /// root's.
    pub(super) fn find(&mut self, switch: &mut Switch, old: Option<&Stack>) -> Result<(), InstallError> {
        let Switch { path, mount, to: Some(to), .. } = switch else { return Ok(()) };
        let name = to.number.to_string();
        if to.is_fresh || self.kept.has(mount, &name)? {
            return Ok(());
        }
        if !self.kept.has("", &name)? {
            let top = old.and_then(Stack::top).map(|top| self.ranks.old_id(top.rank));
            return Err(Conflict::Lost(top.unwrap_or_default(), path.clone()).into());
        }
        // Undoing leaves it where it lies now.
        to.is_fresh = true;
        to.mode = to.mode.or(old.and_then(|stack| stack.base).map(|base| base.mode));
        self.needs.add(mount, self.kept.size_bytes("", &name)?);
        self.needs.returning.push((mount.clone(), to.number));
        Ok(())
    }
}
