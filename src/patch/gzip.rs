//! gzip (RFC 1952): the one member that a patch is, unpacked and checked.
//!
//! The packing in between is miniz_oxide's. What is around it is this file, for
//! the sake of what an appliance carries: a checksum that is fast enough beside
//! the hashing of the same bytes, and whose tables are not in the program.

use std::io::{self, BufRead, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

/// What every gzip file starts with.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Deflate, the only packing there is.
const DEFLATE: u8 = 8;

/// What a header's flags say is in it: a checksum of itself, extra fields, the
/// file's name, a comment. The bits beyond are reserved.
const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// The most bytes that a name or comment in a header may have.
const TEXT_BYTES: usize = 64 * 1024;

/// A gzip member being read. What it unpacks to counts only once a read gave no
/// more: the checksum comes last.
pub(super) struct Gunzip<R> {
    packed: R,
    inflater: Box<InflateState>,
    /// Of the header, then of what was unpacked.
    sum: Sum,
    unpacked_bytes: u64,
    at: At,
}

enum At {
    Header,
    Content,
    Trailer,
    End,
}

impl<R: BufRead> Gunzip<R> {
    /// To read what `packed` starts with; nothing beyond is consumed.
    pub(super) fn new(packed: R) -> Self {
        let inflater = InflateState::new_boxed(DataFormat::Raw);
        Self { packed, inflater, sum: Sum::default(), unpacked_bytes: 0, at: At::Header }
    }

    /// Where the packed bytes come from.
    pub(super) fn packed(&self) -> &R {
        &self.packed
    }

    /// As [`Gunzip::packed`], for what follows after the end.
    pub(super) fn packed_mut(&mut self) -> &mut R {
        &mut self.packed
    }

    fn header(&mut self) -> io::Result<()> {
        let [magic @ .., method, flags, _, _, _, _, _, _] = self.take::<10>()?;
        if magic != MAGIC || method != DEFLATE || flags & RESERVED != 0 {
            return Err(damaged());
        }
        if flags & HAS_EXTRA != 0 {
            for _ in 0..u16::from_le_bytes(self.take()?) {
                self.take::<1>()?;
            }
        }
        for text in [HAS_NAME, HAS_COMMENT] {
            if flags & text != 0 {
                self.skip_text()?;
            }
        }
        let [low, high, ..] = self.sum.value().to_le_bytes();
        if flags & HAS_CHECKSUM != 0 && self.take()? != [low, high] {
            return Err(damaged());
        }
        self.sum.begin_anew();
        Ok(())
    }

    fn skip_text(&mut self) -> io::Result<()> {
        for _ in 0..TEXT_BYTES {
            if self.take()? == [0] {
                return Ok(());
            }
        }
        Err(damaged())
    }

    /// The checksum and size, modulo 2^32, of what was unpacked.
    fn trailer(&mut self) -> io::Result<()> {
        let found = (self.sum.value(), self.unpacked_bytes as u32);
        let said = (u32::from_le_bytes(self.take()?), u32::from_le_bytes(self.take()?));
        if said == found { Ok(()) } else { Err(damaged()) }
    }

    /// The next bytes as they are, counted into the checksum.
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.packed.read_exact(&mut bytes)?;
        self.sum.add(&bytes);
        Ok(bytes)
    }

    /// Unpacks into `into`, which is not empty; nothing at the packing's end.
    fn content(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let packed = self.packed.fill_buf()?;
            let is_cut = packed.is_empty();
            let result = inflate(&mut self.inflater, packed, into, MZFlush::None);
            let (consumed, len) = (result.bytes_consumed, result.bytes_written);
            self.packed.consume(consumed);
            self.sum.add(&into[..len]);
            self.unpacked_bytes += len as u64;
            if result.status == Ok(MZStatus::StreamEnd) {
                self.at = At::Trailer;
                return Ok(len);
            }
            if len > 0 {
                return Ok(len);
            }
            if is_cut {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if consumed == 0 {
                return Err(damaged());
            }
        }
    }
}

/// After an error other than [`io::ErrorKind::Interrupted`] within the content
/// there is nothing more to read.
impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match self.at {
                At::Header => {
                    self.header()?;
                    self.at = At::Content;
                }
                At::Content => match self.content(into)? {
                    0 => {}
                    len => return Ok(len),
                },
                At::Trailer => {
                    self.trailer()?;
                    self.at = At::End;
                }
                At::End => return Ok(0),
            }
        }
    }
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// gzip's CRC-32, as it is kept: inverted. Eight bytes at a time: a file of some
/// hundred MiB is read between its last byte's coming and its being served.
struct Sum {
    sum: u32,
    tables: Box<Tables>,
}

/// What a byte does to the sum, with so many bytes behind it. Made when they are
/// needed: in the program they would take 8 KiB.
type Tables = [[u32; 256]; 8];

fn tables() -> Box<Tables> {
    let mut tables = Box::new([[0; 256]; 8]);
    for byte in 0..256 {
        let mut sum = byte as u32;
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
        tables[0][byte] = sum;
    }
    for behind in 1..tables.len() {
        for byte in 0..256 {
            let sum = tables[behind - 1][byte];
            tables[behind][byte] = tables[0][(sum & 0xff) as usize] ^ (sum >> 8);
        }
    }
    tables
}

impl Default for Sum {
    fn default() -> Self {
        Self { sum: !0, tables: tables() }
    }
}

impl Sum {
    fn begin_anew(&mut self) {
        self.sum = !0;
    }

    fn add(&mut self, bytes: &[u8]) {
        let (tables, mut sum) = (&*self.tables, self.sum);
        let (eights, rest) = bytes.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in eights {
            let [low, high, higher, highest] = sum.to_le_bytes();
            sum = tables[7][usize::from(a ^ low)]
                ^ tables[6][usize::from(b ^ high)]
                ^ tables[5][usize::from(c ^ higher)]
                ^ tables[4][usize::from(d ^ highest)]
                ^ tables[3][usize::from(*e)]
                ^ tables[2][usize::from(*f)]
                ^ tables[1][usize::from(*g)]
                ^ tables[0][usize::from(*h)];
        }
        for byte in rest {
            let [low, ..] = sum.to_le_bytes();
            sum = tables[0][usize::from(low ^ byte)] ^ (sum >> 8);
        }
        self.sum = sum;
    }

    fn value(&self) -> u32 {
        !self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gzip -n` of "thimble": 10 bytes of header, 9 of content, 8 of trailer.
    const WHOLE: [u8; 27] = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, //
        0x2b, 0xc9, 0xc8, 0xcc, 0x4d, 0xca, 0x49, 0x05, 0x00, //
        0xa1, 0x32, 0x41, 0x83, 7, 0, 0, 0,
    ];

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        Gunzip::new(packed).read_to_end(&mut unpacked).map(|_| unpacked)
    }

    #[test]
    fn the_sum_is_crc_32() {
        let mut sum = Sum::default();
        sum.add(b"1234");
        sum.add(b"56789");
        assert_eq!(sum.value(), 0xcbf4_3926, "the check value of every CRC catalogue");
    }

    #[test]
    fn one_member_is_unpacked_and_what_follows_is_left() {
        let mut packed = WHOLE.to_vec();
        packed.extend(b"more");
        let mut gzip = Gunzip::new(&packed[..]);
        let mut unpacked = String::new();
        assert_eq!(gzip.read_to_string(&mut unpacked).unwrap(), 7);
        assert_eq!(unpacked, "thimble");
        assert_eq!(*gzip.packed(), b"more");
    }

    #[test]
    fn all_that_a_header_may_hold_is_read_over_and_its_own_sum_is_checked() {
        let mut header = WHOLE[..10].to_vec();
        header[3] = HAS_CHECKSUM | HAS_EXTRA | HAS_NAME | HAS_COMMENT;
        header.extend(b"\x04\0abcdname\0comment\0");
        let mut sum = Sum::default();
        sum.add(&header);
        header.extend(&sum.value().to_le_bytes()[..2]);
        let packed = [&header, &WHOLE[10..]].concat();
        assert_eq!(unpack(&packed).unwrap(), b"thimble");
        for at in 0..header.len() {
            let mut altered = packed.clone();
            altered[at] ^= 1;
            assert!(unpack(&altered).is_err(), "altered at {at}");
        }
        let mut endless = header[..10].to_vec();
        endless[3] = HAS_NAME;
        endless.resize(10 + TEXT_BYTES, b'x');
        assert_eq!(unpack(&endless).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_altered_is_refused_and_what_is_cut_is_told_from_it() {
        assert_eq!(unpack(&WHOLE).unwrap(), b"thimble");
        // The header's time, the packer's effort and its system mean nothing here,
        // nor do the bits after the packing's end.
        for at in (0..4).chain(10..18).chain(19..WHOLE.len()) {
            let mut altered = WHOLE;
            altered[at] ^= 0x20;
            assert!(unpack(&altered).is_err(), "altered at {at}");
        }
        for len in 0..WHOLE.len() {
            assert_eq!(
                unpack(&WHOLE[..len]).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof,
                "cut at {len}"
            );
        }
    }
}
