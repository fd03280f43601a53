//! The format of small files that carry their kind, their version and a checksum.
//!
//! `magic | version u16 LE | body | BLAKE3 of all before, 32 bytes`. Magic and
//! version never change their meaning, so a reader can always tell a file of a later
//! version from a damaged one. Writing such a file durably is its owner's work:
//! `store` does it by path, `install` by directory descriptor.

use std::fmt;

const VERSION_BYTES: usize = 2;
/// The checksum at the end of a file, in bytes.
pub const CHECKSUM_BYTES: usize = 32;

/// One kind of sealed file.
#[derive(Clone, Copy, Debug)]
pub struct SealedFormat {
    /// The first bytes of every file of this kind.
    pub magic: &'static [u8],
    /// The latest version. Versions from 1 up to this one are read.
    pub version: u16,
}

/// Why a sealed file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedError {
    /// The file does not begin with the magic: it is of another kind.
    OtherKind,
    /// The file has this version, which is 0 or later than the latest known one.
    OtherVersion(u16),
    /// The file is too short, or its checksum does not match.
    Damaged,
}

impl SealedFormat {
    /// Encodes a file of the latest version.
    #[must_use]
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        self.seal_as(self.version, body)
    }

    /// Encodes a file of an earlier version, so that older readers can read it.
    #[must_use]
    pub fn seal_as(&self, version: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.head_bytes() + body.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&self.head_as(version));
        bytes.extend_from_slice(body);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// Checks a file and returns its version and its body.
    ///
    /// # Errors
    /// [`SealedError`], checked in the order of its variants.
    pub fn open(&self, mut bytes: Vec<u8>) -> Result<(u16, Vec<u8>), SealedError> {
        let head = self.head_bytes();
        let version = self.version_of(&bytes)?;
        let (sealed, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(SealedError::Damaged)?;
        let end = sealed.len();
        if end < head || blake3::hash(sealed).as_bytes() != checksum {
            return Err(SealedError::Damaged);
        }
        bytes.truncate(end);
        bytes.drain(..head);
        Ok((version, bytes))
    }

    fn head_as(&self, version: u16) -> Vec<u8> {
        [self.magic, &version.to_le_bytes()].concat()
    }

    /// The version of a file that begins with these bytes.
    ///
    /// # Errors
    /// [`SealedError`], checked in the order of its variants; too few bytes are damage.
    pub fn version_of(&self, bytes: &[u8]) -> Result<u16, SealedError> {
        if bytes.len() < self.head_bytes() {
            return Err(SealedError::Damaged);
        }
        let rest = bytes.strip_prefix(self.magic).ok_or(SealedError::OtherKind)?;
        let (version, _) = rest.split_first_chunk().ok_or(SealedError::Damaged)?;
        let version = u16::from_le_bytes(*version);
        if version == 0 || version > self.version {
            return Err(SealedError::OtherVersion(version));
        }
        Ok(version)
    }

    /// The bytes that every file of this kind begins with.
    #[must_use]
    pub const fn head_bytes(&self) -> usize {
        self.magic.len() + VERSION_BYTES
    }
}

impl fmt::Display for SealedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind => f.write_str("is another kind of file"),
            Self::OtherVersion(version) => {
                write!(f, "was written by another version of thimble (format {version})")
            }
            Self::Damaged => f.write_str("is damaged: it is too short or its checksum does not match"),
        }
    }
}

impl std::error::Error for SealedError {}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: SealedFormat = SealedFormat { magic: b"THMBTEST", version: 3 };
    const SHORT: SealedFormat = SealedFormat { magic: b"THMT", version: 1 };

    #[test]
    fn a_body_comes_back_and_every_altered_bit_is_an_error_or_another_version() {
        for format in [LONG, SHORT] {
            let sealed = format.seal(b"body");
            assert_eq!(format.open(sealed.clone()), Ok((format.version, b"body".to_vec())));
            assert_eq!(format.open(format.seal(b"")), Ok((format.version, vec![])));
            for len in 0..sealed.len() {
                assert_eq!(format.open(sealed[..len].to_vec()), Err(SealedError::Damaged), "cut at {len}");
            }
            let magic = format.magic.len();
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut altered = sealed.clone();
                    altered[at] ^= 1 << bit;
                    match format.open(altered) {
                        Err(SealedError::OtherKind) => assert!(at < magic, "byte {at}"),
                        Err(SealedError::OtherVersion(version)) => {
                            assert!((magic..magic + 2).contains(&at), "byte {at}");
                            assert!(version == 0 || version > format.version);
                        }
                        // An earlier version is read, and the checksum does not hold.
                        Err(SealedError::Damaged) => assert!(at >= magic, "byte {at}"),
                        Ok(read) => panic!("byte {at}: {read:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn an_earlier_version_is_read_and_a_later_one_is_named() {
        assert_eq!(LONG.open(LONG.seal_as(1, b"body")), Ok((1, b"body".to_vec())));
        assert_eq!(LONG.open(LONG.seal_as(4, b"body")), Err(SealedError::OtherVersion(4)));
        assert_eq!(LONG.open(LONG.seal_as(0, b"body")), Err(SealedError::OtherVersion(0)));
    }

    /// If this fails, the code is wrong and not the test: such files are on disks.
    #[test]
    fn the_layout_is_as_it_always_was() {
        let sealed = SHORT.seal(b"body");
        assert_eq!(&sealed[..10], b"THMT\x01\x00body");
        assert_eq!(&sealed[10..], blake3::hash(b"THMT\x01\x00body").as_bytes());
    }
}
