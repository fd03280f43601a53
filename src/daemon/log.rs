//! Log lines that never block the loop.
//!
//! Lines are written to standard error, with a syslog priority in front if it is
//! connected to the journal. A line that would block is dropped and counted. Workers
//! and possibly a shell share standard error, so it is not made non-blocking itself;
//! see [`LogOutput`] for how each kind of file is written without blocking.
//!
//! A line has its hidden characters escaped ([`Visible`]), so one message is one line.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::limits;
use crate::visible::Visible;
use log::{Level, LevelFilter};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines dropped because writing them would have blocked.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Standard error, by the way to write to it without blocking.
enum LogOutput {
    /// A pipe or a terminal, opened a second time with `O_NONBLOCK`, which applies to
    /// this open file description only.
    Reopened(File),
    /// A socket, written with `MSG_DONTWAIT`.
    Socket,
    /// A file, or a pipe or terminal that could not be reopened: polled before each write.
    Polled,
}

impl LogOutput {
    /// Standard error, and whether it is connected to the journal.
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
            if kind.is_file() {
                // What rotates the file truncates it, since the daemon may neither open nor
                // know its path: a write where the file ended before would leave a hole.
                super::sys::append_only(io::stderr().as_fd());
            }
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
        if !IS_SIZING.load(Ordering::Relaxed) && !self.try_write(line) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sets up logging for the daemon or a worker. `program` starts each line. `RUST_LOG`
/// sets the level; the default is "info".
pub fn set_up(program: &'static str) {
    let (lines, with_priority) = LogOutput::of_standard_error();
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    builder.target(env_logger::Target::Pipe(Box::new(lines)));
    builder.format(move |to, record| {
        let (priority, prefix) = match record.level() {
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, "debug: "),
        };
        if with_priority {
            write!(to, "<{priority}>")?;
        }
        writeln!(to, "{program}: {prefix}{}", Visible(record.args()))
    });
    // Fails if logging is set up already, which is harmless.
    let _ = builder.try_init();
    // env_logger keeps a buffer for each thread, which grows with the longest line so
    // far. It grows here, so that the loop's lines find it large enough.
    IS_SIZING.store(true, Ordering::Relaxed);
    log::error!("{:1$}", "", LINE_BYTES);
    IS_SIZING.store(false, Ordering::Relaxed);
}

/// The length of a line for which the buffer has room from the start: a sentence and two
/// reasons.
const LINE_BYTES: usize = 3 * limits::REASON_BYTES;

/// The line at hand only sizes the buffer and is not written.
static IS_SIZING: AtomicBool = AtomicBool::new(false);

/// Lets one line through in ten seconds, and counts the suppressed ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimit {
    last: Option<crate::time::Instant>,
    suppressed: u64,
}

/// The shortest time between two lines of a kind.
const LINE_INTERVAL: crate::time::Duration = crate::time::Duration::from_secs(10);

impl RateLimit {
    /// `None` if this line is to be suppressed; else the number of lines suppressed
    /// since the last one that was logged.
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
    fn one_line_passes_in_ten_seconds_and_the_others_are_counted() {
        let mut limit = RateLimit::default();
        let at = Instant::from_millis;
        assert_eq!(limit.pass(at(0)), Some(0));
        assert_eq!(limit.pass(at(1)), None);
        assert_eq!(limit.pass(at(9_999)), None);
        assert_eq!(limit.pass(at(10_000)), Some(2));
    }
}
