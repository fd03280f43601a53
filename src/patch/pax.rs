//! The records of pax headers: attributes for which a tar header has no room.

use super::PatchError;
use super::attributes::is_attribute;
use super::fault::{ArchiveError, MemberFault};
use super::packer::Packer;
use super::raw::RawMember;

impl RawMember {
    /// Applies a pax header's records, `LEN KEY=VALUE\n` each.
    pub(super) fn extend(&mut self, records: &[u8], packer: Packer) -> Result<(), ArchiveError> {
        // The header's own name may be the packer's: a refusal is to have the real one.
        self.name = name_in(records).unwrap_or(&self.name).to_vec();
        self.apply(records, packer).map_err(|fault| fault.of(&self.name))
    }

    fn apply(&mut self, mut records: &[u8], packer: Packer) -> Result<(), MemberFault> {
        const BAD: MemberFault = MemberFault::BadHeader("pax header");
        while !records.is_empty() {
            let (key, value, rest) = pax_record(records).ok_or(BAD)?;
            records = rest;
            let number = || str::from_utf8(value).ok()?.parse::<u64>().ok();
            match key {
                b"path" => {}
                b"linkpath" => self.link = value.to_vec(),
                b"uid" | b"gid" => {
                    let id = number().and_then(|id| u32::try_from(id).ok()).ok_or(BAD)?;
                    *(if key == b"uid" { &mut self.owner.uid } else { &mut self.owner.gid }) = id;
                }
                b"mtime" => (self.owner.mtime_s, self.owner.mtime_ns) = pax_time(value).ok_or(BAD)?,
                // Only files beyond the limit need it. If it differs from the header's,
                // two readers could see two different archives.
                b"size" if number() != Some(self.size_bytes) => return Err(MemberFault::BadHeader("size")),
                b"SCHILY.realsize" => return Err(Packer::sparse_of_star()),
                _ if key.starts_with(b"SCHILY.acl") => return Err(packer.access_list()),
                _ => match key.strip_prefix(b"GNU.sparse.") {
                    Some(key) => self.sparse.take(key, value)?,
                    // All others are attributes that a patch does not keep.
                    None => self.attributes.take(key, value, packer)?,
                },
            }
        }
        Ok(())
    }
}

/// The name that the records give a member: the last of its path, or, of a sparse file,
/// the one that its packer keeps apart.
fn name_in(mut records: &[u8]) -> Option<&[u8]> {
    let mut name = None;
    let mut is_sparse = false;
    while let Some((key, value, rest)) = pax_record(records) {
        match key {
            b"GNU.sparse.name" => (name, is_sparse) = (Some(value), true),
            b"path" if !is_sparse => name = Some(value),
            _ => {}
        }
        records = rest;
    }
    name
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
pub(super) fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
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

/// Checks the records of a global header, which are for every member after it. git adds
/// one with a comment. Names, sizes and what follows from the content differ from member to
/// member.
pub(super) fn check_global(mut records: &[u8], name: &[u8]) -> Result<(), PatchError> {
    let bad = || MemberFault::BadHeader("global pax header").of(name);
    while !records.is_empty() {
        let (key, _, rest) = pax_record(records).ok_or_else(bad)?;
        let is_of_one = matches!(key, b"path" | b"linkpath" | b"size")
            || key.starts_with(b"GNU.sparse.")
            || is_attribute(key);
        if is_of_one {
            return Err(bad().into());
        }
        records = rest;
    }
    Ok(())
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
