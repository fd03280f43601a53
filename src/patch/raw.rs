//! A member as its archive has it, unchecked.

use super::attributes::Attributes;
use super::member::Owner;
use super::sparse::SparseRecords;

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
    /// The size of its content, with holes.
    pub(super) size_bytes: u64,
    pub(super) owner: Owner,
    pub(super) attributes: Attributes,
    pub(super) is_sparse: bool,
    /// What its pax header says about holes.
    pub(super) sparse: SparseRecords,
}
