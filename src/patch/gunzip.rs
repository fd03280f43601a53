//! Reads a gzip file: one member or several, and zeros behind them.
//!
//! bgzip and files that were joined have several members; their contents together are the
//! file's. gzip itself passes over zeros after the last one, which come from media that
//! are written in whole blocks. Anything else there is refused.

use std::io::{self, BufRead, BufReader, Read};

use super::PatchError;
use super::fault::ArchiveError;
use super::gzip_member::{MAGIC, Member};

/// Counts the bytes that are read, and remembers whether reading failed.
struct CountedReader<'a> {
    inner: &'a mut dyn Read,
    read_bytes: u64,
    failed: bool,
}

impl Read for CountedReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(len) => {
                self.read_bytes += len as u64;
                Ok(len)
            }
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

type Source<'a> = BufReader<CountedReader<'a>>;

/// How far the file is read.
enum Place<'a> {
    /// In a member.
    Member(Box<Member<Source<'a>>>),
    /// Behind the last member.
    Behind(Source<'a>),
    /// Between two members, after reading failed there.
    Lost,
}

/// A gzip file being read, as a reader of its content.
pub(super) struct Gunzip<'a> {
    place: Place<'a>,
    /// Something that is neither a member nor zeros follows the last member.
    has_more: bool,
}

impl<'a> Gunzip<'a> {
    pub(super) fn open(file: &'a mut dyn Read) -> Result<Self, PatchError> {
        let mut source =
            BufReader::with_capacity(64 * 1024, CountedReader { inner: file, read_bytes: 0, failed: false });
        if !source.fill_buf().map_err(PatchError::Io)?.starts_with(&MAGIC) {
            return Err(ArchiveError::NotGzip.into());
        }
        Ok(Self { place: Place::Member(Box::new(Member::new(source))), has_more: false })
    }

    fn source(&self) -> Option<&CountedReader<'a>> {
        match &self.place {
            Place::Member(member) => Some(member.get_ref().get_ref()),
            Place::Behind(source) => Some(source.get_ref()),
            Place::Lost => None,
        }
    }

    /// Compressed bytes read so far, read-ahead included.
    pub(super) fn read_bytes(&self) -> u64 {
        self.source().map_or(0, |source| source.read_bytes)
    }

    /// Tells for an error of [`Read`] whether this machine or the archive is at fault.
    pub(super) fn explain(&self, error: io::Error) -> PatchError {
        if self.source().is_none_or(|source| source.failed) {
            PatchError::Io(error)
        } else if self.has_more {
            ArchiveError::TrailingData.into()
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            ArchiveError::Truncated.into()
        } else {
            ArchiveError::Damaged.into()
        }
    }

    /// Goes on behind a member that has ended: to the next one, or to the file's end.
    fn go_on(&mut self) -> io::Result<()> {
        let mut source = match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Member(member) => member.into_inner(),
            Place::Behind(source) => source,
            Place::Lost => return Err(io::ErrorKind::Other.into()),
        };
        let first = first_byte(&mut source)?;
        if first == Some(MAGIC[0]) {
            self.place = Place::Member(Box::new(Member::new(source)));
            return Ok(());
        }
        let is_end = is_zeros_to_the_end(&mut source);
        self.place = Place::Behind(source);
        if !is_end? {
            self.has_more = true;
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

impl Read for Gunzip<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Place::Member(member) = &mut self.place else { return Ok(0) };
            let len = member.read(into)?;
            if len > 0 || into.is_empty() {
                return Ok(len);
            }
            self.go_on()?;
        }
    }
}

/// The byte that comes next; `None` at the end.
fn first_byte(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ahead => return Ok(ahead?.first().copied()),
        }
    }
}

fn is_zeros_to_the_end(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let len = match source.fill_buf() {
            Ok([]) => return Ok(true),
            Ok(ahead) if ahead.iter().all(|byte| *byte == 0) => ahead.len(),
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        source.consume(len);
    }
}
