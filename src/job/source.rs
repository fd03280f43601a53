//! Where an install gets a manifest and patch files from.

use std::{fmt, io};

use super::SystemError;
use crate::types::{Digest, Hash, NodeType, Reason};
use crate::wire::frame::ManifestPatch;

/// A controller, as an install sees it.
pub trait Source: BlobSource {
    /// The patches of the effective set with this digest for this kind of host.
    ///
    /// # Errors
    /// [`FetchError`]: the controller says no, or is gone.
    fn manifest(&mut self, digest: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError>;
}

/// A controller, as whoever lacks patch files sees it.
pub trait BlobSource {
    /// A patch file from byte `offset` on, piece by piece into `sink`. An offset
    /// at the file's end gives no bytes, and the signature.
    ///
    /// # Errors
    /// [`FetchError`]; what `sink` took by then counts.
    fn blob(
        &mut self,
        hash: &Hash,
        offset: u64,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Fetched, FetchError>;
}

/// A patch file that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes given to the sink.
    pub len_bytes: u64,
    /// The detached signature, a whole `.minisig` file, not looked at.
    pub signature: Vec<u8>,
}

/// Why something did not come.
#[derive(Debug)]
pub enum FetchError {
    /// The controller does not give it.
    Refused(Box<Reason>),
    /// The session broke off.
    Session(io::Error),
    /// The sink did not take a piece: trouble on this side.
    Sink(io::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "the controller says: {reason}"),
            Self::Session(error) => {
                write!(
                    f,
                    "the controller fell silent: {}: install again, and it goes on from there",
                    SystemError(error)
                )
            }
            Self::Sink(error) => write!(f, "cannot keep what is fetched: {}", SystemError(error)),
        }
    }
}

impl std::error::Error for FetchError {}
