//! System calls on file systems that the standard library does not offer.

#![deny(clippy::cast_possible_truncation)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Asks the kernel to begin writing a range of a file to the disk, and does not wait: a
/// later fsync then finds little left to do. Errors are ignored.
pub(super) fn begin_writing(file: &File, at: u64, len: u64) {
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else { return };
    // SAFETY: passes numbers only; the file is open.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), at, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Does something with the rights that this user and group have to files, and then has this
/// process's own again. Does nothing else for a user without capabilities.
pub(super) fn with_rights_of<T>(uid: u32, gid: u32, act: impl FnOnce() -> T) -> T {
    // SAFETY: no memory is involved. Both calls are for this thread alone, and neither fails for
    // root: they return the former id.
    let (own_gid, own_uid) = unsafe { (libc::setfsgid(gid), libc::setfsuid(uid)) };
    let done = act();
    // SAFETY: as above.
    unsafe {
        libc::setfsuid(own_uid as u32);
        libc::setfsgid(own_gid as u32);
    }
    done
}

/// A random number from the kernel.
///
/// # Errors
/// As `getrandom(2)`.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // By number, as in src/daemon/sys.rs: a static link leaves std's weak symbol out.
    // SAFETY: the pointer and the length are those of `bytes`.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
    if usize::try_from(got) != Ok(bytes.len()) {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_le_bytes(bytes))
}
