//! How a command ends: its exit code, and the message of a failure.

use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::json::Value;

/// The exit codes. Scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 3,
    /// Not permitted.
    NotPermitted = 4,
    /// A signature, an archive or a tag did not verify.
    Verification = 5,
    /// No answer in time; the outcome is not known.
    TimedOut = 6,
}

impl Exit {
    /// All codes with their meaning, for `--help`.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Done, "done"),
        (Self::Refused, "refused or failed"),
        (Self::Usage, "wrong command line"),
        (Self::Unreachable, "daemon not reachable"),
        (Self::NotPermitted, "not permitted"),
        (Self::Verification, "verification failed"),
        (Self::TimedOut, "timed out: the outcome is not known"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The failure of a command. The message says what happened, what it means and what to
/// do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The message; empty if the output has reported the failure already, or if the
    /// reader of standard output is gone.
    pub message: String,
    /// The steps done before the failure, one line each. Text output has shown them
    /// already.
    pub done: Vec<String>,
    /// More members of the `--json` document.
    pub more: Vec<(&'static str, Value)>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), done: Vec::new(), more: Vec::new() }
    }

    /// A failure that the output has reported already.
    #[must_use]
    pub const fn silent(exit: Exit) -> Self {
        Self { exit, message: String::new(), done: Vec::new(), more: Vec::new() }
    }

    /// The failure as `--json` shows it.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut members = vec![
            ("error", Value::text(&self.message)),
            ("exit_code", Value::from(self.exit as u64)),
            ("lines", Value::list(self.done.iter().map(Value::text))),
        ];
        members.extend_from_slice(&self.more);
        Value::object(members)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Refused, error.to_string())
    }
}

/// A failure to write standard output. A closed pipe is silent: in
/// `thimble query | head -1` the reader simply ends first.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Refused),
            _ => Self::new(Exit::Refused, format!("standard output cannot be written: {error}")),
        }
    }
}
