//! One member of a gzip file (RFC 1952): a header, deflated data, and what proves them.
//!
//! Not flate2's own reader: its checksum brings 24 KB of tables to ARM64. The one here has 1 KB, and
//! unpacking takes a third longer.

use std::io::{self, BufRead, Read};

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use flate2::bufread::DeflateDecoder;

/// What every member starts with.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The one method that there is.
const DEFLATE: u8 = 8;
/// The flags of a header: a checksum of it, a field of bytes, a name, a comment.
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
/// No meaning yet: what has one of these is to be refused.
const RESERVED: u8 = 7 << 5;
/// The most bytes of a name or a comment, its end among them. The format has no limit.
const TEXT_BYTES: usize = 1 << 16;

static CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// A member being read, as a reader of its content.
///
/// Its errors: `UnexpectedEof` where the file ends too early, `InvalidData` or `InvalidInput`
/// for what is no gzip or is not what was packed, and those of the file.
pub(super) struct Member<R> {
    data: DeflateDecoder<R>,
    digest: Digest<'static, u32, Table<1>>,
    /// Modulo 2^32, as in the member's end.
    len: u32,
    place: Place,
}

/// How far a member is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Data,
    Behind,
}

impl<R: BufRead> Member<R> {
    /// Begins with what `source` has next.
    pub(super) fn new(source: R) -> Self {
        Self { data: DeflateDecoder::new(source), digest: CRC32.digest(), len: 0, place: Place::Header }
    }

    pub(super) fn get_ref(&self) -> &R {
        self.data.get_ref()
    }

    /// The file, read up to the member's end once all content has been read.
    pub(super) fn into_inner(self) -> R {
        self.data.into_inner()
    }

    fn header(&mut self) -> io::Result<()> {
        let mut header = Header { source: self.data.get_mut(), digest: CRC32.digest() };
        let [first, second, method, flags, ..] = header.bytes::<10>()?;
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        if [first, second] != MAGIC || method != DEFLATE || flags & RESERVED != 0 {
            return Err(damaged());
        }
        if flags & FEXTRA != 0 {
            for _ in 0..u16::from_le_bytes(header.bytes()?) {
                header.bytes::<1>()?;
            }
        }
        for text in [FNAME, FCOMMENT] {
            let mut left = TEXT_BYTES;
            while flags & text != 0 && header.bytes()? != [0] {
                left = left.checked_sub(1).ok_or_else(damaged)?;
            }
        }
        if flags & FHCRC != 0 {
            let [low, high, ..] = header.digest.clone().finalize().to_le_bytes();
            if header.bytes()? != [low, high] {
                return Err(damaged());
            }
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let mut end = [[0; 4]; 2];
        self.data.get_mut().read_exact(end.as_flattened_mut())?;
        let proof = [self.digest.clone().finalize(), self.len];
        if end.map(u32::from_le_bytes) != proof { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }
}

impl<R: BufRead> Read for Member<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.place == Place::Header {
            self.header()?;
            self.place = Place::Data;
        }
        if self.place == Place::Behind || into.is_empty() {
            return Ok(0);
        }
        let len = self.data.read(into)?;
        if len == 0 {
            self.end()?;
            self.place = Place::Behind;
        }
        self.digest.update(&into[..len]);
        // Modulo 2^32: a file may be longer.
        self.len = self.len.wrapping_add(len as u32);
        Ok(len)
    }
}

/// A header being read: all of it counts in its checksum.
struct Header<'a, R> {
    source: &'a mut R,
    digest: Digest<'static, u32, Table<1>>,
}

impl<R: Read> Header<'_, R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }
}
