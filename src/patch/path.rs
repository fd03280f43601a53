//! The names of members as paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::fault::MemberFault;
use crate::limits;

/// A name as a relative path with normal components only; empty for the top.
pub(super) fn normalized(name: &[u8]) -> Result<PathBuf, MemberFault> {
    let text = str::from_utf8(name).map_err(|_| MemberFault::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(MemberFault::ControlCharacter);
    }
    if text.len() > limits::PATH_BYTES {
        return Err(MemberFault::NameTooLong);
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) if is_reserved(part) => return Err(MemberFault::Reserved),
            Component::Normal(part) if part.len() > limits::NAME_BYTES => {
                return Err(MemberFault::NameTooLong);
            }
            Component::Normal(part) => path.push(part),
            Component::ParentDir => return Err(MemberFault::ParentDirectory),
            Component::RootDir | Component::Prefix(_) => return Err(MemberFault::Absolute),
        }
    }
    Ok(path)
}

/// Whether the installer uses such a name itself.
fn is_reserved(part: &OsStr) -> bool {
    part == ".thimble" || part.as_bytes().starts_with(b".thimble~")
}
