//! The errors of the store, and how a job reports them.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::job::reporter::Reporter;
use crate::job::{NoInodes, RefusalKind, Report};
use crate::patch::{PatchError, SignatureError};
use crate::repo::map::Full;
use crate::repo::refusal::ChangeRefusal;
use crate::types::Text;

/// Why the store cannot be used, or a change of it did not happen.
#[derive(Debug)]
pub enum StoreError {
    /// Another process is changing the store.
    Busy {
        /// The lock file that it holds.
        lock: PathBuf,
    },
    /// A file is of a later version than this program reads. It is left as it is.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
        /// The latest version that is read.
        reads: u16,
    },
    /// A file is damaged. It is left as it is.
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There are blobs, but the map that names them is missing.
    MapGone {
        /// The map's path.
        path: PathBuf,
    },
    /// A system call failed. The file has its old content.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl StoreError {
    /// For `map_err`: adds this path to a system error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Io { path, error }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { lock } => write!(
                f,
                "the repository is in use by another thimble, which holds {}: \
                 wait for it to end, or give each daemon a state_dir of its own",
                lock.display()
            ),
            Self::Newer { path, version, reads } => write!(
                f,
                "{} was written by a later thimble (format {version}; this one reads up to {reads}) \
                 and is left as it is: run that thimble",
                path.display()
            ),
            Self::Damaged { path } => write!(
                f,
                "{} is damaged and is left as it is: check the disk and restore it from a backup, \
                 or move it away to begin anew",
                path.display()
            ),
            Self::MapGone { path } => write!(
                f,
                "{} is gone, but the blobs that it named are there: restore it from a backup, \
                 or move blobs/ away as well to begin anew",
                path.display()
            ),
            Self::Io { path, error } => {
                let path = path.display();
                match error.kind() {
                    io::ErrorKind::StorageFull if NoInodes::caused(error) => write!(
                        f,
                        "no inode is left for {path}: nothing is changed; \
                         remove files that are not needed and try again"
                    ),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        write!(f, "no space left for {path}: nothing is changed; make room and try again")
                    }
                    io::ErrorKind::ReadOnlyFilesystem => {
                        write!(
                            f,
                            "{path} is on a read-only file system: set state_dir to where it can be written"
                        )
                    }
                    io::ErrorKind::NotADirectory => {
                        write!(f, "{path}: a part of this path is not a directory: look at state_dir")
                    }
                    io::ErrorKind::PermissionDenied => {
                        write!(
                            f,
                            "{path} may not be read or written: it must belong to the daemon's user, or to root where root runs it, and no link on the way may lead out of state_dir"
                        )
                    }
                    _ => write!(f, "{path}: {error}"),
                }
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// Why a job failed, for the operator and the command's exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// What it means for the exit code.
    pub kind: RefusalKind,
    /// What happened, what it means, what to do.
    pub reason: String,
}

impl JobFailure {
    /// A failure that is not a patch's fault.
    pub(super) fn refused(reason: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::Refused, reason: reason.to_string() }
    }

    /// A patch file that was refused, with the name that the caller gave it.
    pub(super) fn of_patch(name: &str, error: &PatchError) -> Self {
        let kind = if error.is_verification() { RefusalKind::Verification } else { RefusalKind::Refused };
        Self { kind, reason: format!("{name}: {error}") }
    }
}

impl From<StoreError> for JobFailure {
    fn from(error: StoreError) -> Self {
        Self::refused(error)
    }
}

impl From<ChangeRefusal<'_>> for JobFailure {
    fn from(refusal: ChangeRefusal<'_>) -> Self {
        Self::refused(refusal)
    }
}

impl From<Full> for JobFailure {
    fn from(full: Full) -> Self {
        Self::refused(full)
    }
}

impl From<SignatureError> for JobFailure {
    fn from(error: SignatureError) -> Self {
        Self::refused(error)
    }
}

/// Why a job ends early.
pub(super) enum Stop {
    /// It failed, and the failure is to be reported.
    Failed(JobFailure),
    /// The reader of the reports is gone.
    NoReader(io::Error),
}

impl<E: Into<JobFailure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends a report. If its reader is gone, the job ends.
pub(super) fn send(reporter: &mut dyn Reporter, report: &Report) -> Result<(), Stop> {
    reporter.report(report).map_err(Stop::NoReader)
}

/// Sends a job's last report.
pub(super) fn finish(result: Result<(), Stop>, reporter: &mut dyn Reporter) -> io::Result<()> {
    let last = match result {
        Ok(()) => Report::Done,
        Err(Stop::Failed(failure)) => {
            Report::Failed { kind: failure.kind, reason: Text::truncated(&failure.reason) }
        }
        Err(Stop::NoReader(error)) => return Err(error),
    };
    reporter.report(&last)
}
