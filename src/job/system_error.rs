//! System errors as the operator reads them.

use std::{fmt, io};

use super::NoInodes;

/// Formats a system error, with advice for the common ones.
pub struct SystemError<'a>(pub &'a io::Error);

impl fmt::Display for SystemError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::StorageFull if NoInodes::caused(self.0) => {
                f.write_str("no inode is left: remove files that are not needed and install again")
            }
            io::ErrorKind::StorageFull => f.write_str("the disk is full: make room and install again"),
            io::ErrorKind::QuotaExceeded => f.write_str("the quota is used up: make room and install again"),
            io::ErrorKind::ReadOnlyFilesystem => f.write_str("the filesystem is read-only"),
            _ => {
                let text = self.0.to_string();
                f.write_str(text.split(" (os error").next().unwrap_or(&text))
            }
        }
    }
}
