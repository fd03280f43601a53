//! The errors of a patch's archive, as the maker of the patch reads them.

use std::fmt;

use crate::limits;
use crate::types::ShownPath;

/// Why an archive is not a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// The file does not begin with gzip's magic.
    NotGzip,
    /// The content of the gzip file is not a ustar, pax or GNU tar.
    NotTar,
    /// The file ends before the archive does.
    Truncated,
    /// A checksum of gzip or tar does not match.
    Damaged,
    /// There are bytes after the archive's end.
    TrailingData,
    /// It has more than [`limits::PATCH_MEMBERS`] members, directories that their names
    /// imply included.
    TooManyMembers,
    /// Its names have more than [`limits::PATCH_NAMES_BYTES`] together.
    TooManyNames,
    /// It unpacks to more than [`limits::PATCH_UNPACKED_BYTES`].
    TooLarge,
    /// It unpacks to more than [`limits::BOMB_RATIO`] times its size, and to more than
    /// [`limits::BOMB_LEAST_BYTES`].
    Bomb,
    /// There is no `metadata.toml`.
    NoMetadata,
    /// `config` in the metadata names a file that the patch does not have.
    ConfigNotInFiles {
        /// The path as the metadata has it.
        path: String,
    },
    /// `directories` in the metadata names a directory that is no member of the patch.
    DirectoryNotInFiles {
        /// The path as the metadata has it.
        path: String,
    },
    /// `remove` in the metadata names a path that a patch cannot have, or that this one has,
    /// or has something above or below, or removes twice.
    Removal {
        /// The path, from the root.
        path: String,
        /// Why no patch can have it.
        fault: Option<MemberFault>,
    },
    /// A floor has files or scripts.
    FloorWithContent,
    /// One member breaks a rule.
    Member {
        /// Its name, escaped for a terminal.
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
    /// The name contains `..`.
    ParentDirectory,
    /// The name, or a link's target, is not UTF-8.
    NotUtf8,
    /// The name, or a link's target, contains control characters.
    ControlCharacter,
    /// The name, a part of it, or a link's target is too long.
    NameTooLong,
    /// thimble uses such a name itself.
    Reserved,
    /// The archive has the name twice.
    Duplicate,
    /// It is neither a file, a directory nor a link, but this.
    NotAFile(&'static str),
    /// This field of its header is invalid.
    BadHeader(&'static str),
    /// It is a hard link, and no earlier file has the target's name.
    HardLink {
        /// What it links to.
        target: String,
    },
    /// It is below a member that is not a directory.
    Beneath {
        /// That member.
        parent: String,
    },
    /// It is not a directory, and an earlier member is below it.
    MustBeDirectory,
    /// It is neither `metadata.toml` nor in `files/` or `scripts/`.
    OutsideSections,
    /// There is no script with this name.
    UnknownScript,
    /// A script, or `metadata.toml`, must be a regular file.
    MustBeFile,
    /// A script that is not executable.
    NotExecutable,
    /// A script whose first line ends in CR LF: the kernel takes the CR as a part of the
    /// interpreter's name.
    CarriageReturn,
    /// It is too large.
    TooLarge {
        /// The greatest size, in bytes.
        most: u64,
    },
    /// It was packed with something that a patch does not keep.
    NotKept {
        /// What that is, as a clause.
        what: &'static str,
        /// The packer's option that leaves it out, or that it must go without.
        pack: &'static str,
    },
    /// It has an extended attribute that a patch does not keep.
    AttributeNotKept {
        /// The attribute's name, escaped for a terminal.
        name: String,
        /// As of [`NotKept`](Self::NotKept).
        pack: String,
    },
    /// Its pax header is too long.
    ExtensionTooLong,
    /// It has more than [`limits::PATCH_EXTENTS`] parts between its holes.
    TooManyHoles,
}

impl MemberFault {
    /// The error for the member with this name.
    pub(super) fn of(self, name: &[u8]) -> ArchiveError {
        ArchiveError::Member { name: shown(name), fault: self }
    }
}

/// A name from an archive, for a message: escaped for a terminal, and so short that what
/// follows it is not cut off.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    ShownPath(&String::from_utf8_lossy(name)).to_string()
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGzip => f.write_str("it is not a patch: a patch is a gzip tar"),
            Self::NotTar => f.write_str("it is not a patch: inside gzip there is no ustar, pax or GNU tar"),
            Self::Truncated => f.write_str("the archive ends in the middle, and was signed so: pack it again, then sign it"),
            Self::Damaged => f.write_str("the archive is damaged, and was signed so: pack it again, then sign it"),
            Self::TrailingData => f.write_str("something follows the archive's end: pack it again, as one archive"),
            Self::TooManyMembers => {
                write!(f, "it has more than {} members: make several patches of it", limits::PATCH_MEMBERS)
            }
            Self::TooManyNames => {
                write!(
                    f,
                    "its names take more than {} bytes together: make several patches of it",
                    limits::PATCH_NAMES_BYTES
                )
            }
            Self::TooLarge => {
                write!(
                    f,
                    "it unpacks to more than {} bytes: make several patches of it",
                    limits::PATCH_UNPACKED_BYTES
                )
            }
            Self::Bomb => {
                write!(f, "it unpacks to more than {} times its size: an archive bomb", limits::BOMB_RATIO)
            }
            Self::NoMetadata => f.write_str(
                "it has no metadata.toml at its top: pack it with `tar czf ID.patch -C DIR .`, or `thimble make DIR`",
            ),
            Self::FloorWithContent => {
                f.write_str("it has [floor] in its metadata.toml, so it cannot have files or scripts: make them another patch")
            }
            Self::ConfigNotInFiles { path } => {
                write!(
                    f,
                    "metadata.toml lists {} in `config`, but files/ does not have it: correct the path",
                    ShownPath(path)
                )
            }
            Self::DirectoryNotInFiles { path } => {
                write!(
                    f,
                    "metadata.toml lists {} in `directories`, but the archive has no such directory itself: \
                     correct the path, or pack the directory",
                    ShownPath(path)
                )
            }
            Self::Removal { path, fault: Some(fault) } => {
                write!(f, "metadata.toml lists {path} in `remove`: {fault}")
            }
            Self::Removal { path, fault: None } => write!(
                f,
                "metadata.toml lists {path} in `remove` twice, or files/ has it, a file above it or something \
                 below it: correct one of them"
            ),
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
            Self::Beneath { parent } => {
                write!(f, "it lies below {}, which is not a directory", ShownPath(parent))
            }
            Self::MustBeDirectory => f.write_str("other members lie below it, and it is not a directory"),
            Self::OutsideSections => {
                f.write_str("only metadata.toml, files/ and scripts/ are allowed in a patch")
            }
            Self::UnknownScript => {
                f.write_str("no such script is ever run; known are ")?;
                f.write_str(&super::member::SCRIPTS.join(", "))
            }
            Self::MustBeFile => f.write_str("it must be a plain file"),
            Self::CarriageReturn => f.write_str(
                "its first line ends in CR LF, so its interpreter would not be found: \
                 convert it, as with `sed -i 's/\\r$//'`",
            ),
            Self::NotExecutable => f.write_str("it is not executable: chmod +x it"),
            Self::TooLarge { most } => write!(f, "it is larger than {most} bytes"),
            Self::NotKept { what, pack } => write!(f, "{what}: pack {pack}"),
            Self::AttributeNotKept { name, pack } => {
                write!(f, "its extended attribute {name} would be lost: pack {pack}")
            }
            Self::ExtensionTooLong => write!(
                f,
                "its names, extended attributes and map of holes take more than {} bytes",
                limits::PATCH_EXTENSION_BYTES
            ),
            Self::TooManyHoles => write!(f, "it has more than {} holes", limits::PATCH_EXTENTS),
        }
    }
}
