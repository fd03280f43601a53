//! `guard`: completes or undoes an interrupted install before services rely on the files.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use crate::config::Config;
use crate::install;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::json::Value;
use crate::store::state_dir;
use crate::types::Reason;

/// `thimble guard`
pub fn guard(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    root_only()?;
    let config = Config::load(invocation.config())?;
    let mut lines = GuardReporter { out, lines: Vec::new(), failed: None };
    if !config.node.is_agent {
        lines.line("nothing is installed here: this node is not an agent")?;
    } else {
        match daemon_of(&config.node.state_dir)? {
            Running::Daemon => lines.line("the daemon is running and does this itself")?,
            // The lock is held until the guard is done.
            Running::Nobody { .. } => install::guard(&config, invocation.has("boot"), &mut lines),
        }
    }
    if lines.lines.is_empty() && lines.failed.is_none() {
        lines.line("no install was interrupted")?;
    }
    let GuardReporter { out, lines, failed } = lines;
    if let Some(reason) = failed {
        let message = format!("the host's files are inconsistent: {reason}");
        return Err(Failure { done: lines, ..Failure::new(Exit::Refused, message) });
    }
    Ok(out.json(|| Value::object([("lines", Value::list(lines.iter().map(Value::text)))]))?)
}

/// Refuses any user but root.
pub(super) fn root_only() -> Result<(), Failure> {
    match std::fs::metadata("/proc/self") {
        Ok(own) if own.uid() != 0 => {
            Err(Failure::new(Exit::NotPermitted, "this changes the host's files: only root may"))
        }
        _ => Ok(()),
    }
}

/// The user of a state directory.
pub(super) enum Running {
    /// A daemon.
    Daemon,
    /// Nobody, and no daemon can start while the lock is held. There is no lock if the
    /// directory does not exist.
    Nobody { _lock: Option<File> },
}

/// Finds out who uses this state directory, and locks it if nobody does. A lock that its owner
/// has made unusable is none: no daemon can run with it either, and the owner, who may have
/// been taken over, is not to keep root from anything.
pub(super) fn daemon_of(state_dir: &Path) -> Result<Running, Failure> {
    let failed = |error: io::Error| {
        let path = state_dir.join("daemon.lock");
        let reason =
            format!("{}: {error}: it is needed to know whether the daemon is running", path.display());
        Failure::new(Exit::Refused, reason)
    };
    let file = match state_dir::lock_file(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Running::Nobody { _lock: None }),
        // On a read-only file system no daemon can hold the lock either.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            return Ok(Running::Nobody { _lock: None });
        }
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied && is_of_user(state_dir) => {
            return Ok(Running::Nobody { _lock: None });
        }
        other => other.map_err(failed)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Running::Nobody { _lock: Some(file) }),
        Err(TryLockError::WouldBlock) => Ok(Running::Daemon),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether a directory belongs to another user than root.
fn is_of_user(state_dir: &Path) -> bool {
    std::fs::metadata(state_dir).is_ok_and(|found| found.uid() != 0)
}

/// Shows the installer's reports.
struct GuardReporter<'o> {
    out: &'o mut Out,
    lines: Vec<String>,
    failed: Option<Reason>,
}

impl GuardReporter<'_> {
    fn line(&mut self, text: &str) -> io::Result<()> {
        self.lines.push(text.to_owned());
        self.out.line(text)
    }
}

impl Reporter for GuardReporter<'_> {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        match report {
            Report::Notice(text) => self.line(&text.to_string()),
            Report::Failed { reason, .. } => {
                self.failed = Some(reason.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
