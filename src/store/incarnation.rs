//! The number of a node's start, which rises at every start, whatever the clock does.
//!
//! Receivers refuse datagrams of an earlier incarnation, so no number may be used twice:
//! it is on the disk before the first datagram is sent.

use std::io;
use std::path::Path;

use super::durable;
use super::error::StoreError;
use super::sealed_file::SealedFile;
use crate::sealed::SealedFormat;

const FILE: SealedFile =
    SealedFile { format: SealedFormat { magic: b"THMBINCA", version: 1 }, most_bytes: 256 };

/// Returns the number of this start: one above the last start's, or the time in
/// milliseconds since 1970 if that is higher. Durable when it returns. Makes `state_dir`
/// if it is missing.
///
/// # Errors
/// [`StoreError`]: the file cannot be read or written, is of a later version, or is
/// damaged. It is left as it is then.
pub fn next(state_dir: &Path, unix_ms: u64) -> Result<u64, StoreError> {
    let path = state_dir.join("incarnation");
    let above_last = match FILE.read(&path)? {
        None => 0,
        Some(body) => {
            let last = <[u8; 8]>::try_from(&body[..]).map(u64::from_le_bytes);
            let last = last.map_err(|_| StoreError::Damaged { path: path.clone() })?;
            // No clock gets there: the file was written by hand.
            let used_up = "no number is left above it: give the node a new key file and remove this one";
            last.checked_add(1).ok_or_else(|| StoreError::at(&path)(io::Error::other(used_up)))?
        }
    };
    let next = above_last.max(unix_ms);
    durable::make_dir(state_dir).map_err(StoreError::at(state_dir))?;
    FILE.write(&path, &next.to_le_bytes())?;
    Ok(next)
}
