//! When a controller sends HelloAgent, and how long agents may take to answer.
//!
//! ```text
//! Starting --start--> round: HelloAgent with a window --interval + jitter--> next round
//! ```
//!
//! Agents answer at a random moment within the window. Its width therefore limits how
//! many answers wait in a socket's buffer at once (the default buffer holds about 277).
//! The window is first as wide as a full host table needs, and narrows once two
//! rounds have counted the hosts.

use super::actions::{Actions, To};
use super::random::Random;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::wire::messages::{HelloAgent, Message};

/// Width of the window for each host, in milliseconds. One answer per millisecond
/// keeps a controller almost idle, and bursts stay far below 277.
const WINDOW_PER_HOST_MS: u64 = 1;
/// The narrowest window.
pub const WINDOW_LEAST: Duration = Duration::from_millis(20);
/// After the network was away, the next round is due within this time.
const SOON: Duration = Duration::from_millis(500);
/// Rounds after which all hosts that are up have been counted.
const ROUNDS_TO_COUNT: u32 = 2;

/// The time to the next of the hellos that are sent at this interval: 4 % to 6 % more, so that
/// controllers do not keep step.
pub fn with_jitter(interval: Duration, random: &mut Random) -> Duration {
    let (least, jitter) = (interval.as_millis() / 25, interval.as_millis() / 50);
    let more = random.below(Duration::from_millis(jitter)).as_millis().saturating_add(least);
    Duration::from_millis(interval.as_millis().saturating_add(more))
}

/// The rounds of one controller.
#[derive(Debug)]
pub struct Pacing {
    interval: Duration,
    hosts_most: usize,
    rounds: u32,
    next_round: Instant,
    window_ends: Instant,
    /// Peers greeted since the last round.
    greeted: usize,
}

impl Pacing {
    /// The first round is due at once.
    #[must_use]
    pub fn new(now: Instant, interval: Duration, hosts_most: usize) -> Self {
        Self { interval, hosts_most, rounds: 0, next_round: now, window_ends: now, greeted: 0 }
    }

    /// Changes the interval. The next round is at most one new interval away.
    pub fn set_interval(&mut self, now: Instant, interval: Duration) {
        self.interval = interval;
        self.next_round = self.next_round.min(now + interval);
    }

    /// The network is there again: a round is due soon, though not at once, since a link may
    /// come and go many times in a second.
    pub fn soon(&mut self, now: Instant) {
        self.next_round = self.next_round.min(now + SOON);
    }

    /// Whether two rounds have ended: every host that is up has been heard.
    #[must_use]
    pub fn is_settled(&self, now: Instant) -> bool {
        self.rounds > ROUNDS_TO_COUNT || (self.rounds == ROUNDS_TO_COUNT && now >= self.window_ends)
    }

    /// The shortest time until [`is_settled`](Self::is_settled) can be true.
    #[must_use]
    pub fn settles_in(&self, now: Instant) -> Duration {
        if self.is_settled(now) {
            return Duration::ZERO;
        }
        let rounds_left = u64::from(ROUNDS_TO_COUNT.saturating_sub(self.rounds));
        let after = self.interval.times(rounds_left.saturating_sub(1));
        let last = if rounds_left == 0 { self.window_ends } else { self.next_round + after };
        Duration::from_millis(last.since(now).as_millis().saturating_add(self.window(0).as_millis()))
    }

    /// How many hosts may answer a question to all, where so many are known: as many as fit, until one round has ended,
    /// in which nearly all that are up were heard.
    #[must_use]
    pub fn may_answer(&self, now: Instant, hosts: usize) -> usize {
        if self.rounds > 1 || (self.rounds == 1 && now >= self.window_ends) {
            return hosts;
        }
        usize::try_from(self.window(hosts).as_millis()).unwrap_or(usize::MAX).max(hosts)
    }

    fn window(&self, hosts: usize) -> Duration {
        // A quarter more than were counted, for hosts that are new.
        let counted = hosts.saturating_add(hosts / 4);
        let expected = if self.rounds < ROUNDS_TO_COUNT { self.hosts_most } else { counted };
        let wanted = (expected as u64).saturating_mul(WINDOW_PER_HOST_MS).max(WINDOW_LEAST.as_millis());
        Duration::from_millis(wanted.min(self.interval.as_millis() / 2))
    }

    /// The message for a host that appears between two rounds. If many appear at
    /// once, their answers are spread as in a round.
    #[must_use]
    pub fn greeting(&self, hosts: usize, op_counter: u64) -> Message {
        let ack_window_ms = u32::try_from(self.window(hosts).as_millis()).unwrap_or(u32::MAX);
        Message::HelloAgent(HelloAgent { op_counter, ack_window_ms })
    }

    /// Whether one more new peer may be greeted before the next round; counts it.
    /// The limit is a full host table and some more. It bounds the cost of a peer that
    /// binds and unbinds without end; a peer beyond the limit hears the next round.
    pub fn take_greeting(&mut self) -> bool {
        self.greeted = self.greeted.saturating_add(1);
        self.greeted <= self.hosts_most.saturating_add(limits::UNHEARD_PEERS)
    }

    /// Sends HelloAgent if a round is due, and returns its window.
    pub fn on_timeout(
        &mut self,
        now: Instant,
        hosts: usize,
        op_counter: u64,
        random: &mut Random,
        actions: &mut Actions,
    ) -> Option<Duration> {
        if now < self.next_round {
            return None;
        }
        let window = self.window(hosts);
        actions.send(To::Agents, self.greeting(hosts, op_counter));
        self.rounds = self.rounds.saturating_add(1);
        self.greeted = 0;
        self.window_ends = now + window;
        self.next_round = now + with_jitter(self.interval, random);
        Some(window)
    }

    /// When the next round is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        Some(self.next_round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::actions::Action;

    fn round(pacing: &mut Pacing, now: u64, hosts: usize) -> Option<u32> {
        let (mut random, mut actions) = (Random::new([1; 32]), Actions::default());
        pacing.on_timeout(Instant::from_millis(now), hosts, 0, &mut random, &mut actions);
        match actions.pop_front() {
            Some(Action::Send(To::Agents, Message::HelloAgent(hello))) => Some(hello.ack_window_ms),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_window_is_wide_until_two_rounds_have_counted() {
        let mut pacing = Pacing::new(Instant::default(), Duration::from_secs(30), 10_000);
        assert_eq!(round(&mut pacing, 0, 0), Some(10_000));
        assert_eq!(round(&mut pacing, 1, 0), None, "early does nothing");
        assert!(!pacing.is_settled(Instant::from_millis(29_000)));
        assert_eq!(round(&mut pacing, 33_000, 400), Some(10_000));
        assert!(!pacing.is_settled(Instant::from_millis(42_999)));
        assert!(pacing.is_settled(Instant::from_millis(43_000)));
        assert_eq!(round(&mut pacing, 66_000, 400), Some(500));
        assert_eq!(round(&mut pacing, 99_000, 0), Some(20));
    }

    #[test]
    fn a_round_is_due_soon_after_the_network_is_back() {
        let mut pacing = Pacing::new(Instant::default(), Duration::from_secs(30), 1);
        assert!(round(&mut pacing, 0, 0).is_some());
        for back in [1_000, 1_400] {
            pacing.soon(Instant::from_millis(back));
        }
        assert_eq!(round(&mut pacing, 1_499, 0), None);
        assert!(round(&mut pacing, 1_500, 0).is_some());
        assert!(pacing.poll_at() > Some(Instant::from_millis(31_000)), "and then at the usual times");
    }

    #[test]
    fn the_window_never_reaches_into_the_next_round() {
        let mut pacing = Pacing::new(Instant::default(), Duration::from_millis(200), 10_000);
        assert_eq!(round(&mut pacing, 0, 0), Some(100));
    }
}
