//! The system calls of these tests.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes a file or directory immutable, as `chattr +i` does, or mutable again.
pub fn set_immutable(path: &Path, is_immutable: bool) -> io::Result<()> {
    const IMMUTABLE: libc::c_int = 0x10;
    let flags: libc::c_int = if is_immutable { IMMUTABLE } else { 0 };
    let file = File::open(path)?;
    // SAFETY: the kernel reads one int, which outlives the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
