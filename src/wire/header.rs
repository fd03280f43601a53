//! The header of a datagram: 42 bytes in front of its body.
//!
//! ```text
//!  0  4  magic "THMB"
//!  4  1  msgversion (1)         5  1  msgtype
//!  6  1  key slot               7  1  minor version
//!  8  8  cluster               16  8  sender node id
//! 24  8  incarnation           32  8  sequence
//! 40  2  body length           42  n  body, then a tag of 16 bytes
//! ```
//! All numbers are little-endian.

use super::refusal::Refusal;
use crate::limits;
use crate::types::{ClusterId, NodeId};

/// The first four bytes of every datagram.
pub const MAGIC: [u8; 4] = *b"THMB";
/// The version of the datagram: another one is another protocol.
pub const VERSION: u8 = 1;
/// The minor version: raised when fields are appended to a body.
pub const MINOR: u8 = 0;

/// A datagram's header without magic and version, which [`Header::parse`] checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message's number, 1 to 11.
    pub msgtype: u8,
    /// The slot of the key ring that the tag was made with.
    pub key_slot: u8,
    /// The sender's minor version.
    pub minor: u8,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender's node id.
    pub sender: NodeId,
    /// The number of the sender's start; never falls.
    pub incarnation: u64,
    /// The datagram's number within that start, from 1.
    pub sequence: u64,
    /// The body's length.
    pub body_len_bytes: u16,
}

/// The parts of a datagram, not authenticated yet.
#[derive(Clone, Copy, Debug)]
pub struct RawDatagram<'a> {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: &'a [u8],
    /// The bytes that the tag covers: header and body.
    pub tagged: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; limits::TAG_BYTES],
}

impl Header {
    /// Splits a datagram into its parts, after checking length, magic and version in that
    /// order.
    ///
    /// # Errors
    /// `TooShort`, `TooLong`, `Magic`, `Version`.
    pub fn parse(datagram: &[u8]) -> Result<RawDatagram<'_>, Refusal> {
        if datagram.len() > limits::DATAGRAM_BYTES {
            return Err(Refusal::TooLong);
        }
        let (tagged, tag) = datagram.split_last_chunk().ok_or(Refusal::TooShort)?;
        let (bytes, body) =
            tagged.split_first_chunk::<{ limits::HEADER_BYTES }>().ok_or(Refusal::TooShort)?;
        let mut fields = Fields(bytes);
        if fields.take::<4>() != MAGIC {
            return Err(Refusal::Magic);
        }
        if fields.u8() != VERSION {
            return Err(Refusal::Version);
        }
        let header = Self {
            msgtype: fields.u8(),
            key_slot: fields.u8(),
            minor: fields.u8(),
            cluster: ClusterId(fields.u64()),
            sender: NodeId(fields.u64()),
            incarnation: fields.u64(),
            sequence: fields.u64(),
            body_len_bytes: u16::from_le_bytes(fields.take()),
        };
        match usize::from(header.body_len_bytes).cmp(&body.len()) {
            core::cmp::Ordering::Greater => Err(Refusal::TooShort),
            core::cmp::Ordering::Less => Err(Refusal::TooLong),
            core::cmp::Ordering::Equal => Ok(RawDatagram { header, body, tagged, tag }),
        }
    }

    /// The cluster and the sender that a datagram of another version names, if they stand where
    /// this version has them.
    #[must_use]
    pub fn names(datagram: &[u8]) -> Option<(ClusterId, NodeId)> {
        let cluster = datagram.get(8..)?.first_chunk()?;
        let sender = datagram.get(16..)?.first_chunk()?;
        Some((ClusterId(u64::from_le_bytes(*cluster)), NodeId(u64::from_le_bytes(*sender))))
    }

    /// The header as bytes, as [`parse`](Self::parse) reads them.
    #[must_use]
    pub fn emit(&self) -> [u8; limits::HEADER_BYTES] {
        let mut bytes = [0; limits::HEADER_BYTES];
        let fields: [&[u8]; 7] = [
            &MAGIC,
            &[VERSION, self.msgtype, self.key_slot, self.minor],
            &self.cluster.0.to_le_bytes(),
            &self.sender.0.to_le_bytes(),
            &self.incarnation.to_le_bytes(),
            &self.sequence.to_le_bytes(),
            &self.body_len_bytes.to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

/// Reads fixed-size fields from the front of bytes that are long enough. Past the end it
/// would read zeros, which no caller does.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            msgtype: 6,
            key_slot: 2,
            minor: 0,
            cluster: ClusterId(0x1122_3344_5566_7788),
            sender: NodeId(0x0102_0304_0506_0708),
            incarnation: 9,
            sequence: 10,
            body_len_bytes: 3,
        }
    }

    #[test]
    fn parse_reads_what_emit_writes() {
        let mut bytes = header().emit().to_vec();
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&[0xEE; 16]);
        let parts = Header::parse(&bytes).unwrap();
        assert_eq!(parts.header, header());
        assert_eq!(parts.body, b"abc");
        assert_eq!(parts.tag, &[0xEE; 16]);
        assert_eq!(parts.tagged, &bytes[..45]);
    }

    #[test]
    fn lengths_must_agree() {
        let mut bytes = header().emit().to_vec();
        bytes.extend_from_slice(&[0; 3 + 16]);
        assert!(Header::parse(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..len]).unwrap_err(), Refusal::TooShort, "{len}");
        }
        bytes.push(0);
        assert_eq!(Header::parse(&bytes).unwrap_err(), Refusal::TooLong);
        bytes.resize(limits::DATAGRAM_BYTES + 1, 0);
        assert_eq!(Header::parse(&bytes).unwrap_err(), Refusal::TooLong);
    }
}
