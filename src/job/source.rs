//! The source of manifests and patch files.

use std::ops::Range;
use std::{fmt, io};

use super::SystemError;
use crate::types::{Digest, Hash, NodeType, Reason};
use crate::wire::frame::ManifestPatch;

/// What an install fetches from: a controller, or a local repository.
pub trait Source: BlobSource {
    /// The patches of the effective set with this digest for this node type.
    ///
    /// # Errors
    /// [`FetchError`]: the controller refuses, or the session broke.
    fn manifest(&mut self, digest: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError>;

    /// Whether bytes of this file that were given were kept here from before, so that they may be at fault.
    fn has_kept(&self, _hash: &Hash) -> bool {
        false
    }

    /// Gives up files that are kept here for later installs, so that this one has room; those of this one too, once
    /// it has them all. Returns whether there were any.
    fn give_up_kept(&mut self, _has_all: bool) -> bool {
        false
    }

    /// Nothing more is fetched: ends what it has started, such as a process.
    fn end(&mut self) {}
}

/// What takes a file's bytes, piece by piece.
pub type Sink<'s> = dyn FnMut(&[u8]) -> io::Result<()> + 's;

/// What patch files are fetched from.
pub trait BlobSource {
    /// Fetches a patch file from byte `offset` on, piece by piece into `sink`. At the
    /// file's end, fetches only the signature.
    ///
    /// # Errors
    /// [`FetchError`]. The bytes that `sink` has received by then are valid.
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError>;

    /// Fetches these bytes of a patch file, piece by piece into `sink`.
    ///
    /// # Errors
    /// [`FetchError`]; a source without parts refuses.
    fn part(&mut self, _hash: &Hash, _bytes: Range<u64>, _sink: &mut Sink<'_>) -> Result<(), FetchError> {
        Err(FetchError::Session(io::ErrorKind::Unsupported.into()))
    }

    /// Says that [`blob`](Self::blob) will be called with these, after the calls that were said
    /// before. A source may ask for the bytes now, so that they come without a pause. What is
    /// never called for costs their transfer.
    fn ahead(&mut self, _hash: &Hash, _offset: u64) {}
}

/// A patch file that was fetched to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes given to the sink.
    pub len_bytes: u64,
    /// The detached signature, a whole `.minisig` file, not verified.
    pub signature: Vec<u8>,
}

/// Why fetching failed.
#[derive(Debug)]
pub enum FetchError {
    /// The controller refused.
    Refused(Box<Reason>),
    /// The session broke.
    Session(io::Error),
    /// The sink failed: a problem on this side.
    Sink(io::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "the controller says: {reason}"),
            Self::Session(error) => {
                write!(
                    f,
                    "the session to the controller broke: {}: install again, and it continues from there",
                    SystemError(error)
                )
            }
            Self::Sink(error) => write!(f, "cannot store the fetched file: {}", SystemError(error)),
        }
    }
}

impl std::error::Error for FetchError {}
