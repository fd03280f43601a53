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

use tar::{EntryType, Header};

use super::PatchError;
use super::fault::{ArchiveError, MemberFault};
use super::gunzip::Gunzip;
use super::member::Owner;
use super::packer::Packer;
use super::pax::check_global;
use super::raw::{RawKind, RawMember};
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
    /// The bytes of the current member's content that have not been read.
    left_bytes: u64,
    /// The zeros that follow the current member's content.
    padding_bytes: u64,
}

impl<'a> Tarball<'a> {
    pub(super) fn open(file: &'a mut dyn Read) -> Result<Self, PatchError> {
        let (gzip, global) = (Gunzip::open(file)?, Vec::new());
        Ok(Self { gzip, global, global_headers: 0, left_bytes: 0, padding_bytes: 0 })
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
            let slot = match header.entry_type() {
                EntryType::GNULongName => &mut long_name,
                EntryType::GNULongLink => &mut long_link,
                EntryType::XHeader => {
                    packer = Packer::of_pax_header(&shown);
                    &mut pax
                }
                EntryType::XGlobalHeader => {
                    let records = self.extension(size_bytes, &shown)?;
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
                    return Ok(Some(member));
                }
            };
            if slot.is_some() {
                return Err(bad("second long name").into());
            }
            *slot = Some(self.extension(size_bytes, &shown)?);
        }
    }

    /// Reads the content of a member that extends those after it.
    fn extension(&mut self, size_bytes: u64, name: &[u8]) -> Result<Vec<u8>, PatchError> {
        if size_bytes > limits::PATCH_EXTENSION_BYTES {
            return Err(MemberFault::NameTooLong.of(name).into());
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
        self.padding_bytes = size_bytes.next_multiple_of(BLOCK as u64) - size_bytes;
    }

    /// Skips the rest of the current member.
    fn skip(&mut self) -> Result<(), PatchError> {
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
        let most = into.len().min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        match self.gzip.read(&mut into[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.left_bytes -= len as u64;
                Ok(len)
            }
        }
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
        EntryType::Regular | EntryType::Continuous => RawKind::File,
        EntryType::Directory => RawKind::Directory,
        EntryType::Symlink => RawKind::Symlink,
        EntryType::Link => RawKind::HardLink,
        EntryType::Char => return Err(refuse(MemberFault::NotAFile("character device")).into()),
        EntryType::Block => return Err(refuse(MemberFault::NotAFile("block device")).into()),
        EntryType::Fifo => return Err(refuse(MemberFault::NotAFile("fifo")).into()),
        EntryType::GNUSparse => return Err(refuse(Packer::Tar.sparse()).into()),
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
    Ok(RawMember { name, link, kind, size_bytes, owner })
}

/// A GNU long name ends with a NUL.
fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}
