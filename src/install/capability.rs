//! The capabilities of programs that are not in place.
//!
//! A kept program must not have any: a user may have given it a second name. They are taken
//! away as set-user-id is, and lie in an attribute of the same inode that only root can see,
//! with a hash of the content. The inode's owner may change the content meanwhile, and then
//! they do not come back.

use std::ffi::CStr;
use std::fs::File;
use std::io;

use super::sys;
use super::tree::hash_file;

/// The attribute with a program's capabilities.
const CAPABILITY: &CStr = c"security.capability";
/// The attribute that they lie in: a BLAKE3 hash of the content, then their value.
const ASIDE: &CStr = c"trusted.thimble.capability";

/// Whether a file has capabilities.
pub(super) fn has(file: &File) -> io::Result<bool> {
    attribute(file, CAPABILITY).map(|value| value.is_some())
}

/// Takes a file's capabilities away, and lays them aside if they may come back.
pub(super) fn take_away(file: &mut File, lays_aside: bool) -> io::Result<()> {
    let Some(value) = attribute(file, CAPABILITY)? else { return Ok(()) };
    if lays_aside {
        let aside = [hash_file(file)?.as_bytes(), &value[..]].concat();
        sys::set_xattr(file, ASIDE, &aside)?;
    }
    sys::remove_xattr(file, CAPABILITY)
}

/// Gives a file back what was laid aside. Returns false if its content is another one now.
pub(super) fn give_back(file: &mut File) -> io::Result<bool> {
    let Some(aside) = attribute(file, ASIDE)? else { return Ok(true) };
    let (hash, value) = aside.split_first_chunk::<{ blake3::OUT_LEN }>().ok_or(io::ErrorKind::InvalidData)?;
    let is_same = hash_file(file)? == *hash;
    if is_same {
        sys::set_xattr(file, CAPABILITY, value)?;
    }
    sys::remove_xattr(file, ASIDE)?;
    Ok(is_same)
}

/// The value of an attribute; `None` if the file or its filesystem has none.
fn attribute(file: &File, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    match sys::xattr(file, name) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
        other => other.map(Some),
    }
}
