//! Atomic changes of the disk: a power cut leaves each done or not begun.
//!
//! Every step calls [`failpoint::hit`] before it, so that tests can end the
//! process between any two.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failpoint;
use crate::job::NoInodes;

/// The extension of a file until it is whole.
const UNFINISHED: &str = "unfinished";

/// The path of a file until it is whole, beside its own.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension(UNFINISHED)
}

/// Makes a file that only root may read or write.
pub(super) fn create(path: &Path) -> io::Result<File> {
    failpoint::hit("creating an unfinished file");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
    file.map_err(|error| explain(error, path))
}

/// Names the reason where a new file has space but no inode.
pub(super) fn explain(error: io::Error, path: &Path) -> io::Error {
    match path.parent().map(File::open) {
        Some(Ok(dir)) if error.kind() == io::ErrorKind::StorageFull => NoInodes::explain(error, dir.as_fd()),
        _ => error,
    }
}

/// Makes a file's content durable.
pub(super) fn sync(file: &File) -> io::Result<()> {
    failpoint::hit("syncing an unfinished file");
    file.sync_all()
}

/// Renames a file that is whole and durable to its path, replacing what is there. Durable
/// after the next sync of the directory.
pub(super) fn rename(written: &Path, path: &Path) -> io::Result<()> {
    failpoint::hit("renaming a file to its name");
    fs::rename(written, path)
}

/// Makes a file with this content, or replaces that of a file which nobody reads yet. Not
/// durable. Removes the file if that fails.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<File> {
    let write = || {
        let mut file = create(path)?;
        failpoint::hit("writing an unfinished file");
        file.write_all(content)?;
        Ok(file)
    };
    write().inspect_err(|_| try_remove(path))
}

/// Replaces a file's content, or makes the file. Durable when it returns.
///
/// # Errors
/// The system's. The old content is still there; after a failed fsync of the directory,
/// either the old or the new content is.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let written = unfinished(path);
    let file = write(&written, content)?;
    let publish = || {
        sync(&file)?;
        rename(&written, path)?;
        sync_parent(path)
    };
    publish().inspect_err(|_| try_remove(&written))
}

/// Makes a directory and its parents, for root only, if they do not exist.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dir(parent)?;
    }
    failpoint::hit("making a directory");
    match DirBuilder::new().mode(0o700).create(path) {
        // Another kind of file has the name; the system's error does not say so.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_dir() => {
            Err(io::ErrorKind::NotADirectory.into())
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(explain(error, path)),
        _ => sync_parent(path),
    }
}

/// Removes a file if it exists, not yet durably.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    failpoint::hit("removing a file");
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Tries to remove a file that a failure left; otherwise the next start removes it.
pub(super) fn try_remove(path: &Path) {
    let _ = remove(path);
}

/// Makes the addition or removal of a path durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    failpoint::hit("syncing a directory");
    File::open(dir)?.sync_all()
}

/// Removes the unfinished files of a directory, which a crash left.
pub(super) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            remove(&path)?;
        }
    }
    Ok(())
}
