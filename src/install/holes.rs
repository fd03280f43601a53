//! Files with holes: blocks of zeros that take no space.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The size of a block that may be a hole, in bytes.
const BLOCK_BYTES: usize = 4 * 1024;

/// Reads a file's content and tells how many bytes it takes with its holes.
pub(super) fn bytes_without_holes(content: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = 0;
    let mut block = Vec::new();
    while content.take(BLOCK_BYTES as u64).read_to_end(&mut block)? > 0 {
        if block.iter().any(|byte| *byte != 0) {
            bytes += block.len() as u64;
        }
        block.clear();
    }
    Ok(bytes)
}

/// Appends to a file, and leaves a hole for each whole block of zeros. The file gets its
/// length from [`end`].
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    for block in bytes.chunks(BLOCK_BYTES) {
        if block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(block.len() as i64))?;
        } else {
            file.write_all(block)?;
        }
    }
    Ok(())
}

/// Ends a file with holes: it may end with one.
pub(super) fn end(file: &mut File) -> io::Result<()> {
    let len = file.stream_position()?;
    file.set_len(len)
}
