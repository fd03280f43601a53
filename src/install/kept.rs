//! Objects that are not in place: staged, displaced, or covered by other layers.
//!
//! Each filesystem that a patch has files on has its own `.thimble/kept` at its mount
//! point, so that putting an object in place is a rename. The record numbers the objects,
//! and the numbers are their names here. Only root may enter the directory: a displaced
//! set-user-id program with a vulnerability must not stay in reach, nor a half-written
//! new one. That is why new files are staged here and not beside their targets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::capability;
use super::duplicate::{copy_whole, duplicate, is_linkless};
use super::error::{ErrorContext, InstallError};
use super::holds::{self, Holds};
use super::moves::NewDirectory;
use super::record::ARMED;
use super::record_file::Record;
use super::sys::{self, InodeKind};
use super::tree::{RootTree, is_absent};
use super::window::Window;
use crate::failpoint;
use crate::job::Space;
use crate::sorted::FlatMap;

/// A block, in bytes. A file's last bytes may take one, and its inode another.
pub(super) const BLOCK_BYTES: u64 = 4_096;

/// The name of an object that undoing puts back into the kept directory, until that is
/// durable.
pub(super) fn returning(number: u64) -> String {
    format!("{number}~")
}

/// The name of an object that could not be put back where it was: its directory is not there
/// any more. It stays until somebody takes it.
pub(super) fn lost(number: u64) -> String {
    format!("{number}{LOST}")
}
const LOST: &str = ".lost";

/// The name of a directory that is being made, here until it is renamed into place.
const NEW_DIRECTORY: &str = "directory";

/// The kept directories of the filesystems that an install touches.
pub(super) struct Kept<'t> {
    tree: &'t RootTree,
    dirs: FlatMap<String, OwnedFd>,
    holds: FlatMap<String, Holds>,
    /// Mount points whose kept directory was made here; without [`Self::stay`], it goes
    /// again.
    made: Vec<String>,
}

/// A refused install leaves no directory on any filesystem.
impl Drop for Kept<'_> {
    fn drop(&mut self) {
        for mount in &self.made {
            // What cannot be removed does no harm.
            let _ = self.remove_empty(mount);
        }
    }
}

impl<'t> Kept<'t> {
    /// Opens the kept directories of the filesystems with these mount points. A missing
    /// one is made if `make` allows it; otherwise the filesystem is not mounted, which is
    /// an error.
    pub fn open<'m>(
        tree: &'t RootTree,
        mounts: impl IntoIterator<Item = &'m str>,
        make: impl Fn(&str) -> bool,
    ) -> Result<Self, InstallError> {
        let mut kept = Self { tree, dirs: FlatMap::default(), holds: FlatMap::default(), made: Vec::new() };
        mounts.into_iter().chain([""]).try_for_each(|mount| kept.add(mount, make(mount)))?;
        Ok(kept)
    }

    /// Opens the kept directory of one more filesystem. A missing one is made if `make`.
    pub fn add(&mut self, mount: &str, make: bool) -> Result<(), InstallError> {
        if self.dirs.contains_key(mount) {
            return Ok(());
        }
        let is_new = make && self.tree.dir(&format!("{mount}/.thimble/kept")).is_err();
        let dir = open_kept(self.tree, mount, make).context("open .thimble/kept in", mount)?;
        self.dirs.insert(mount.to_owned(), dir);
        if is_new && !mount.is_empty() {
            self.made.push(mount.to_owned());
        }
        Ok(())
    }

    /// The install goes on: what was made stays.
    pub fn stay(&mut self) {
        self.made.clear();
    }

    /// Tries out what a filesystem can hold, if that was not done yet.
    pub fn try_out(&mut self, mount: &str) -> Result<(), InstallError> {
        if !self.holds.contains_key(mount) {
            let holds = holds::try_out(self.dir(mount)?).context("try out .thimble/kept in", mount)?;
            self.holds.insert(mount.to_owned(), holds);
        }
        Ok(())
    }

    /// What a filesystem can hold, if it was tried out.
    pub fn holds(&self, mount: &str) -> &Holds {
        self.holds.get(mount).unwrap_or(&Holds::ALL)
    }

    /// The kept directory of a filesystem.
    pub fn dir(&self, mount: &str) -> Result<BorrowedFd<'_>, InstallError> {
        let dir = self.dirs.get(mount).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        dir.map(AsFd::as_fd).context("find .thimble/kept in", mount)
    }

    /// Whether an object is kept under this name.
    pub fn has(&self, mount: &str, name: &str) -> Result<bool, InstallError> {
        match sys::stat_at(self.dir(mount)?, name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context("look at", &format!("{mount}/.thimble/kept/{name}")),
        }
    }

    /// The size of a kept object; 0 if there is none of this name.
    pub fn size_bytes(&self, mount: &str, name: &str) -> Result<u64, InstallError> {
        match sys::stat_at(self.dir(mount)?, name) {
            Ok(stat) => Ok(stat.size_bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error).context("look at", &format!("{mount}/.thimble/kept/{name}")),
        }
    }

    /// Gives the inode at `path` a second name here, which keeps all its attributes.
    /// Copies it if hard links are impossible. Returns false if there is no room for a
    /// copy, so that [`Self::take`] must come before [`Self::put`].
    pub fn keep(&self, path: &str, mount: &str, name: &str, reserve: u64) -> Result<bool, InstallError> {
        let (parent, from) = self.tree.parent(path).context("open the directory of", path)?;
        keep(parent.as_fd(), from, self.dir(mount)?, name, reserve).context("keep", path)
    }

    /// Gives a kept object a second name here, by which undoing finds it whatever becomes of the
    /// path that it enters. Without hard links it has none.
    pub fn double(&self, mount: &str, name: &str, second: &str) -> Result<(), InstallError> {
        let dir = self.dir(mount)?;
        failpoint::hit("linking a kept file");
        match sys::link_at(dir, name, dir, second) {
            Err(error) if !is_linkless(&error) => Err(error).context("keep .thimble/kept", name),
            _ => Ok(()),
        }
    }

    /// Copies a kept object to another filesystem, if it is not there yet.
    pub fn transfer(&self, from: &str, to: &str, name: &str) -> Result<(), InstallError> {
        if self.has(to, name)? {
            return Ok(());
        }
        duplicate(self.dir(from)?, name, self.dir(to)?, name)
            .context("copy", &format!("{from}/.thimble/kept/{name}"))
    }

    /// Moves the inode at `path` here.
    pub fn take(&self, path: &str, mount: &str, name: &str) -> Result<(), InstallError> {
        let (parent, from) = self.tree.parent(path).context("open the directory of", path)?;
        failpoint::hit("taking a file away");
        sys::rename_at(parent.as_fd(), from, self.dir(mount)?, name).context("take away", path)
    }

    /// Moves a kept object to `path`, replacing what is there.
    pub fn put(&self, mount: &str, name: &str, path: &str) -> Result<(), InstallError> {
        let (parent, to) = self.tree.parent(path).context("open the directory of", path)?;
        failpoint::hit("putting a file in place");
        sys::rename_at(self.dir(mount)?, name, parent.as_fd(), to).context("put in place", path)
    }

    /// Moves a kept object to `path`, which must be free.
    pub fn put_new(&self, mount: &str, name: &str, path: &str) -> Result<(), InstallError> {
        let (parent, to) = self.tree.parent(path).context("open the directory of", path)?;
        failpoint::hit("putting a new file in place");
        sys::rename_new_at(self.dir(mount)?, name, parent.as_fd(), to).context("put in place", path)
    }

    /// Removes the new file at `path`. It or its directory may be gone already. It is not
    /// gone if another filesystem was mounted over it: then this fails.
    pub fn discard(&self, path: &str, mount: &str) -> Result<(), InstallError> {
        failpoint::hit("removing a new file");
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut there = above;
        let dir = loop {
            match self.tree.dir(there) {
                Err(error) if is_absent(&error) && !there.is_empty() => {
                    there = there.rsplit_once('/').map_or("", |(there, _)| there);
                }
                other => break other.context("open the directory of", path)?,
            }
        };
        let own = sys::stat_dir(self.dir(mount)?).context("look at .thimble/kept in", mount)?;
        let stat = sys::stat_dir(dir.as_fd()).context("look at the directory of", path)?;
        if (stat.device, stat.mount) != (own.device, own.mount) {
            return Err(io::Error::from_raw_os_error(libc::EXDEV)).context("remove", path);
        }
        if there != above {
            return Ok(());
        }
        sys::remove_if_there(dir.as_fd(), name).context("remove", path)
    }

    /// Gives the inode at `path` a second name beside it.
    pub fn save(&self, path: &str, beside: &str) -> Result<(), InstallError> {
        let (parent, from) = self.tree.parent(path).context("open the directory of", path)?;
        let to = beside.rsplit('/').next().unwrap_or(beside);
        duplicate(parent.as_fd(), from, parent.as_fd(), to).context("save", path)
    }

    /// Makes a directory. Its owner and mode are set here, where nobody can put another
    /// directory in its place meanwhile.
    pub fn make_directory(&self, directory: &NewDirectory) -> Result<(), InstallError> {
        let NewDirectory { path, mount, mode, uid, gid, attributes } = directory;
        let (aside, holds) = (self.dir(mount)?, self.holds(mount));
        let make = || {
            failpoint::hit("making a directory");
            // One that a crash left; if it cannot be removed, the next call says so.
            let _ = sys::rmdir_at(aside, NEW_DIRECTORY);
            sys::mkdir_at(aside, NEW_DIRECTORY)?;
            let made = sys::open_dir(aside, NEW_DIRECTORY)?;
            // What the mount says of all files is taken; checking has refused the rest.
            if holds.root || (*uid, *gid) != (0, 0) {
                sys::chown_at(made.as_fd(), "", *uid, *gid)?;
            }
            if holds.modes {
                sys::chmod(made.as_fd(), *mode)?;
            }
            holds::set_attributes(made.as_fd(), attributes)?;
            let (parent, name) = self.tree.parent(path)?;
            failpoint::hit("putting a directory in place");
            sys::rename_new_at(aside, NEW_DIRECTORY, parent.as_fd(), name)
        };
        make().context("make the directory", path)
    }

    /// Gives a kept program its permission bits back, if it has lost some, and its
    /// capabilities.
    pub fn arm(&self, mount: &str, name: &str, mode: Option<u16>) -> Result<(), InstallError> {
        let dir = self.dir(mount)?;
        let stat = sys::stat_at(dir, name).context("look at .thimble/kept", name)?;
        if mode.is_none() && !stat.may_have_capabilities() {
            return Ok(());
        }
        let arm = || {
            let mut file = sys::open_read(dir, name)?;
            // A filesystem with one mode for all may refuse to set it again.
            if let Some(mode) = mode.filter(|mode| mode & ARMED != 0) {
                failpoint::hit("giving set-user-id back");
                sys::chmod(file.as_fd(), mode.into())?;
            }
            capability::give_back(&mut file)
        };
        if !arm().context("set mode and capabilities of .thimble/kept", name)? {
            log::warn!("a file was changed while it was covered: it does not get its capabilities back");
        }
        Ok(())
    }

    /// Whether the kept directory of a filesystem is open.
    pub fn is_open(&self, mount: &str) -> bool {
        self.dirs.contains_key(mount)
    }

    /// Renames a kept object.
    pub fn rename(&self, mount: &str, from: &str, to: &str) -> Result<(), InstallError> {
        let dir = self.dir(mount)?;
        failpoint::hit("renaming a kept file");
        sys::rename_at(dir, from, dir, to).context("rename in .thimble/kept", from)
    }

    /// Removes a kept object, or the directory that is kept for one that was cleared.
    pub fn remove(&self, mount: &str, name: &str) -> Result<(), InstallError> {
        remove(self.dir(mount)?, name)
    }

    /// Makes all changes so far durable.
    pub fn barrier(&self) -> Result<(), InstallError> {
        self.tree.forget();
        for (mount, dir) in self.dirs.iter() {
            failpoint::hit("syncing a filesystem");
            sys::sync_filesystem(dir.as_fd()).context("sync the filesystem of", mount)?;
        }
        Ok(())
    }

    /// Removes the kept directory of a filesystem if it is empty.
    pub fn remove_empty(&self, mount: &str) -> Result<(), InstallError> {
        let remove = || {
            let top = self.tree.dir(mount)?;
            sys::rmdir_at(sys::open_dir(top.as_fd(), ".thimble")?.as_fd(), "kept")?;
            sys::rmdir_at(top.as_fd(), ".thimble")
        };
        failpoint::hit("removing a kept directory");
        match remove() {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other.context("remove", &format!("{mount}/.thimble")),
        }
    }

    /// Removes everything that is not a kept object of the record. An object that moved
    /// to the root's filesystem stays only there.
    pub fn sweep(&self, record: &Record) -> Result<(), InstallError> {
        for (mount, dir) in self.dirs.iter() {
            holds::clear_names(dir.as_fd()).context("clear .thimble/kept in", mount)?;
            let mut from = Some(0);
            while let Some(first) = from {
                from = self.sweep_from(record, mount, dir.as_fd(), first)?;
            }
        }
        Ok(())
    }

    /// Sweeps one directory, of the objects of these and so many higher numbers as fit into
    /// memory. Returns the lowest number above these, if there is one.
    fn sweep_from(
        &self,
        record: &Record,
        mount: &str,
        dir: BorrowedFd<'_>,
        first: u64,
    ) -> Result<Option<u64>, InstallError> {
        // The numbers that are there and not known, as far as was looked.
        let mut unknown = Window::new(first);
        let (mut others, mut above) = (Vec::new(), None);
        sys::each_name(dir, |name| match number(name) {
            Some(number) if number < first || unknown.insert(number) => {}
            Some(number) => above = above.map_or(Some(number), |above: u64| Some(above.min(number))),
            None if name.ends_with(LOST) => {}
            None => others.push(name.to_owned()),
        })
        .context("list .thimble/kept in", mount)?;
        for name in others {
            if name == NEW_DIRECTORY {
                failpoint::hit("forgetting a directory");
                sys::rmdir_at(dir, &name).context("remove from .thimble/kept", &name)?;
            } else {
                self.remove(mount, &name)?;
            }
        }
        if !unknown.is_empty() {
            let (lowest, highest) = unknown.bounds();
            let mut items = record.items();
            loop {
                let kept = items.segment().map(|segment| segment.summary.kept.unwrap_or((1, 0)));
                if kept.is_some_and(|(low, high)| high < lowest || low > highest || low > high) {
                    items.skip();
                    continue;
                }
                let Some(item) = items.next_raw()? else { break };
                let Some(stack) = item.stack() else { continue };
                for number in stack.kept() {
                    // Where it lies is not looked at: it may have moved to the root.
                    if mount.is_empty() || stack.mount == mount && !self.has("", &number.to_string())? {
                        unknown.remove(number);
                    }
                }
            }
        }
        remove_all(dir, &unknown)?;
        Ok(above)
    }
}

/// The threads that remove many objects: a removal may wait for the disk, as with ext4's
/// `discard` or on a flash filesystem that is erasing, and the next need not wait for it.
const THREADS: usize = 4;
/// So many objects are removed without more threads.
const FEW: usize = 256;
/// What removing one needs, and room.
const STACK_BYTES: usize = 64 * 1024;

/// Removes the objects of these numbers, each of which may be gone.
fn remove_all(dir: BorrowedFd<'_>, numbers: &Window) -> Result<(), InstallError> {
    let every = |step: usize, first: usize| {
        numbers.iter().skip(first).step_by(step).try_for_each(|number| remove(dir, &number.to_string()))
    };
    if numbers.iter().nth(FEW).is_none() {
        return every(1, 0);
    }
    std::thread::scope(|scope| {
        let spawn = |first| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            (first, thread.spawn_scoped(scope, move || every(THREADS, first)))
        };
        let threads: Vec<_> = (1..THREADS).map(spawn).collect();
        let own = every(THREADS, 0);
        threads.into_iter().fold(own, |removed, (first, thread)| match thread {
            Ok(thread) => removed.and(thread.join().unwrap_or(Ok(()))),
            // There is no memory for a thread.
            Err(_) => removed.and_then(|()| every(THREADS, first)),
        })
    })
}

fn remove(dir: BorrowedFd<'_>, name: &str) -> Result<(), InstallError> {
    failpoint::hit("forgetting a kept file");
    sys::remove_any(dir, name).context("remove from .thimble/kept", name)
}

/// The number that is an object's name.
fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|number: &u64| number.to_string() == name)
}

/// Opens the directory `name`. With `make`, makes it if it is missing, for its owner
/// only. Refuses one that another user owns or may write to: that user could plant
/// files in it. Where a mount option gives all files to somebody (`uid=`, `umask=`), he
/// could do that with the files in place as well.
pub(super) fn own_dir(parent: BorrowedFd<'_>, name: &str, make: bool) -> io::Result<OwnedFd> {
    let dir = match sys::open_dir(parent, name) {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
            failpoint::hit("making a directory of our own");
            sys::mkdir_at(parent, name)?;
            sys::open_dir(parent, name)?
        }
        other => other?,
    };
    let stat = sys::stat_dir(dir.as_fd())?;
    let is_others = stat.mode & 0o022 != 0 || stat.uid != sys::user();
    if is_others && !holds::imposes_modes(dir.as_fd()).unwrap_or(false) {
        let what =
            "others may write to it: remove it if it is not thimble's, else `chown` and `chmod 700` it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(dir)
}

/// Gives an inode a second name in a kept directory, or makes a copy if there is room for
/// it beside the reserve. Returns false if not.
fn keep(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    to_name: &str,
    reserve: u64,
) -> io::Result<bool> {
    failpoint::hit("linking a file");
    match sys::link_at(from, name, to, to_name) {
        Err(error) if is_linkless(&error) => {}
        other => return other.map(|()| true),
    }
    // A copy leaves the path with its file at any instant, so it comes first.
    let stat = sys::stat_at(from, name)?;
    let is_copied = matches!(stat.kind, InodeKind::File | InodeKind::Link)
        && Space::of(to)?
            .free_bytes
            .is_none_or(|free| free >= stat.size_bytes.saturating_add(reserve).saturating_add(BLOCK_BYTES));
    if is_copied {
        copy_whole(from, name, to, to_name)?;
    }
    Ok(is_copied)
}

fn open_kept(tree: &RootTree, mount: &str, make: bool) -> io::Result<OwnedFd> {
    let top = tree.dir(mount)?;
    let home = own_dir(top.as_fd(), ".thimble", make)?;
    own_dir(home.as_fd(), "kept", make)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_objects_if_it_is_how_a_number_is_written() {
        assert_eq!(
            ["7", "07", "7~", "18446744073709551615"].map(number),
            [Some(7), None, None, Some(u64::MAX)]
        );
    }
}
