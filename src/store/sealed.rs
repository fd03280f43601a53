//! The frame of every small file: whose it is, which version, and whether it is
//! still what was written.
//!
//! `magic 8 | version u16 LE | body | BLAKE3 32 over all before`. The first ten
//! bytes never change their meaning, so that a reader can always tell a later
//! version from damage.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::StoreError;

/// A kind of file.
pub(super) struct SealedFormat {
    /// Its first eight bytes.
    pub(super) magic: [u8; 8],
    /// The latest version, which is written where nothing else is said.
    pub(super) version: u16,
    /// The longest that it may be, in bytes.
    pub(super) most_bytes: u64,
}

const HEAD_BYTES: usize = 10;
const SEAL_BYTES: usize = 32;

impl SealedFormat {
    /// The file with this body.
    pub(super) fn seal(&self, body: &[u8]) -> Vec<u8> {
        self.seal_as(self.version, body)
    }

    /// The same in an earlier version, where that says all there is to say: older
    /// readers still read it.
    pub(super) fn seal_as(&self, version: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + SEAL_BYTES);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(body);
        let seal = blake3::hash(&bytes);
        bytes.extend_from_slice(seal.as_bytes());
        bytes
    }

    /// The body of the file at `path`; nothing where there is no file.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read, is of a later version, or is damaged.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read_versioned(path)?.map(|(_, body)| body))
    }

    /// The version and the body of the file at `path`; nothing where there is no
    /// file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn read_versioned(&self, path: &Path) -> Result<Option<(u16, Vec<u8>)>, StoreError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::at(path))?,
        };
        let mut bytes = Vec::new();
        file.take(self.most_bytes + 1).read_to_end(&mut bytes).map_err(StoreError::at(path))?;
        self.open(path, bytes).map(Some)
    }

    fn open(&self, path: &Path, mut bytes: Vec<u8>) -> Result<(u16, Vec<u8>), StoreError> {
        let damaged = || StoreError::Damaged { path: path.to_path_buf() };
        let Some((&head, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Err(damaged()) };
        let [magic @ .., low, high] = head;
        let version = u16::from_le_bytes([low, high]);
        if magic != self.magic || version == 0 {
            return Err(damaged());
        }
        if version > self.version {
            return Err(StoreError::Newer { path: path.to_path_buf(), version, reads: self.version });
        }
        let end = bytes.len().checked_sub(SEAL_BYTES).filter(|end| *end >= HEAD_BYTES).ok_or_else(damaged)?;
        if bytes.len() as u64 > self.most_bytes || blake3::hash(&bytes[..end]).as_bytes() != &bytes[end..] {
            return Err(damaged());
        }
        bytes.truncate(end);
        bytes.drain(..HEAD_BYTES);
        Ok((version, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: SealedFormat = SealedFormat { magic: *b"THMBTEST", version: 3, most_bytes: 100 };

    fn open(bytes: &[u8]) -> Result<(u16, Vec<u8>), StoreError> {
        KIND.open(Path::new("file"), bytes.to_vec())
    }

    #[test]
    fn a_body_comes_back_and_every_altered_bit_is_damage_or_a_version() {
        let sealed = KIND.seal(b"body");
        assert_eq!(open(&sealed).unwrap(), (3, b"body".to_vec()));
        assert_eq!(open(&KIND.seal(b"")).unwrap(), (3, vec![]));
        for len in 0..sealed.len() {
            assert!(matches!(open(&sealed[..len]), Err(StoreError::Damaged { .. })), "cut at {len}");
        }
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                let is_version = (8..10).contains(&at);
                match open(&altered) {
                    Err(StoreError::Damaged { .. }) => {}
                    Err(StoreError::Newer { version, .. }) => assert!(is_version && version > 3),
                    other => panic!("byte {at}: {other:?}"),
                }
            }
        }
        assert!(matches!(open(&KIND.seal(&[0; 100])), Err(StoreError::Damaged { .. })), "too long");
    }

    #[test]
    fn an_earlier_version_is_read_and_a_later_one_named() {
        assert_eq!(open(&KIND.seal_as(1, b"body")).unwrap(), (1, b"body".to_vec()));
        let said = open(&KIND.seal_as(4, b"body")).unwrap_err().to_string();
        assert!(said.contains("format 4; this one reads up to 3"), "{said}");
    }
}
