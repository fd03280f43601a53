//! The members of a patch: their sections, kinds and owners, and the known scripts.

use std::path::PathBuf;

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

/// Where in a patch a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveSection {
    /// `files/`: laid over the install root.
    Files,
    /// `scripts/`: one of [`SCRIPTS`].
    Scripts,
    /// `metadata.toml`.
    Metadata,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A plain file of this size, in bytes.
    File {
        /// Its size, in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link. Where it points is data: nothing of it is checked.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
}

/// Who owns a member, and what else of its inode a patch keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Permission bits with set-user-id, set-group-id and sticky: 0 to 0o7777.
    pub mode: u32,
    /// The owner's number. Names are not looked at.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime_s: i64,
    /// And the nanoseconds beyond, 0 to 999,999,999; 0 where the archive's
    /// format has none.
    pub mtime_ns: u32,
}

/// One member of a patch, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where in the patch it is.
    pub section: ArchiveSection,
    /// Its path below `files/` or `scripts/`, or `metadata.toml`: relative,
    /// UTF-8, without `.` and `..`, at most [`PATH_BYTES`](crate::limits::PATH_BYTES) long.
    pub path: PathBuf,
    /// What it is.
    pub kind: MemberKind,
    /// Its owner, mode and time.
    pub owner: Owner,
}
