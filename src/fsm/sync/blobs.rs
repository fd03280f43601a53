//! The patch files (blobs) that this controller lacks, and from which controller to
//! fetch them.
//!
//! ```text
//! Idle --- a blob is missing --> Opening(a neighbour) --session--> Fetching
//!   ^                               |                                 |
//!   |    all present were asked     `----- the next neighbour <-------'
//!   `--- without success: a rest, longer each time
//! ```
//!
//! Entries merge fast and files take long. One worker at a time asks one neighbour for
//! all missing files; the next neighbour may have those that it lacks.

use core::cmp::Reverse;

use heapless::Vec;

use super::neighbours::Neighbours;
use super::transfer::Transfer;
use crate::fsm::actions::{Action, Actions};
use crate::limits;
use crate::repo::effective::wanted;
use crate::repo::map::Map;
use crate::repo::slots::{Slot, SlotSet};
use crate::time::{Duration, Instant};
use crate::types::{Hash, NodeId, Reason};
use crate::wire::frame::Purpose;

/// The longest rest.
const REST_MOST: Duration = Duration::from_secs(300);

/// Why a blob is missing, as its last fetch reported.
#[derive(Clone, Debug, Default)]
pub struct BlobError {
    /// The blob.
    pub hash: Hash,
    /// Why it could not be fetched.
    pub reason: Reason,
}

/// The blobs that one controller lacks.
#[derive(Debug)]
pub struct BlobFetch<'a> {
    retry: Duration,
    /// The entries whose file is missing.
    missing: SlotSet,
    /// The latest errors of fetches, in borrowed memory.
    errors: &'a mut [BlobError],
    next_error: usize,
    transfer: Transfer,
    /// The blobs that were missing when the current worker began, and that it has not
    /// reported yet.
    unreported: SlotSet,
    /// The blobs that were missing when a worker began to read the repository again,
    /// and that it has not reported yet.
    unconfirmed: SlotSet,
    /// The neighbours asked since the last rest.
    asked: Vec<NodeId, { limits::CONTROLLERS }, u8>,
    /// Those of them that were busy, and when the first of these may be free.
    busy: Vec<NodeId, { limits::CONTROLLERS }, u8>,
    busy_until: Option<Instant>,
    /// How many blobs were missing when the current transfer began.
    missing_before: usize,
    failures: u8,
    rest_until: Option<Instant>,
    wake: Option<Instant>,
}

impl<'a> BlobFetch<'a> {
    /// Changes the first rest; see [`new`](Self::new).
    pub fn set_retry(&mut self, retry: Duration) {
        self.retry = retry;
    }

    /// Nothing is missing. `retry` is the first rest after all neighbours were asked
    /// without success. As many errors are kept as `errors` is long.
    #[must_use]
    pub fn new(retry: Duration, errors: &'a mut [BlobError]) -> Self {
        Self {
            retry,
            missing: SlotSet::new(),
            errors,
            next_error: 0,
            transfer: Transfer::Idle,
            unreported: SlotSet::new(),
            unconfirmed: SlotSet::new(),
            asked: Vec::new(),
            busy: Vec::new(),
            busy_until: None,
            missing_before: 0,
            failures: 0,
            rest_until: None,
            wake: None,
        }
    }

    /// The file of the entry in `slot` is missing. `reason` is empty if no fetch was
    /// tried.
    pub fn on_missing(&mut self, slot: Slot, hash: &Hash, reason: &Reason) {
        self.unreported.remove(slot);
        self.unconfirmed.remove(slot);
        if self.missing.insert(slot) {
            self.reset_rest();
        }
        if reason.is_empty() {
            return;
        }
        let held = self.errors.iter().position(|error| error.hash == *hash);
        let at = held.unwrap_or(self.next_error);
        if held.is_none() {
            self.next_error = at.wrapping_add(1).checked_rem(self.errors.len()).unwrap_or(0);
        }
        if let Some(kept) = self.errors.get_mut(at) {
            *kept = BlobError { hash: *hash, reason: reason.clone() };
        }
    }

    /// The file of the entry in `slot` is here, or no longer needed.
    pub fn on_here(&mut self, slot: Slot) {
        self.missing.remove(slot);
        self.unreported.remove(slot);
        self.unconfirmed.remove(slot);
    }

    /// A worker begins to read the repository, and will report every missing blob.
    pub fn on_loading(&mut self) {
        self.unconfirmed = self.missing;
    }

    /// The repository is read: a blob that was missing and was not reported again is
    /// here.
    pub fn on_loaded(&mut self) {
        for slot in &core::mem::take(&mut self.unconfirmed) {
            self.on_here(slot);
        }
    }

    /// A neighbour may have a missing blob now: ends the rest.
    pub fn reset_rest(&mut self) {
        self.asked.clear();
        self.busy.clear();
        self.busy_until = None;
        self.failures = 0;
        self.rest_until = None;
    }

    /// Starts a transfer with the next neighbour, if a blob is missing and no transfer is
    /// running. Call it after every change.
    pub fn start(&mut self, now: Instant, neighbours: &Neighbours<'_>, actions: &mut Actions) {
        self.wake = None;
        if !self.transfer.is_idle() || self.missing.is_empty() {
            return;
        }
        if let Some(until) = self.rest_until.filter(|until| now < *until) {
            self.wake = Some(until);
            return;
        }
        // Neighbours that lack files themselves come last; among the others, the one
        // whose map was asked for most recently comes first.
        let next = neighbours
            .present(now)
            .filter(|neighbour| neighbour.merged.is_some() && !self.asked.contains(&neighbour.node))
            .min_by_key(|neighbour| (neighbour.blobs_missing, Reverse(neighbour.asked_at)));
        match next.and_then(|next| Some((next.node, next.peer()?))) {
            Some(_) if actions.room() == 0 => self.wake = Some(now),
            Some((node, peer)) => {
                // There is room: there are fewer neighbours than controllers.
                let _ = self.asked.push(node);
                self.missing_before = self.missing.len();
                self.transfer = Transfer::Opening(node);
                actions.push(Action::Connect(node, peer, Purpose::Blobs));
            }
            // No neighbour is present: the next one that appears is asked at once.
            None if self.asked.is_empty() => {}
            // All others were asked without success.
            None if !self.busy.is_empty() => {
                self.asked.retain(|asked| !self.busy.contains(asked));
                self.busy.clear();
                self.rest_until = self.busy_until.take();
                self.wake = self.rest_until;
            }
            None => {
                self.asked.clear();
                let rest = self.retry.times(1 << self.failures.min(12)).min(REST_MOST.max(self.retry));
                self.failures = self.failures.saturating_add(1);
                self.rest_until = Some(now + rest);
                self.wake = self.rest_until;
            }
        }
    }

    /// The session is open: starts the worker.
    pub fn on_session(&mut self, node: NodeId, actions: &mut Actions) {
        if self.transfer.on_session(node) {
            self.unreported = self.missing;
            actions.push(Action::StartBlobs(node));
        }
    }

    /// The other end has no worker free. It is asked again after `pause`; others are
    /// asked before.
    pub fn on_busy(&mut self, now: Instant, node: NodeId, pause: Duration) {
        if self.transfer.end(node) {
            // There is room: it was asked before.
            let _ = self.busy.push(node);
            self.busy_until = Instant::earliest([self.busy_until, Some(now + pause.min(REST_MOST))]);
        }
    }

    /// The session or the worker failed.
    pub fn on_failed(&mut self, node: NodeId) {
        if self.transfer.end(node) {
            self.reset_if_fewer();
        }
    }

    /// The worker has handled every blob that it found missing. A blob that it did not
    /// report is here: an earlier worker fetched it and died before its report.
    pub fn on_done(&mut self, node: NodeId) {
        if self.transfer == Transfer::AtWork(node) {
            for slot in &self.unreported {
                self.missing.remove(slot);
            }
            self.transfer = Transfer::Idle;
            self.reset_if_fewer();
        }
    }

    fn reset_if_fewer(&mut self) {
        if self.missing.len() < self.missing_before {
            self.failures = 0;
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

    /// The entries whose file is missing.
    #[must_use]
    pub fn missing(&self) -> &SlotSet {
        &self.missing
    }

    /// The first applied or committed patch whose file is missing. If there is one, this
    /// controller is incomplete.
    #[must_use]
    pub fn first_wanted(&self, map: &Map<'_>) -> Option<Slot> {
        if self.missing.is_empty() {
            return None;
        }
        let wanted = wanted(map);
        self.missing.iter().find(|slot| wanted.contains(*slot))
    }

    /// Why the last fetch of a blob failed; empty if none did.
    #[must_use]
    pub fn reason(&self, hash: &Hash) -> &str {
        self.errors.iter().find(|error| error.hash == *hash).map_or("", |error| error.reason.raw())
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;
    use crate::fsm::actions::Peer;
    use crate::types::Digest;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn slot(index: usize) -> Slot {
        Slot::new(index).unwrap()
    }

    struct Trace {
        blobs: BlobFetch<'static>,
        neighbours: Neighbours<'static>,
        actions: Actions,
    }

    impl Trace {
        /// Neighbours 1 to `count` are present and merged, and one blob is missing.
        fn start(count: u64) -> Self {
            let errors = std::vec::Vec::leak(std::vec![BlobError::default(); 2]);
            let slots = std::vec::Vec::leak(std::vec![None; 8]);
            let mut trace = Self {
                blobs: BlobFetch::new(Duration::from_millis(100), errors),
                neighbours: Neighbours::new(slots, Duration::from_secs(3_600)),
                actions: Actions::default(),
            };
            for node in 1..=count {
                trace.appears(node);
            }
            trace.blobs.on_missing(slot(3), &Hash([3; 32]), &Reason::default());
            trace
        }

        fn appears(&mut self, node: u64) {
            let peer = Peer::Ip(([127, 0, 0, 1], 1).into());
            self.neighbours.heard(at(0), NodeId(node), peer).unwrap().merged = Some(Digest::default());
        }

        fn starts(&mut self, now: u64) -> String {
            self.blobs.start(at(now), &self.neighbours, &mut self.actions);
            match self.actions.pop_front() {
                None => String::new(),
                Some(Action::Connect(node, _, Purpose::Blobs)) => format!("ask {}", node.0),
                Some(other) => panic!("no fetch does this: {other:?}"),
            }
        }

        fn fetches(&mut self, node: u64) {
            self.blobs.on_session(NodeId(node), &mut self.actions);
            assert_eq!(self.actions.pop_front(), Some(Action::StartBlobs(NodeId(node))));
        }
    }

    #[test]
    fn all_neighbours_are_asked_in_turn_then_follows_a_rest_that_doubles() {
        let mut trace = Trace::start(2);
        let mut now = 0;
        for rest in [100, 200, 400, 800] {
            assert_eq!(trace.starts(now), "ask 1");
            assert_eq!(trace.starts(now), "", "one at a time");
            trace.fetches(1);
            trace.blobs.on_failed(NodeId(1));
            assert_eq!(trace.starts(now), "ask 2");
            trace.blobs.on_failed(NodeId(2));
            assert_eq!(trace.starts(now), "");
            assert_eq!(trace.blobs.poll_at(), Some(at(now + rest)));
            now += rest;
        }
    }

    #[test]
    fn a_new_missing_blob_ends_the_rest_and_a_fetched_one_is_not_asked_for() {
        let mut trace = Trace::start(1);
        assert_eq!(trace.starts(0), "ask 1");
        trace.blobs.on_failed(NodeId(1));
        assert_eq!(trace.starts(0), "");
        trace.blobs.on_missing(slot(3), &Hash([3; 32]), &Reason::truncated("refused"));
        assert_eq!(trace.starts(1), "", "that blob was known to be missing");
        assert_eq!(trace.blobs.reason(&Hash([3; 32])), "refused");
        trace.blobs.on_missing(slot(4), &Hash([4; 32]), &Reason::default());
        assert_eq!(trace.starts(2), "ask 1");
        trace.fetches(1);
        trace.blobs.on_here(slot(3));
        trace.blobs.on_here(slot(4));
        trace.blobs.on_failed(NodeId(1));
        assert_eq!(trace.starts(3), "");
        assert_eq!(trace.blobs.poll_at(), None);
    }

    #[test]
    fn a_blob_that_a_complete_worker_did_not_report_is_here() {
        let mut trace = Trace::start(1);
        trace.blobs.on_missing(slot(4), &Hash([4; 32]), &Reason::default());
        assert_eq!(trace.starts(0), "ask 1");
        trace.fetches(1);
        trace.blobs.on_missing(slot(4), &Hash([4; 32]), &Reason::truncated("refused"));
        trace.blobs.on_missing(slot(5), &Hash([5; 32]), &Reason::default());
        trace.blobs.on_done(NodeId(1));
        assert_eq!(trace.blobs.missing(), &[slot(4), slot(5)].into_iter().collect());

        assert_eq!(trace.starts(1), "ask 1");
        trace.fetches(1);
        trace.blobs.on_failed(NodeId(1));
        assert_eq!(trace.blobs.missing().len(), 2, "a failed worker proves nothing");
    }

    #[test]
    fn a_blob_that_is_reported_missing_again_does_not_end_the_rest() {
        let mut trace = Trace::start(1);
        trace.blobs.on_missing(slot(4), &Hash([4; 32]), &Reason::default());
        assert_eq!(trace.starts(0), "ask 1");
        trace.blobs.on_failed(NodeId(1));
        assert_eq!(trace.starts(0), "");
        // The worker died, so the repository is read again.
        trace.blobs.on_loading();
        trace.blobs.on_missing(slot(3), &Hash([3; 32]), &Reason::default());
        assert_eq!(trace.blobs.missing().len(), 2, "not all blobs are reported");
        trace.blobs.on_loaded();
        assert_eq!(trace.blobs.missing(), &[slot(3)].into_iter().collect());
        assert_eq!(trace.starts(1), "", "the rest still holds");
        assert_eq!(trace.blobs.poll_at(), Some(at(100)));
    }

    #[test]
    fn no_neighbour_is_no_failure_and_a_busy_one_is_asked_again() {
        let mut trace = Trace::start(0);
        assert_eq!(trace.starts(0), "");
        assert_eq!(trace.blobs.poll_at(), None);
        trace.appears(1);
        assert_eq!(trace.starts(1), "ask 1");
        trace.blobs.on_busy(at(1), NodeId(1), Duration::from_millis(50));
        assert_eq!(trace.starts(50), "");
        assert_eq!(trace.starts(51), "ask 1");
    }

    #[test]
    fn a_busy_neighbour_delays_no_other_and_failed_ones_are_not_asked_with_it() {
        let mut trace = Trace::start(2);
        assert_eq!(trace.starts(0), "ask 1");
        trace.blobs.on_busy(at(0), NodeId(1), Duration::from_millis(50));
        assert_eq!(trace.starts(1), "ask 2");
        trace.blobs.on_failed(NodeId(2));
        assert_eq!(trace.starts(2), "");
        assert_eq!(trace.starts(50), "ask 1");
        trace.blobs.on_busy(at(50), NodeId(1), Duration::from_millis(50));
        assert_eq!(trace.starts(50), "");
        assert_eq!(trace.starts(100), "ask 1", "2 was asked");
        trace.blobs.on_failed(NodeId(1));
        assert_eq!(trace.starts(100), "");
        assert_eq!(trace.starts(200), "ask 1", "after the rest all are asked again");
        trace.blobs.on_busy(at(200), NodeId(1), Duration::from_millis(u64::from(u32::MAX)));
        assert_eq!(trace.starts(200), "ask 2");
        trace.blobs.on_failed(NodeId(2));
        assert_eq!(trace.starts(200), "");
        assert_eq!(trace.blobs.poll_at(), Some(at(200) + REST_MOST), "a busy answer is limited");
    }

    #[test]
    fn the_neighbour_pulled_last_is_asked_first_and_one_that_lacks_files_last() {
        let mut trace = Trace::start(3);
        trace.neighbours.get_mut(NodeId(2)).unwrap().asked_at = Some(at(5));
        assert_eq!(trace.starts(0), "ask 2");
        let mut trace = Trace::start(2);
        trace.neighbours.get_mut(NodeId(1)).unwrap().blobs_missing = 1;
        assert_eq!(trace.starts(0), "ask 2");
    }

    #[test]
    fn the_latest_reasons_are_kept() {
        let mut trace = Trace::start(0);
        for byte in 1..=3 {
            let reason = Reason::format(format_args!("because of {byte}"));
            trace.blobs.on_missing(slot(usize::from(byte)), &Hash([byte; 32]), &reason);
        }
        let errors = [1, 2, 3].map(|byte| String::from(trace.blobs.reason(&Hash([byte; 32]))));
        assert_eq!(errors, ["", "because of 2", "because of 3"]);
    }
}
