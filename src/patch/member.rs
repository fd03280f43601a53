//! The members of a patch: their sections, kinds and owners, and the known scripts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::difference::Difference;

/// The scripts that an install runs (docs/architecture.md, "An install").
pub const SCRIPTS: [&str; 8] = [
    "pre-install",
    "post-install",
    "pre-remove",
    "post-remove",
    "restart",
    "health",
    "pre-apply",
    "pre-remove-check",
];

/// The section of a patch that a member is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveSection {
    /// `files/`: installed below the install root.
    Files,
    /// `scripts/`: one of [`SCRIPTS`].
    Scripts,
    /// `metadata.toml`.
    Metadata,
}

/// The type of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File {
        /// Its size, in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link. Its target is data and is not checked.
    Symlink {
        /// Its target.
        target: PathBuf,
    },
}

/// The attributes of a member's inode that a patch keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Permission bits with set-user-id, set-group-id and sticky: 0 to 0o7777.
    pub mode: u32,
    /// The owner's number. Names are ignored.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The modification time, in seconds since 1970.
    pub mtime_s: i64,
    /// The nanoseconds of the modification time, 0 to 999,999,999; 0 if the archive's
    /// format has none.
    pub mtime_ns: u32,
}

/// An extended attribute of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name: `user.` and more, or `security.capability`. At most
    /// [`NAME_BYTES`](crate::limits::NAME_BYTES), UTF-8, without control characters.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// One member of a patch, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its section.
    pub section: ArchiveSection,
    /// Its path below `files/` or `scripts/`, or `metadata.toml`: relative,
    /// UTF-8, without `.` and `..`, at most [`PATH_BYTES`](crate::limits::PATH_BYTES) long.
    pub path: PathBuf,
    /// Its type.
    pub kind: MemberKind,
    /// Its owner, mode and time.
    pub owner: Owner,
    /// Its extended attributes, sorted by name. They come from one pax header, and so have
    /// at most [`PATCH_EXTENSION_BYTES`](crate::limits::PATCH_EXTENSION_BYTES) together. A
    /// symbolic link has none.
    pub attributes: Vec<Attribute>,
    /// The archive has a label of SELinux for it, which is not kept: the host's policy
    /// says which one it has.
    pub is_labelled: bool,
    /// It is a file with holes. They are in its size, and in its content as zeros.
    pub is_sparse: bool,
    /// The archive has only its difference to an old file.
    pub difference: Option<Box<Difference>>,
}
