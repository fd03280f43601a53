//! 32 bytes: a hash or a digest, of which each ack of a host has one. Serialized as serde does, byte by
//! byte, but read eight bytes at a time: postcard can read several bytes whose number is fixed only as a
//! float, which is its eight bytes there.

use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};

/// An x87 may change a float that it only moves.
const _: () = assert!(!cfg!(target_arch = "x86"), "on this processor a digest must be read by bytes");

pub fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    bytes.serialize(to)
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = [u8; 32];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("32 bytes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<[u8; 32], A::Error> {
            let mut bytes = [0; 32];
            for (at, eight) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
                let read: Option<f64> = from.next_element()?;
                *eight = read.ok_or_else(|| A::Error::invalid_length(at, &self))?.to_le_bytes();
            }
            Ok(bytes)
        }
    }
    from.deserialize_tuple(4, Bytes)
}

/// Whether both are the same. Musl's memcmp, which `==` is, goes byte by byte.
pub fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    a.as_chunks().0.iter().map(word).eq(b.as_chunks().0.iter().map(word))
}

#[cfg(test)]
mod tests {
    use crate::types::Digest;

    #[test]
    fn all_bytes_are_read_as_they_were_written() {
        // Among them what a float calls not a number, signalling and quiet.
        for eight in [u64::MAX, 0, 0x7FF0_0000_0000_0001, 0xFFF4_0000_0000_00FF, 0x7FF8_0000_0000_0000, 1] {
            for place in 0..4 {
                let mut bytes = *b"0123456789abcdefghijklmnopqrstuv";
                bytes[place * 8..][..8].copy_from_slice(&eight.to_le_bytes());
                let mut written = [0; 32];
                assert_eq!(postcard::to_slice(&Digest(bytes), &mut written).unwrap(), bytes);
                assert_eq!(postcard::from_bytes(&written), Ok(Digest(bytes)));
                assert!(postcard::from_bytes::<Digest>(&written[..31]).is_err());
            }
        }
    }

    #[test]
    fn digests_that_differ_in_a_byte_are_not_the_same() {
        let digest = Digest([7; 32]);
        assert_eq!(digest, Digest([7; 32]));
        for at in 0..32 {
            let mut other = digest;
            other.0[at] ^= 0x80;
            assert_ne!(digest, other, "byte {at}");
        }
    }
}
