//! When a controller sends Hello, and when the Hellos of its start have been answered.
//!
//! ```text
//! Waiting --map read--> Starting: three Hellos --> Settled: a Hello each interval
//!                                                   `-- the map changed --> one soon
//! ```

use crate::fsm::pacing::with_jitter;
use crate::fsm::random::Random;
use crate::time::{Duration, Instant};

/// Hellos at the start: enough that one gets through a network that loses some.
const START_HELLOS: u32 = 3;
/// A changed map is announced within this time.
const SOON: Duration = Duration::from_millis(1_000);

/// The Hellos of one controller.
#[derive(Debug)]
pub struct Rounds {
    interval: Duration,
    start_interval: Duration,
    sent: u32,
    /// When the next Hello is due; `None` until the map is read.
    next: Option<Instant>,
    /// When every controller that is up has had time to answer.
    settle_at: Option<Instant>,
    /// That time has passed.
    has_heard_all: bool,
}

impl Rounds {
    /// No Hello; the first is due after [`begin`](Self::begin).
    #[must_use]
    pub fn new(interval: Duration, start_interval: Duration) -> Self {
        Self { interval, start_interval, sent: 0, next: None, settle_at: None, has_heard_all: false }
    }

    /// Changes the intervals. The next Hello is at most one new interval away.
    pub fn set_intervals(&mut self, now: Instant, interval: Duration, start_interval: Duration) {
        (self.interval, self.start_interval) = (interval, start_interval);
        self.next = self.next.map(|next| next.min(now + interval));
    }

    /// The map is read: the first Hello is due.
    pub fn begin(&mut self, now: Instant) {
        self.next.get_or_insert(now);
    }

    /// Whether the map is read.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.next.is_some()
    }

    /// Whether the Hellos of the start have been sent and had time to be answered. Once
    /// true, [`poll_at`](Self::poll_at) no longer reports that time, whatever else the
    /// start waits for.
    pub fn has_heard_all(&mut self, now: Instant) -> bool {
        if self.settle_at.is_some_and(|at| now >= at) {
            self.settle_at = None;
            self.has_heard_all = true;
        }
        self.has_heard_all
    }

    /// The map has changed: a Hello is due soon, at a random time, so that not all
    /// controllers send at once. Hellos of the start are near and keep their times.
    pub fn soon(&mut self, now: Instant, random: &mut Random) {
        if self.sent < START_HELLOS {
            return;
        }
        let within = SOON.min(Duration::from_millis(self.interval.as_millis() / 2));
        let at = now + random.below(within);
        self.next = self.next.map(|next| next.min(at));
    }

    /// Whether a Hello is due; if so, it counts as sent.
    pub fn take_due(&mut self, now: Instant, random: &mut Random) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        self.next = Some(match self.sent {
            ..START_HELLOS => now + self.start_interval,
            _ => now + with_jitter(self.interval, random),
        });
        if self.sent == START_HELLOS {
            self.settle_at = Some(now + self.start_interval);
        }
        true
    }

    /// When the next Hello or the end of the start is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        Instant::earliest([self.next, self.settle_at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn rounds() -> (Rounds, Random) {
        (Rounds::new(Duration::from_millis(3_000), Duration::from_millis(100)), Random::new([1; 32]))
    }

    #[test]
    fn nothing_is_sent_before_the_map_is_read_then_three_hellos_then_one_each_interval() {
        let (mut rounds, mut random) = rounds();
        assert!(!rounds.take_due(at(1_000), &mut random));
        assert_eq!(rounds.poll_at(), None);
        rounds.begin(at(1_000));
        for due in [1_000, 1_100, 1_200] {
            assert_eq!(rounds.poll_at(), Some(at(due)));
            assert!(rounds.take_due(at(due), &mut random) && !rounds.take_due(at(due), &mut random));
            assert!(!rounds.has_heard_all(at(due)));
        }
        assert_eq!(rounds.poll_at(), Some(at(1_300)), "the end of the start");
        assert!(rounds.has_heard_all(at(1_300)));
        assert!(rounds.poll_at() > Some(at(1_300)), "that is over");
        let next = rounds.poll_at().unwrap();
        assert!((at(4_200)..at(4_500)).contains(&next), "{next:?}");
    }

    #[test]
    fn a_change_is_announced_within_a_second_and_never_delays_a_hello() {
        let (mut rounds, mut random) = rounds();
        rounds.begin(at(0));
        for due in [0, 100, 200] {
            assert!(rounds.take_due(at(due), &mut random));
        }
        for _ in 0..20 {
            let before = rounds.poll_at().unwrap();
            rounds.soon(at(1_000), &mut random);
            let after = rounds.poll_at().unwrap();
            assert!(after <= before && after <= at(2_000));
        }
    }

    #[test]
    fn a_change_does_not_shorten_the_start() {
        let (mut rounds, mut random) = rounds();
        rounds.begin(at(0));
        for due in [0, 100, 200] {
            assert!(rounds.take_due(at(due), &mut random));
            if due < 200 {
                rounds.soon(at(due), &mut random);
                assert_eq!(rounds.poll_at(), Some(at(due + 100)));
            }
        }
    }
}
