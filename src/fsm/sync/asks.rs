//! Asks controllers again by unicast that have not answered a Hello, and notes those that do not
//! answer as lost ([`probes`](crate::fsm::probes)). There are at most
//! [`CONTROLLERS`](crate::limits::CONTROLLERS), so their asks need no budget.

use super::neighbours::Neighbours;
use crate::fsm::actions::{Actions, To};
use crate::fsm::probes::{Due, TICK, ask_apart};
use crate::time::{Duration, Instant};
use crate::wire::messages::{Hello, Message};

/// Actions that are left to what else is due in the same turn.
const ROOM_LEFT: usize = 4;

/// The asks of all neighbours.
#[derive(Debug)]
pub(super) struct Asks {
    limit: Duration,
    /// When the last Hello to all was sent.
    round_began: Instant,
    /// When it should have been answered.
    window_ends: Option<Instant>,
    /// When the next ask or loss is due, or an earlier time.
    due: Option<Instant>,
    /// Asks sent since the start.
    sent: u64,
    /// Controllers lost since the start because they did not answer.
    lost: u64,
}

impl Asks {
    /// No neighbour is asked.
    pub fn new(limit: Duration) -> Self {
        Self { limit, round_began: Instant::default(), window_ends: None, due: None, sent: 0, lost: 0 }
    }

    /// Changes how long a neighbour is asked.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// A Hello was sent to all. Its answers are looked at unless those of the one before still are.
    pub fn on_round(&mut self, now: Instant) {
        if self.window_ends.is_none() {
            (self.round_began, self.window_ends) = (now, Some(now + ask_apart(self.limit)));
        }
    }

    /// Sends the asks that are due, and notes the neighbours that are lost.
    pub fn on_timeout(
        &mut self,
        now: Instant,
        hello: &Hello,
        neighbours: &mut Neighbours<'_>,
        actions: &mut Actions,
    ) {
        if self.window_ends.is_some_and(|ends| now >= ends) {
            self.window_ends = None;
            for one in neighbours.iter_mut() {
                if one.heard.is_some_and(|(_, at)| at < self.round_began) && !one.presence.is_reported_gone()
                {
                    one.probe.plan(now, now + self.limit);
                    self.due = Some(now);
                }
            }
        }
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        for one in neighbours.iter_mut() {
            let Some((peer, _)) = one.heard else { continue };
            let is_lost = one.presence.is_gone();
            match one.probe.due(now, is_lost) {
                Due::Ask if actions.room() <= ROOM_LEFT => self.due = Some(now + TICK),
                Due::Ask => {
                    self.sent = self.sent.saturating_add(1);
                    one.probe.on_asked(now, self.limit, is_lost);
                    actions.send(To::Node(one.node, peer), Message::Hello(hello.clone()));
                }
                Due::Lost => {
                    self.lost = self.lost.saturating_add(1);
                    one.presence.on_unanswered();
                    one.probe.on_lost();
                }
                Due::Later(_) => {}
            }
            if let Due::Later(later) = one.probe.due(now, is_lost) {
                self.due = Instant::earliest([self.due, later]);
            }
        }
    }

    /// When the next turn is due.
    pub fn poll_at(&self) -> Option<Instant> {
        Instant::earliest([self.window_ends, self.due])
    }

    /// Asks sent since the start.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Controllers lost since the start because they did not answer.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}
