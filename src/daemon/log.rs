//! Log lines that never block the loop.
//!
//! Lines go to standard error, each with its syslog priority in front where that is
//! the journal's. A line that would block is dropped and counted. Standard error is
//! others' too, workers' and maybe a shell's, so it is not made non-blocking: only our
//! own write is, by what each kind of file has for that.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines dropped because writing them would have blocked.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Where lines go, by how one is written without blocking.
enum LogOutput {
    /// A pipe or a terminal, opened once more: that it does not block is ours alone.
    Reopened(File),
    /// A socket: each send says that it may not block.
    Socket,
    /// A file, or what could not be opened again: asked before each write.
    Polled,
}

impl LogOutput {
    /// Standard error, and whether it is the journal's.
    fn of_standard_error() -> (Self, bool) {
        let duplicate = io::stderr().as_fd().try_clone_to_owned().map(File::from);
        let Ok(metadata) = duplicate.and_then(|file| file.metadata()) else { return (Self::Polled, false) };
        let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let is_journal = journal == format!("{}:{}", metadata.dev(), metadata.ino());
        let kind = metadata.file_type();
        let lines = if kind.is_socket() {
            Self::Socket
        } else if kind.is_fifo() || kind.is_char_device() {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let again = File::options().write(true).custom_flags(flags).open("/proc/self/fd/2");
            again.map_or(Self::Polled, Self::Reopened)
        } else {
            Self::Polled
        };
        (lines, is_journal)
    }

    fn try_write(&mut self, line: &[u8]) -> bool {
        match self {
            Self::Reopened(file) => file.write(line).is_ok(),
            Self::Socket => super::sys::send_unless_blocked(io::stderr().as_fd(), line),
            Self::Polled => super::sys::write_unless_blocked(libc::STDERR_FILENO, line),
        }
    }
}

impl Write for LogOutput {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.try_write(line) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sets up logging for the daemon or a worker. `RUST_LOG` chooses what is
/// logged; without it, everything from "info" on.
pub fn set_up(part: &'static str) {
    let (lines, with_priority) = LogOutput::of_standard_error();
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    builder.target(env_logger::Target::Pipe(Box::new(lines)));
    builder.format(move |to, record| {
        let (priority, word) = match record.level() {
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, "debug: "),
        };
        if with_priority {
            write!(to, "<{priority}>")?;
        }
        writeln!(to, "{part}: {word}{}", record.args())
    });
    // A second set-up in one process is of no consequence.
    let _ = builder.try_init();
}

/// Lets one line through in ten seconds, and counts the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimit {
    last: Option<crate::time::Instant>,
    suppressed: u64,
}

/// One line of a kind in this time.
const LINE_INTERVAL: crate::time::Duration = crate::time::Duration::from_secs(10);

impl RateLimit {
    /// Whether to log now; if so, how many were held back since the last.
    pub fn pass(&mut self, now: crate::time::Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < LINE_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn one_line_in_ten_seconds_and_the_rest_is_counted() {
        let mut limit = RateLimit::default();
        let at = Instant::from_millis;
        assert_eq!(limit.pass(at(0)), Some(0));
        assert_eq!(limit.pass(at(1)), None);
        assert_eq!(limit.pass(at(9_999)), None);
        assert_eq!(limit.pass(at(10_000)), Some(2));
    }
}
