//! The other controllers: who is there, and what each said last.
//!
//! ```text
//! unknown --heard--> present --silent for controller_lost--> lost --heard--> present
//!    ^                                                        |
//!    `------------------ drop-controller ---------------------'
//! ```
//!
//! Lost is not stored but seen, as with hosts, and there too a topology service may
//! say so at once. A controller that was ever merged
//! with is *known*, also by the disk: a purge needs it.

use crate::fsm::actions::Peer;
use crate::fsm::presence::Presence;
use crate::time::{Duration, Instant};
use crate::types::{Digest, Hostname, NodeId, Reason};

/// One other controller.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its node id.
    pub node: NodeId,
    /// What it calls itself; empty until its map was read.
    pub hostname: Hostname,
    /// It is on the disk as one that was merged with.
    pub is_known: bool,
    /// Where it was heard, and when; `None` where not since the start.
    pub heard: Option<(Peer, Instant)>,
    /// Whether it is there, as the topology service tells.
    pub presence: Presence,
    /// Its counter of changes as it said, for people.
    pub op_counter: u64,
    /// The digest of its map as it said last.
    pub announced: Option<Digest>,
    /// What it had announced when the reading of its map began.
    pub read_for: Option<Digest>,
    /// The digest of the map that was last merged from it, since the start.
    pub merged: Option<Digest>,
    /// Of that map something was not taken: no word may say that it is here.
    pub is_partial: bool,
    /// The number of the latest of our changes that it has; see [`super::announce`].
    pub confirmed: u32,
    /// The counter that our map had when it and this neighbour's were last the same.
    pub agreed: u64,
    /// Blobs that it lacks, as it said.
    pub blobs_missing: u16,
    /// A `SyncReq` of it that is to be answered.
    pub unanswered: Option<UnansweredSync>,
    /// When its map may be asked for again, after a failure.
    pub retry_at: Option<Instant>,
    /// Failures to merge its map, in a row.
    pub failures: u8,
    /// When its map was asked for last.
    pub asked_at: Option<Instant>,
    /// Why its map could not be merged, since it last could.
    pub pull_error: Reason,
}

/// A `SyncReq` that is to be answered once what it told of is durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnansweredSync {
    /// The digest that it carried.
    pub digest: Digest,
    /// A merge that began after it came is under way: whatever that brings is at
    /// least what it told of.
    pub is_covered: bool,
}

impl Neighbour {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            hostname: Hostname::default(),
            is_known: false,
            heard: None,
            presence: Presence::default(),
            op_counter: 0,
            announced: None,
            read_for: None,
            merged: None,
            is_partial: false,
            confirmed: 0,
            agreed: 0,
            blobs_missing: 0,
            unanswered: None,
            retry_at: None,
            failures: 0,
            asked_at: None,
            pull_error: Reason::default(),
        }
    }

    /// Whether it was heard since the start, not too long ago, and is not known to be
    /// gone.
    #[must_use]
    pub fn is_present(&self, now: Instant, lost_after: Duration) -> bool {
        !self.presence.is_gone() && self.heard.is_some_and(|(_, at)| now.since(at) < lost_after)
    }

    /// Where it was heard.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.heard.map(|(peer, _)| peer)
    }
}

/// The other controllers, in borrowed memory.
#[derive(Debug)]
pub struct Neighbours<'a> {
    slots: &'a mut [Option<Neighbour>],
    /// From the last word of one to its being lost.
    lost_after: Duration,
    /// Words of controllers that found no place.
    refused: u64,
}

impl<'a> Neighbours<'a> {
    /// None yet, and as many as there are `slots`.
    #[must_use]
    pub fn new(slots: &'a mut [Option<Neighbour>], lost_after: Duration) -> Self {
        Self { slots, lost_after, refused: 0 }
    }

    /// A controller spoke. `None` where there is no place for it: one that is lost
    /// and was never merged with makes room, a known one does not.
    pub fn heard(&mut self, now: Instant, node: NodeId, peer: Peer) -> Option<&mut Neighbour> {
        let Some(at) = self.slot_for(now, node) else {
            self.refused = self.refused.saturating_add(1);
            return None;
        };
        let neighbour = self.slots.get_mut(at)?.get_or_insert_with(|| Neighbour::new(node));
        neighbour.presence.on_heard(neighbour.peer() != Some(peer));
        neighbour.heard = Some((peer, now));
        Some(neighbour)
    }

    /// The disk knows this controller.
    pub fn know(&mut self, now: Instant, node: NodeId, hostname: &Hostname) {
        let place = self.slot_for(now, node).and_then(|at| self.slots.get_mut(at));
        if let Some(neighbour) = place.map(|place| place.get_or_insert_with(|| Neighbour::new(node))) {
            neighbour.is_known = true;
            neighbour.hostname.clone_from(hostname);
        }
    }

    /// The place of a node: its own, or one that is empty for it.
    fn slot_for(&mut self, now: Instant, node: NodeId) -> Option<usize> {
        let lost_after = self.lost_after;
        let has = |place: &Option<Neighbour>| place.as_ref().is_some_and(|held| held.node == node);
        let is_idle = |held: &Neighbour| !held.is_known && !held.is_present(now, lost_after);
        let slots = || self.slots.iter();
        let free = slots().position(has).or_else(|| slots().position(Option::is_none));
        if free.is_some() {
            return free;
        }
        let at = slots().position(|place| place.as_ref().is_some_and(is_idle))?;
        *self.slots.get_mut(at)? = None;
        Some(at)
    }

    /// Forgets a controller.
    pub fn forget(&mut self, node: NodeId) {
        for place in self.slots.iter_mut() {
            if place.as_ref().is_some_and(|held| held.node == node) {
                *place = None;
            }
        }
    }

    /// A controller.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Neighbour> {
        self.iter().find(|neighbour| neighbour.node == node)
    }

    /// A controller, to change.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Neighbour> {
        self.iter_mut().find(|neighbour| neighbour.node == node)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.slots.iter().flatten()
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Neighbour> {
        self.slots.iter_mut().flatten()
    }

    /// Those that are present.
    pub fn present(&self, now: Instant) -> impl Iterator<Item = &Neighbour> {
        let lost_after = self.lost_after;
        self.iter().filter(move |neighbour| neighbour.is_present(now, lost_after))
    }

    /// From the last word of one to its being lost.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.lost_after
    }

    /// One unheard for so long is lost from now on.
    pub fn set_lost_after(&mut self, lost_after: Duration) {
        self.lost_after = lost_after;
    }

    /// Words of controllers that found no place.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn peer() -> Peer {
        Peer::Ip(([127, 0, 0, 1], 7488).into())
    }

    #[test]
    fn a_controller_is_present_until_it_was_silent_for_too_long() {
        let mut slots = [None, None];
        let mut neighbours = Neighbours::new(&mut slots, LOST);
        assert!(neighbours.heard(at(0), NodeId(1), peer()).is_some());
        assert_eq!(neighbours.present(at(99)).count(), 1);
        assert_eq!(neighbours.present(at(100)).count(), 0);
        assert_eq!(neighbours.iter().count(), 1, "it is still shown");
    }

    #[test]
    fn only_one_that_is_lost_and_was_never_merged_with_makes_room() {
        let mut slots = [None, None];
        let mut neighbours = Neighbours::new(&mut slots, LOST);
        neighbours.know(at(0), NodeId(1), &Hostname::new("c1").unwrap());
        assert!(neighbours.heard(at(0), NodeId(2), peer()).is_some());
        assert!(neighbours.heard(at(50), NodeId(3), peer()).is_none());
        assert_eq!(neighbours.refused(), 1);
        assert!(neighbours.heard(at(200), NodeId(3), peer()).is_some());
        assert!(neighbours.get(NodeId(1)).is_some() && neighbours.get(NodeId(2)).is_none());
        neighbours.forget(NodeId(1));
        assert!(neighbours.heard(at(200), NodeId(4), peer()).is_some());
    }
}
