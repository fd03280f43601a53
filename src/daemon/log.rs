//! Log lines that never block the loop.
//!
//! Lines go to standard error, each with its syslog priority in front where that is
//! the journal's. A line that would block is dropped and counted. Standard error is
//! others' too, workers' and maybe a shell's, so it is not made non-blocking: only our
//! own write is, by what each kind of file has for that.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines dropped because writing them would have blocked.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Where lines go, by how one is written without blocking.
enum Lines {
    /// A pipe or a terminal, opened once more: that it does not block is ours alone.
    Own(File),
    /// A socket: each send says that it may not block.
    Socket,
    /// A file, or what could not be opened again: asked before each write.
    Asked,
}

impl Lines {
    /// Standard error, and whether it is the journal's.
    fn of_standard_error() -> (Self, bool) {
        let duplicate = io::stderr().as_fd().try_clone_to_owned().map(File::from);
        let Ok(metadata) = duplicate.and_then(|file| file.metadata()) else { return (Self::Asked, false) };
        let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let is_journal = journal == format!("{}:{}", metadata.dev(), metadata.ino());
        let kind = metadata.file_type();
        let lines = if kind.is_socket() {
            Self::Socket
        } else if kind.is_fifo() || kind.is_char_device() {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let again = File::options().write(true).custom_flags(flags).open("/proc/self/fd/2");
            again.map_or(Self::Asked, Self::Own)
        } else {
            Self::Asked
        };
        (lines, is_journal)
    }

    fn is_written(&mut self, line: &[u8]) -> bool {
        match self {
            Self::Own(file) => file.write(line).is_ok(),
            Self::Socket => super::sys::send_unless_blocked(io::stderr().as_fd(), line),
            Self::Asked => super::sys::write_unless_blocked(libc::STDERR_FILENO, line),
        }
    }
}

/// What is logged: levels by the parts of thimble that they hold for.
struct Filter(Vec<(String, LevelFilter)>);

impl Filter {
    /// Reads `RUST_LOG`: a level, a part, or a part and its level (`thimble::udp=debug`),
    /// with commas between them. What is none of these changes nothing.
    fn parse(text: &str) -> Self {
        let mut levels = vec![(String::new(), LevelFilter::Info)];
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let said = match (word.split_once('='), word.parse()) {
                (Some((part, level)), _) => level.parse().ok().map(|level| (part, level)),
                (None, Ok(level)) => Some(("", level)),
                (None, Err(_)) => Some((word, LevelFilter::Trace)),
            };
            levels.extend(said.map(|(part, level)| (part.to_owned(), level)));
        }
        Self(levels)
    }

    /// Of what is said of a part, the closest holds, and of equals the last.
    fn level(&self, part: &str) -> LevelFilter {
        let said = self.0.iter().filter(|(of, _)| part.starts_with(of));
        said.max_by_key(|(of, _)| of.len()).map_or(LevelFilter::Off, |(_, level)| *level)
    }

    fn most(&self) -> LevelFilter {
        self.0.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::Off)
    }
}

/// Writes what passes the filter.
struct Logger {
    /// Which process this is.
    name: &'static str,
    filter: Filter,
    with_priority: bool,
    /// Where to, and the memory that a line is made in.
    to: Mutex<(Lines, String)>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.filter.level(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (priority, word) = match record.level() {
            Level::Error => ("<3>", "error: "),
            Level::Warn => ("<4>", "warning: "),
            Level::Info => ("<6>", ""),
            Level::Debug | Level::Trace => ("<7>", "debug: "),
        };
        let priority = if self.with_priority { priority } else { "" };
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, line) = &mut *to;
        line.clear();
        // No error: memory takes all of it.
        let _ = writeln!(line, "{priority}{}: {word}{}", self.name, record.args());
        if !lines.is_written(line.as_bytes()) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Bytes of a line for which there is memory from the start.
const LINE_BYTES: usize = 1024;

/// Sets up logging for the daemon or a worker. `RUST_LOG` chooses what is
/// logged; without it, everything from "info" on.
pub fn set_up(name: &'static str) {
    let (lines, with_priority) = Lines::of_standard_error();
    let filter = Filter::parse(&std::env::var("RUST_LOG").unwrap_or_default());
    let (most, to) = (filter.most(), Mutex::new((lines, String::with_capacity(LINE_BYTES))));
    // A second set-up in one process is of no consequence.
    if log::set_logger(Box::leak(Box::new(Logger { name, filter, with_priority, to }))).is_ok() {
        log::set_max_level(most);
    }
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
    fn the_closest_of_what_is_said_of_a_part_holds() {
        let level = |text, part| Filter::parse(text).level(part);
        for (text, ours, udp) in [
            ("", LevelFilter::Info, LevelFilter::Info),
            ("DEBUG", LevelFilter::Debug, LevelFilter::Debug),
            ("off, thimble::udp", LevelFilter::Off, LevelFilter::Trace),
            ("thimble::udp=debug,warn", LevelFilter::Warn, LevelFilter::Debug),
            ("thimble::udp=loud,", LevelFilter::Info, LevelFilter::Info),
            ("warn,error", LevelFilter::Error, LevelFilter::Error),
        ] {
            assert_eq!((level(text, "thimble::fsm"), level(text, "thimble::udp")), (ours, udp), "{text}");
        }
        assert_eq!(Filter::parse("thimble::udp=debug,warn").most(), LevelFilter::Debug);
    }

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
