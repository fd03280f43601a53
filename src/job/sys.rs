//! The system calls that measure a file system and close what was inherited.

#![deny(clippy::cast_possible_truncation)]

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

/// Closes all descriptors above standard error that the process was started with. To be
/// called before anything is opened, by a process with one thread.
pub fn close_inherited() {
    const FIRST: libc::c_int = 3;
    // SAFETY: nothing in this process owns a descriptor yet.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // Linux before 5.9, or a sandbox that does not know the call.
    let listed = std::fs::read_dir("/proc/self/fd").map(|list| {
        let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.filter(|number| *number >= FIRST).collect::<Vec<libc::c_int>>()
    });
    // Without /proc: as many as a daemon is commonly allowed.
    for fd in listed.unwrap_or_else(|_| (FIRST..65_536).collect()) {
        // SAFETY: as above; the one that read the list is closed already, which is no harm.
        unsafe { libc::close(fd) };
    }
}
