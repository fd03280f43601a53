//! Makes the steps of a difference ([`super::difference`]).

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use bidiff::{DiffParams, Match};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::difference::{Difference, old_hash};
use super::old_tree::Old;

/// Old and new content of a larger file travel whole, in bytes: sorting takes five times the old
/// one's size of memory.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// So many equal bytes are worth a step, not zeros to be added.
const COPIED_BYTES: usize = 8;
/// What the header of a difference takes in the compressed archive, about, in bytes.
const HEADER_BYTES: u64 = 64;

/// The content of a member that has the difference of a file to its old content; `None` if that is not
/// smaller than the file.
pub(super) fn differ(old: &Old, new: &mut File, new_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    if old.size_bytes.max(new_bytes) > MOST_BYTES {
        return Ok(None);
    }
    let mut content = Vec::new();
    // Looking for holes has moved the file's own place.
    new.rewind()?;
    new.read_to_end(&mut content)?;
    let new_hash = blake3::hash(&content);
    let difference = Difference {
        of: old.of.clone(),
        old_path: old.path.clone(),
        old_bytes: old.size_bytes,
        old_hash: old_hash(&old.hash),
        new_bytes: content.len() as u64,
        new_hash,
    };
    let steps = if new_hash == old.hash {
        let mut steps = Steps::default();
        steps.push(0, content.len() as u64);
        steps.bytes
    } else {
        let old_content = std::fs::read(&old.file)?;
        steps(&old_content, &content)
    };
    if compressed_bytes(&steps)? + HEADER_BYTES >= compressed_bytes(&content)? {
        return Ok(None);
    }
    // What would not apply on a host travels whole.
    let mut made = Vec::new();
    let applied = difference.apply(&mut &steps[..], &File::open(&old.file)?).read_to_end(&mut made);
    let is_right = applied.is_ok() && made == content;
    Ok(is_right.then(|| [difference.encode(), steps].concat()))
}

/// What bytes take in an archive, about.
fn compressed_bytes(bytes: &[u8]) -> io::Result<u64> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(bytes)?;
    Ok(deflate.finish()?.len() as u64)
}

/// The steps that make `new` of `old`.
fn steps(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut steps = Steps::default();
    // In one part, so that all machines make the same.
    let Ok(params) = DiffParams::new(1, None) else { return steps.bytes };
    let each = |Match { add_old_start, add_new_start, add_length, copy_end }| {
        let old = old.get(add_old_start..).and_then(|old| old.get(..add_length)).unwrap_or_default();
        let new_part = |from: usize, to: usize| new.get(from..to).unwrap_or_default();
        let add_end = add_new_start + add_length;
        if add_length > 0 {
            steps.seek(add_old_start as u64);
            steps.add(old, new_part(add_new_start, add_end));
        }
        steps.insert(new_part(add_end, copy_end));
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(()) = bidiff::diff(old, new, &params, each);
    steps.bytes
}

/// Steps as they are written.
#[derive(Default)]
struct Steps {
    bytes: Vec<u8>,
    /// The place in the old content.
    at: u64,
}

impl Steps {
    fn push(&mut self, kind: u64, n: u64) {
        let mut number = n << 2 | kind;
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn seek(&mut self, to: u64) {
        if let Some(forward) = to.checked_sub(self.at).filter(|forward| *forward > 0) {
            self.push(3, forward * 2);
        } else if to < self.at {
            self.push(3, (self.at - to) * 2 - 1);
        }
        self.at = to;
    }

    fn insert(&mut self, new: &[u8]) {
        if !new.is_empty() {
            self.push(2, new.len() as u64);
            self.bytes.extend_from_slice(new);
        }
    }

    /// Bytes that differ little from those at the same place in the old content, as many.
    fn add(&mut self, old: &[u8], new: &[u8]) {
        let added: Vec<u8> = new.iter().zip(old).map(|(new, old)| new.wrapping_sub(*old)).collect();
        self.at += added.len() as u64;
        let mut rest = &added[..];
        while !rest.is_empty() {
            let equal = rest.iter().take_while(|byte| **byte == 0).count();
            if equal >= COPIED_BYTES || equal == rest.len() {
                self.push(0, equal as u64);
                rest = rest.split_at(equal).1;
                continue;
            }
            // Up to the next bytes that are copied.
            let (mut len, mut zeros) = (0, 0);
            while zeros < COPIED_BYTES && len + zeros < rest.len() {
                match rest.get(len + zeros) {
                    Some(0) => zeros += 1,
                    _ => (len, zeros) = (len + zeros + 1, 0),
                }
            }
            let (adds, behind) = rest.split_at(len);
            self.push(1, len as u64);
            self.bytes.extend_from_slice(adds);
            rest = behind;
        }
    }
}
