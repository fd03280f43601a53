//! Why an install did not go as asked, for the operator.

use std::{fmt, io};

use super::scripts::{ScriptFailure, Trial};
use crate::job::RefusalKind;
use crate::job::{FetchError, SystemError};
use crate::patch::PatchError;
use crate::types::{Digest, Hash, NodeType, PatchId, SwVersion};

/// Why an install was refused or failed. What it means for the host depends on
/// when it happens: before the journal's `Intent` nothing is begun; after it the
/// previous set comes back.
#[derive(Debug)]
pub enum InstallError {
    /// The system refused something.
    Io {
        /// What was tried, as a verb: "rename".
        verb: &'static str,
        /// On what, below the root.
        path: String,
        /// Why it did not work.
        error: io::Error,
    },
    /// A rule says no.
    Refused(Box<InstallRefusal>),
    /// A patch cannot be laid over the tree as it is.
    Conflict(Conflict),
    /// A file of thimble's own is not as it was written.
    Damaged {
        /// Which, below the root.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The controller did not give what was asked for.
    Fetch(FetchError),
    /// A patch file was not taken.
    Patch(PatchId, Box<PatchError>),
    /// A patch's script failed.
    Script(Box<ScriptFailure>),
    /// The thimble that was to come does not run, or is none.
    NewThimble(Trial),
    /// Files of the previous set could not be put back.
    Undo(Box<InstallError>),
}

/// A rule that says no before anything is touched.
#[derive(Debug, PartialEq, Eq)]
pub enum InstallRefusal {
    /// The lock file is not there, and a patch wants a restart.
    NotLocked,
    /// The manifest is not the one that the request named.
    OtherSet {
        /// The digest of the manifest received.
        received: Digest,
        /// The digest that was asked for.
        asked: Digest,
    },
    /// More patches than a host may have.
    TooManyPatches(usize),
    /// A patch file's description has another id.
    OtherId(PatchId, PatchId),
    /// A patch file is not the one that the manifest names.
    OtherContent(PatchId),
    /// An installed patch would be replaced by another of the same id.
    SameId {
        /// The id.
        id: PatchId,
        /// What is installed.
        installed: Hash,
        /// What is asked for.
        asked: Hash,
    },
    /// A patch is never to be removed.
    Unremovable(PatchId),
    /// A patch is committed.
    Committed(PatchId),
    /// A patch is for a release older than this node takes.
    TooOld(PatchId, SwVersion, SwVersion),
    /// A patch is for another release than the one that runs.
    OtherRelease(PatchId, SwVersion, SwVersion),
    /// A patch is for other kinds of hosts.
    OtherNodetype(PatchId, NodeType),
    /// There is not enough room.
    NoSpace {
        /// On the filesystem mounted here, below the root.
        at: String,
        /// How much is needed, in bytes.
        needed: u64,
        /// How much is free, in bytes.
        free: u64,
    },
    /// The root cannot be written to.
    ReadOnlyRoot,
    /// thimble's own file would go, and no other would take its place.
    NoThimbleLeft(String),
    /// The last install replaced thimble itself and has not ended.
    AwaitsProof,
}

/// Why a path of a patch cannot be laid over the tree.
#[derive(Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A directory is where a file or a link should go.
    IsDirectory(PatchId, String),
    /// A file is where a directory should be.
    NotDirectory(PatchId, String),
    /// The way to a path leads through a link that a patch made.
    ThroughPatchedLink(PatchId, String),
    /// The way to a path leads round in circles, or its name cannot be read.
    BadWay(PatchId, String),
    /// Two members of a patch are one file on this host.
    SameFile(PatchId, String),
    /// One patch brings a file where another brings a directory.
    FileAndDirectory(PatchId, String),
    /// What a patch left is neither in place nor kept.
    Lost(PatchId, String),
}

impl InstallError {
    /// What it means for a command's exit code.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Patch(_, error) if error.is_verification() => RefusalKind::Verification,
            Self::Refused(refusal)
                if matches!(**refusal, InstallRefusal::OtherId(..) | InstallRefusal::OtherContent(_)) =>
            {
                RefusalKind::Verification
            }
            _ => RefusalKind::Refused,
        }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { verb, path, error } => write!(f, "cannot {verb} /{path}: {}", SystemError(error)),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Conflict(conflict) => conflict.fmt(f),
            Self::Damaged { path, what } => write!(f, "/{path} {what}"),
            Self::Fetch(error) => error.fmt(f),
            Self::Patch(id, error) => match &**error {
                PatchError::Io(error) => write!(f, "{id}: cannot unpack: {}", SystemError(error)),
                error => write!(f, "{id}: {error}"),
            },
            Self::Script(failure) => failure.fmt(f),
            Self::NewThimble(Trial { how: Some(how), said }) => {
                write!(f, "the new thimble cannot take over: `--version` {how}: {said}")
            }
            Self::NewThimble(Trial { how: None, said }) => {
                write!(f, "what would take thimble's place is no thimble: to `--version` it says {said:?}")
            }
            Self::Undo(error) => write!(f, "the previous set could not be put back: {error}"),
        }
    }
}

impl std::error::Error for InstallError {}

impl fmt::Display for InstallRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLocked => f.write_str("Node must be locked."),
            Self::OtherSet { received, asked } => write!(
                f,
                "the controller sent set {received:.12} where {asked:.12} was asked for: \
                 the repository has changed since, ask again"
            ),
            Self::TooManyPatches(count) => {
                write!(
                    f,
                    "{count} patches are more than the {} that a host may have",
                    crate::limits::EFFECTIVE
                )
            }
            Self::OtherId(id, found) => write!(f, "the file of {id} says that it is {found}"),
            Self::OtherContent(id) => {
                write!(f, "the file received for {id} is not the one in the repository")
            }
            Self::SameId { id, installed, asked } => write!(
                f,
                "{id} is installed with content {installed:.12} and asked for with {asked:.12}: \
                 remove it first"
            ),
            Self::Unremovable(id) => write!(f, "{id} is unremovable and installed: apply it again"),
            Self::Committed(id) => write!(f, "{id} is committed and installed: apply it again"),
            Self::TooOld(id, is, least) => {
                write!(f, "{id} is for release {is}, and this node takes none before {least}")
            }
            Self::OtherRelease(id, is, runs) => {
                write!(f, "{id} is for release {is} only, and {runs} runs here")
            }
            Self::OtherNodetype(id, nodetype) => write!(f, "{id} is not for a {nodetype} host"),
            Self::NoSpace { at, needed, free } => write!(
                f,
                "the install needs {} on /{at} and {} is free: make room and install again",
                Size(*needed),
                Size(*free)
            ),
            Self::NoThimbleLeft(path) => write!(
                f,
                "this would take thimble itself, /{path}, away: apply a patch that brings one with it"
            ),
            Self::AwaitsProof => f.write_str(
                "the last install replaced thimble itself, and ends once the new one has started and heard a \
                 controller: start the daemon",
            ),
            Self::ReadOnlyRoot => f.write_str("the root is read-only: use backend = command"),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsDirectory(id, path) => {
                write!(f, "{id} brings the file /{path}, and a directory is there on this host")
            }
            Self::NotDirectory(id, path) => {
                write!(f, "{id} needs the directory /{path}, and on this host it is none")
            }
            Self::ThroughPatchedLink(id, path) => {
                write!(
                    f,
                    "{id} has files below /{path}, a link that a patch made: such links are not followed"
                )
            }
            Self::BadWay(id, path) => {
                write!(f, "{id} has /{path}, and the links on the way there lead nowhere on this host")
            }
            Self::SameFile(id, path) => {
                write!(f, "two members of {id} are the one file /{path} on this host")
            }
            Self::FileAndDirectory(id, path) => {
                write!(
                    f,
                    "{id} has a file at /{path}, where another patch has or had a directory: \
                     remove that one and install, then apply this one"
                )
            }
            Self::Lost(id, path) => {
                write!(
                    f,
                    "the file /{path} of {id} is not kept any more: remove {id} too, then apply it again"
                )
            }
        }
    }
}

impl From<InstallRefusal> for InstallError {
    fn from(refusal: InstallRefusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Box<InstallRefusal>> for InstallError {
    fn from(refusal: Box<InstallRefusal>) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Conflict> for InstallError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<Box<ScriptFailure>> for InstallError {
    fn from(failure: Box<ScriptFailure>) -> Self {
        Self::Script(failure)
    }
}

impl From<FetchError> for InstallError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

/// Says what was tried when a system call fails.
pub(super) trait ErrorContext<T> {
    /// Turns a system error into one that names verb and path.
    fn context(self, verb: &'static str, path: &str) -> Result<T, InstallError>;
}

impl<T> ErrorContext<T> for io::Result<T> {
    fn context(self, verb: &'static str, path: &str) -> Result<T, InstallError> {
        self.map_err(|error| InstallError::Io { verb, path: path.to_owned(), error })
    }
}

/// A size that people can read.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..10_240 => write!(f, "{} bytes", self.0),
            10_240..10_485_760 => write!(f, "{} KiB", self.0.div_ceil(1 << 10)),
            _ => write!(f, "{} MiB", self.0.div_ceil(1 << 20)),
        }
    }
}
