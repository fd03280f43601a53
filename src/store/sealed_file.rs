//! The store's sealed files, read and written by path.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::durable;
use super::error::StoreError;
use crate::sealed::{SealedError, SealedFormat};

/// A kind of file in the store.
pub(super) struct SealedFile {
    pub(super) format: SealedFormat,
    /// The greatest size that is read, in bytes.
    pub(super) most_bytes: u64,
}

impl SealedFile {
    /// Replaces the file at `path`, durably.
    pub(super) fn write(&self, path: &Path, body: &[u8]) -> Result<(), StoreError> {
        self.write_as(self.format.version, path, body)
    }

    /// Replaces the file at `path` by one of this version, durably.
    pub(super) fn write_as(&self, version: u16, path: &Path, body: &[u8]) -> Result<(), StoreError> {
        durable::replace(path, &self.format.seal_as(version, body)).map_err(StoreError::at(path))
    }

    /// Reads the body of the file at `path`; `None` if there is no file.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be read, is of a later version, or is damaged.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read_versioned(path)?.map(|(_, body)| body))
    }

    /// Reads the version and the body of the file at `path`; `None` if there is no
    /// file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn read_versioned(&self, path: &Path) -> Result<Option<(u16, Vec<u8>)>, StoreError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::at(path))?,
        };
        let mut bytes = Vec::new();
        file.take(self.most_bytes + 1).read_to_end(&mut bytes).map_err(StoreError::at(path))?;
        self.open(path, bytes).map(Some)
    }

    fn open(&self, path: &Path, bytes: Vec<u8>) -> Result<(u16, Vec<u8>), StoreError> {
        let path = path.to_path_buf();
        let is_too_long = bytes.len() as u64 > self.most_bytes;
        match self.format.open(bytes) {
            Err(SealedError::OtherVersion(version)) if version > self.format.version => {
                Err(StoreError::Newer { path, version, reads: self.format.version })
            }
            Ok(opened) if !is_too_long => Ok(opened),
            Ok(_) | Err(_) => Err(StoreError::Damaged { path }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: SealedFile =
        SealedFile { format: SealedFormat { magic: b"THMBTEST", version: 3 }, most_bytes: 100 };

    fn open(bytes: Vec<u8>) -> Result<(u16, Vec<u8>), StoreError> {
        FILE.open(Path::new("file"), bytes)
    }

    #[test]
    fn a_file_that_is_cut_altered_or_too_long_is_damaged() {
        let sealed = FILE.format.seal(b"body");
        assert_eq!(open(sealed.clone()).unwrap(), (3, b"body".to_vec()));
        for at in 0..sealed.len() {
            assert!(matches!(open(sealed[..at].to_vec()), Err(StoreError::Damaged { .. })), "cut at {at}");
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            let error = open(altered).unwrap_err();
            // The high byte of the version makes it a later one.
            let is_expected = matches!(
                (at, &error),
                (9, StoreError::Newer { version: 259, .. }) | (_, StoreError::Damaged { .. })
            );
            assert!(is_expected, "byte {at}: {error:?}");
        }
        assert!(matches!(open(FILE.format.seal(&[0; 100])), Err(StoreError::Damaged { .. })), "too long");
    }

    #[test]
    fn a_later_version_is_named() {
        let error = open(FILE.format.seal_as(4, b"body")).unwrap_err().to_string();
        assert!(error.contains("format 4; this one reads up to 3"), "{error}");
    }
}
