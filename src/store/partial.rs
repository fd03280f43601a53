//! A patch file of which more is to come: `HASH.fetch`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{durable, sys};
use crate::failpoint;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes that are sent on their way to the disk at once.
const WRITTEN_BYTES: u64 = 8 * 1024 * 1024;

/// What is here of a file. Bytes are only ever added at its end.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    /// As far as the kernel was told to write it to the disk.
    on_its_way: u64,
}

impl Partial {
    /// Opens what is here of a file of `most_bytes`, nothing at first; nothing
    /// as well where more is here than that. `None`: somebody else is at it.
    pub(super) fn open(path: PathBuf, most_bytes: u64) -> io::Result<Option<Self>> {
        failpoint::hit("opening a fetched file");
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        // What is hashed on its way must be what gets into the file.
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let len_bytes = file.metadata()?.len();
        let mut partial = Self { path, file, len_bytes, on_its_way: len_bytes };
        if len_bytes > most_bytes {
            partial.begin_anew()?;
        }
        Ok(Some(partial))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Reads all that is here.
    pub(super) fn read(&self, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.len_bytes {
            let room = usize::try_from(self.len_bytes - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            self.file.read_exact_at(&mut piece[..room], at)?;
            sink(&piece[..room]);
            at += room as u64;
        }
        Ok(())
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        failpoint::hit("writing to a fetched file");
        // Counted as they get in: a full disk takes a part of them.
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.len_bytes += len as u64;
                    rest = &rest[len..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let waiting = self.len_bytes - self.on_its_way;
        if waiting >= WRITTEN_BYTES {
            sys::begin_writing(&self.file, self.on_its_way, waiting);
            self.on_its_way = self.len_bytes;
        }
        Ok(())
    }

    /// Drops what is here.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        failpoint::hit("emptying a fetched file");
        self.file.set_len(0)?;
        self.len_bytes = 0;
        self.on_its_way = 0;
        Ok(())
    }

    /// The same file, to read from its first byte.
    pub(super) fn rewound(&self) -> io::Result<&File> {
        (&self.file).seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }

    /// Removes the file; the next start does where this cannot.
    pub(super) fn forget(&self) {
        durable::forget(&self.path);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // As with the store's lock: closing is not enough while a process that was
        // forked meanwhile has yet to exec.
        let _ = self.file.unlock();
    }
}
