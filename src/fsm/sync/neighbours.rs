//! The other controllers: which are present, and the last messages of each.
//!
//! ```text
//! unknown --heard--> present --answers no ask--> lost --heard--> present
//!    ^                                            |
//!    `------------------ drop-controller ---------'
//! ```
//!
//! As with hosts, a topology service may report that it is gone, and one that was silent for
//! `controller_lost` is lost, too. A controller that was ever merged with is *known*. The disk records it,
//! because a purge needs all known controllers.

use crate::fsm::actions::Peer;
use crate::fsm::presence::Presence;
use crate::fsm::probes::Probe;
use crate::fsm::ways::Way;
use crate::time::{Duration, Instant};
use crate::types::{Digest, Hostname, NodeId, Reason};

/// One other controller.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its node id.
    pub node: NodeId,
    /// Its hostname; empty until its map was read.
    pub hostname: Hostname,
    /// The disk records that it was merged with.
    pub is_known: bool,
    /// Its address and the time of its last message; `None` if there was none since the
    /// start.
    pub heard: Option<(Peer, Instant)>,
    /// By which way its last message to all controllers came, if the transport tells.
    pub way: Option<Way>,
    /// Whether it is up.
    pub presence: Presence,
    /// The asks that follow a Hello that it has not answered.
    pub probe: Probe,
    /// It was lost when that was last looked at.
    pub is_noted_lost: bool,
    /// Its counter of changes, as last sent; for people.
    pub op_counter: u64,
    /// The digest of its map, as last sent.
    pub announced: Option<Digest>,
    /// The digest that it had announced when the last pull of its map began.
    pub read_for: Option<Digest>,
    /// The digest of the map that was last merged from it, since the start.
    pub merged: Option<Digest>,
    /// A part of that map could not be merged, so its digest must not be confirmed.
    pub is_partial: bool,
    /// The number of our latest change that it has; see [`super::announce`].
    pub confirmed: u32,
    /// Our map's counter when both maps were last the same.
    pub agreed: u64,
    /// How many blobs it lacks, as last sent.
    pub blobs_missing: u16,
    /// Its `SyncReq` that is not answered yet.
    pub unanswered: Option<UnansweredSync>,
    /// When its map may be pulled again after a failure.
    pub retry_at: Option<Instant>,
    /// Failed pulls in a row.
    pub failures: u8,
    /// When the last pull began.
    pub asked_at: Option<Instant>,
    /// Why the last pull failed; empty if it succeeded.
    pub pull_error: Reason,
}

/// A `SyncReq` that is answered once the change that it announced is durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnansweredSync {
    /// The digest that it carried.
    pub digest: Digest,
    /// A pull that began after it came is running: its result contains at least the
    /// announced change.
    pub is_covered: bool,
}

impl Neighbour {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            hostname: Hostname::default(),
            is_known: false,
            heard: None,
            way: None,
            presence: Presence::default(),
            probe: Probe::default(),
            is_noted_lost: false,
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

    /// Whether its last message is younger than `lost_after`, and it is not known to be
    /// gone.
    #[must_use]
    pub fn is_present(&self, now: Instant, lost_after: Duration) -> bool {
        !self.presence.is_gone() && self.heard.is_some_and(|(_, at)| now.since(at) < lost_after)
    }

    /// The address of its last message.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.heard.map(|(peer, _)| peer)
    }
}

/// The other controllers, in borrowed memory.
#[derive(Debug)]
pub struct Neighbours<'a> {
    slots: &'a mut [Option<Neighbour>],
    /// How long a neighbour may be silent before it is lost.
    lost_after: Duration,
    /// Messages of controllers that found no free slot.
    refused: u64,
}

impl<'a> Neighbours<'a> {
    /// No neighbour; as many fit as there are `slots`.
    #[must_use]
    pub fn new(slots: &'a mut [Option<Neighbour>], lost_after: Duration) -> Self {
        Self { slots, lost_after, refused: 0 }
    }

    /// Records a message of a controller. `None` if there is no slot for it: a lost one
    /// that was never merged with gives up its slot, a known one does not.
    pub fn heard(&mut self, now: Instant, node: NodeId, peer: Peer) -> Option<&mut Neighbour> {
        let Some(at) = self.slot_for(now, node) else {
            self.refused = self.refused.saturating_add(1);
            return None;
        };
        let neighbour = self.slots.get_mut(at)?.get_or_insert_with(|| Neighbour::new(node));
        neighbour.presence.on_heard(neighbour.peer() != Some(peer));
        neighbour.probe.on_heard();
        neighbour.heard = Some((peer, now));
        Some(neighbour)
    }

    /// Records a controller that the disk knows.
    pub fn know(&mut self, now: Instant, node: NodeId, hostname: &Hostname) {
        let slot = self.slot_for(now, node).and_then(|at| self.slots.get_mut(at));
        if let Some(neighbour) = slot.map(|slot| slot.get_or_insert_with(|| Neighbour::new(node))) {
            neighbour.is_known = true;
            neighbour.hostname.clone_from(hostname);
        }
    }

    /// The slot of a node: the one that it has, or an empty one.
    fn slot_for(&mut self, now: Instant, node: NodeId) -> Option<usize> {
        let lost_after = self.lost_after;
        let has = |slot: &Option<Neighbour>| slot.as_ref().is_some_and(|held| held.node == node);
        let is_idle = |held: &Neighbour| !held.is_known && !held.is_present(now, lost_after);
        let slots = || self.slots.iter();
        let free = slots().position(has).or_else(|| slots().position(Option::is_none));
        if free.is_some() {
            return free;
        }
        let at = slots().position(|slot| slot.as_ref().is_some_and(is_idle))?;
        *self.slots.get_mut(at)? = None;
        Some(at)
    }

    /// Forgets a controller.
    pub fn forget(&mut self, node: NodeId) {
        for slot in self.slots.iter_mut() {
            if slot.as_ref().is_some_and(|held| held.node == node) {
                *slot = None;
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

    /// The neighbours that are present.
    pub fn present(&self, now: Instant) -> impl Iterator<Item = &Neighbour> {
        let lost_after = self.lost_after;
        self.iter().filter(move |neighbour| neighbour.is_present(now, lost_after))
    }

    /// How long a neighbour may be silent before it is lost.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.lost_after
    }

    /// Changes how long a neighbour may be silent before it is lost.
    pub fn set_lost_after(&mut self, lost_after: Duration) {
        self.lost_after = lost_after;
    }

    /// Messages of controllers that found no free slot.
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
    fn a_controller_is_present_until_it_is_silent_for_too_long() {
        let mut slots = [None, None];
        let mut neighbours = Neighbours::new(&mut slots, LOST);
        assert!(neighbours.heard(at(0), NodeId(1), peer()).is_some());
        assert_eq!(neighbours.present(at(99)).count(), 1);
        assert_eq!(neighbours.present(at(100)).count(), 0);
        assert_eq!(neighbours.iter().count(), 1, "it keeps its slot");
    }

    #[test]
    fn only_a_lost_controller_that_was_never_merged_with_gives_up_its_slot() {
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
