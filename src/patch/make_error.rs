//! Why no patch was made, as its maker reads it.

use std::path::PathBuf;
use std::{fmt, io};

use super::PatchError;
use crate::config::ConfigError;
use crate::types::PatchId;

/// Why no patch was made. No file is left.
#[derive(Debug)]
pub enum MakeError {
    /// A file could not be read or written.
    Io {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The metadata are invalid.
    Metadata(ConfigError),
    /// The directory has a file that must not be in a patch.
    Stray(PathBuf),
    /// It has neither `files/` nor `scripts/`.
    Empty(PathBuf),
    /// The tree has something that is neither a file, a directory nor a symbolic link.
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A file has an extended attribute or an access list that a patch cannot have.
    Attribute {
        /// Its path.
        path: PathBuf,
        /// The attribute's name.
        name: String,
    },
    /// `owners` in the metadata names a path that the patch does not have.
    NotThere(PathBuf),
    /// A patch that the new one was to be a difference to is not required by it, or not on all
    /// of its hosts.
    FromNotRequired(PathBuf, PatchId),
    /// Such a patch cannot be read.
    From(PathBuf, PatchError),
    /// The patch would be refused on upload.
    Refused(PatchError),
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Metadata(error) => error.fmt(f),
            Self::Stray(path) => write!(
                f,
                "{} is not allowed in a patch: only metadata.toml, files/ and scripts/ are",
                path.display()
            ),
            Self::Empty(dir) => {
                write!(f, "{} has neither files/ nor scripts/: the patch would do nothing", dir.display())
            }
            Self::NotAFile { path, what } => {
                write!(f, "{} is a {what}: only files, directories and links are allowed", path.display())
            }
            Self::Attribute { path, name } if name.starts_with("system.posix_acl") => write!(
                f,
                "{} has an access list, which a patch cannot have: remove it with `setfacl -b`",
                path.display()
            ),
            Self::Attribute { path, name } => write!(
                f,
                "{} has the extended attribute {name}, which a patch cannot have: remove it with \
                 `setfattr -h -x {name}`",
                path.display()
            ),
            Self::NotThere(path) => write!(
                f,
                "metadata.toml lists /{} in `owners`, but files/ does not have it: correct the path",
                path.display()
            ),
            Self::FromNotRequired(path, id) => write!(
                f,
                "{} has {id}, which a host of this patch need not have: add \"{id}\" to `requires` in \
                 metadata.toml, or leave that --from out",
                path.display()
            ),
            Self::From(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Refused(error) => write!(f, "the patch would be refused: {error}"),
        }
    }
}

impl std::error::Error for MakeError {}
