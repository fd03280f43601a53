//! The errors of an install, as the operator reads them.

use std::{fmt, io};

use super::conflict::Conflict;
use super::scripts::{ScriptFailure, Trial};
use crate::job::{FetchError, RefusalKind, SystemError, Witness};
use crate::patch::PatchError;
use crate::patch::floor::BelowFloor;
use crate::types::{Digest, Hash, NodeType, PatchId, ShownPath, SwVersion};

/// Why an install was refused or failed. Before the journal's `Intent` nothing has
/// changed on the host; after it the previous set comes back.
#[derive(Debug)]
pub enum InstallError {
    /// A system call failed.
    Io {
        /// The operation that failed, as a verb: "rename".
        verb: &'static str,
        /// Its path below the root.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// A rule forbids it.
    Refused(Box<InstallRefusal>),
    /// A patch does not fit the tree.
    Conflict(Conflict),
    /// One of thimble's own files is damaged or missing.
    Damaged {
        /// Its path below the root.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Fetching from the controller failed.
    Fetch(FetchError),
    /// A patch file was refused.
    Patch(PatchId, Box<PatchError>),
    /// A patch's script failed.
    Script(Box<ScriptFailure>),
    /// The file that would replace thimble itself does not run, or is not thimble.
    NewThimble(Trial),
    /// Files of the previous set could not be put back.
    Undo(Box<InstallError>),
}

/// A rule that forbids an install before anything has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum InstallRefusal {
    /// The lock file is absent, and a patch requires a restart of the host.
    NotLocked,
    /// The manifest does not have the digest that was requested.
    OtherSet {
        /// The digest of the manifest received.
        received: Digest,
        /// The digest that was requested.
        asked: Digest,
    },
    /// More patches than a host may have.
    TooManyPatches(usize),
    /// The metadata of a patch file has another id than the manifest.
    OtherId(PatchId, PatchId),
    /// A patch file has another hash than the manifest.
    OtherContent(PatchId),
    /// An installed patch would be replaced by one with the same id and other content.
    SameId {
        /// The id.
        id: PatchId,
        /// The hash of the installed patch.
        installed: Hash,
        /// The hash of the requested patch.
        asked: Hash,
    },
    /// An installed patch that must never be removed is not in the set.
    Unremovable(PatchId),
    /// An installed patch that is committed is not in the set.
    Committed(PatchId),
    /// A patch is for a release that is older than `security.min_sw_version`.
    TooOld(PatchId, SwVersion, SwVersion),
    /// A patch is only for a release that does not run here.
    OtherRelease(PatchId, SwVersion, SwVersion),
    /// A patch is for other types of hosts.
    OtherNodetype(PatchId, NodeType),
    /// The set is below the floor of the makers of patches.
    BelowFloor(BelowFloor),
    /// The set lacks a patch that one of its patches requires on this host.
    Requires(PatchId, PatchId),
    /// The patch has the difference to a file of the base system, which has another content.
    OtherBase(PatchId, String),
    /// Patches have differences to files of this one, whose file does not have them.
    OldMissing(PatchId),
    /// There is not enough disk space.
    NoSpace {
        /// The mount point of the filesystem, below the root.
        at: String,
        /// How much is needed, in bytes.
        needed: u64,
        /// How much is free, in bytes.
        free: u64,
    },
    /// There are not enough inodes.
    NoInodes {
        /// The mount point of the filesystem, below the root.
        at: String,
        /// How many files are to be made.
        needed: u64,
        /// How many can be made.
        free: u64,
    },
    /// The root cannot be written to.
    ReadOnlyRoot,
    /// The install would remove thimble's own file and bring no other in its place.
    NoThimbleLeft(String),
    /// The last install waits for a controller.
    Awaits(Witness),
}

impl InstallError {
    /// What the error means for a command's exit code.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Patch(_, error) if error.is_verification() => RefusalKind::Verification,
            Self::Refused(refusal)
                if matches!(**refusal, InstallRefusal::OtherId(..) | InstallRefusal::OtherContent(_)) =>
            {
                RefusalKind::Verification
            }
            Self::Fetch(FetchError::Session(_)) => RefusalKind::SessionLost,
            _ => RefusalKind::Refused,
        }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { verb, path, error } => {
                write!(f, "cannot {verb} /{}: {}", ShownPath(path), SystemError(error))?;
                f.write_str(remedy(verb, error))
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Conflict(conflict) => conflict.fmt(f),
            Self::Damaged { path, what } => write!(f, "/{path} {what}"),
            Self::Fetch(error) => error.fmt(f),
            Self::Patch(id, error) => match &**error {
                PatchError::Io(error) => {
                    write!(f, "{id}: its file in /.thimble/fetch cannot be read: {}", SystemError(error))
                }
                error => write!(f, "{id}: {error}"),
            },
            Self::Script(failure) => failure.fmt(f),
            Self::NewThimble(Trial { error: Some(error), output }) => {
                write!(f, "the new thimble does not run on this host: `--version` {error}: {output}")
            }
            Self::NewThimble(Trial { error: None, output }) => {
                write!(f, "the file that would replace thimble is not thimble: `--version` prints {output:?}")
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
                "the controller sent set {received:.12} instead of {asked:.12}: \
                 the repository has changed since, ask again"
            ),
            Self::TooManyPatches(count) => {
                write!(
                    f,
                    "the set has {count} patches, and a host may have at most {}: remove some",
                    crate::limits::EFFECTIVE
                )
            }
            Self::OtherId(id, found) => {
                write!(
                    f,
                    "the file of {id} has the id {found} in its metadata: delete {id} and upload its own file"
                )
            }
            Self::OtherContent(id) => {
                write!(
                    f,
                    "the file received for {id} is not the one in the repository: \
                     look at the disk of the controller that sent it"
                )
            }
            Self::SameId { id, installed, asked } => write!(
                f,
                "{id} is installed with content {installed:.12} and asked for with {asked:.12}: \
                 remove it first"
            ),
            Self::Unremovable(id) => write!(f, "{id} is unremovable and installed: apply it again"),
            Self::Committed(id) => write!(f, "{id} is committed and installed: apply it again"),
            Self::TooOld(id, is, least) => {
                write!(
                    f,
                    "{id} is for release {is}, and this node accepts {least} or later \
                     (security.min_sw_version): remove {id}"
                )
            }
            Self::OtherRelease(id, is, runs) => {
                write!(f, "{id} is only for release {is}, and {runs} runs here (node.sw_version): remove {id}")
            }
            Self::OtherNodetype(id, nodetype) => {
                write!(f, "{id} is not for a {nodetype} host (node.nodetype): ask again")
            }
            Self::BelowFloor(below) => below.fmt(f),
            Self::Requires(id, requires) => {
                write!(f, "{id} requires {requires}, which the set lacks: apply that as well, or remove {id}")
            }
            Self::OtherBase(id, path) => write!(
                f,
                "{id} has only the difference to /{}, and that file is not as it was when {id} was made: restore \
                 the file, or make the patch without --base",
                ShownPath(path)
            ),
            Self::OldMissing(id) => write!(
                f,
                "a patch has only differences to files of {id}, which the set does not have as they were then: \
                 apply that {id} as well, or make the patch without --from"
            ),
            Self::NoSpace { at, needed, free } => write!(
                f,
                "the install needs {} on /{at} and {} is free: make room and install again",
                Size(*needed),
                Size(*free)
            ),
            Self::NoInodes { at, needed, free } => write!(
                f,
                "the install makes {needed} files on /{at}, which has inodes for {free}: \
                 remove files that are not needed and install again"
            ),
            Self::NoThimbleLeft(path) => write!(
                f,
                "this would remove thimble itself, /{path}: apply a patch that brings a thimble as well"
            ),
            Self::Awaits(Witness::ToNewThimble) => f.write_str(
                "the last install replaced thimble itself and ends when the new one has heard a controller: \
                 start the daemon",
            ),
            Self::Awaits(_) => f.write_str(
                "the last install ends when this host has heard a controller with it: start the daemon",
            ),
            Self::ReadOnlyRoot => f.write_str(
                "the root is on a read-only filesystem: make it writable (`mount -o remount,rw`) and install again",
            ),
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

/// Whether a write failed for lack of space, of inodes or of quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds to a system error the operation that failed.
pub(super) trait ErrorContext<T> {
    /// Turns a system error into one with this verb and path.
    fn context(self, verb: &'static str, path: &str) -> Result<T, InstallError>;

    /// The same, for a file in `.thimble`.
    fn own_context(self, verb: &'static str, name: &str) -> Result<T, InstallError>
    where
        Self: Sized,
    {
        // The path is made only if there is an error.
        match self.context(verb, name) {
            Err(InstallError::Io { verb, path, error }) => {
                Err(InstallError::Io { verb, path: format!(".thimble/{path}"), error })
            }
            other => other,
        }
    }
}

impl<T> ErrorContext<T> for io::Result<T> {
    fn context(self, verb: &'static str, path: &str) -> Result<T, InstallError> {
        self.map_err(|error| InstallError::Io { verb, path: path.to_owned(), error })
    }
}

/// What to do about a system error that only the operator can mend.
fn remedy(verb: &str, error: &io::Error) -> &'static str {
    match (verb, error.raw_os_error()) {
        ("put in place" | "take away" | "remove" | "clear" | "set the owner of", Some(libc::EPERM)) => {
            ": immutable? See `lsattr -d` of it and its directory, then `chattr -ia`"
        }
        ("put in place" | "take away" | "remove" | "clear", Some(libc::EBUSY)) => {
            ": something is mounted on it: unmount that"
        }
        ("put in place" | "take away" | "remove" | "clear" | "set the owner of", Some(libc::EXDEV)) => {
            ": another filesystem is mounted over its directory: unmount that"
        }
        ("clear", Some(libc::ENOTEMPTY | libc::EEXIST)) => {
            ": something was put into it meanwhile: move that away and install again"
        }
        ("open the directory of" | "open the directory", Some(libc::ENOENT)) => {
            ": it was removed, or something is mounted over it: make it again, or unmount that"
        }
        ("open the directory of" | "open the directory", Some(libc::ENOTDIR | libc::ELOOP)) => {
            ": something else has its name: move that away and make the directory again"
        }
        (_, Some(libc::EROFS)) => ": make it writable (`mount -o remount,rw`)",
        _ => "",
    }
}

/// A size in a unit that suits it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::patch::{ArchiveError, MemberFault};
    use crate::types::Reason;

    /// The reason that reaches the operator is cut at its end.
    #[test]
    fn a_long_path_or_name_does_not_push_out_the_cause() {
        let long = "d/".repeat(limits::PATH_BYTES / 2);
        let id = || PatchId::new(&"P".repeat(limits::PATCH_ID_BYTES)).unwrap();
        let io = |verb| {
            let error = io::Error::from_raw_os_error(libc::EPERM);
            InstallError::Io { verb, path: long.clone(), error }
        };
        let member = ArchiveError::Member {
            name: crate::patch::shown(long.as_bytes()),
            fault: MemberFault::Duplicate,
        };
        let undo = InstallError::Undo(Box::new(io("put in place")));
        let cases = [
            (io("unpack"), "Operation not permitted"),
            (undo, "then `chattr -ia`"),
            (InstallError::Patch(id(), Box::new(member.into())), "twice"),
            (InstallRefusal::Requires(id(), id()).into(), "as well, or remove PPP"),
        ];
        for (error, words) in cases {
            let reason = Reason::format(format_args!("{error}"));
            assert!(reason.raw().contains(words), "{words:?} is cut off: {reason}");
        }
    }
}
