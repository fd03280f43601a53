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

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use tar::{EntryType, Header};

use super::PatchError;
use super::fault::{ArchiveError, MemberFault};
use super::member::Owner;
use crate::limits;

/// What every gzip file starts with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A tar's unit, in bytes.
const BLOCK: usize = 512;

/// The type of a raw member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawKind {
    File,
    Directory,
    Symlink,
    HardLink,
}

/// A member as it is in the archive, with unchecked names.
pub(super) struct RawMember {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: RawKind,
    pub(super) size_bytes: u64,
    pub(super) owner: Owner,
}

/// Counts the bytes that are read, and remembers whether reading failed.
struct CountedReader<'a> {
    inner: &'a mut dyn Read,
    read_bytes: u64,
    failed: bool,
}

impl Read for CountedReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(len) => {
                self.read_bytes += len as u64;
                Ok(len)
            }
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

/// A gzip tar being read.
pub(super) struct Tarball<'a> {
    gzip: GzDecoder<BufReader<CountedReader<'a>>>,
    /// The bytes of the current member's content that have not been read.
    left_bytes: u64,
    /// The zeros that follow the current member's content.
    padding_bytes: u64,
}

impl<'a> Tarball<'a> {
    pub(super) fn open(file: &'a mut dyn Read) -> Result<Self, PatchError> {
        let mut source =
            BufReader::with_capacity(64 * 1024, CountedReader { inner: file, read_bytes: 0, failed: false });
        if !source.fill_buf().map_err(PatchError::Io)?.starts_with(&MAGIC) {
            return Err(ArchiveError::NotGzip.into());
        }
        Ok(Self { gzip: GzDecoder::new(source), left_bytes: 0, padding_bytes: 0 })
    }

    /// Compressed bytes read so far, read-ahead included.
    pub(super) fn read_bytes(&self) -> u64 {
        self.gzip.get_ref().get_ref().read_bytes
    }

    /// Tells for an error of [`Read`] whether this machine or the archive is at fault.
    pub(super) fn explain(&self, error: io::Error) -> PatchError {
        if self.gzip.get_ref().get_ref().failed {
            PatchError::Io(error)
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            ArchiveError::Truncated.into()
        } else {
            ArchiveError::Damaged.into()
        }
    }

    /// Reads the next member, and skips the rest of the one before it. Returns `None` at
    /// the archive's end, after checking everything up to the file's last byte.
    pub(super) fn next(&mut self) -> Result<Option<RawMember>, PatchError> {
        let (mut long_name, mut long_link, mut pax) = (None, None, None);
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
                EntryType::XHeader => &mut pax,
                _ => {
                    let mut member = raw(header, size_bytes)?;
                    if let Some(name) = long_name {
                        member.name = without_nul(name);
                    }
                    if let Some(link) = long_link {
                        member.link = without_nul(link);
                    }
                    if let Some(records) = pax {
                        member.extend(&records)?;
                    }
                    self.take(size_bytes);
                    return Ok(Some(member));
                }
            };
            if slot.is_some() {
                return Err(bad("second long name").into());
            }
            if size_bytes > limits::PATCH_EXTENSION_BYTES {
                return Err(MemberFault::NameTooLong.of(&shown).into());
            }
            self.take(size_bytes);
            let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or(usize::MAX)];
            self.fill(&mut bytes)?;
            self.left_bytes = 0;
            *slot = Some(bytes);
        }
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

    /// Checks the end after the first zero block: zeros, gzip's checksum, no more bytes.
    fn end(&mut self) -> Result<(), PatchError> {
        // GNU tar pads to a record, by default of 10 KiB.
        let mut left_bytes = 1024 * 1024;
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
        let is_at_end = self.gzip.get_mut().fill_buf().map(<[u8]>::is_empty);
        match is_at_end {
            Ok(true) => Ok(()),
            Ok(false) => Err(ArchiveError::TrailingData.into()),
            Err(error) => Err(PatchError::Io(error)),
        }
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
        EntryType::GNUSparse => return Err(refuse(MemberFault::NotAFile("sparse file")).into()),
        _ => return Err(refuse(MemberFault::NotAFile("member of an unknown kind")).into()),
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

impl RawMember {
    /// Applies a pax header's records, `LEN KEY=VALUE\n` each.
    fn extend(&mut self, mut records: &[u8]) -> Result<(), PatchError> {
        let bad = MemberFault::BadHeader("pax header").of(&self.name);
        while !records.is_empty() {
            let (key, value, rest) = pax_record(records).ok_or(bad.clone())?;
            records = rest;
            let number = || str::from_utf8(value).ok()?.parse::<u64>().ok();
            let id = || number().and_then(|id| u32::try_from(id).ok()).ok_or(bad.clone());
            match key {
                b"path" => self.name = value.to_vec(),
                b"linkpath" => self.link = value.to_vec(),
                b"uid" => self.owner.uid = id()?,
                b"gid" => self.owner.gid = id()?,
                b"mtime" => (self.owner.mtime_s, self.owner.mtime_ns) = pax_time(value).ok_or(bad.clone())?,
                // Only files beyond the limit need it. If it differs from the header's,
                // two readers could see two different archives.
                b"size" if number() != Some(self.size_bytes) => {
                    return Err(MemberFault::BadHeader("size").of(&self.name).into());
                }
                _ if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.realsize") => {
                    return Err(MemberFault::NotAFile("sparse file").of(&self.name).into());
                }
                _ if key.windows(5).any(|part| part == b"xattr") || key.starts_with(b"SCHILY.acl") => {
                    return Err(MemberFault::ExtendedAttributes.of(&self.name).into());
                }
                // Attributes that a patch does not keep.
                _ => {}
            }
        }
        Ok(())
    }
}

/// The first record: its key, its value, and the bytes after it.
fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let len: usize = str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// Seconds since 1970, with a fraction: `1700000000.25`, `-1.5`.
fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole_s: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ns: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if whole.starts_with('-') && ns > 0 {
        // Nanoseconds count forward, also before 1970.
        Some((whole_s.checked_sub(1)?, 1_000_000_000 - ns))
    } else {
        Some((whole_s, ns))
    }
}

/// A GNU long name ends with a NUL.
fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times_keep_their_fraction_on_both_sides_of_1970() {
        assert_eq!(pax_time(b"1700000000.25"), Some((1_700_000_000, 250_000_000)));
        assert_eq!(pax_time(b"17"), Some((17, 0)));
        assert_eq!(pax_time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(pax_time(b"-0.5"), Some((-1, 500_000_000)));
        assert_eq!(pax_time(b"1.0000000019"), Some((1, 1)));
        for bad in [&b"x"[..], b"1.x", b"", b"1.5.2", b"1.\xff"] {
            assert_eq!(pax_time(bad), None);
        }
    }

    #[test]
    fn a_pax_record_is_as_long_as_it_says() {
        assert_eq!(pax_record(b"9 path=a\n8 uid=1\n"), Some((&b"path"[..], &b"a"[..], &b"8 uid=1\n"[..])));
        for bad in [&b"11 path=a\n"[..], b"9 path=ab", b"0 path=a\n", b"path=a\n", b"3 a\n", b"99"] {
            assert_eq!(pax_record(bad), None, "{bad:?}");
        }
    }
}
