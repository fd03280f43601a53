//! The clock that people read. thimble's own time never jumps; this one is asked
//! for the number of a start, and shown.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Duration, Instant};

/// What the clock said at start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: Instant,
    unix_ms: u64,
}

impl Clock {
    /// Takes down what the clock says now.
    #[must_use]
    pub fn at(now: Instant) -> Self {
        Self { at: now, unix_ms: Self::unix_ms() }
    }

    /// What the clock says now: milliseconds since 1970; 0 where that is yet to come.
    #[must_use]
    pub fn unix_ms() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// By how much the clock was set since then, beyond the time that went by, in
    /// milliseconds; below 0: back.
    #[must_use]
    pub fn step_ms(&self, now: Instant, unix_ms: u64) -> i64 {
        let unset = self.unix_ms.saturating_add(now.since(self.at).as_millis());
        unix_ms.cast_signed().saturating_sub(unset.cast_signed())
    }
}

/// A span of time in the two largest units that it has: `1 h 5 min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub const fn of_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_millis() / 1000;
        match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, minutes) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        for (ms, shown) in [
            (900, "0 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(Span::of_millis(ms).to_string(), shown);
        }
    }

    #[test]
    fn a_clock_that_goes_as_time_does_was_not_set() {
        let clock = Clock { at: Instant::from_millis(500), unix_ms: 1_000_000 };
        let later = Instant::from_millis(1_500);
        assert_eq!(clock.step_ms(later, 1_001_000), 0);
        assert_eq!(clock.step_ms(later, 1_008_000), 7_000);
        assert_eq!(clock.step_ms(later, 0), -1_001_000);
    }
}
