//! When an agent sends HelloAgentAck: in answer to HelloAgent, and after a change.
//!
//! ```text
//! Silent --HelloAgent--> Due (at a random moment in its window)
//!   |                      | more HelloAgents: one answer serves all
//!   `---- a change --------'---- sent ----> Silent
//! ```

use super::random::Random;
use crate::time::{Duration, Instant};

/// The shortest time between two acks that report a change: an install's progress
/// changes often.
const CHANGES_APART: Duration = Duration::from_millis(200);
/// The widest window that an agent accepts.
const WINDOW_MOST: Duration = Duration::from_secs(60);

/// When to send HelloAgentAck.
#[derive(Debug, Default)]
pub struct Acks {
    due: Option<Instant>,
    last_sent: Option<Instant>,
}

impl Acks {
    /// A controller has sent HelloAgent with this window.
    pub fn on_hello(&mut self, now: Instant, window_ms: u32, random: &mut Random) {
        let window = Duration::from_millis(u64::from(window_ms)).min(WINDOW_MOST);
        let at = now + random.below(window);
        self.due = Instant::earliest([self.due, Some(at)]);
    }

    /// A value that the ack carries has changed.
    pub fn on_change(&mut self, now: Instant) {
        let at = self.last_sent.map_or(now, |said| now.max(said + CHANGES_APART));
        self.due = Instant::earliest([self.due, Some(at)]);
    }

    /// An install has ended: the ack is due at once, so that controllers do not show
    /// old progress.
    pub fn on_end(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// Whether an ack is due; if so, it counts as sent.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| now >= due);
        if is_due {
            self.due = None;
            self.last_sent = Some(now);
        }
        is_due
    }

    /// When the next ack is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn one_answer_serves_all_controllers_that_asked_before_it() {
        let (mut acks, mut random) = (Acks::default(), Random::new([1; 32]));
        for now in 0..8 {
            acks.on_hello(at(now), 1000, &mut random);
        }
        let due = acks.poll_at().unwrap();
        assert!(due < at(1000 + 8));
        assert!(!acks.take_due(due - Duration::from_millis(1)));
        assert!(acks.take_due(due));
        assert!(!acks.take_due(due));
        assert_eq!(acks.poll_at(), None);
    }

    #[test]
    fn answers_are_spread_over_the_window() {
        let mut random = Random::new([2; 32]);
        let dues: std::vec::Vec<u64> = (0..100)
            .map(|_| {
                let mut acks = Acks::default();
                acks.on_hello(at(0), 1000, &mut random);
                acks.poll_at().unwrap().as_millis()
            })
            .collect();
        let early = dues.iter().filter(|due| **due < 500).count();
        assert!((25..=75).contains(&early), "{early} of 100 in the first half");
    }

    #[test]
    fn changes_are_sent_at_once_but_not_in_a_flood() {
        let mut acks = Acks::default();
        acks.on_change(at(10));
        assert!(acks.take_due(at(10)));
        acks.on_change(at(20));
        assert!(!acks.take_due(at(209)));
        assert!(acks.take_due(at(210)));
        acks.on_end(at(211));
        assert!(acks.take_due(at(211)), "the end of an install waits for nothing");
    }
}
