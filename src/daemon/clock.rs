//! The time of day. thimble's own time ([`Instant`]) never jumps; the time of day is used
//! for the number of a start, and is shown.

use crate::clock::unix_ms;
use crate::time::Instant;

/// The time of day at start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: Instant,
    unix_ms: u64,
}

impl Clock {
    /// Records the time of day now.
    #[must_use]
    pub fn at(now: Instant) -> Self {
        Self { at: now, unix_ms: unix_ms() }
    }

    /// By how many milliseconds the clock was set since the start, beyond the time that has
    /// passed; negative if it was set back.
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
    fn a_clock_that_nobody_set_has_no_step() {
        let clock = Clock { at: Instant::from_millis(500), unix_ms: 1_000_000 };
        let later = Instant::from_millis(1_500);
        assert_eq!(clock.step_ms(later, 1_001_000), 0);
        assert_eq!(clock.step_ms(later, 1_008_000), 7_000);
        assert_eq!(clock.step_ms(later, 0), -1_001_000);
    }
}
