//! Patch files: what is in them, whether to believe them, how to make one.
//!
//! A patch is a gzip tar beside a detached minisign signature. Whoever takes
//! one in checks in this order: the signature ([`signature`]) over the bytes as
//! they are, then the archive ([`archive`]) member by member, then the
//! description inside it ([`metadata`]). Nothing of an archive is looked at
//! before its signature holds.

use std::{fmt, io};

pub mod archive;
mod fault;
#[cfg(feature = "tools")]
pub mod make;
mod member;
pub mod metadata;
pub mod signature;
mod tarball;
mod tree;

use crate::config::ConfigError;

pub use fault::{ArchiveError, MemberFault};
pub use signature::SignatureError;

/// Why a patch file was not taken.
#[derive(Debug)]
pub enum PatchError {
    /// The file could not be read, or what it unpacks to could not be written.
    /// Says nothing about the patch.
    Io(io::Error),
    /// Nobody trusted has signed these bytes.
    Signature(SignatureError),
    /// The archive is damaged, or holds what a patch must not hold.
    Archive(ArchiveError),
    /// The description in it is missing something or says too much.
    Metadata(ConfigError),
}

impl PatchError {
    /// Whether the patch itself is at fault (exit code 5), not the machine.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
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
