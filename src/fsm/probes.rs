//! A node that missed its window is asked again by unicast, and is then lost.
//!
//! ```text
//! Idle --missed--> Planned --its time--> Asking --heard--> Idle
//!                     `-- heard --> Idle   | until its end, and at least ASKS_LEAST times
//!                                          v
//!                                        lost: asked once in each round --heard--> Idle
//! ```
//!
//! The figures, with the default `limit` of 3 s. A node that is up and reachable is lost only if
//! all asks in the limit stay unanswered: 24, one each 125 ms. Where each datagram is lost with a
//! chance of 20 %, an ask of a host fails with 1 - 0.8 * (1 - 0.2^2) = 0.232, since a host answers
//! each ask by unicast and by multicast; one of a controller fails with 1 - 0.8^2 = 0.36. So one
//! window that was missed ends in a false loss with 0.232^24 = 6e-16, or 0.36^24 = 2e-11.
//! `tests/sim/losses.rs` plays 1,000 hours.
//!
//! Asks are sent only to nodes that missed a window of the asker's own round, to hosts that
//! install for it, and once to one that is new here, was lost or restarted; nothing else that is
//! received starts one. All asks of a controller share a budget
//! of two in a millisecond. If many hosts are asked at once, each is asked less often: 1,000
//! hosts behind a dead switch three or four times.
//!
//! The limit of a host runs from the least window on. So that any host is lost in time, a wider
//! window, as of many hosts, shortens it down to a half: 1,000 hosts have a window of 1.25 s, and
//! 14 asks, which fail with 0.232^14 = 1e-9.

use super::pacing::WINDOW_LEAST;
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// Asks of one node within the limit, unless the budget is short.
const ASKS: u64 = 24;
/// Asks before a node is lost, however short the budget.
const ASKS_LEAST: u8 = 3;
/// Unanswered asks after which a node is shown as silent. One is sent to each host that installs.
const ASKS_SILENT: u8 = 2;
/// The time between two turns while asks wait for the budget.
pub const TICK: Duration = Duration::from_millis(2);
/// Asks in one turn: two in a millisecond. A turn of all machines has room for
/// [`ACTIONS`](crate::limits::ACTIONS).
pub const ASKS_A_TICK: usize = 4;
const _: () = assert!(ASKS_A_TICK < crate::limits::ACTIONS);

/// The time from one ask of a node to the next. A node that has not answered a round for so long
/// after its window has missed it.
#[must_use]
pub fn ask_apart(limit: Duration) -> Duration {
    Duration::from_millis((limit.as_millis() / ASKS).max(1))
}

/// A host that installs is asked when it has been silent for so long.
#[must_use]
pub fn watch_apart(limit: Duration) -> Duration {
    Duration::from_millis(limit.as_millis() / 2)
}

/// A host that waits to be asked is, after this time: at most four times a second, though it restarts
/// without end, and two in a millisecond where 1,000 hosts start at once.
#[must_use]
pub fn first_ask_after(node: NodeId) -> Duration {
    Duration::from_millis(node.0.checked_rem(500).unwrap_or_default().saturating_add(250))
}

/// When a host of a round that began then is lost, if it is asked from `asked` on.
#[must_use]
pub fn round_ends(began: Instant, asked: Instant, limit: Duration) -> Instant {
    let half = Duration::from_millis(limit.as_millis() / 2);
    (began + WINDOW_LEAST + ask_apart(limit) + limit).max(asked + half)
}

/// What is due for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this time; `None` if it is not asked.
    Later(Option<Instant>),
    /// Ask it.
    Ask,
    /// It is lost.
    Lost,
}

/// The asks of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// When it is lost.
    ends: Instant,
    /// When the next step is due; `None` if the node is not asked.
    next: Option<Instant>,
    asks: u8,
}

impl Probe {
    /// It is to be asked from `at` on, and is lost at `ends`. If it was planned before, the
    /// earlier plan holds.
    pub fn plan(&mut self, at: Instant, ends: Instant) {
        if self.next.is_none_or(|next| self.asks == 0 && at < next) {
            *self = Self { ends, next: Some(at), asks: 0 };
        }
    }

    /// It was heard.
    pub fn on_heard(&mut self) {
        *self = Self::default();
    }

    /// Whether it has not answered though it was asked again.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.asks >= ASKS_SILENT
    }

    /// When it is asked again and when it is lost, while it is silent.
    #[must_use]
    pub fn silence(&self) -> Option<(Instant, Instant)> {
        self.next.filter(|_| self.is_silent()).map(|next| (next, self.ends))
    }

    /// What is due. A node that is lost is asked once.
    #[must_use]
    pub fn due(&self, now: Instant, is_lost: bool) -> Due {
        match self.next {
            Some(next) if now >= next => {
                let is_over = self.asks >= ASKS_LEAST && now >= self.ends;
                if is_over && !is_lost { Due::Lost } else { Due::Ask }
            }
            next => Due::Later(next),
        }
    }

    /// It was asked.
    pub fn on_asked(&mut self, now: Instant, limit: Duration, is_lost: bool) {
        self.asks = self.asks.saturating_add(1);
        let again = now + ask_apart(limit);
        let is_enough = self.asks >= ASKS_LEAST;
        let again = if is_enough { again.min(now.max(self.ends)) } else { again };
        self.next = (!is_lost).then_some(again);
        if is_lost {
            self.asks = 0;
        }
    }

    /// It is lost: no further asks until the next round.
    pub fn on_lost(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(2_400);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// The times of the asks, with a turn each `apart`, and the time of the loss.
    fn play(mut probe: Probe, apart: u64) -> (std::vec::Vec<u64>, u64) {
        let mut asks = std::vec::Vec::new();
        for now in (0..100_000).step_by(apart as usize) {
            match probe.due(at(now), false) {
                Due::Later(_) => {}
                Due::Ask => {
                    asks.push(now);
                    probe.on_asked(at(now), LIMIT, false);
                }
                Due::Lost => return (asks, now),
            }
        }
        panic!("it is never lost");
    }

    #[test]
    fn a_node_is_asked_all_along_the_limit_and_then_lost() {
        let mut probe = Probe::default();
        assert_eq!(probe.due(at(0), false), Due::Later(None));
        probe.plan(at(1_000), at(1_000) + LIMIT);
        assert_eq!(probe.due(at(999), false), Due::Later(Some(at(1_000))));
        let (asks, lost) = play(probe, 1);
        assert_eq!(asks.len() as u64, ASKS);
        assert_eq!((asks.first(), asks.last(), lost), (Some(&1_000), Some(&3_300), 3_400));
    }

    #[test]
    fn a_node_that_gets_few_asks_is_lost_after_three_at_the_earliest() {
        let mut probe = Probe::default();
        probe.plan(at(0), at(0) + LIMIT);
        assert_eq!(play(probe, 1_000), (std::vec![0, 1_000, 2_000], 3_000));
        assert_eq!(play(probe, 2_000), (std::vec![0, 2_000, 4_000], 6_000));
    }

    #[test]
    fn a_wide_window_shortens_the_limit_to_a_half() {
        let after = |window: u64| round_ends(at(1_000), at(1_000 + window), LIMIT);
        let least = at(1_000 + 20 + 100) + LIMIT;
        assert_eq!((after(120), after(1_300), after(5_000)), (least, least, at(1_000 + 5_000 + 1_200)));
    }

    #[test]
    fn one_that_is_heard_or_lost_is_not_asked_before_its_next_plan() {
        let mut probe = Probe::default();
        probe.plan(at(0), at(0) + LIMIT);
        probe.on_asked(at(0), LIMIT, false);
        probe.on_asked(at(100), LIMIT, false);
        assert!(probe.is_silent());
        probe.plan(at(50), at(50) + LIMIT);
        assert!(probe.is_silent(), "a second plan does not begin anew");
        probe.on_heard();
        assert_eq!((probe.is_silent(), probe.due(at(9_999), false)), (false, Due::Later(None)));
        probe.plan(at(0), at(0) + LIMIT);
        assert_eq!(probe.due(at(0), true), Due::Ask);
        probe.on_asked(at(0), LIMIT, true);
        assert_eq!(probe.due(at(9_999), true), Due::Later(None), "a lost one is asked once");
        probe.plan(at(200), at(200) + LIMIT);
        probe.plan(at(100), at(100) + LIMIT);
        assert_eq!(probe.due(at(0), false), Due::Later(Some(at(100))), "the earlier plan holds");
    }
}
