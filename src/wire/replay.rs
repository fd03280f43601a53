//! Detects repeated datagrams with a window of 64 sequence numbers for each sender.
//!
//! Messages with the group key have none. Every agent has that key, so with a window one agent
//! could make all others refuse a controller's hellos, by sending one in its name with a higher
//! incarnation. Such a message is a hint whether it is new or not: it is answered, and agents
//! bound how often ([`Acks`](crate::fsm::acks::Acks)).
//!
//! A sender numbers its datagrams within an incarnation, which each start raises. Only a
//! datagram with a valid tag moves a window. After a restart of the receiver, or when a
//! sender was silent for too long, repeated datagrams are not detected. That is safe:
//! datagrams are hints, and the only one with a lasting effect carries a nonce.

use super::refusal::Refusal;
use crate::table::{Keyed, Table};
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// The window of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    node: NodeId,
    incarnation: u64,
    /// The highest sequence seen.
    highest: u64,
    /// Bit `n`: sequence `highest - n` was seen.
    seen: u64,
    last_heard: Instant,
    /// The incarnation before, and the highest sequence seen of it.
    past: (u64, u64),
}

impl Keyed for Window {
    fn node(&self) -> NodeId {
        self.node
    }
}

impl Window {
    /// Accepts the datagram that `fresh` was made from, or refuses it.
    fn check(&mut self, fresh: Self, lifetime: Duration) -> Result<(), Refusal> {
        if fresh.incarnation < self.incarnation && !self.is_dead(&fresh, lifetime) {
            return Err(Refusal::StaleIncarnation);
        }
        if fresh.incarnation != self.incarnation {
            *self = Self { past: (self.incarnation, self.highest), ..fresh };
            return Ok(());
        }
        if !self.accept(fresh.highest) {
            return Err(Refusal::Replay);
        }
        self.last_heard = fresh.last_heard;
        Ok(())
    }

    /// Whether a stale datagram is new, so that the incarnation before has not ended.
    fn is_past_alive(&mut self, incarnation: u64, sequence: u64) -> bool {
        let (past, highest) = self.past;
        let is_new = incarnation == past && sequence > highest;
        if is_new {
            self.past = (past, sequence);
        }
        is_new
    }

    /// Whether its sender was silent for `lifetime` when `fresh` arrives.
    fn is_dead(&self, fresh: &Self, lifetime: Duration) -> bool {
        fresh.last_heard.since(self.last_heard) >= lifetime
    }

    /// Records a sequence number; false if it was seen or is older than the window.
    fn accept(&mut self, sequence: u64) -> bool {
        if let Some(ahead) = sequence.checked_sub(self.highest)
            && ahead > 0
        {
            let shifted = u32::try_from(ahead).ok().and_then(|by| self.seen.checked_shl(by));
            self.seen = shifted.unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let behind = u32::try_from(self.highest.saturating_sub(sequence)).ok();
        let Some(bit) = behind.and_then(|by| 1u64.checked_shl(by)) else { return false };
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

/// The windows of all senders.
#[derive(Debug)]
pub struct ReplayGuard<'a> {
    windows: Table<'a, Window>,
    /// A sender that was silent for this long is forgotten when room is needed, and a
    /// lower incarnation of it is accepted again.
    lifetime: Duration,
}

impl<'a> ReplayGuard<'a> {
    /// A guard without windows.
    #[must_use]
    pub fn new(windows: Table<'a, Window>, lifetime: Duration) -> Self {
        Self { windows, lifetime }
    }

    /// Changes the lifetime of silent senders.
    pub fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    /// Accepts a datagram that has a valid tag under another key than the group's, or refuses it.
    ///
    /// # Errors
    /// `StaleIncarnation`, `Replay`, `SendersFull`; nothing has changed then.
    pub fn accept(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: u64,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let fresh = Window { node, incarnation, highest: sequence, seen: 1, last_heard: now, past: (0, 0) };
        let lifetime = self.lifetime;
        match self.windows.get_mut(node) {
            Some(window) => window.check(fresh, lifetime),
            None => self.admit(fresh),
        }
    }

    /// Whether a datagram that [`accept`](Self::accept) has refused as stale shows that the
    /// earlier incarnation is still alive: its number is above all that were received of
    /// it. A copy of a datagram that was received is not.
    pub fn is_past_alive(&mut self, node: NodeId, incarnation: u64, sequence: u64) -> bool {
        self.windows.get_mut(node).is_some_and(|window| window.is_past_alive(incarnation, sequence))
    }

    fn admit(&mut self, fresh: Window) -> Result<(), Refusal> {
        if self.windows.len() >= self.windows.capacity() {
            let dead = self.windows.iter().position(|window| window.is_dead(&fresh, self.lifetime));
            self.windows.remove(dead.ok_or(Refusal::SendersFull)?);
        }
        self.windows.insert(fresh).map_err(|_| Refusal::SendersFull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::index_len;

    const LIFETIME: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn with_guard<const N: usize>(test: impl FnOnce(&mut ReplayGuard<'_>)) {
        let (mut slots, mut index) = (Vec::with_capacity(N), vec![0; index_len(N)]);
        test(&mut ReplayGuard::new(Table::new(&mut slots, &mut index), LIFETIME));
    }

    #[test]
    fn each_sequence_is_accepted_once_in_any_order() {
        with_guard::<4>(|guard| {
            let node = NodeId(1);
            for sequence in [5u64, 3, 4, 70, 69, 7, 68] {
                assert_eq!(guard.accept(at(0), node, 1, sequence), Ok(()), "{sequence}");
                assert_eq!(guard.accept(at(0), node, 1, sequence), Err(Refusal::Replay));
            }
            // 70 - 64 = 6 is older than the window.
            assert_eq!(guard.accept(at(0), node, 1, 6), Err(Refusal::Replay));
            assert_eq!(guard.accept(at(0), node, 1, u64::MAX), Ok(()));
            assert_eq!(guard.accept(at(0), node, 1, u64::MAX), Err(Refusal::Replay));
            assert_eq!(guard.accept(at(0), node, 1, 71), Err(Refusal::Replay));
        });
    }

    #[test]
    fn a_lower_incarnation_is_stale_only_while_the_higher_one_lives() {
        with_guard::<4>(|guard| {
            let node = NodeId(1);
            assert_eq!(guard.accept(at(0), node, 9, 1), Ok(()));
            assert_eq!(guard.accept(at(9_999), node, 8, 2), Err(Refusal::StaleIncarnation));
            assert_eq!(guard.accept(at(10_000), node, 8, 2), Ok(()));
            assert_eq!(guard.accept(at(10_001), node, 9, 1), Ok(()));
        });
    }

    #[test]
    fn an_earlier_incarnation_is_alive_if_it_sends_what_was_not_received_of_it() {
        with_guard::<4>(|guard| {
            let node = NodeId(1);
            assert_eq!(guard.accept(at(0), node, 8, 5), Ok(()));
            assert_eq!(guard.accept(at(0), node, 9, 1), Ok(()));
            for (incarnation, sequence, is_alive) in
                [(8, 4, false), (8, 5, false), (8, 6, true), (8, 6, false), (7, 99, false), (8, 9, true)]
            {
                let stale = guard.accept(at(1), node, incarnation, sequence);
                assert_eq!(stale, Err(Refusal::StaleIncarnation));
                let alive = guard.is_past_alive(node, incarnation, sequence);
                assert_eq!(alive, is_alive, "{incarnation} {sequence}");
            }
        });
    }

    #[test]
    fn a_full_table_refuses_new_senders_and_keeps_those_not_silent() {
        with_guard::<2>(|guard| {
            assert_eq!(guard.accept(at(0), NodeId(1), 1, 1), Ok(()));
            assert_eq!(guard.accept(at(5_000), NodeId(2), 1, 1), Ok(()));
            assert_eq!(guard.accept(at(9_999), NodeId(3), 1, 1), Err(Refusal::SendersFull));
            assert_eq!(guard.accept(at(9_999), NodeId(1), 1, 1), Err(Refusal::Replay));
            assert_eq!(guard.accept(at(10_000), NodeId(3), 1, 1), Ok(()));
            assert_eq!(guard.accept(at(10_000), NodeId(2), 1, 1), Err(Refusal::Replay));
        });
    }
}
