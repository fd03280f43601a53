//! The system call that measures a file system.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What the system tells of a file system.
pub(super) struct Counts {
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) block_bytes: u64,
    pub(super) inodes: u64,
    pub(super) free_inodes: u64,
}

/// Measures the file system of an open file or directory.
pub(super) fn measure(fd: BorrowedFd<'_>) -> io::Result<Counts> {
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `stat` is a whole `statvfs` to write to and `fd` is open.
    if unsafe { libc::fstatvfs(fd.as_raw_fd(), stat.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and all zeros is a `statvfs` as well.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "32 bits wide on some targets")]
    Ok(Counts {
        blocks: stat.f_blocks as u64,
        free_blocks: stat.f_bavail as u64,
        block_bytes: stat.f_frsize as u64,
        inodes: stat.f_files as u64,
        free_inodes: stat.f_favail as u64,
    })
}
