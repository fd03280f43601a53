//! Log lines that never block the loop.
//!
//! Lines go to standard error, each with its syslog priority in front where a
//! supervisor reads them (`JOURNAL_STREAM` is set). Standard error is made
//! non-blocking only for our own write: a line that would block is dropped and
//! counted.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines dropped because writing them would have blocked.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !super::sys::write_unless_blocked(libc::STDERR_FILENO, line) {
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
    let with_priority = std::env::var_os("JOURNAL_STREAM").is_some() && !io::stderr().is_terminal();
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    builder.target(env_logger::Target::Pipe(Box::new(Lines)));
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
    held_back: u64,
}

/// One line of a kind in this time.
const APART: crate::time::Duration = crate::time::Duration::from_secs(10);

impl RateLimit {
    /// Whether to log now; if so, how many were held back since the last.
    pub fn pass(&mut self, now: crate::time::Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < APART) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
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
