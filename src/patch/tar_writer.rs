//! Writes a pax archive: ustar headers, and records for what these cannot say.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use super::member::{Attribute, Owner};
use super::sparse::Extent;

/// A tar's unit, in bytes.
const BLOCK: u64 = 512;
/// The greatest owner and group of a ustar header.
const MOST_ID: u32 = 0o7_777_777;
/// The greatest time of a ustar header, in seconds since 1970.
const MOST_TIME_S: i64 = 0o77_777_777_777;

/// A member to be written, without its content.
pub(super) struct NewMember<'a> {
    pub(super) kind: EntryType,
    pub(super) name: &'a Path,
    /// What a link links to.
    pub(super) link: &'a [u8],
    pub(super) owner: Owner,
    pub(super) attributes: &'a [Attribute],
}

/// An archive that is being written.
pub(super) struct TarWriter<W: Write>(W);

impl<W: Write> TarWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self(out)
    }

    /// Writes a member without content.
    pub(super) fn empty(&mut self, member: &NewMember<'_>) -> io::Result<()> {
        self.header(member, member.name, 0, Records::default())
    }

    /// Writes a file of `size_bytes`.
    pub(super) fn file(
        &mut self,
        member: &NewMember<'_>,
        content: &mut dyn Read,
        size_bytes: u64,
    ) -> io::Result<()> {
        self.header(member, member.name, size_bytes, Records::default())?;
        self.copy(content, size_bytes)?;
        self.pad(size_bytes)
    }

    /// Writes a file with holes: version 1.0 of GNU tar's format. `part` gives the bytes of
    /// each extent in turn.
    pub(super) fn sparse<R: Read>(
        &mut self,
        member: &NewMember<'_>,
        extents: &[Extent],
        size_bytes: u64,
        part: impl Fn(&Extent) -> io::Result<R>,
    ) -> io::Result<()> {
        let stored_bytes: u64 = extents.iter().map(|extent| extent.size).sum();
        let end = Extent { offset: size_bytes, size: 0 };
        let mut map = format!("{}\n", extents.len() + 1);
        for Extent { offset, size } in extents.iter().chain([&end]) {
            map += &format!("{offset}\n{size}\n");
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK as usize), 0);

        let mut records = Records::default();
        records.add("GNU.sparse.major", b"1");
        records.add("GNU.sparse.minor", b"0");
        records.add("GNU.sparse.name", member.name.as_os_str().as_bytes());
        records.add("GNU.sparse.realsize", size_bytes.to_string().as_bytes());
        // What a reader that does not know the format unpacks it to.
        let (dir, name) = (member.name.parent(), member.name.file_name());
        let unknown = dir.unwrap_or(Path::new("")).join("GNUSparseFile.0").join(name.unwrap_or_default());
        let all_bytes = map.len() as u64 + stored_bytes;
        self.header(member, &unknown, all_bytes, records)?;
        self.0.write_all(&map)?;
        for extent in extents {
            self.copy(&mut part(extent)?, extent.size)?;
        }
        self.pad(all_bytes)
    }

    /// Ends the archive.
    pub(super) fn end(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.0)
    }

    fn header(
        &mut self,
        member: &NewMember<'_>,
        name: &Path,
        size_bytes: u64,
        mut records: Records,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(member.kind);
        header.set_mode(member.owner.mode);
        header.set_size(size_bytes);
        if header.set_path(name).is_err() {
            let bytes = name.as_os_str().as_bytes();
            records.add("path", bytes);
            if let Some(fields) = header.as_ustar_mut() {
                // Its beginning, for a reader that does not know the record.
                fields.prefix.fill(0);
                let (begin, _) = bytes.split_at(bytes.len().min(fields.name.len()));
                fields.name.fill(0);
                fields.name[..begin.len()].copy_from_slice(begin);
            }
        }
        // Not `set_link_name`, which normalizes the target: `a//b` would become `a/b`.
        if !member.link.is_empty() && header.set_link_name_literal(member.link).is_err() {
            records.add("linkpath", member.link);
        }
        let Owner { uid, gid, mtime_s, mtime_ns, .. } = member.owner;
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id > MOST_ID {
                records.add(key, id.to_string().as_bytes());
            }
        }
        header.set_uid(uid.min(MOST_ID).into());
        header.set_gid(gid.min(MOST_ID).into());
        if mtime_ns != 0 || !(0..=MOST_TIME_S).contains(&mtime_s) {
            records.add("mtime", time(mtime_s, mtime_ns).as_bytes());
        }
        header.set_mtime(mtime_s.clamp(0, MOST_TIME_S).unsigned_abs());
        for Attribute { name, value } in member.attributes {
            // As GNU tar does: the first `=` ends the key.
            let name = name.replace('%', "%25").replace('=', "%3D");
            records.add(&format!("SCHILY.xattr.{name}"), value);
        }
        self.records(&records)?;
        header.set_cksum();
        self.0.write_all(header.as_bytes())
    }

    /// Writes the records for the member that follows, if there are any.
    fn records(&mut self, Records(records): &Records) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_path("././@PaxHeader")?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        self.0.write_all(records)?;
        self.pad(records.len() as u64)
    }

    /// Copies exactly so many bytes. The file may have become shorter meanwhile.
    fn copy(&mut self, content: &mut dyn Read, bytes: u64) -> io::Result<()> {
        match io::copy(&mut content.take(bytes), &mut self.0)? {
            copied if copied == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Fills the last block of so many bytes.
    fn pad(&mut self, bytes: u64) -> io::Result<()> {
        let zeros = [0; BLOCK as usize];
        self.0.write_all(&zeros[..(bytes.next_multiple_of(BLOCK) - bytes) as usize])
    }
}

/// Records of a pax header, `LEN KEY=VALUE\n` each.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        // A space, an equals sign, a newline.
        let rest = key.len() + value.len() + 3;
        // The length has its own digits in it.
        let mut len = rest + 1;
        while rest + len.to_string().len() > len {
            len += 1;
        }
        self.0.extend_from_slice(format!("{len} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

/// Seconds since 1970 with their fraction, as pax has them: `-1.5`.
fn time(s: i64, ns: u32) -> String {
    let (sign, s, ns) = match (s < 0, ns) {
        (false, ns) => ("", s.unsigned_abs(), ns),
        (true, 0) => ("-", s.unsigned_abs(), 0),
        // Nanoseconds count forward, also before 1970.
        (true, ns) => ("-", s.unsigned_abs() - 1, 1_000_000_000 - ns),
    };
    let fraction = format!(".{ns:09}");
    format!("{sign}{s}{}", fraction.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for (s, ns, text) in [
            (0, 0, "0"),
            (10, 0, "10"),
            (1_700_000_000, 250_000_000, "1700000000.25"),
            (1, 1, "1.000000001"),
            (-2, 500_000_000, "-1.5"),
            (-1, 500_000_000, "-0.5"),
            (-100, 0, "-100"),
            (i64::MIN, 0, "-9223372036854775808"),
        ] {
            assert_eq!(time(s, ns), text);
            assert_eq!(super::super::pax::pax_time(text.as_bytes()), Some((s, ns)), "{text}");
        }
    }

    #[test]
    fn a_record_s_length_has_its_own_digits() {
        for len in 0..120 {
            let mut records = Records::default();
            records.add("k", &vec![b'x'; len]);
            let text = String::from_utf8(records.0).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, text.len().to_string());
        }
    }
}
