//! Controllers keep one repository together: who is there, whose map to merge,
//! who has what was changed here, and which patch files are still to come.
//!
//! | file | what it decides |
//! |---|---|
//! | [`neighbours`] | who is there |
//! | [`rounds`] | when to say Hello, and when changes may be taken |
//! | [`announce`] | when to say SyncReq, and who has a change |
//! | [`pulls`] | whose map to merge |
//! | [`blobs`] | which patch files are missing, and whom to ask |
//! | [`transfer`] | one session and worker at a time, of the last two |
//!
//! Nothing here touches the map: it is merged by a worker, durably, and the
//! controller learns what changed. So what is announced is always on the disk.

pub mod announce;
pub mod blobs;
pub mod neighbours;
pub mod pulls;
pub mod rounds;
#[cfg(test)]
mod tests;
pub mod transfer;

use announce::Announce;
use blobs::{BlobError, BlobFetch};
use neighbours::{Neighbour, Neighbours, UnansweredSync};
use pulls::{FAILURES_TO_GO_ON, Pulls};
use rounds::Rounds;

use super::actions::{Actions, Peer, To};
use super::event::Event;
use super::random::Random;
use crate::repo::map::Map;
use crate::time::{Duration, Instant};
use crate::types::{Digest, Hostname, NodeId};
use crate::wire::frame::Purpose;
use crate::wire::messages::{Hello, HelloAck, Message, SyncComplete, SyncReq};

/// The times of a controller among controllers.
#[derive(Clone, Copy, Debug)]
pub struct SyncTimers {
    /// From one Hello to the next.
    pub hello_interval: Duration,
    /// From one to the next of those at the start.
    pub hello_start: Duration,
    /// A controller unheard for so long is lost.
    pub controller_lost: Duration,
    /// From one SyncReq to the next, and from a merge that failed to the next try.
    pub retry: Duration,
}

/// Why a purge cannot be made: the controller that is in its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeRefusal {
    /// It is not there.
    Absent(NodeId, Hostname),
    /// Its map is not known to be the same.
    Differs(NodeId, Hostname),
}

/// A controller among controllers.
#[derive(Debug)]
pub struct Sync<'a> {
    rounds: Rounds,
    neighbours: Neighbours<'a>,
    announce: Announce,
    pulls: Pulls,
    blobs: BlobFetch<'a>,
    /// Changes may be taken.
    is_started: bool,
    /// The map's digest as it was told last.
    sent_digest: Option<Digest>,
    /// A change of the map that a Hello will tell of.
    planned_digest: Option<Digest>,
    /// Others were told that files are missing here.
    has_reported_missing: bool,
    /// A change since the start has stamped an entry, and so renewed the replica
    /// where that was due.
    has_stamped: bool,
    wake: Option<Instant>,
}

impl<'a> Sync<'a> {
    /// A controller that has heard no other, and whose map is not read yet.
    /// `slots` and `errors` are memory for neighbours, and for why blobs are missing.
    #[must_use]
    pub fn new(timers: SyncTimers, slots: &'a mut [Option<Neighbour>], errors: &'a mut [BlobError]) -> Self {
        Self {
            rounds: Rounds::new(timers.hello_interval, timers.hello_start),
            neighbours: Neighbours::new(slots, timers.controller_lost),
            announce: Announce::new(timers.retry),
            pulls: Pulls::new(timers.retry, timers.hello_interval),
            blobs: BlobFetch::new(timers.retry, errors),
            is_started: false,
            sent_digest: None,
            planned_digest: None,
            has_reported_missing: false,
            has_stamped: false,
            wake: None,
        }
    }

    /// Other times, from now on.
    pub fn set_timers(&mut self, now: Instant, timers: SyncTimers) {
        self.rounds.set_intervals(now, timers.hello_interval, timers.hello_start);
        self.neighbours.set_lost_after(timers.controller_lost);
        self.announce.set_retry(timers.retry);
        self.pulls.set_retry(timers.retry, timers.hello_interval);
        self.blobs.set_retry(timers.retry);
    }

    /// The map is read: others may hear of it, and it may be merged into.
    pub fn on_loaded(&mut self, now: Instant) {
        self.rounds.begin(now);
    }

    /// A message of another controller.
    pub fn on_message(
        &mut self,
        now: Instant,
        from: NodeId,
        peer: Peer,
        message: &Message,
        map: &Map<'_>,
        actions: &mut Actions,
    ) {
        let own = map.digest();
        let Some(neighbour) = self.neighbours.heard(now, from, peer) else { return };
        match message {
            Message::Hello(hello) => {
                neighbour.op_counter = hello.op_counter;
                neighbour.announced = Some(hello.digest);
                actions.send(To::Node(from, peer), Message::HelloAck(HelloAck {}));
            }
            Message::SyncReq(request) => {
                neighbour.op_counter = request.op_counter;
                neighbour.announced = Some(request.digest);
                neighbour.unanswered = Some(UnansweredSync { digest: request.digest, is_covered: false });
                // It may have a file now that it lacked.
                self.blobs.reset_rest();
            }
            Message::SyncComplete(done) => {
                neighbour.blobs_missing = done.blobs_missing;
                if let Some(number) = self.announce.number_of(done.digest, own) {
                    neighbour.confirmed = neighbour.confirmed.max(number);
                }
            }
            _ => {}
        }
        self.settle(now, map, actions);
    }

    /// What to say to a controller that has come, where the map is read.
    #[must_use]
    pub fn greeting(&self, map: &Map<'_>) -> Option<Message> {
        let hello = || Message::Hello(Hello { op_counter: map.highest_counter(), digest: map.digest() });
        self.rounds.has_begun().then(hello)
    }

    /// Others have come or gone: acts on that in the next turn.
    pub fn on_neighbours_changed(&mut self, now: Instant) {
        self.wake = Some(now);
    }

    /// How sessions and workers to other controllers go.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>, map: &Map<'_>, actions: &mut Actions) {
        match event {
            Event::SessionReady(node, Purpose::Pull) => {
                self.pulls.on_session(*node, &mut self.neighbours, actions);
            }
            Event::SessionBusy(node, Purpose::Pull, pause) => {
                self.pulls.on_busy(now, *node, *pause, &mut self.neighbours);
            }
            Event::SessionFailed(node, Purpose::Pull, why) | Event::PullEnded(node, Err(why)) => {
                self.pulls.on_failed(now, *node, why, &mut self.neighbours);
            }
            Event::PullEnded(node, Ok(merged)) => {
                self.pulls.on_merged(*node, *merged, &mut self.neighbours);
            }
            Event::SessionReady(node, Purpose::Blobs) => self.blobs.on_session(*node, actions),
            Event::SessionBusy(node, Purpose::Blobs, pause) => self.blobs.on_busy(now, *node, *pause),
            Event::SessionFailed(node, Purpose::Blobs, _) | Event::BlobsEnded(node, Err(_)) => {
                self.blobs.on_failed(*node);
            }
            Event::BlobsEnded(node, Ok(())) => self.blobs.on_done(*node),
            _ => return,
        }
        // Whoever is to be asked next is asked in the next turn, not here: where
        // every session fails at once, each turn ends all the same.
        self.wake = Some(now);
        self.answer_sync_reqs(map.digest(), actions);
    }

    /// Does what is due. Early: does nothing.
    pub fn on_timeout(&mut self, now: Instant, map: &Map<'_>, random: &mut Random, actions: &mut Actions) {
        let own = map.digest();
        let op_counter = map.highest_counter();
        // What finds no room now stays due.
        let has_room = actions.room() >= 2;
        if has_room && self.announce.take_due(now, own, &self.neighbours) {
            // One that brought no entry, but a file, has stamped nothing.
            self.has_stamped |= self.sent_digest != Some(own);
            self.sent_digest = Some(own);
            actions.send(To::Controllers, Message::SyncReq(SyncReq { op_counter, digest: own }));
        }
        if has_room && self.rounds.take_due(now, random) {
            self.sent_digest = Some(own);
            actions.send(To::Controllers, Message::Hello(Hello { op_counter, digest: own }));
        }
        // A merge has changed the map, since what was changed here has just been told.
        if self.is_unannounced(own) {
            self.planned_digest = Some(own);
            self.rounds.soon(now, random);
        }
        self.settle(now, map, actions);
    }

    /// Whether the map has changed, and no Hello is planned that tells of it.
    fn is_unannounced(&self, own: Digest) -> bool {
        self.sent_digest.is_some_and(|told| told != own) && self.planned_digest != Some(own)
    }

    /// Acts on whatever has changed.
    fn settle(&mut self, now: Instant, map: &Map<'_>, actions: &mut Actions) {
        let own = map.digest();
        self.wake = None;
        if !self.rounds.has_begun() {
            return;
        }
        let latest = self.announce.latest();
        for neighbour in self.neighbours.iter_mut().filter(|neighbour| neighbour.announced == Some(own)) {
            neighbour.confirmed = latest;
            neighbour.agreed = map.highest_counter();
            // All that it has is here, as if it had just been merged: what is changed
            // here next makes that no news.
            if neighbour.merged.is_some() {
                neighbour.merged = Some(own);
                neighbour.is_partial = false;
            }
        }
        let is_all_said = self.answer_sync_reqs(own, actions) && self.send_complete(own, actions);
        self.pulls.start(now, own, &mut self.neighbours, actions);
        self.blobs.start(now, &self.neighbours, actions);
        // One whose map cannot be had must not keep changes out for ever.
        let is_done =
            |neighbour: &Neighbour| neighbour.merged.is_some() || neighbour.failures >= FAILURES_TO_GO_ON;
        self.is_started |= self.rounds.has_heard_all(now) && self.neighbours.present(now).all(is_done);
        if self.is_unannounced(own) || !is_all_said {
            self.wake = Some(now);
        }
    }

    /// Answers the SyncReqs whose content is durable here; false where there was no
    /// room to say all.
    fn answer_sync_reqs(&mut self, own: Digest, actions: &mut Actions) -> bool {
        let mut is_all_said = true;
        let blobs_missing = u16::try_from(self.blobs.missing().len()).unwrap_or(u16::MAX);
        let is_merging = self.pulls.at_work();
        for neighbour in self.neighbours.iter_mut() {
            let (Some(UnansweredSync { digest, is_covered }), Some(peer)) =
                (neighbour.unanswered, neighbour.peer())
            else {
                continue;
            };
            let is_merged = is_covered && is_merging != Some(neighbour.node);
            let is_here = (neighbour.merged == Some(digest) && !neighbour.is_partial) || is_merged;
            if digest != own && !is_here {
                continue;
            }
            if actions.room() == 0 {
                is_all_said = false;
                continue;
            }
            neighbour.unanswered = None;
            self.has_reported_missing = blobs_missing > 0;
            let done = SyncComplete { digest, blobs_missing };
            actions.send(To::Node(neighbour.node, peer), Message::SyncComplete(done));
        }
        is_all_said
    }

    /// Tells all that no file is missing any more, where they were told that some
    /// are; false where there was no room to.
    fn send_complete(&mut self, own: Digest, actions: &mut Actions) -> bool {
        if !self.has_reported_missing || !self.blobs.missing().is_empty() {
            return true;
        }
        if actions.room() == 0 {
            return false;
        }
        self.has_reported_missing = false;
        let done = SyncComplete { digest: own, blobs_missing: 0 };
        actions.send(To::Controllers, Message::SyncComplete(done));
        true
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let words = [self.rounds.poll_at(), self.announce.poll_at()];
        let work = [self.pulls.poll_at(), self.blobs.poll_at(), self.wake];
        Instant::earliest([Instant::earliest(words), Instant::earliest(work)])
    }

    /// An operator's change made here is durable and merged; gives its number, for
    /// [`is_confirmed`](Self::is_confirmed).
    pub fn on_changed(&mut self, now: Instant) -> u32 {
        self.announce.on_changed(now)
    }

    /// Whether all controllers that are present have this change.
    #[must_use]
    pub fn is_confirmed(&self, now: Instant, number: u32) -> bool {
        self.announce.is_confirmed(now, number, &self.neighbours)
    }

    /// Whether changes may be taken: three Hellos were said, and all who answered
    /// are merged with, or cannot be. Once true it stays.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Whether the next change must be stamped with a new replica: one that is known
    /// was not merged with since the start, and it alone could have told that this
    /// map is an old one, out of a backup. Once is enough.
    #[must_use]
    pub fn must_renew(&self) -> bool {
        let mut known = self.neighbours.iter().filter(|neighbour| neighbour.is_known);
        !self.has_stamped && known.any(|neighbour| neighbour.merged.is_none())
    }

    /// The counter up to which all known controllers have had our changes: whoever
    /// replaces one of those knew it.
    #[must_use]
    pub fn agreed(&self) -> u64 {
        let known = self.neighbours.iter().filter(|neighbour| neighbour.is_known);
        known.map(|neighbour| neighbour.agreed).min().unwrap_or(0)
    }

    /// Whether a purge can be made: every controller that is known is present and
    /// has the same map.
    ///
    /// # Errors
    /// [`PurgeRefusal`]: one that is in its way.
    pub fn check_purge(&self, now: Instant, own: Digest) -> Result<(), PurgeRefusal> {
        for neighbour in self.neighbours.iter() {
            let who = || (neighbour.node, neighbour.hostname.clone());
            if !neighbour.is_present(now, self.neighbours.lost_after()) {
                // One that was heard once and never merged with has nothing of ours.
                if neighbour.is_known {
                    let (node, hostname) = who();
                    return Err(PurgeRefusal::Absent(node, hostname));
                }
            } else if neighbour.announced != Some(own) {
                let (node, hostname) = who();
                return Err(PurgeRefusal::Differs(node, hostname));
            }
        }
        Ok(())
    }

    /// The other controllers.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours<'a> {
        &self.neighbours
    }

    /// The other controllers, to note what the disk says of them.
    pub fn neighbours_mut(&mut self) -> &mut Neighbours<'a> {
        &mut self.neighbours
    }

    /// The patch files that are missing.
    #[must_use]
    pub fn blobs(&self) -> &BlobFetch<'a> {
        &self.blobs
    }

    /// The patch files that are missing, to note that more or fewer are.
    pub fn blobs_mut(&mut self) -> &mut BlobFetch<'a> {
        &mut self.blobs
    }

    /// Whose map is being merged.
    #[must_use]
    pub fn merging(&self) -> Option<NodeId> {
        self.pulls.at_work()
    }
}
