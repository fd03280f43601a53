//! The difference of a file to its old content, as an archive has it: a member `deltas/PATH`
//! in place of `files/PATH`.
//!
//! Its content is a header, then steps. All numbers are little-endian.
//!
//! ```text
//!  0  4 magic "THMD"           4  1 version (1)
//!  5  1 length of the id       6  2 length of the old path
//!  8  8 old size              16  8 new size
//! 24 16 the first bytes of the old content's BLAKE3 hash
//! 40 32 the new content's BLAKE3 hash
//! 72    the id of the patch that has the old file; none: the base system has it
//! ..    the old file's path below the root; none: it is that of the new file
//! ```
//!
//! A step is a number, 7 bits to a byte, the lowest first. Its two lowest bits say what is done
//! with the rest of it, `n`:
//!
//! | bits | step |
//! |---|---|
//! | 0 | the next `n` bytes of the old content |
//! | 1 | the same, with the `n` bytes that follow added to them, each modulo 256 |
//! | 2 | the `n` bytes that follow |
//! | 3 | goes on in the old content at a place forward (`n` even, `n / 2`) or back (odd, `(n + 1) / 2`) |
//!
//! The steps give the new size exactly, and nothing follows them. The archive's gzip
//! compresses them. Old content is read where a step needs it: applying takes the memory of
//! two buffers, whatever the sizes are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::types::PatchId;

/// Bytes of steps that are read at once.
const STEP_BUFFER_BYTES: usize = 4 * 1024;
pub(super) const MAGIC: &[u8; 4] = b"THMD";
pub(super) const VERSION: u8 = 1;

/// Identifies an old content: the first half of its BLAKE3 hash. A wrong one would be seen in the
/// hash of the new content.
pub type OldHash = [u8; 16];

/// What a difference says of the old and the new content of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The patch that has the old file; `None` for a file of the base system.
    pub of: Option<PatchId>,
    /// The path of the old file below the root, if it is not that of the new one. Of the same
    /// form as that of a member.
    pub old_path: Option<PathBuf>,
    /// The size of the old content, in bytes.
    pub old_bytes: u64,
    /// Which content that is.
    pub old_hash: OldHash,
    /// The size of the new content, in bytes.
    pub new_bytes: u64,
    /// The BLAKE3 hash of the new content.
    pub new_hash: blake3::Hash,
}

/// The part of a hash that identifies an old content.
#[must_use]
pub fn old_hash(hash: &blake3::Hash) -> OldHash {
    let mut first = OldHash::default();
    first.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    first
}

impl Difference {
    /// Its header.
    #[cfg(feature = "tools")]
    pub(super) fn encode(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        let id = self.of.as_ref().map_or("", |id| id.as_str()).as_bytes();
        let path = self.old_path.as_ref().map_or(&b""[..], |path| path.as_os_str().as_bytes());
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, u8::try_from(id.len()).unwrap_or(u8::MAX)]);
        bytes.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(self.old_bytes.to_le_bytes());
        bytes.extend(self.new_bytes.to_le_bytes());
        bytes.extend(self.old_hash);
        bytes.extend(self.new_hash.as_bytes());
        bytes.extend([id, path].concat());
        bytes
    }

    /// The new content, of steps and the old content.
    pub fn apply<'a>(&'a self, steps: &'a mut dyn Read, old: &'a File) -> NewContent<'a> {
        NewContent {
            difference: self,
            steps: BufReader::with_capacity(STEP_BUFFER_BYTES, steps),
            old,
            at: 0,
            step: Step::Copy,
            left: 0,
            given: 0,
            hasher: blake3::Hasher::new(),
        }
    }
}

/// Where the bytes of a step come from.
#[derive(Clone, Copy)]
enum Step {
    Copy,
    Add,
    Insert,
}

/// Reads the new content of a file. Fails at the latest at its end if it is not what the
/// difference says, so what was read has no meaning before that. An error of the kind
/// [`InvalidData`](io::ErrorKind::InvalidData) is one of the difference.
pub struct NewContent<'a> {
    difference: &'a Difference,
    steps: BufReader<&'a mut dyn Read>,
    old: &'a File,
    /// The place in the old content.
    at: u64,
    step: Step,
    /// Bytes of the step that are still to come.
    left: u64,
    given: u64,
    hasher: blake3::Hasher,
}

impl NewContent<'_> {
    /// The next step's number, if there is one.
    fn number(&mut self) -> io::Result<Option<u64>> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let Some(byte) = self.steps.fill_buf()?.first().copied() else {
                return if shift == 0 { Ok(None) } else { Err(invalid()) };
            };
            self.steps.consume(1);
            let bits = u64::from(byte & 0x7f);
            if shift > 56 {
                return Err(invalid());
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(number));
            }
            shift += 7;
        }
    }

    /// Goes to the next step that gives bytes. Returns false at the end.
    fn next(&mut self) -> io::Result<bool> {
        let Difference { old_bytes, new_bytes, .. } = self.difference;
        while self.left == 0 {
            let Some(number) = self.number()? else { return Ok(false) };
            let n = number >> 2;
            self.step = match number & 3 {
                0 => Step::Copy,
                1 => Step::Add,
                2 => Step::Insert,
                _ if n % 2 == 0 => {
                    self.at = self.at.saturating_add(n / 2);
                    continue;
                }
                _ => {
                    self.at = self.at.checked_sub(n / 2 + 1).ok_or_else(invalid)?;
                    continue;
                }
            };
            let has_old = matches!(self.step, Step::Insert) || n <= old_bytes.saturating_sub(self.at);
            if n > new_bytes - self.given || !has_old {
                return Err(invalid());
            }
            self.left = n;
        }
        Ok(true)
    }

    /// Checks what was given once there is no more.
    fn end(&self) -> io::Result<usize> {
        let Difference { new_bytes, new_hash, .. } = self.difference;
        let is_new = self.given == *new_bytes && self.hasher.finalize() == *new_hash;
        if is_new { Ok(0) } else { Err(invalid()) }
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its difference does not give the new content")
}

impl Read for NewContent<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if !self.next()? {
            return self.end();
        }
        let len = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(into) = into.get_mut(..len) else { return Ok(0) };
        let len = match self.step {
            Step::Insert => self.steps.read(into)?,
            Step::Copy => self.old.read_at(into, self.at)?,
            Step::Add => {
                let add = self.steps.fill_buf()?;
                let len = len.min(add.len());
                let into = into.get_mut(..len).unwrap_or_default();
                self.old.read_exact_at(into, self.at)?;
                into.iter_mut().zip(add).for_each(|(byte, add)| *byte = byte.wrapping_add(*add));
                self.steps.consume(len);
                len
            }
        };
        // The steps end in the middle, or the old file does.
        if len == 0 {
            return Err(invalid());
        }
        if !matches!(self.step, Step::Insert) {
            self.at += len as u64;
        }
        self.left -= len as u64;
        self.given += len as u64;
        self.hasher.update(into.get(..len).unwrap_or_default());
        Ok(len)
    }
}
