//! A member as its archive has it, unchecked.

use super::member::Owner;

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
