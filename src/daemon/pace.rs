//! How long a phase of a worker's session may take.
//!
//! A limit for each pause is not enough: a peer that sends or takes a byte just before each
//! limit would keep a worker for days. So a phase (the wait for a request, or an answer)
//! has its patience once, and further time only for the bytes that were transferred. With
//! that, a file of any size may take as long as it needs at the least rate.

use std::io;
use std::time::{Duration, Instant};

use crate::time::Span;

/// The least rate of an answer, in bytes a second: 64 kbit/s. Every network and flash that
/// hosts are patched over has more.
const BYTES_PER_S: u64 = 8 * 1024;

/// The pace of one phase.
pub struct Pace {
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// A phase that begins now. It may pause for at most `patience`, and take as long plus
    /// the time of its bytes at the least rate.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, since: Instant::now(), bytes: 0 }
    }

    /// The next phase begins.
    pub fn begin(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Counts bytes that were transferred.
    pub fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// The time limit of a socket, told as what it is: the system says "Resource temporarily
    /// unavailable". Other errors stay as they are.
    #[must_use]
    pub fn explained(&self, error: io::Error) -> io::Error {
        match error.kind() {
            // The kernel's own: nothing of what was sent arrives.
            io::ErrorKind::TimedOut if error.raw_os_error().is_some() => {
                io::Error::new(io::ErrorKind::TimedOut, "the connection no longer gets through")
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let limit = Span::of_millis(u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX));
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit}"))
            }
            _ => error,
        }
    }

    /// How long the next read or write may wait.
    ///
    /// # Errors
    /// `TimedOut`: the phase has taken too long.
    pub fn left(&self) -> io::Result<Duration> {
        self.left_after(self.since.elapsed())
    }

    fn left_after(&self, elapsed: Duration) -> io::Result<Duration> {
        let earned = Duration::from_millis(self.bytes.saturating_mul(1_000) / BYTES_PER_S);
        let left = self.patience.saturating_add(earned).saturating_sub(elapsed);
        // A socket takes a timeout of zero for none.
        if left < Duration::from_millis(1) {
            Err(match self.bytes {
                0 => self.explained(io::ErrorKind::TimedOut.into()),
                _ => io::Error::new(io::ErrorKind::TimedOut, "slower than 8 KiB a second"),
            })
        } else {
            Ok(left.min(self.patience))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_its_patience_once_and_further_time_for_its_bytes_alone() {
        let (second, mut pace) = (Duration::from_secs(1), Pace::new(Duration::from_secs(60)));
        assert_eq!(pace.left_after(Duration::ZERO).unwrap(), second * 60);
        pace.count(1);
        assert!(pace.left_after(second * 59).unwrap() <= second, "a byte a minute earns nothing");
        assert_eq!(pace.left_after(second * 60).unwrap_err().kind(), io::ErrorKind::TimedOut);
        pace.count(100 * 8 * 1024);
        assert_eq!(pace.left_after(second * 100).unwrap(), second * 60, "no pause is longer");
        assert_eq!(pace.left_after(second * 150).unwrap(), second * 10);
        assert!(pace.left_after(second * 160).is_err());
        pace.begin();
        assert!(pace.left_after(second * 60).is_err(), "the next phase has earned nothing yet");
    }
}
