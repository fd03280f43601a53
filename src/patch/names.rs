//! The names in a directory, sorted, in two allocations: a tree that is packed may have all
//! of its files in one directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fault::ArchiveError;
use crate::limits;

/// The names in a directory, sorted by their bytes.
pub(super) struct Names {
    bytes: Vec<u8>,
    each: Vec<Range<u32>>,
}

impl Names {
    /// Reads a directory. The outer result is the system's, the inner one a refusal: it has
    /// more than a patch may have.
    pub(super) fn read(dir: &Path) -> io::Result<Result<Self, ArchiveError>> {
        let (mut bytes, mut each) = (Vec::new(), Vec::new());
        let here = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for entry in fs::read_dir(dir)? {
            let from = here(&bytes);
            bytes.extend_from_slice(entry?.file_name().as_bytes());
            each.push(from..here(&bytes));
            if each.len() > limits::PATCH_MEMBERS {
                return Ok(Err(ArchiveError::TooManyMembers));
            }
            if bytes.len() > limits::PATCH_NAMES_BYTES {
                return Ok(Err(ArchiveError::TooManyNames));
            }
        }
        each.sort_unstable_by(|one, other| name(&bytes, one).cmp(name(&bytes, other)));
        Ok(Ok(Self { bytes, each }))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.each.iter().map(|range| OsStr::from_bytes(name(&self.bytes, range)))
    }
}

fn name<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
}
