//! System calls on file systems that the standard library does not offer.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// The space of a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskSpace {
    /// The space that is available.
    pub(super) free_bytes: u64,
    /// The size of the file system.
    pub(super) total_bytes: u64,
}

/// The space of the file system that a file is on.
pub(super) fn disk_space(file: &File) -> io::Result<DiskSpace> {
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `stat` is a whole `statvfs` to write to and the file is open.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), stat.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and all zeros is a `statvfs` as well.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "32 bits wide on some targets")]
    let of = |blocks| (blocks as u64).saturating_mul(stat.f_frsize as u64);
    Ok(DiskSpace { free_bytes: of(stat.f_bavail), total_bytes: of(stat.f_blocks) })
}

/// Asks the kernel to begin writing a range of a file to the disk, and does not wait: a
/// later fsync then finds little left to do. Errors are ignored.
pub(super) fn begin_writing(file: &File, at: u64, len: u64) {
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else { return };
    // SAFETY: passes numbers only; the file is open.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), at, len, libc::SYNC_FILE_RANGE_WRITE) };
}
