//! A part of a file that is a sequence of frames, each a length, u32 LE, and as many
//! bytes. It is read from its beginning to its end through a small window.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The bytes of a length.
pub(super) const LEN_BYTES: usize = 4;

/// Reads frames.
pub(super) struct Frames<'f> {
    file: &'f File,
    /// Where the window's end is in the file, and where the frames end.
    at: u64,
    end: u64,
    window: Vec<u8>,
    /// What of the window was returned already.
    used: usize,
    step: usize,
}

impl<'f> Frames<'f> {
    /// The frames from `start` to `end`, which reads `step` bytes or a whole frame at a
    /// time.
    pub fn new(file: &'f File, start: u64, end: u64, step: usize) -> Self {
        Self { file, at: start, end, window: Vec::new(), used: 0, step }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// Reading failed, or a frame is longer than the part.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.at == self.end && self.used == self.window.len() {
            return Ok(None);
        }
        self.fill(LEN_BYTES)?;
        let len = self.rest().first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        let whole = LEN_BYTES + usize::try_from(len).map_err(io::Error::other)?;
        self.fill(whole)?;
        let from = self.used + LEN_BYTES;
        self.used += whole;
        Ok(self.window.get(from..self.used))
    }

    fn rest(&self) -> &[u8] {
        self.window.get(self.used..).unwrap_or_default()
    }

    /// Reads on until there are `len` bytes that were not returned.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        let there = self.rest().len();
        if there >= len {
            return Ok(());
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let more = (len - there).max(self.step).min(left);
        if there + more < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.window.drain(..self.used);
        self.used = 0;
        self.window.resize(there + more, 0);
        self.file.read_exact_at(self.window.get_mut(there..).unwrap_or_default(), self.at)?;
        self.at += more as u64;
        Ok(())
    }
}
