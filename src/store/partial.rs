//! A patch file that is being fetched: `HASH.fetch`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{durable, sys};
use crate::failpoint;

/// The most bytes that are read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// After how many written bytes the kernel is asked to begin writing them to the disk.
const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

/// The part of a file that is here. Bytes are only added at its end.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    /// Up to this byte the kernel was asked to begin writing to the disk.
    writeback_bytes: u64,
}

impl Partial {
    /// Opens the part of a file whose whole size is `most_bytes`. The part is made empty if
    /// it is missing or longer than that. `None` if another process is writing it.
    pub(super) fn open(path: PathBuf, most_bytes: u64) -> io::Result<Option<Self>> {
        failpoint::hit("opening a fetched file");
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let file = file.map_err(|error| durable::explain(error, &path))?;
        // No other process may write, or the hash would not be that of the file.
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let len_bytes = file.metadata()?.len();
        let mut partial = Self { path, file, len_bytes, writeback_bytes: len_bytes };
        if len_bytes > most_bytes {
            partial.truncate()?;
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

    /// Reads the whole part.
    pub(super) fn read(&self, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.len_bytes {
            let len = usize::try_from(self.len_bytes - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            self.file.read_exact_at(&mut piece[..len], at)?;
            sink(&piece[..len]);
            at += len as u64;
        }
        Ok(())
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        failpoint::hit("writing to a fetched file");
        // Count each write: a full disk may take only a part of the bytes.
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
        let waiting = self.len_bytes - self.writeback_bytes;
        if waiting >= WRITEBACK_BYTES {
            sys::begin_writing(&self.file, self.writeback_bytes, waiting);
            self.writeback_bytes = self.len_bytes;
        }
        Ok(())
    }

    /// Asks the kernel to begin writing the last bytes.
    pub(super) fn begin_writing(&self) {
        sys::begin_writing(&self.file, self.writeback_bytes, self.len_bytes - self.writeback_bytes);
    }

    /// Removes all bytes.
    pub(super) fn truncate(&mut self) -> io::Result<()> {
        failpoint::hit("emptying a fetched file");
        self.file.set_len(0)?;
        self.len_bytes = 0;
        self.writeback_bytes = 0;
        Ok(())
    }

    /// The file, positioned at its first byte.
    pub(super) fn rewound(&self) -> io::Result<&File> {
        (&self.file).seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }

    /// Tries to remove the file; otherwise the next start removes it.
    pub(super) fn try_remove(&self) {
        durable::try_remove(&self.path);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Closing does not unlock while a process that was forked meanwhile has not
        // called exec yet.
        let _ = self.file.unlock();
    }
}
