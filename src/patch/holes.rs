//! Finds the holes of a file that is packed.
//!
//! Filesystems keep holes in blocks of different sizes. So that one tree makes one patch on
//! all of them, a file that has any hole is packed without all blocks of zeros, of one size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sparse::Extent;
use super::sys::{next_data, next_hole};
use crate::limits;

/// The size of these blocks, in bytes.
const GRAIN: u64 = 4_096;

/// The parts of a file of `size_bytes` that are not holes; `None` if it has no hole. A file
/// with more of them than a patch may have keeps its larger holes.
pub(super) fn extents(file: &File, size_bytes: u64) -> io::Result<Option<Vec<Extent>>> {
    let first = next_hole(file, 0)?.unwrap_or(size_bytes);
    if first >= size_bytes {
        return Ok(None);
    }
    // One is left for the file's end.
    let mut extents = Extents { list: Vec::new(), grain: GRAIN, most: limits::PATCH_EXTENTS - 1, size_bytes };
    let mut block = [0; GRAIN as usize];
    let (mut at, mut done) = (0, 0);
    while at < size_bytes
        && let Some(data) = next_data(file, at)?
    {
        at = next_hole(file, data)?.unwrap_or(size_bytes).min(size_bytes);
        let mut from = (data - data % GRAIN).max(done);
        while from < at {
            let len = GRAIN.min(size_bytes - from);
            let block = &mut block[..len as usize];
            file.read_exact_at(block, from)?;
            if block.iter().any(|byte| *byte != 0) {
                extents.add(from, len);
            }
            from += len;
        }
        done = done.max(from);
    }
    let is_whole = matches!(extents.list[..], [Extent { offset: 0, size }] if size == size_bytes);
    Ok((!is_whole).then_some(extents.list))
}

/// The parts that have been found so far, ascending, and how many there may be.
struct Extents {
    list: Vec<Extent>,
    /// They begin and end at multiples of this, and at the file's end.
    grain: u64,
    most: usize,
    size_bytes: u64,
}

impl Extents {
    /// Adds a part behind all others.
    fn add(&mut self, offset: u64, size: u64) {
        let end = (offset + size).next_multiple_of(self.grain).min(self.size_bytes);
        let offset = offset - offset % self.grain;
        match self.list.last_mut() {
            Some(last) if last.offset + last.size >= offset => {
                last.size = end.max(last.offset + last.size) - last.offset;
            }
            _ => self.list.push(Extent { offset, size: end - offset }),
        }
        while self.list.len() > self.most {
            self.grain *= 2;
            for Extent { offset, size } in std::mem::take(&mut self.list) {
                // Joins what is now one: never more than there were.
                self.add(offset, size);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_parts_than_there_may_be_are_joined_over_the_smallest_holes() {
        let mut extents = Extents { list: Vec::new(), grain: 1, most: 3, size_bytes: 33 };
        for at in [0, 2, 8, 16, 32] {
            extents.add(at, 1);
        }
        let list: Vec<_> = extents.list.iter().map(|extent| (extent.offset, extent.size)).collect();
        assert!(list.len() <= 3, "{list:?}");
        for at in [0, 2, 8, 16, 32] {
            assert!(
                list.iter().any(|(offset, size)| (*offset..offset + size).contains(&at)),
                "{at}: {list:?}"
            );
        }
        assert!(
            list.is_sorted() && list.last().is_some_and(|(offset, size)| offset + size <= 33),
            "{list:?}"
        );
        assert!(list.iter().map(|(_, size)| size).sum::<u64>() < 33, "holes are left: {list:?}");
    }

    #[test]
    fn neighbours_are_one_part() {
        let mut extents = Extents { list: Vec::new(), grain: 4, most: 9, size_bytes: 30 };
        for at in [0, 4, 16, 28] {
            extents.add(at, 2);
        }
        let list: Vec<_> = extents.list.iter().map(|extent| (extent.offset, extent.size)).collect();
        assert_eq!(list, [(0, 8), (16, 4), (28, 2)]);
    }
}
