//! Whose accepted session gives up its place in the pool.
//!
//! A node has one accepted session for a purpose. A second one that proves the node's key
//! replaces the first, rather than being refused: an honest node opens a second only after
//! it has lost the first, for example by a power cut that this end has not noticed. So a
//! node that returns does not wait for a deadline, and a thief replaces only his own.
//!
//! If the pool is full, a new connection takes the place of the first of these that there
//! is:
//!
//! 1. the oldest session that was answered with `Busy`: nothing is left to do for it;
//! 2. the oldest session without a proof, of the address that has most of them. So one
//!    address that connects without end evicts its own.
//!
//! If there is none, the new connection is closed.

use std::cmp::Reverse;

use super::Sessions;
use super::slot::{Session, SessionStage};

impl Sessions {
    /// The accepted sessions, with their slots.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (usize, &Session)> {
        let open = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.session.as_ref()?)));
        open.filter(|(_, session)| !session.is_initiator)
    }

    /// The slot of the accepted session that gives up its place to a new one.
    pub(super) fn dispensable(&self) -> Option<usize> {
        let turned_away = self.accepted().filter(|(_, session)| session.is_turned_away);
        if let Some((at, _)) = turned_away.min_by_key(|(_, session)| session.since) {
            return Some(at);
        }
        let unproven =
            || self.accepted().filter(|(_, session)| !matches!(session.stage, SessionStage::Proven(_)));
        let of_same = |one: &Session| unproven().filter(|(_, other)| other.origin == one.origin).count();
        let last = unproven().max_by_key(|(at, one)| (of_same(one), Reverse((one.since, *at))));
        last.map(|(at, _)| at)
    }

    /// The slot of the earlier accepted session of the same node and purpose as the one at
    /// `at`, which has just been authenticated.
    pub(super) fn earlier_of_same(&self, at: usize) -> Option<usize> {
        let (_, later) = self.accepted().find(|(slot, _)| *slot == at)?;
        let is_same = |other: &Session| {
            matches!(other.stage, SessionStage::Proven(_))
                && (other.peer, other.purpose) == (later.peer, later.purpose)
        };
        self.accepted().find(|(slot, other)| *slot != at && is_same(other)).map(|(slot, _)| slot)
    }
}
