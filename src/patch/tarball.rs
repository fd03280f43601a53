//! Reads gzip and tar into raw members.
//!
//! Reads the GNU, pax and ustar formats in one pass with bounded memory: a header that
//! announces a name of a gigabyte is refused before the name is read. The rules for a
//! member's name and type are in [`super::archive`].
//!
//! Why our own: of the crate `tar` only the header's fields are used. Its archive
//! reader reads names of any length into memory, skips members of types that it does not know,
//! and ends at the first zero block; a signed file must not mean one thing here and
//! another to a second reader, so here all of that is refused.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::PatchError;
use super::attributes::Attributes;
use super::fault::{ArchiveError, MemberFault};
use super::gunzip::Gunzip;
use super::member::Owner;
use super::packer::Packer;
use super::pax::check_global;
use super::raw::{RawKind, RawMember};
use super::sparse::{
    BAD, Extent, MapPlace, MapReader, Piece, SparseMap, SparseReader, SparseRecords, TOO_LONG,
};
use crate::limits;

/// A tar's unit, in bytes.
const BLOCK: usize = 512;

/// The most global pax headers of one archive: git writes one.
const GLOBAL_HEADERS: usize = 16;

/// A gzip tar being read.
pub(super) struct Tarball<'a> {
    gzip: Gunzip<'a>,
    /// The records of global pax headers so far, which are for every member.
    global: Vec<u8>,
    /// How many there were.
    global_headers: usize,
    /// The bytes of the current member's content in the archive that have not been read.
    left_bytes: u64,
    /// Where these bytes go, if the current member has holes.
    sparse: Option<SparseReader>,
    /// The zeros that follow the current member's content.
    padding_bytes: u64,
}

impl<'a> Tarball<'a> {
    pub(super) fn open(file: &'a mut dyn Read) -> Result<Self, PatchError> {
        let (gzip, global) = (Gunzip::open(file)?, Vec::new());
        Ok(Self { gzip, global, global_headers: 0, left_bytes: 0, sparse: None, padding_bytes: 0 })
    }

    /// Compressed bytes read so far, read-ahead included.
    pub(super) fn read_bytes(&self) -> u64 {
        self.gzip.read_bytes()
    }

    /// Tells for an error of [`Read`] whether this machine or the archive is at fault.
    pub(super) fn explain(&self, error: io::Error) -> PatchError {
        self.gzip.explain(error)
    }

    /// Reads the next member, and skips the rest of the one before it. Returns `None` at
    /// the archive's end, after checking everything up to the file's last byte.
    pub(super) fn next(&mut self) -> Result<Option<RawMember>, PatchError> {
        let (mut long_name, mut long_link, mut pax) = (None, None, None);
        let mut packer = Packer::Tar;
        loop {
            self.skip()?;
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                if long_name.is_some() || long_link.is_some() || pax.is_some() {
                    return Err(ArchiveError::Truncated.into());
                }
                self.end()?;
                return Ok(None);
            }
            let header = checked(&block)?;
            let shown = header.path_bytes().into_owned();
            let bad = |what| MemberFault::BadHeader(what).of(&shown);
            let size_bytes = header.entry_size().map_err(|_| bad("size"))?;
            let too_long = MemberFault::ExtensionTooLong;
            let (slot, fault) = match header.entry_type() {
                EntryType::GNULongName => (&mut long_name, MemberFault::NameTooLong),
                EntryType::GNULongLink => (&mut long_link, MemberFault::NameTooLong),
                EntryType::XHeader => {
                    packer = Packer::of_pax_header(&shown);
                    (&mut pax, too_long)
                }
                EntryType::XGlobalHeader => {
                    let records = self.extension(size_bytes, &shown, too_long)?;
                    check_global(&records, &shown)?;
                    self.global.extend(records);
                    self.global_headers += 1;
                    if self.global.len() as u64 > limits::PATCH_EXTENSION_BYTES
                        || self.global_headers > GLOBAL_HEADERS
                    {
                        return Err(bad("global pax header").into());
                    }
                    continue;
                }
                _ => {
                    let mut member = raw(header, size_bytes)?;
                    let map = self.map_behind(header, &member.name)?;
                    member.extend(&self.global, packer)?;
                    if let Some(name) = long_name {
                        member.name = without_nul(name);
                    }
                    if let Some(link) = long_link {
                        member.link = without_nul(link);
                    }
                    if let Some(records) = pax {
                        member.extend(&records, packer)?;
                    }
                    self.take(size_bytes);
                    self.expand(&mut member, map, packer)?;
                    return Ok(Some(member));
                }
            };
            if slot.is_some() {
                return Err(bad("second long name").into());
            }
            *slot = Some(self.extension(size_bytes, &shown, fault)?);
        }
    }

    /// Reads the content of a member that extends those after it.
    fn extension(
        &mut self,
        size_bytes: u64,
        name: &[u8],
        too_long: MemberFault,
    ) -> Result<Vec<u8>, PatchError> {
        if size_bytes > limits::PATCH_EXTENSION_BYTES {
            return Err(too_long.of(name).into());
        }
        self.take(size_bytes);
        let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or(usize::MAX)];
        self.fill(&mut bytes)?;
        self.left_bytes = 0;
        Ok(bytes)
    }

    /// Makes the next `size_bytes` the current member's content.
    fn take(&mut self, size_bytes: u64) {
        self.left_bytes = size_bytes;
        self.padding_bytes = (BLOCK as u64 - size_bytes % BLOCK as u64) % BLOCK as u64;
    }

    /// The map of holes in GNU tar's own header for a sparse file, and in the blocks that
    /// follow it.
    fn map_behind(&mut self, header: &Header, name: &[u8]) -> Result<MapPlace, PatchError> {
        let refuse = |fault: MemberFault| PatchError::from(fault.of(name));
        if header.entry_type() != EntryType::GNUSparse {
            return Ok(MapPlace::Nowhere);
        }
        let gnu = header.as_gnu().ok_or_else(|| refuse(Packer::sparse_of_star()))?;
        let size_bytes = gnu.real_size().map_err(|_| refuse(BAD))?;
        let mut extents = Vec::new();
        let mut add = |some: &[GnuSparseHeader]| {
            for part in some.iter().filter(|part| !part.is_empty()) {
                let (offset, size) = (part.offset().map_err(|_| BAD)?, part.length().map_err(|_| BAD)?);
                extents.push(Extent { offset, size });
            }
            if extents.len() > limits::PATCH_EXTENTS { Err(TOO_LONG) } else { Ok(()) }
        };
        add(&gnu.sparse).map_err(refuse)?;
        let mut has_more = gnu.is_extended();
        while has_more {
            let mut block = GnuExtSparseHeader::new();
            self.fill(block.as_mut_bytes())?;
            add(block.sparse()).map_err(refuse)?;
            has_more = block.is_extended();
        }
        Ok(MapPlace::Header { extents, size_bytes })
    }

    /// Makes the current member's content be read with its holes, if it has any.
    fn expand(&mut self, member: &mut RawMember, own: MapPlace, packer: Packer) -> Result<(), PatchError> {
        let records = std::mem::take(&mut member.sparse).end(packer);
        let refuse = |fault: MemberFault| PatchError::from(fault.of(&member.name));
        let (extents, size_bytes) = match (own, records.map_err(refuse)?) {
            (MapPlace::Nowhere, MapPlace::Nowhere) => return Ok(()),
            _ if member.kind != RawKind::File => return Err(refuse(BAD)),
            (MapPlace::Nowhere, MapPlace::Content { size_bytes }) => {
                (self.map_in_content(&member.name)?, size_bytes)
            }
            (MapPlace::Header { extents, size_bytes }, MapPlace::Nowhere)
            | (MapPlace::Nowhere, MapPlace::Header { extents, size_bytes }) => (extents, size_bytes),
            _ => return Err(refuse(BAD)),
        };
        let map = SparseMap::new(extents, size_bytes, self.left_bytes).ok_or_else(|| refuse(BAD))?;
        member.is_sparse = size_bytes > self.left_bytes;
        member.size_bytes = size_bytes;
        self.sparse = Some(SparseReader::new(map));
        Ok(())
    }

    /// Reads the map at the start of the current member's content.
    fn map_in_content(&mut self, name: &[u8]) -> Result<Vec<Extent>, PatchError> {
        let mut reader = MapReader::default();
        loop {
            let left_bytes = self.left_bytes.checked_sub(BLOCK as u64).ok_or_else(|| BAD.of(name))?;
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            self.left_bytes = left_bytes;
            if let Some(extents) = reader.take(&block).map_err(|fault| fault.of(name))? {
                return Ok(extents);
            }
        }
    }

    /// Skips the rest of the current member.
    fn skip(&mut self) -> Result<(), PatchError> {
        self.sparse = None;
        let mut left_bytes = std::mem::take(&mut self.left_bytes) + std::mem::take(&mut self.padding_bytes);
        let mut buffer = [0; 16 * 1024];
        while left_bytes > 0 {
            let len = buffer.len().min(usize::try_from(left_bytes).unwrap_or(usize::MAX));
            self.fill(&mut buffer[..len])?;
            left_bytes -= len as u64;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), PatchError> {
        self.gzip.read_exact(buffer).map_err(|error| self.explain(error))
    }

    /// Checks the end after the first zero block: zeros, gzip's checksums, no more bytes.
    fn end(&mut self) -> Result<(), PatchError> {
        let mut left_bytes = limits::PATCH_PADDING_BYTES;
        let mut buffer = [0; BLOCK];
        loop {
            match self.gzip.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) if buffer[..len].iter().all(|byte| *byte == 0) && left_bytes > 0 => {
                    left_bytes -= len.min(left_bytes);
                }
                Ok(_) => return Err(ArchiveError::TrailingData.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok(())
    }
}

/// Reads the current member's content.
impl Read for Tarball<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let up_to = |bytes: u64| into.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        let next = match &mut self.sparse {
            None => Some(Piece::Data(self.left_bytes)),
            Some(sparse) => sparse.next(),
        };
        let len = match next {
            None => return Ok(0),
            Some(Piece::Hole(bytes)) => {
                let len = up_to(bytes);
                into[..len].fill(0);
                len
            }
            Some(Piece::Data(bytes)) => {
                let most = up_to(bytes);
                let len = self.gzip.read(&mut into[..most])?;
                if len == 0 && most > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.left_bytes -= len as u64;
                len
            }
        };
        if let Some(sparse) = &mut self.sparse {
            sparse.advance(len as u64);
        }
        Ok(len)
    }
}

/// A block as a header, if it has a known format and its checksum matches.
fn checked(block: &[u8; BLOCK]) -> Result<&Header, PatchError> {
    let header = Header::from_byte_slice(block);
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Err(ArchiveError::NotTar.into());
    }
    // The checksum is over the block with its own eight bytes as spaces.
    let sum = block.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u32::from(b' '),
        _ => u32::from(*byte),
    });
    if header.cksum().ok() != Some(sum.sum()) {
        return Err(ArchiveError::Damaged.into());
    }
    Ok(header)
}

/// The member that a header describes, extensions aside.
fn raw(header: &Header, size_bytes: u64) -> Result<RawMember, PatchError> {
    let name = header.path_bytes().into_owned();
    let refuse = |fault: MemberFault| fault.of(&name);
    let bad = |what| refuse(MemberFault::BadHeader(what));
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => RawKind::File,
        EntryType::Directory => RawKind::Directory,
        EntryType::Symlink => RawKind::Symlink,
        EntryType::Link => RawKind::HardLink,
        EntryType::Char => return Err(refuse(MemberFault::NotAFile("character device")).into()),
        EntryType::Block => return Err(refuse(MemberFault::NotAFile("block device")).into()),
        EntryType::Fifo => return Err(refuse(MemberFault::NotAFile("fifo")).into()),
        other => return Err(refuse(Packer::unknown(other.as_byte())).into()),
    };
    if kind != RawKind::File && size_bytes != 0 {
        return Err(bad("size").into());
    }
    let id = |id: io::Result<u64>, what| id.ok().and_then(|id| u32::try_from(id).ok()).ok_or(bad(what));
    let owner = Owner {
        mode: header.mode().map_err(|_| bad("mode"))? & 0o7777,
        uid: id(header.uid(), "uid")?,
        gid: id(header.gid(), "gid")?,
        // In GNU's binary form, a time before 1970 is in two's complement.
        mtime_s: header.mtime().map_err(|_| bad("time"))?.cast_signed(),
        mtime_ns: 0,
    };
    let link = header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    let (attributes, sparse) = (Attributes::default(), SparseRecords::default());
    Ok(RawMember { name, link, kind, size_bytes, owner, attributes, is_sparse: false, sparse })
}

/// A GNU long name ends with a NUL.
fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}
