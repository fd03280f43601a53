//! How a controller drives a rollout, and takes one over.

use super::{Controller, ControllerTimers};
use crate::fsm::actions::{Action, Actions};
use crate::fsm::hosts::Host;
use crate::fsm::requests::Ask;
use crate::fsm::rollout::{self, Census, HostView, LOOK_AGAIN, LOOK_SOON, RolloutPart, Watch};
use crate::repo::rollout::{Rollout, RolloutState};
use crate::time::{Duration, Instant};
use crate::types::Digest;

impl Controller<'_> {
    /// Merges a rollout that is durable.
    pub fn merge_rollout(&mut self, now: Instant, rollout: &Rollout) {
        if self.map.merge_rollout(rollout) {
            self.rollout = Watch::default();
            self.rollout.soon(now);
            if !rollout.is_running() {
                self.rollout.note_over(now);
            }
        }
    }

    /// Whether the census of an ended rollout of another controller may be of before its end: a
    /// host seems to be left that was not heard since. Its acks are datagrams, and may be late
    /// or lost; the record comes by a session. It is waited for two rounds at most.
    #[must_use]
    pub fn is_census_early(&self, now: Instant, rollout: &Rollout) -> bool {
        let rounds = self.timers.hello_interval.times(2);
        let since = self.rollout.over_since().filter(|since| now < *since + rounds);
        let is_awaited = |since: Instant, host: &Host| {
            host.last_heard < since && self.part(now, rollout, host) == RolloutPart::Next
        };
        let is_ended_elsewhere = rollout.state == RolloutState::Ended && rollout.carrier != self.node;
        is_ended_elsewhere && since.is_some_and(|since| self.hosts.iter().any(|host| is_awaited(since, host)))
    }

    /// The part of a host in a rollout.
    #[must_use]
    pub fn part(&self, now: Instant, rollout: &Rollout, host: &Host) -> RolloutPart {
        rollout::part(rollout, host, view(now, &self.timers, host, self.wanted_digest(host)))
    }

    /// How many hosts have each part in a rollout.
    #[must_use]
    pub fn census(&self, now: Instant, rollout: &Rollout) -> Census {
        let mut census = Census::default();
        for host in self.hosts.iter() {
            census.count(self.part(now, rollout, host));
        }
        census
    }

    /// Looks at the rollout if that is due.
    pub(super) fn drive_rollout(&mut self, now: Instant, actions: &mut Actions) {
        if !self.rollout.take_due(now) {
            return;
        }
        let Some(rollout) = self.map.rollout().copied().filter(Rollout::is_running) else { return };
        self.rollout.again(now + LOOK_AGAIN);
        // Which hosts are up, and what they did for this rollout, is known only after
        // two rounds of HelloAgent.
        let is_ready = self.sync.is_started() && self.pacing.is_settled(now);
        let is_complete = self.sync.blobs().first_wanted(&self.map).is_none();
        if !is_ready || !is_complete {
            return;
        }
        let census = self.census(now, &rollout);
        if rollout.carrier != self.node {
            if self.is_abandoned(now, &rollout, &census) {
                actions.push(Action::SettleRollout(Rollout { carrier: self.node, ..rollout }));
            }
        } else if census.has_too_many_failures(&rollout) {
            actions.push(Action::SettleRollout(Rollout { state: RolloutState::Halted, ..rollout }));
        } else if rollout::is_over(&census) && !self.is_waiting_for_lost_host(now, &rollout) {
            actions.push(Action::SettleRollout(Rollout { state: RolloutState::Ended, ..rollout }));
        } else if !self.spreads_for(now, &rollout, actions) {
            self.ask_next(now, &rollout, census.room(&rollout), actions);
        }
    }

    /// Whether a lost host may still return, so that the rollout does not end yet. A host
    /// that is known to be gone is waited for until a round and the time of an install
    /// request have passed since it was last heard, because to a controller that is itself
    /// cut off all hosts seem gone.
    fn is_waiting_for_lost_host(&self, now: Instant, rollout: &Rollout) -> bool {
        let (round, give_up) = (self.timers.hello_interval, self.timers.request.give_up);
        let is_awaited = |host: &Host| {
            host.presence.is_gone()
                && now < host.last_heard + round + give_up
                && self.part(now, rollout, host) == RolloutPart::Lost
        };
        self.hosts.iter().any(is_awaited)
    }

    /// Whether this controller takes a rollout over: its carrier is lost, or has asked no
    /// host for as long as it takes to be lost. Of several controllers that could, the one
    /// with the lowest id is first.
    fn is_abandoned(&mut self, now: Instant, rollout: &Rollout, census: &Census) -> bool {
        let mut present = self.sync.neighbours().present(now).map(|one| one.node);
        let is_present = present.any(|node| node == rollout.carrier);
        let turn = self.turn(now, rollout);
        let idle = self.rollout.note_idle(now, !is_present || census.at_work == 0);
        // One that sends files to all hosts has none at work: the turns begin when it is lost.
        let lost = self.rollout.note_lost(now, !is_present);
        let since = lost.or(idle.map(|idle| idle + self.timers.sync.controller_lost));
        since.is_some_and(|since| now >= since + turn)
    }

    /// How long this controller leaves an abandoned rollout to those with lower ids.
    fn turn(&self, now: Instant, rollout: &Rollout) -> Duration {
        let present = self.sync.neighbours().present(now).map(|one| one.node);
        let rank = present.filter(|node| *node != rollout.carrier && *node < self.node).count();
        LOOK_AGAIN.times(2).times(u64::try_from(rank).unwrap_or(u64::MAX))
    }

    /// When this controller takes a rollout over whose carrier is lost, or is lost at `lost` if it
    /// answers no ask; `None` until this one has what that takes.
    #[must_use]
    pub fn takes_over_at(&self, now: Instant, rollout: &Rollout, lost: Option<Instant>) -> Option<Instant> {
        if !self.sync.is_started() || self.sync.blobs().first_wanted(&self.map).is_some() {
            return None;
        }
        let since = lost.or(self.rollout.idle_since()).unwrap_or(now);
        let settled = now + self.pacing.settles_in(now);
        Some((since + self.turn(now, rollout)).max(settled).max(now + LOOK_AGAIN))
    }

    /// Asks up to `room` more hosts.
    fn ask_next(&mut self, now: Instant, rollout: &Rollout, room: u32, actions: &mut Actions) {
        let mut left = room;
        for host in self.hosts.iter_mut() {
            if left == 0 {
                return;
            }
            let kind = self.kinds.known(&host.ack.nodetype);
            let wanted = kind.map(|kind| kind.digest);
            let part = rollout::part(rollout, host, view(now, &self.timers, host, wanted));
            let (RolloutPart::Next, Some(digest)) = (part, wanted) else {
                continue;
            };
            if actions.room() == 0 {
                return self.rollout.again(now + LOOK_SOON);
            }
            let target = host.target();
            let ask = Ask { request_id: rollout.request_id(host.node), digest, force: rollout.force };
            if host.request.ask(now, &self.timers.request, target, ask, actions) {
                left = left.saturating_sub(1);
                self.requests_due = Instant::earliest([self.requests_due, host.request.poll_at()]);
                self.asks.watch(now, host, self.timers.probe);
            }
        }
    }
}

fn view(now: Instant, timers: &ControllerTimers, host: &Host, wanted: Option<Digest>) -> HostView {
    let is_stalled = host.is_stalled(now, timers.request.stall);
    HostView { wanted, is_lost: host.is_lost(now, timers.host_lost), is_stalled }
}
