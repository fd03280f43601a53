//! The names in a directory, sorted, in two allocations: a tree that is packed may have all
//! of its files in one directory.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fault::ArchiveError;
use super::make_error::MakeError;
use crate::limits;

/// The names in a directory, sorted by their bytes.
pub(super) struct Names {
    bytes: Vec<u8>,
    each: Vec<Range<u32>>,
}

impl Names {
    /// Reads a directory. One with more names than a patch may have is refused.
    pub(super) fn read(dir: &Path) -> Result<Self, MakeError> {
        let at_dir = |error| MakeError::Io { path: dir.to_path_buf(), error };
        let refused = |error: ArchiveError| Err(MakeError::Refused(error.into()));
        let (mut bytes, mut each) = (Vec::new(), Vec::new());
        let here = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for entry in fs::read_dir(dir).map_err(at_dir)? {
            let from = here(&bytes);
            bytes.extend_from_slice(entry.map_err(at_dir)?.file_name().as_bytes());
            each.push(from..here(&bytes));
            if each.len() > limits::PATCH_MEMBERS {
                return refused(ArchiveError::TooManyMembers);
            }
            if bytes.len() > limits::PATCH_NAMES_BYTES {
                return refused(ArchiveError::TooManyNames);
            }
        }
        each.sort_unstable_by(|one, other| name(&bytes, one).cmp(name(&bytes, other)));
        Ok(Self { bytes, each })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.each.iter().map(|range| OsStr::from_bytes(name(&self.bytes, range)))
    }
}

fn name<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
}
