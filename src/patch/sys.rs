//! The system calls that tell what a file has besides its content: extended attributes and
//! holes.

#![deny(clippy::cast_possible_truncation)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;

/// The names of a file's extended attributes, each with a NUL behind it. Does not follow a
/// link. A filesystem without attributes has none.
pub(super) fn attribute_names(path: &Path) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a NUL; with a length of 0 nothing is written.
    let len = unsafe { libc::llistxattr(path.as_ptr(), null_mut(), 0) };
    let mut names = match usize::try_from(len) {
        Ok(len) => vec![0; len],
        Err(_) => {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOTSUP) { Ok(Vec::new()) } else { Err(error) };
        }
    };
    // SAFETY: `path` ends with a NUL; the pointer and the length are those of `names`.
    let len = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    Ok(names)
}

/// The value of an extended attribute. Does not follow a link.
pub(super) fn attribute(path: &Path, name: &CStr) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both texts end with a NUL; with a length of 0 nothing is written.
    let len = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), null_mut(), 0) };
    let mut value = vec![0; usize::try_from(len).map_err(|_| io::Error::last_os_error())?];
    // SAFETY: both texts end with a NUL; the pointer and the length are those of `value`.
    let len =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    Ok(value)
}

/// Where the next data of a file begin, at `at` or behind it; `None` if there are none.
pub(super) fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    seek(file, at, libc::SEEK_DATA)
}

/// Where the next hole of a file begins, at `at` or behind it; one is behind its end. `None`
/// if `at` is not in the file.
pub(super) fn next_hole(file: &File, at: u64) -> io::Result<Option<u64>> {
    seek(file, at, libc::SEEK_HOLE)
}

fn seek(file: &File, at: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    let at = libc::off64_t::try_from(at).map_err(io::Error::other)?;
    // SAFETY: passes numbers only; the descriptor is open.
    let found = unsafe { libc::lseek64(file.as_raw_fd(), at, whence) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ENXIO) { Ok(None) } else { Err(error) }
        }
    }
}
