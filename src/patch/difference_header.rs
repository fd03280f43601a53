//! Reads what a member says that is a difference, before its steps.

use std::io::Read;

use super::difference::{Difference, MAGIC, VERSION};
use super::fault::MemberFault;
use super::path::normalized;
use super::raw::{RawKind, RawMember};
use super::tarball::Tarball;
use crate::limits;
use crate::types::PatchId;

/// What the names of such members begin with, in place of `files/`.
pub(super) const PREFIX: &[u8] = b"deltas/";
/// The header's bytes before the id.
const HEADER_BYTES: usize = 72;
const FAULT: MemberFault = MemberFault::BadHeader("difference");

/// Takes the header of a difference from the content of a member, if it is one. The member
/// then has the name and the size of the file that comes of it.
pub(super) fn begin(
    raw: &mut RawMember,
    tarball: &mut Tarball<'_>,
) -> Result<Option<Difference>, super::PatchError> {
    let Some(name) = raw.name.strip_prefix(PREFIX) else { return Ok(None) };
    let name = [b"files/", name].concat();
    let refuse = |fault: MemberFault| fault.of(&raw.name);
    if raw.kind != RawKind::File || raw.is_sparse {
        return Err(refuse(MemberFault::MustBeFile).into());
    }
    let mut left = raw.size_bytes;
    let mut take = |into: &mut [u8]| {
        left = left.checked_sub(into.len() as u64).ok_or_else(|| refuse(FAULT))?;
        tarball.read_exact(into).map_err(|error| tarball.explain(error))
    };
    let mut header = [0; HEADER_BYTES];
    take(&mut header)?;
    let lengths = lengths(&header).ok_or_else(|| refuse(FAULT))?;
    let mut names = vec![0; lengths.0 + lengths.1];
    take(&mut names)?;
    let difference = decode(&header, names.split_at(lengths.0)).ok_or_else(|| refuse(FAULT))?;
    raw.name = name;
    raw.size_bytes = difference.new_bytes;
    Ok(Some(difference))
}

fn decode(header: &[u8; HEADER_BYTES], (id, path): (&[u8], &[u8])) -> Option<Difference> {
    let number =
        |at: usize| header.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_le_bytes(*bytes));
    let of = match id {
        [] => None,
        id => Some(PatchId::new(str::from_utf8(id).ok()?).ok()?),
    };
    let old_path = match path {
        [] => None,
        path => Some(normalized(path).ok().filter(|path| !path.as_os_str().is_empty())?),
    };
    let (old_bytes, new_bytes) = (number(8)?, number(16)?);
    let old_hash = *header.get(24..)?.first_chunk()?;
    let new_hash = blake3::Hash::from_bytes(*header.get(40..)?.first_chunk()?);
    let is_bounded = old_bytes.max(new_bytes) <= limits::PATCH_UNPACKED_BYTES;
    is_bounded.then_some(Difference { of, old_path, old_bytes, old_hash, new_bytes, new_hash })
}

/// The lengths of id and path, if this is the header of a difference.
fn lengths(header: &[u8; HEADER_BYTES]) -> Option<(usize, usize)> {
    let rest = header.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    let [id, low, high, ..] = rest else { return None };
    let path = usize::from(u16::from_le_bytes([*low, *high]));
    (path <= limits::PATH_BYTES).then_some((usize::from(*id), path))
}
