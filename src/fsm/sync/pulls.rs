//! Which neighbour's map to pull (read and merge), one at a time.
//!
//! ```text
//! Idle --a neighbour has news--> Opening --session--> Merging --> Idle
//!   ^                              | failed, busy        | failed
//!   `---- that neighbour waits ----'---------------------'
//! ```
//!
//! A neighbour has news if it was not merged with since the start, if the digest that
//! it announces is neither ours nor the one last merged from it, or if its digest has
//! long differed from ours. The neighbour asked longest ago comes first, so a busy one
//! does not starve the others.

use super::neighbours::{Neighbour, Neighbours};
use super::transfer::Transfer;
use crate::fsm::actions::{Action, Actions};
use crate::fsm::event::MergedMap;
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId, Reason};
use crate::wire::frame::Purpose;

/// Hello intervals after which a map that still differs from ours is pulled again.
const INTERVALS_TO_ASK_AGAIN: u64 = 10;
/// After this many failures in a row the start no longer waits for a neighbour.
pub const FAILURES_TO_GO_ON: u8 = 3;

/// The pulls of one controller.
#[derive(Debug)]
pub struct Pulls {
    retry: Duration,
    retry_most: Duration,
    transfer: Transfer,
    /// When a waiting neighbour is to be asked again.
    wake: Option<Instant>,
    /// The time after which a map that still differs from ours is pulled again.
    again: Duration,
}

impl Pulls {
    /// No pull. After a failure a neighbour waits for `retry`, doubled with each
    /// further failure up to `retry_most`.
    #[must_use]
    pub fn new(retry: Duration, retry_most: Duration) -> Self {
        let zero = Duration::ZERO;
        let mut pulls = Self { retry, retry_most: zero, transfer: Transfer::Idle, wake: None, again: zero };
        pulls.set_retry(retry, retry_most);
        pulls
    }

    /// Changes the pauses; see [`new`](Self::new).
    pub fn set_retry(&mut self, retry: Duration, retry_most: Duration) {
        self.again = retry_most.times(INTERVALS_TO_ASK_AGAIN);
        (self.retry, self.retry_most) = (retry, retry_most.max(retry));
    }

    /// Starts a transfer with the next neighbour that has news, if none is running. Call
    /// it after every change.
    pub fn start(
        &mut self,
        now: Instant,
        own: Digest,
        neighbours: &mut Neighbours<'_>,
        actions: &mut Actions,
    ) {
        self.wake = None;
        if !self.transfer.is_idle() {
            return;
        }
        let lost_after = neighbours.lost_after();
        let has_news = |neighbour: &&mut Neighbour| {
            neighbour.is_present(now, lost_after) && has_news(neighbour, own, now, self.again)
        };
        let due = |neighbour: &Neighbour| neighbour.retry_at.filter(|at| now < *at);
        let next = neighbours.iter_mut().filter(has_news).min_by_key(|next| (due(next), next.asked_at));
        let Some((neighbour, peer)) = next.and_then(|next| next.peer().map(|peer| (next, peer))) else {
            return;
        };
        if let Some(at) = due(neighbour) {
            self.wake = Some(at);
        } else if actions.room() == 0 {
            self.wake = Some(now);
        } else {
            neighbour.asked_at = Some(now);
            neighbour.retry_at = None;
            self.transfer = Transfer::Opening(neighbour.node);
            actions.push(Action::Connect(neighbour.node, peer, Purpose::Pull));
        }
    }

    /// The session is open: starts the worker.
    pub fn on_session(&mut self, node: NodeId, neighbours: &mut Neighbours<'_>, actions: &mut Actions) {
        if !self.transfer.on_session(node) {
            return;
        }
        if let Some(neighbour) = neighbours.get_mut(node) {
            neighbour.read_for = neighbour.announced;
        }
        // A map that is read from now on contains everything announced before.
        if let Some(owed) = neighbours.get_mut(node).and_then(|neighbour| neighbour.unanswered.as_mut()) {
            owed.is_covered = true;
        }
        actions.push(Action::StartPull(node));
    }

    /// The other end has no worker free: it is asked again after `pause`.
    pub fn on_busy(&mut self, now: Instant, node: NodeId, pause: Duration, neighbours: &mut Neighbours<'_>) {
        if self.transfer.end(node)
            && let Some(neighbour) = neighbours.get_mut(node)
        {
            neighbour.retry_at = Some(now + pause);
        }
    }

    /// The session or the merge failed.
    pub fn on_failed(
        &mut self,
        now: Instant,
        node: NodeId,
        reason: &Reason,
        neighbours: &mut Neighbours<'_>,
    ) {
        if !self.transfer.end(node) {
            return;
        }
        let Some(neighbour) = neighbours.get_mut(node) else { return };
        let pause = self.retry.times(1 << neighbour.failures.min(6)).min(self.retry_most);
        neighbour.retry_at = Some(now + pause);
        neighbour.failures = neighbour.failures.saturating_add(1);
        neighbour.pull_error.clone_from(reason);
        if let Some(owed) = &mut neighbour.unanswered {
            owed.is_covered = false;
        }
    }

    /// A map is durably merged. If a part of it could not be merged, the neighbour's
    /// `SyncReq` gets no answer.
    pub fn on_merged(&mut self, node: NodeId, merged: MergedMap, neighbours: &mut Neighbours<'_>) {
        if !self.transfer.end(node) {
            return;
        }
        let Some(neighbour) = neighbours.get_mut(node) else { return };
        let MergedMap { digest, is_whole } = merged;
        neighbour.merged = Some(digest);
        neighbour.is_partial = !is_whole;
        // The map that was read counts as announced, unless a newer announcement came.
        if neighbour.announced == neighbour.read_for {
            neighbour.announced = Some(digest);
        }
        neighbour.failures = 0;
        neighbour.pull_error = Reason::default();
        if !is_whole {
            neighbour.unanswered = None;
            neighbour.pull_error =
                Reason::truncated("a part of its repository could not be merged: see this controller's log");
        }
    }

    /// The controller of the current transfer.
    #[must_use]
    pub fn at_work(&self) -> Option<NodeId> {
        self.transfer.node()
    }

    /// When [`start`](Self::start) is to be called, as of its last call.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.wake
    }
}

/// Whether a neighbour's map may contain an entry that ours lacks. A map that was
/// merged and still differs from ours is pulled again from time to time, which
/// corrects any difference that its digest does not explain.
fn has_news(neighbour: &Neighbour, own: Digest, now: Instant, again: Duration) -> bool {
    let is_long_ago = neighbour.asked_at.is_some_and(|at| now.since(at) >= again);
    let is_news = |digest: Digest| digest != own && (Some(digest) != neighbour.merged || is_long_ago);
    neighbour.merged.is_none() || neighbour.announced.is_some_and(is_news) || neighbour.unanswered.is_some()
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use super::*;
    use crate::fsm::actions::Peer;

    const RETRY: Duration = Duration::from_millis(100);
    const OWN: Digest = Digest([0; 32]);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    struct Trace {
        pulls: Pulls,
        neighbours: Neighbours<'static>,
        actions: Actions,
    }

    impl Trace {
        /// Neighbours 1 to `count` are present.
        fn start(count: u64) -> Self {
            let slots = Vec::leak(std::vec![None; 8]);
            let mut neighbours = Neighbours::new(slots, Duration::from_millis(1_000_000));
            for node in 1..=count {
                neighbours.heard(at(0), NodeId(node), Peer::Ip(([127, 0, 0, 1], 1).into()));
            }
            let pulls = Pulls::new(RETRY, Duration::from_millis(1_000));
            Self { pulls, neighbours, actions: Actions::default() }
        }

        fn announces(&mut self, node: u64, byte: u8) {
            self.neighbours.get_mut(NodeId(node)).unwrap().announced = Some(digest(byte));
        }

        fn starts(&mut self, now: u64) -> Vec<String> {
            self.pulls.start(at(now), OWN, &mut self.neighbours, &mut self.actions);
            let text = |action| match action {
                Action::Connect(node, _, Purpose::Pull) => format!("ask {}", node.0),
                Action::StartPull(node) => format!("merge {}", node.0),
                other => panic!("no merge does this: {other:?}"),
            };
            core::iter::from_fn(|| self.actions.pop_front()).map(text).collect()
        }

        fn merges(&mut self, node: u64, came: u8) {
            self.pulls.on_session(NodeId(node), &mut self.neighbours, &mut self.actions);
            assert_eq!(self.starts(0), [format!("merge {node}")]);
            self.pulls.on_merged(
                NodeId(node),
                MergedMap { digest: digest(came), is_whole: true },
                &mut self.neighbours,
            );
        }
    }

    #[test]
    fn each_neighbour_is_pulled_once_at_first_and_then_once_for_each_new_digest() {
        let mut trace = Trace::start(2);
        assert_eq!(trace.starts(0), ["ask 1"]);
        assert_eq!(trace.starts(0), [""; 0], "one at a time");
        trace.merges(1, 5);
        assert_eq!(trace.starts(1), ["ask 2"]);
        trace.merges(2, 0);
        assert_eq!(trace.starts(2), [""; 0]);
        trace.announces(1, 5);
        assert_eq!(trace.starts(3), [""; 0], "that digest was merged");
        trace.announces(1, 0);
        assert_eq!(trace.starts(4), [""; 0], "that digest is ours");
        trace.announces(1, 6);
        trace.announces(2, 7);
        assert_eq!(trace.starts(5), ["ask 1"]);
        trace.merges(1, 6);
        assert_eq!(trace.starts(6), ["ask 2"]);
        trace.merges(2, 7);
        assert_eq!(trace.starts(7), [""; 0]);
        assert_eq!(trace.pulls.poll_at(), None);
    }

    #[test]
    fn a_failing_neighbour_waits_longer_each_time_and_delays_no_other() {
        let mut trace = Trace::start(2);
        let mut now = 0;
        assert_eq!(trace.starts(now), ["ask 1"]);
        for (failures, pause) in (1..).zip([100, 200, 400, 800, 1_000, 1_000]) {
            trace.pulls.on_failed(at(now), NodeId(1), &Reason::truncated("refused"), &mut trace.neighbours);
            assert_eq!(trace.neighbours.get(NodeId(1)).unwrap().failures, failures);
            if failures == 1 {
                assert_eq!(trace.starts(now), ["ask 2"]);
                trace.merges(2, 0);
            }
            assert_eq!(trace.starts(now + pause - 1), [""; 0]);
            assert_eq!(trace.pulls.poll_at(), Some(at(now + pause)));
            now += pause;
            assert_eq!(trace.starts(now), ["ask 1"]);
        }
        trace.merges(1, 3);
        assert!(trace.neighbours.get(NodeId(1)).unwrap().pull_error.is_empty());
    }

    #[test]
    fn a_lost_neighbour_is_not_asked_and_a_busy_one_is_asked_after_its_pause() {
        let mut trace = Trace::start(1);
        assert_eq!(trace.starts(1_000_000), [""; 0], "lost");
        assert_eq!(trace.starts(0), ["ask 1"]);
        trace.pulls.on_busy(at(0), NodeId(1), Duration::from_millis(30), &mut trace.neighbours);
        assert_eq!(trace.starts(29), [""; 0]);
        assert_eq!(trace.starts(30), ["ask 1"]);
        assert_eq!(trace.neighbours.get(NodeId(1)).unwrap().failures, 0);
    }
}
