//! The clock that people read. thimble's own time never jumps; this one is asked
//! for the number of a start, and shown.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Instant;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_as_time_does_was_not_set() {
        let clock = Clock { at: Instant::from_millis(500), unix_ms: 1_000_000 };
        let later = Instant::from_millis(1_500);
        assert_eq!(clock.step_ms(later, 1_001_000), 0);
        assert_eq!(clock.step_ms(later, 1_008_000), 7_000);
        assert_eq!(clock.step_ms(later, 0), -1_001_000);
    }
}
