//! How fast a file is sent.
//!
//! Never faster than the operator's limit. It begins slowly, and doubles the rate while hosts report no loss. Where they
//! do, half the rate is tried. If nearly as much
//! arrives as before, a queue was full, and the lower rate stays; if half as much does, a link loses whatever is
//! sent, and the former rate comes back. Without loss the rate rises to the limit again.

use crate::time::{Duration, Instant};

/// What may be sent at once after a pause, in bytes: some packets, which the smallest socket buffers hold.
const BURST_BYTES: u64 = 16 * 1_024;
/// The slowest rate that is tried, in bytes for a second.
const LEAST: u64 = 16 * 1_024;
/// The rate at which it begins, unless the limit is lower, in bytes for a second.
const FIRST: u64 = 5_000_000;
/// Loss from which half the rate is tried, of a thousand packets.
const LOSS: u32 = 20;
/// For how many passes a rate stays after a trial that helped, and after one that did not.
const HOLD: (u8, u8) = (2, 8);

/// When the next packet may be sent.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The operator's limit, in bytes for a second.
    most: u64,
    rate: u64,
    /// What may be sent now, in thousandths of a byte.
    credit: u64,
    counted: Instant,
    /// The rate and loss before half of it was tried.
    tried: Option<(u64, u32)>,
    hold: u8,
    /// No loss has been reported yet.
    is_rising: bool,
}

impl Pace {
    /// At most `most` bytes for a second, headers of the network not counted.
    #[must_use]
    pub fn new(now: Instant, most: u64) -> Self {
        let most = most.max(LEAST);
        Self { most, rate: most.min(FIRST), credit: 0, counted: now, tried: None, hold: 0, is_rising: true }
    }

    /// Whether it is faster than it began.
    #[must_use]
    pub const fn is_fast(&self) -> bool {
        self.rate > FIRST
    }

    /// Bytes for a second.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Changes the limit, while something is sent too.
    pub fn set_most(&mut self, most: u64) {
        self.most = most.max(LEAST);
        self.rate = self.rate.min(self.most);
    }

    /// Whether so many bytes may be sent now; they count as sent if so.
    pub fn take(&mut self, now: Instant, bytes: u64) -> bool {
        let earned = now.since(self.counted).as_millis().saturating_mul(self.rate);
        // What a millisecond earns may be more than a burst.
        let most = BURST_BYTES.saturating_mul(1_000).max(self.rate.saturating_mul(2));
        self.credit = self.credit.saturating_add(earned).min(most);
        self.counted = now;
        match self.credit.checked_sub(bytes.saturating_mul(1_000)) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }

    /// When so many bytes may be sent.
    #[must_use]
    pub fn at(&self, bytes: u64) -> Instant {
        let lacks = bytes.saturating_mul(1_000).saturating_sub(self.credit);
        self.counted + Duration::from_millis(lacks.div_ceil(self.rate.max(1)))
    }

    /// A pass at this rate has ended with this loss, of a thousand packets.
    pub fn learn(&mut self, loss: u32) {
        if let Some((rate, loss_before)) = self.tried.take() {
            let arrived = |rate: u64, loss: u32| rate.saturating_mul(u64::from(arriving(loss)));
            let (now, before) = (arrived(self.rate, loss), arrived(rate, loss_before));
            let has_helped = now.saturating_mul(4) >= before.saturating_mul(3);
            self.hold = if has_helped { HOLD.0 } else { HOLD.1 };
            if !has_helped {
                self.rate = rate.min(self.most);
            }
        } else if self.hold > 0 {
            self.hold = self.hold.saturating_sub(1);
        } else if loss >= LOSS {
            self.is_rising = false;
            self.tried = Some((self.rate, loss));
            self.rate = (self.rate / 2).max(LEAST);
        } else {
            let more = if self.is_rising { self.rate } else { self.rate / 4 };
            self.rate = self.rate.saturating_add(more).min(self.most);
        }
    }
}

/// What of a thousand packets is a gain. What is lost is sent again, and takes time to find: it counts twice, unless
/// nothing would be left then that tells two rates apart.
fn arriving(loss: u32) -> u32 {
    let arrives = 1_000_u32.saturating_sub(loss);
    arrives.saturating_sub(loss).max(arrives / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn no_more_is_sent_than_the_rate() {
        for (rate, bytes) in [(2_500_000, 1_180), (20_000, 1_180), (125_000_000, 1_180)] {
            let mut pace = Pace::new(at(0), rate);
            // It has risen as far as it may.
            (0..10).for_each(|_| pace.learn(0));
            let (mut now, mut sent) = (at(0), 0);
            while now < at(10_000) {
                if pace.take(now, bytes) {
                    sent += bytes;
                } else {
                    let next = pace.at(bytes);
                    assert!(next > now, "time goes on");
                    now = next;
                }
            }
            let most = rate * 10;
            assert!(sent <= most + BURST_BYTES && sent >= most * 98 / 100, "{sent} of {most}");
        }
    }

    #[test]
    fn after_a_pause_there_is_no_flood() {
        let mut pace = Pace::new(at(0), 100_000);
        let sent = (0..1_000).filter(|_| pace.take(at(60_000), 1_000)).count();
        assert!(sent as u64 <= BURST_BYTES / 1_000 + 1, "{sent}");
    }

    #[test]
    fn a_rate_that_loses_is_halved_and_stays_so_while_that_helps() {
        // A queue that overflows above so many bytes for a second.
        for queue in [300_000, 60_000] {
            let mut pace = Pace::new(at(0), 1_000_000);
            let loss = |rate: u64| 1_000_u64.saturating_sub(queue * 1_000 / rate) as u32;
            let mut slow = 0;
            for _ in 0..60 {
                pace.learn(loss(pace.rate()));
                slow += usize::from(pace.rate() <= queue * 5 / 3);
            }
            assert!(slow > 40, "{queue}: {slow}");
        }
    }

    #[test]
    fn a_link_that_loses_whatever_is_sent_keeps_its_rate() {
        // Half of it is lost where hosts do not answer, or somebody makes false packets; more, if they lie.
        for loss in [50, 300, 500, 900, 1_000] {
            let mut pace = Pace::new(at(0), 1_000_000);
            let mut fast = 0;
            for _ in 0..100 {
                pace.learn(loss);
                fast += usize::from(pace.rate() == 1_000_000);
            }
            assert!(fast >= 85, "{loss}: {fast}");
        }
    }

    #[test]
    fn a_changed_limit_counts_at_once() {
        let mut pace = Pace::new(at(0), 1_000_000);
        pace.set_most(200_000);
        assert_eq!(pace.rate(), 200_000);
        pace.set_most(400_000);
        (0..10).for_each(|_| pace.learn(0));
        assert_eq!(pace.rate(), 400_000);
    }
}
