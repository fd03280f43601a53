//! The space of a file system, and why one refuses a new file.

use std::os::fd::BorrowedFd;
use std::{fmt, io};

use super::sys;

/// The space of a file system. A file system without a bound says zero for its size, as
/// ramfs does, and tmpfs with `size=0`: that is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The bytes that are available; `None` if there is no limit.
    pub free_bytes: Option<u64>,
    /// The size of the file system, in bytes; `None` if there is no limit.
    pub total_bytes: Option<u64>,
    /// How many more files can be made; `None` if there is no limit.
    pub free_inodes: Option<u64>,
}

impl Space {
    /// The space of the file system that a file or directory is on.
    ///
    /// # Errors
    /// The system's.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let counts = sys::measure(fd)?;
        let bytes = |blocks: u64| (counts.blocks > 0).then(|| blocks.saturating_mul(counts.block_bytes));
        Ok(Self {
            free_bytes: bytes(counts.free_blocks),
            total_bytes: bytes(counts.blocks),
            free_inodes: (counts.inodes > 0).then_some(counts.free_inodes),
        })
    }
}

/// The error for a new file where space is free but no inode is.
#[derive(Debug)]
pub struct NoInodes;

impl NoInodes {
    /// Whether this is why a system call failed.
    #[must_use]
    pub fn caused(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }

    /// Tells the two reasons of `ENOSPC` apart, for a call that failed to make a file in
    /// the directory `dir`. Other errors stay as they are.
    #[must_use]
    pub fn explain(error: io::Error, dir: BorrowedFd<'_>) -> io::Error {
        let is_it = error.kind() == io::ErrorKind::StorageFull
            && Space::of(dir).is_ok_and(|space| space.free_inodes == Some(0) && space.free_bytes != Some(0));
        if is_it { io::Error::new(io::ErrorKind::StorageFull, Self) } else { error }
    }
}

impl fmt::Display for NoInodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all inodes of the filesystem are used up, though it has free space")
    }
}

impl std::error::Error for NoInodes {}
