//! Synchronization of the repository among controllers: which controllers are present,
//! whose map to merge, which of them have a change made here, and which patch files are
//! still missing.
//!
//! | file | what it decides |
//! |---|---|
//! | [`neighbours`] | which controllers are present |
//! | `asks` | which controllers are asked again, and which do not answer |
//! | [`rounds`] | when to send Hello, and when the start is over |
//! | [`announce`] | when to send SyncReq, and which controllers have a change |
//! | [`pulls`] | whose map to merge |
//! | [`blobs`] | which patch files are missing, and which controller to ask |
//! | [`transfer`] | the session and worker of a pull or a blob fetch, one at a time |
//!
//! Nothing here changes the map. A worker merges it durably and reports what changed,
//! so everything that is announced is on the disk.

pub mod announce;
mod asks;
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

/// The timers for other controllers.
#[derive(Clone, Copy, Debug)]
pub struct SyncTimers {
    /// From one Hello to the next.
    pub hello_interval: Duration,
    /// From one Hello to the next at the start.
    pub hello_start: Duration,
    /// A controller that has not answered a Hello is asked by unicast for so long, and is then
    /// lost.
    pub probe: Duration,
    /// A controller that was silent for this long is lost, whatever it was asked.
    pub controller_lost: Duration,
    /// From one SyncReq to the next, and from a failed merge to the next attempt.
    pub retry: Duration,
}

/// Why a purge is refused, with the controller that prevents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeRefusal {
    /// It is absent.
    Absent(NodeId, Hostname),
    /// It has not announced the same map.
    Differs(NodeId, Hostname),
}

/// The state that one controller keeps for synchronization.
#[derive(Debug)]
pub struct Sync<'a> {
    rounds: Rounds,
    asks: asks::Asks,
    neighbours: Neighbours<'a>,
    announce: Announce,
    pulls: Pulls,
    blobs: BlobFetch<'a>,
    /// The start is over: operators' changes are accepted.
    is_started: bool,
    /// The map's digest that was sent last.
    sent_digest: Option<Digest>,
    /// The digest of a changed map for which a Hello is planned.
    planned_digest: Option<Digest>,
    /// The last SyncComplete reported missing files.
    has_reported_missing: bool,
    /// A change since the start has stamped an entry, which renewed the replica id if
    /// that was due.
    has_stamped: bool,
    wake: Option<Instant>,
}

impl<'a> Sync<'a> {
    /// A controller that has heard no other and whose map is not read yet. `slots` is
    /// memory for neighbours, `errors` for the reasons of missing blobs.
    #[must_use]
    pub fn new(timers: SyncTimers, slots: &'a mut [Option<Neighbour>], errors: &'a mut [BlobError]) -> Self {
        Self {
            rounds: Rounds::new(timers.hello_interval, timers.hello_start),
            asks: asks::Asks::new(timers.probe),
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

    /// Changes the timers.
    pub fn set_timers(&mut self, now: Instant, timers: SyncTimers) {
        self.rounds.set_intervals(now, timers.hello_interval, timers.hello_start);
        self.asks.set_limit(timers.probe);
        self.neighbours.set_lost_after(timers.controller_lost);
        self.announce.set_retry(timers.retry);
        self.pulls.set_retry(timers.retry, timers.hello_interval);
        self.blobs.set_retry(timers.retry);
    }

    /// The map is read: from now on it is announced and merged into.
    pub fn on_loaded(&mut self, now: Instant) {
        self.rounds.begin(now);
    }

    /// The network is there again: the other controllers are greeted soon.
    pub fn on_network_back(&mut self, now: Instant, random: &mut Random) {
        self.rounds.soon(now, random);
    }

    /// Handles a message of another controller. Its sender becomes a neighbour, whatever the
    /// message: the caller must not pass an agent's.
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
                // It may have received a file that it lacked.
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

    /// The message for a controller that appears; `None` before the map is read.
    #[must_use]
    pub fn greeting(&self, map: &Map<'_>) -> Option<Message> {
        let hello = || Message::Hello(Hello { op_counter: map.highest_counter(), digest: map.digest() });
        self.rounds.has_begun().then(hello)
    }

    /// Controllers have appeared or gone: the next turn acts on it.
    pub fn on_neighbours_changed(&mut self, now: Instant) {
        self.wake = Some(now);
    }

    /// Handles an event of a session or worker to another controller.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>, map: &Map<'_>, actions: &mut Actions) {
        match event {
            Event::SessionReady(node, Purpose::Pull) => {
                self.pulls.on_session(*node, &mut self.neighbours, actions);
            }
            Event::SessionBusy(node, Purpose::Pull, pause) => {
                self.pulls.on_busy(now, *node, *pause, &mut self.neighbours);
            }
            Event::SessionFailed(node, Purpose::Pull, reason) | Event::PullEnded(node, Err(reason)) => {
                self.pulls.on_failed(now, *node, reason, &mut self.neighbours);
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
        // The next transfer starts in the next turn, not here: if every session failed at
        // once, this would recurse without end.
        self.wake = Some(now);
        self.answer_sync_reqs(map.digest(), actions);
    }

    /// Does what is due; before that, nothing.
    pub fn on_timeout(&mut self, now: Instant, map: &Map<'_>, random: &mut Random, actions: &mut Actions) {
        let own = map.digest();
        let op_counter = map.highest_counter();
        // A message that finds no room stays due.
        let has_room = actions.room() >= 2;
        if has_room && self.announce.take_due(now, own, &self.neighbours) {
            // An upload that brought a file but no new entry has stamped nothing.
            self.has_stamped |= self.sent_digest != Some(own);
            self.sent_digest = Some(own);
            actions.send(To::Controllers, Message::SyncReq(SyncReq { op_counter, digest: own }));
        }
        if has_room && self.rounds.take_due(now, random) {
            self.sent_digest = Some(own);
            actions.send(To::Controllers, Message::Hello(Hello { op_counter, digest: own }));
            self.asks.on_round(now);
        }
        self.asks.on_timeout(now, &Hello { op_counter, digest: own }, &mut self.neighbours, actions);
        // The map was changed by a merge, as changes made here have just been announced.
        if self.is_unannounced(own) {
            self.planned_digest = Some(own);
            self.rounds.soon(now, random);
        }
        self.settle(now, map, actions);
    }

    /// Whether the map has changed since the last message and no Hello is planned for it.
    fn is_unannounced(&self, own: Digest) -> bool {
        self.sent_digest.is_some_and(|sent| sent != own) && self.planned_digest != Some(own)
    }

    /// Acts on all changes since the last call.
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
            // Equal digests count as a merge, so a later change of our map does not make
            // its digest news.
            if neighbour.merged.is_some() {
                neighbour.merged = Some(own);
                neighbour.is_partial = false;
            }
        }
        let is_all_sent = self.answer_sync_reqs(own, actions) && self.send_complete(own, actions);
        self.pulls.start(now, own, &mut self.neighbours, actions);
        self.blobs.start(now, &self.neighbours, actions);
        // A neighbour whose map cannot be merged must not delay the start for ever.
        let is_done =
            |neighbour: &Neighbour| neighbour.merged.is_some() || neighbour.failures >= FAILURES_TO_GO_ON;
        self.is_started |= self.rounds.has_heard_all(now) && self.neighbours.present(now).all(is_done);
        if self.is_unannounced(own) || !is_all_sent {
            self.wake = Some(now);
        }
    }

    /// Answers the SyncReqs whose content is durable here; false if an answer found no
    /// room.
    fn answer_sync_reqs(&mut self, own: Digest, actions: &mut Actions) -> bool {
        let mut is_all_sent = true;
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
                is_all_sent = false;
                continue;
            }
            neighbour.unanswered = None;
            self.has_reported_missing = blobs_missing > 0;
            let done = SyncComplete { digest, blobs_missing };
            actions.send(To::Node(neighbour.node, peer), Message::SyncComplete(done));
        }
        is_all_sent
    }

    /// Reports to all controllers that no file is missing any more, if the last report
    /// was another; false if the message found no room.
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

    /// When the next call of [`on_timeout`](Self::on_timeout) is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let messages = [self.rounds.poll_at(), self.announce.poll_at()];
        let transfers = [self.pulls.poll_at(), self.blobs.poll_at(), self.wake];
        Instant::earliest([Instant::earliest(messages), Instant::earliest(transfers), self.asks.poll_at()])
    }

    /// An operator's change made here is durable and merged. Returns its number, for
    /// [`is_confirmed`](Self::is_confirmed).
    pub fn on_changed(&mut self, now: Instant) -> u32 {
        self.announce.on_changed(now)
    }

    /// Whether all present controllers have this change.
    #[must_use]
    pub fn is_confirmed(&self, now: Instant, number: u32) -> bool {
        self.announce.is_confirmed(now, number, &self.neighbours)
    }

    /// Whether operators' changes are accepted: three Hellos were sent, and the map of
    /// each controller that answered is merged or cannot be. Stays true.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Whether the next change must be stamped with a new replica id. That is so if a
    /// known controller was not merged with since the start: its map could have shown
    /// that ours is an old one from a backup. One renewal per start is enough.
    #[must_use]
    pub fn must_renew(&self) -> bool {
        let mut known = self.neighbours.iter().filter(|neighbour| neighbour.is_known);
        !self.has_stamped && known.any(|neighbour| neighbour.merged.is_none())
    }

    /// The counter up to which all known controllers have our changes. A change that
    /// replaces one of these was made with knowledge of it.
    #[must_use]
    pub fn agreed(&self) -> u64 {
        let known = self.neighbours.iter().filter(|neighbour| neighbour.is_known);
        known.map(|neighbour| neighbour.agreed).min().unwrap_or(0)
    }

    /// Whether a purge is allowed: every known controller is present and has the same
    /// map.
    ///
    /// # Errors
    /// [`PurgeRefusal`] for the first controller that prevents it.
    pub fn check_purge(&self, now: Instant, own: Digest) -> Result<(), PurgeRefusal> {
        for neighbour in self.neighbours.iter() {
            let identity = || (neighbour.node, neighbour.hostname.clone());
            if !neighbour.is_present(now, self.neighbours.lost_after()) {
                // A controller that was never merged with has no entry of ours.
                if neighbour.is_known {
                    let (node, hostname) = identity();
                    return Err(PurgeRefusal::Absent(node, hostname));
                }
            } else if neighbour.announced != Some(own) {
                let (node, hostname) = identity();
                return Err(PurgeRefusal::Differs(node, hostname));
            }
        }
        Ok(())
    }

    /// How often controllers were asked again, since the start.
    #[must_use]
    pub fn asks_sent(&self) -> u64 {
        self.asks.sent()
    }

    /// How many controllers were lost because they did not answer, since the start.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.asks.lost()
    }

    /// The other controllers.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours<'a> {
        &self.neighbours
    }

    /// The other controllers, to record those that are known from the disk.
    pub fn neighbours_mut(&mut self) -> &mut Neighbours<'a> {
        &mut self.neighbours
    }

    /// The patch files that are missing.
    #[must_use]
    pub fn blobs(&self) -> &BlobFetch<'a> {
        &self.blobs
    }

    /// The patch files that are missing, to change.
    pub fn blobs_mut(&mut self) -> &mut BlobFetch<'a> {
        &mut self.blobs
    }

    /// Whose map is being merged.
    #[must_use]
    pub fn merging(&self) -> Option<NodeId> {
        self.pulls.at_work()
    }
}
