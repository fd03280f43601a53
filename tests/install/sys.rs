//! The system calls of these tests.

use std::ffi::CString;
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

/// Gives a file an extended attribute.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (file, name) = (File::open(path)?, CString::new(name).unwrap());
    let (fd, data) = (file.as_raw_fd(), value.as_ptr().cast());
    // SAFETY: `name` is a C string, `value` as long as said, and `file` open.
    match unsafe { libc::fsetxattr(fd, name.as_ptr(), data, value.len(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An extended attribute of a file, of at most 256 bytes.
pub fn xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let (file, name) = (File::open(path)?, CString::new(name).unwrap());
    let mut value = vec![0u8; 256];
    let data = value.as_mut_ptr().cast();
    // SAFETY: `name` is a C string, `value` as long as said, and `file` open.
    let len = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), data, value.len()) };
    value.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    Ok(value)
}
