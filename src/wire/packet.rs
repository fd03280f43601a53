//! A packet of a file that is sent to many hosts at once.
//!
//! ```text
//!  0  4  magic "THMP"           4  1  version (1)
//!  5  1  key slot               6  2  number
//!  8  4  block                 12  8  transmission
//! 20  n  content                ..  8  tag: keyed BLAKE3 over all before it, truncated
//! ```
//! All numbers are little-endian. The envelope has 28 bytes, where a datagram's has 58: a file has as many
//! packets as it has kilobytes, and one host sends them all, so they name neither cluster nor sender. Nor do
//! they have a sequence number: a packet that comes twice says the same twice.
//!
//! The tag is made with the group key, which every agent has. It keeps strangers out; content is believed by
//! its hash alone.

use super::codec::tag_of;
use super::keys::Key;
use super::refusal::Refusal;
use crate::limits;

/// The first four bytes of every packet.
pub const MAGIC: [u8; 4] = *b"THMP";
/// The version of the packet.
pub const VERSION: u8 = 1;
/// Bytes before the content.
const HEAD_BYTES: usize = 20;
/// Bytes of the tag: a forger needs 2^63 packets for one.
const TAG_BYTES: usize = 8;
/// What is around the content, in bytes.
pub const ENVELOPE_BYTES: usize = HEAD_BYTES + TAG_BYTES;

const _: () = assert!(limits::PACKET_BYTES + ENVELOPE_BYTES <= limits::DATAGRAM_BYTES);

/// What a packet has of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of this block, the source packet with this number.
    Source {
        /// The block.
        block: u32,
        /// The packet; below `SOURCE_PACKETS`.
        number: u16,
    },
    /// Of this block, the repair packet with this number.
    Repair {
        /// The block.
        block: u32,
        /// The packet; below `REPAIR_PACKETS`.
        number: u16,
    },
    /// What proves the blocks of this section.
    Proof {
        /// The section.
        section: u32,
    },
}

/// Numbers from here on are those of repair packets.
const FIRST_REPAIR: u16 = limits::SOURCE_PACKETS as u16;
/// The number of a proof.
const PROOF: u16 = u16::MAX;

const _: () = assert!(limits::SOURCE_PACKETS + limits::REPAIR_PACKETS < PROOF as usize);

/// A packet whose tag held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The transmission to which it belongs.
    pub transmission: u64,
    /// What it has.
    pub part: Part,
    /// The bytes, at most [`PACKET_BYTES`](limits::PACKET_BYTES).
    pub content: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Writes the packet and returns its length; 0 if the content is too long.
    pub fn emit(&self, key_slot: u8, key: &Key, out: &mut [u8; limits::DATAGRAM_BYTES]) -> usize {
        if self.content.len() > limits::PACKET_BYTES {
            return 0;
        }
        let (number, block) = match self.part {
            Part::Source { block, number } => (number, block),
            Part::Repair { block, number } => (FIRST_REPAIR.saturating_add(number), block),
            Part::Proof { section } => (PROOF, section),
        };
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &[VERSION, key_slot],
            &number.to_le_bytes(),
            &block.to_le_bytes(),
            &self.transmission.to_le_bytes(),
            self.content,
        ];
        let mut length: usize = 0;
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
            length = length.saturating_add(1);
        }
        let Some((tagged, rest)) = out.split_at_mut_checked(length) else { return 0 };
        for (to, from) in rest.iter_mut().zip(tag_of(key, tagged).iter().take(TAG_BYTES)) {
            *to = *from;
        }
        length.saturating_add(TAG_BYTES)
    }

    /// Reads a packet. `key` gives the group key of a slot.
    ///
    /// # Errors
    /// In this order: `TooShort`, `TooLong`, `Magic`, `Version`, `NoKey`, `Tag`; `Body` where no part has its
    /// number.
    pub fn parse(bytes: &'a [u8], key: impl FnOnce(u8) -> Option<Key>) -> Result<Self, Refusal> {
        let (tagged, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(Refusal::TooShort)?;
        let (head, content) = tagged.split_first_chunk::<HEAD_BYTES>().ok_or(Refusal::TooShort)?;
        if content.len() > limits::PACKET_BYTES {
            return Err(Refusal::TooLong);
        }
        let [m0, m1, m2, m3, version, key_slot, n0, n1, b0, b1, b2, b3, transmission @ ..] = *head;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Refusal::Magic);
        }
        if version != VERSION {
            return Err(Refusal::Version);
        }
        let key = key(key_slot).ok_or(Refusal::NoKey)?;
        // In constant time, so that the time does not reveal how many bytes agree.
        let differences = tag_of(&key, tagged).into_iter().zip(tag).map(|(a, b)| a ^ b);
        if core::hint::black_box(differences.fold(0, |all, one| all | one)) != 0 {
            return Err(Refusal::Tag);
        }
        let (number, block) = (u16::from_le_bytes([n0, n1]), u32::from_le_bytes([b0, b1, b2, b3]));
        let part = match number.checked_sub(FIRST_REPAIR) {
            None => Part::Source { block, number },
            Some(number) if usize::from(number) < limits::REPAIR_PACKETS => Part::Repair { block, number },
            Some(_) if number == PROOF => Part::Proof { section: block },
            Some(_) => return Err(Refusal::Body),
        };
        Ok(Self { transmission: u64::from_le_bytes(transmission), part, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([9; 32]);

    fn emitted(packet: &Packet<'_>) -> std::vec::Vec<u8> {
        let mut out = [0; limits::DATAGRAM_BYTES];
        let length = packet.emit(1, &KEY, &mut out);
        out[..length].to_vec()
    }

    fn parsed(bytes: &[u8]) -> Result<Packet<'_>, Refusal> {
        Packet::parse(bytes, |slot| (slot == 1).then_some(KEY))
    }

    fn packet(content: &[u8]) -> Packet<'_> {
        Packet { transmission: 0x1122_3344_5566_7788, part: Part::Source { block: 5, number: 700 }, content }
    }

    #[test]
    fn each_part_is_read_as_it_was_written() {
        let content = [0xAB; limits::PACKET_BYTES];
        for part in [
            Part::Source { block: 0, number: 0 },
            Part::Source { block: u32::MAX, number: 1_023 },
            Part::Repair { block: 7, number: 0 },
            Part::Repair { block: 7, number: 1_023 },
            Part::Proof { section: 255 },
        ] {
            for content in [&content[..], b"", b"x"] {
                let packet = Packet { part, ..packet(content) };
                let bytes = emitted(&packet);
                assert_eq!(bytes.len(), content.len() + ENVELOPE_BYTES);
                assert_eq!(parsed(&bytes), Ok(packet));
            }
        }
    }

    #[test]
    fn the_bytes_of_a_packet_stay_what_they_are() {
        let bytes = emitted(&packet(b"content"));
        let head = [
            &b"THMP\x01\x01"[..],
            &[0xBC, 0x02, 5, 0, 0, 0],
            &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
        ];
        assert_eq!(bytes[..20], head.concat());
        assert_eq!(&bytes[20..27], b"content");
        assert_eq!(bytes[27..], blake3::keyed_hash(&KEY.0, &bytes[..27]).as_bytes()[..8]);
    }

    #[test]
    fn each_check_has_its_own_refusal() {
        let good = emitted(&packet(b"content"));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            parsed(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(parsed(&good[..ENVELOPE_BYTES - 1]), Err(Refusal::TooShort));
        assert_eq!(parsed(&[b'T'; limits::PACKET_BYTES + ENVELOPE_BYTES + 1]), Err(Refusal::TooLong));
        assert_eq!(with(3, b'B'), Refusal::Magic);
        assert_eq!(with(4, 2), Refusal::Version);
        assert_eq!(with(5, 0), Refusal::NoKey);
        for at in (6..good.len()).filter(|at| *at != 5) {
            assert_eq!(with(at, good[at] ^ 0x40), Refusal::Tag, "byte {at}");
        }
        // A number that no part has, with a tag that holds.
        let mut bytes = good[..good.len() - TAG_BYTES].to_vec();
        bytes[6..8].copy_from_slice(&2_048_u16.to_le_bytes());
        let tag = tag_of(&KEY, &bytes);
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        assert_eq!(parsed(&bytes), Err(Refusal::Body));
    }

    #[test]
    fn a_content_that_is_too_long_is_not_written() {
        let mut out = [0; limits::DATAGRAM_BYTES];
        assert_eq!(packet(&[0; limits::PACKET_BYTES + 1]).emit(1, &KEY, &mut out), 0);
    }
}
