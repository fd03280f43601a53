//! Patch files: reading, verifying and making them.
//!
//! A patch is a gzip tar beside a detached minisign signature. The
//! checks have a fixed order: the signature ([`signature`]) over the file's bytes, then
//! the archive ([`archive`]) member by member, then its metadata ([`metadata`]). An
//! archive is not read before its signature is verified.

use std::{fmt, io};

pub mod archive;
mod attributes;
pub mod caution;
#[cfg(feature = "tools")]
mod differ;
pub mod difference;
mod difference_header;
mod fault;
mod fields;
pub mod floor;
mod floor_keys;
mod gunzip;
mod gzip_member;
#[cfg(feature = "tools")]
mod holes;
#[cfg(feature = "tools")]
pub mod make;
#[cfg(feature = "tools")]
mod make_error;
mod member;
pub mod metadata;
#[cfg(feature = "tools")]
mod names;
#[cfg(feature = "tools")]
mod old_tree;
#[cfg(feature = "tools")]
mod pack;
mod packer;
mod path;
mod pax;
mod raw;
pub mod signature;
mod sparse;
#[cfg(feature = "tools")]
mod sys;
#[cfg(feature = "tools")]
mod tar_writer;
mod tarball;
mod tree;

use crate::config::ConfigError;

pub use fault::{ArchiveError, MemberFault, shown};
pub use signature::SignatureError;

/// Why a patch file was refused.
#[derive(Debug)]
pub enum PatchError {
    /// The file could not be read, or its content could not be written. The patch is not
    /// at fault.
    Io(io::Error),
    /// No trusted key has signed these bytes.
    Signature(SignatureError),
    /// The archive is damaged or breaks a rule for patches.
    Archive(ArchiveError),
    /// Its metadata are invalid.
    Metadata(ConfigError),
}

impl PatchError {
    /// Whether the patch is at fault (exit code 5) and not this machine.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Signature(error) => error.fmt(f),
            Self::Archive(error) => error.fmt(f),
            Self::Metadata(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PatchError {}

impl From<SignatureError> for PatchError {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<ArchiveError> for PatchError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<ConfigError> for PatchError {
    fn from(error: ConfigError) -> Self {
        Self::Metadata(error)
    }
}
