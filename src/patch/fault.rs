//! What can be wrong with a patch's archive, in words for its maker.

use std::fmt;

use crate::limits;

/// Why an archive is not a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// The file does not begin as gzip does.
    NotGzip,
    /// What gzip holds is not a ustar, pax or GNU tar.
    NotTar,
    /// The file ends in the middle.
    Truncated,
    /// A checksum of gzip or tar does not hold.
    Damaged,
    /// Something follows the archive's end.
    TrailingData,
    /// It has more than [`limits::PATCH_MEMBERS`] members, or they and the
    /// directories that their names imply are more.
    TooManyMembers,
    /// Its names take more than [`limits::PATCH_NAMES_BYTES`] together.
    TooManyNames,
    /// It unpacks to more than [`limits::PATCH_UNPACKED_BYTES`].
    TooLarge,
    /// It unpacks to more than [`limits::BOMB_RATIO`] times its size.
    Bomb,
    /// There is no `metadata.toml`.
    NoMetadata,
    /// `config` in the metadata names a file that the patch does not bring.
    ConfigNotInFiles {
        /// The path as the metadata has it.
        path: String,
    },
    /// One member is at fault.
    Member {
        /// Its name, with what a terminal could take amiss escaped.
        name: String,
        /// What is wrong with it.
        fault: MemberFault,
    },
}

/// What is wrong with one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberFault {
    /// The name starts at the root.
    Absolute,
    /// The name has `..` in it.
    ParentDirectory,
    /// The name, or a link's target, is not UTF-8.
    NotUtf8,
    /// The name, or a link's target, has control characters.
    ControlCharacter,
    /// The name, a part of it, or a link's target is too long.
    NameTooLong,
    /// The name is one that thimble keeps for itself.
    Reserved,
    /// The name is there twice.
    Duplicate,
    /// It is neither a file, a directory nor a link: this it is instead.
    NotAFile(&'static str),
    /// Something of its header makes no sense.
    BadHeader(&'static str),
    /// It is a hard link to nothing that came before it.
    HardLink {
        /// What it links to.
        target: String,
    },
    /// It lies below a member that is not a directory.
    Beneath {
        /// That member.
        parent: String,
    },
    /// It is no directory, and a member that came before lies below it.
    MustBeDirectory,
    /// It is neither `metadata.toml` nor in `files/` or `scripts/`.
    OutsideSections,
    /// No step of an install runs a script of this name.
    UnknownScript,
    /// A script, or `metadata.toml`, must be a plain file.
    MustBeFile,
    /// A script without its executable bit.
    NotExecutable,
    /// It is larger than it may be, in bytes.
    TooLarge {
        /// The most.
        most: u64,
    },
    /// It carries extended attributes.
    ExtendedAttributes,
}

impl MemberFault {
    /// The fault, of this member.
    pub(super) fn of(self, name: &[u8]) -> ArchiveError {
        let name = String::from_utf8_lossy(name).escape_debug().take(160).collect();
        ArchiveError::Member { name, fault: self }
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGzip => f.write_str("it is not a patch: a patch is a gzip tar"),
            Self::NotTar => f.write_str("it is not a patch: inside gzip there is no ustar, pax or GNU tar"),
            Self::Truncated => f.write_str("the archive ends in the middle: copy the file again"),
            Self::Damaged => f.write_str("the archive is damaged: copy the file again"),
            Self::TrailingData => f.write_str("something follows the archive's end"),
            Self::TooManyMembers => write!(f, "it has more than {} members", limits::PATCH_MEMBERS),
            Self::TooManyNames => {
                write!(f, "its names take more than {} bytes together", limits::PATCH_NAMES_BYTES)
            }
            Self::TooLarge => {
                write!(f, "it unpacks to more than {} bytes", limits::PATCH_UNPACKED_BYTES)
            }
            Self::Bomb => {
                write!(f, "it unpacks to more than {} times its size: an archive bomb", limits::BOMB_RATIO)
            }
            Self::NoMetadata => f.write_str("it has no metadata.toml"),
            Self::ConfigNotInFiles { path } => {
                write!(f, "metadata.toml lists {path} in `config`, but files/ does not have it")
            }
            Self::Member { name, fault } => write!(f, "member {name}: {fault}"),
        }
    }
}

impl fmt::Display for MemberFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute => f.write_str("an absolute path is not allowed"),
            Self::ParentDirectory => f.write_str("`..` is not allowed in a path"),
            Self::NotUtf8 => f.write_str("names and link targets must be UTF-8"),
            Self::ControlCharacter => f.write_str("control characters are not allowed in names"),
            Self::NameTooLong => write!(
                f,
                "a path may have {} bytes, and {} between two slashes",
                limits::PATH_BYTES,
                limits::NAME_BYTES
            ),
            Self::Reserved => f.write_str("names `.thimble` and `.thimble~...` are thimble's own"),
            Self::Duplicate => f.write_str("it is in the archive twice"),
            Self::NotAFile(what) => {
                write!(f, "it is a {what}; only files, directories and links are allowed")
            }
            Self::BadHeader(what) => write!(f, "its {what} makes no sense"),
            Self::HardLink { target } => {
                write!(f, "it is a hard link to {target}, which is no file that comes before it")
            }
            Self::Beneath { parent } => write!(f, "it lies below {parent}, which is not a directory"),
            Self::MustBeDirectory => f.write_str("other members lie below it, and it is not a directory"),
            Self::OutsideSections => {
                f.write_str("only metadata.toml, files/ and scripts/ are allowed in a patch")
            }
            Self::UnknownScript => {
                f.write_str("no such script is ever run; known are ")?;
                f.write_str(&super::member::SCRIPTS.join(", "))
            }
            Self::MustBeFile => f.write_str("it must be a plain file"),
            Self::NotExecutable => f.write_str("it is not executable: chmod +x it"),
            Self::TooLarge { most } => write!(f, "it is larger than {most} bytes"),
            Self::ExtendedAttributes => {
                f.write_str("it has extended attributes, which would be lost: pack without --xattrs")
            }
        }
    }
}
