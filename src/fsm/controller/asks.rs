//! Asks hosts again by unicast that missed a window, and notes those that do not answer as lost
//! ([`probes`](crate::fsm::probes)).
//!
//! ```text
//! round: HelloAgent to all --its window has passed--> each host that was not heard since is
//!                                                     asked alone: HelloAgent with window 0
//! request to a host open here --silent for half the limit--> the same
//! first heard, back, restarted --a moment later--> the same, unless a round comes before
//! ```
//!
//! Without the last, a host that announces itself or answers another controller would hear of this
//! one with the next round only. The moment differs from host to host, so that hosts which start at
//! once are not asked at once; and they share the budget of all asks.
//!
//! A host that answered shortly before the round may answer later than in the window (see
//! [`acks`]): it has not missed it before that time.

use super::Controller;
use crate::fsm::acks;
use crate::fsm::actions::{Actions, To};
use crate::fsm::hosts::Host;
use crate::fsm::probes::{ASKS_A_TICK, Due, TICK, ask_apart, first_ask_after, round_ends, watch_apart};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::{HelloAgent, Message};

/// The asks of all hosts.
#[derive(Debug)]
pub(super) struct Asks {
    /// This node, whose own agent is not asked: it lives as long as this process.
    own: NodeId,
    /// When the last round began.
    pub(super) round_began: Instant,
    /// When its window has passed, and what was heard is looked at.
    window_ends: Option<Instant>,
    /// When the next ask or loss is due, or an earlier time.
    pub(super) due: Option<Instant>,
    /// The budget allows no ask before.
    not_before: Instant,
    /// The index of the host that is next.
    cursor: usize,
    /// Asks sent since the start.
    sent: u64,
    /// Hosts lost since the start because they did not answer.
    lost: u64,
}

impl Asks {
    /// No host is asked.
    pub fn new(own: NodeId) -> Self {
        let never = Instant::default();
        let (round_began, not_before) = (never, never);
        Self { own, round_began, window_ends: None, due: None, not_before, cursor: 0, sent: 0, lost: 0 }
    }

    /// When the next turn is due.
    pub fn poll_at(&self) -> Option<Instant> {
        Instant::earliest([self.window_ends, self.due.map(|due| due.max(self.not_before))])
    }

    /// Asks sent since the start.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Hosts lost since the start because they did not answer.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// A host was heard. While a request to it is open here, it is asked when it falls silent; one
    /// that waits to be asked is, unless it may be answering the round.
    pub fn watch(&mut self, now: Instant, host: &mut Host, limit: Duration) {
        if host.node == self.own {
            return;
        }
        let silent = host.request.is_open_here().then(|| now + watch_apart(limit));
        let first = host.unasked_since.filter(|_| self.window_ends.is_none());
        let first = first.map(|since| now.max(since + first_ask_after(host.node)));
        if let Some(at) = Instant::earliest([silent, first]) {
            host.probe.plan(at, at + limit);
            self.due = Instant::earliest([self.due, Some(at)]);
        }
    }
}

impl Controller<'_> {
    /// A round with this window begins. It is looked at unless the one before still is.
    pub(super) fn on_round(&mut self, now: Instant, window: Duration) {
        if self.asks.window_ends.is_none() {
            self.asks.round_began = now;
            self.asks.window_ends = Some(now + window + ask_apart(self.timers.probe));
        }
        self.hosts.iter_mut().for_each(|host| host.unasked_since = None);
    }

    /// Asks the hosts of which an ask is due, as far as the budget allows, and notes those that
    /// are lost.
    pub(super) fn ask_again(&mut self, now: Instant, actions: &mut Actions) {
        if self.asks.window_ends.is_some_and(|ends| now >= ends) {
            self.asks.window_ends = None;
            self.plan_asks(now);
        }
        if now < self.asks.not_before || self.asks.due.is_none_or(|due| now < due) {
            return;
        }
        let (hosts, limit) = (self.hosts.len(), self.timers.probe);
        let (mut next, mut asked) = (None, 0);
        let first = if self.asks.cursor < hosts { self.asks.cursor } else { 0 };
        for at in (first..hosts).chain(0..first) {
            let Some(host) = self.hosts.at_mut(at) else { break };
            let is_lost = host.presence.is_gone();
            match host.probe.due(now, is_lost) {
                Due::Later(later) => next = Instant::earliest([next, later]),
                Due::Ask if asked == ASKS_A_TICK || actions.room() == 0 => {
                    (self.asks.cursor, next) = (at, Some(now + TICK));
                    break;
                }
                Due::Ask => {
                    asked = asked.saturating_add(1);
                    host.probe.on_asked(now, limit, is_lost);
                    host.unasked_since = None;
                    let ask = HelloAgent { op_counter: self.map.highest_counter(), ack_window_ms: 0 };
                    actions.send(To::Node(host.node, host.peer), Message::HelloAgent(ask));
                    if let Due::Later(later) = host.probe.due(now, is_lost) {
                        next = Instant::earliest([next, later]);
                    }
                }
                Due::Lost => {
                    self.asks.lost = self.asks.lost.saturating_add(1);
                    host.presence.on_unanswered();
                    host.probe.on_lost();
                    host.request.on_silent(now);
                    self.requests_due = Instant::earliest([self.requests_due, host.request.poll_at()]);
                    self.rollout.soon(now);
                }
            }
        }
        self.asks.due = next;
        self.asks.sent = self.asks.sent.saturating_add(asked as u64);
        self.asks.not_before = now + Duration::from_millis((asked as u64).div_ceil(2));
    }

    /// The window of a round has passed: plans the asks of those that were not heard since the
    /// round began, and of those that were new in it: they may have begun after the round was sent.
    fn plan_asks(&mut self, now: Instant) {
        let answers_apart = acks::answers_apart(self.timers.hello_interval);
        let limit = self.timers.probe;
        let late = ask_apart(limit);
        let (own, began) = (self.asks.own, self.asks.round_began);
        let is_missing = |host: &&mut Host| {
            host.node != own && host.last_heard < began && !host.presence.is_reported_gone()
        };
        for host in self.hosts.iter_mut().filter(|host| host.unasked_since.is_some() && host.node != own) {
            match host.way {
                Some(_) => self.asks.watch(now, host, limit),
                // Over TIPC the round reached all that are bound.
                None => host.unasked_since = None,
            }
        }
        for host in self.hosts.iter_mut().filter(is_missing) {
            let at = now.max(host.last_heard + answers_apart + late);
            host.probe.plan(at, round_ends(began, at, limit));
            self.asks.due = Instant::earliest([self.asks.due, Some(at)]);
        }
    }
}
