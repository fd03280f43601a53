//! Which datagrams were seen before: a window of 64 for each sender.
//!
//! A sender counts its datagrams within an incarnation, which its next start
//! raises. Only a datagram whose tag holds moves a window. What this cannot
//! remember (a receiver's restart, a sender aged out) it does not promise:
//! datagrams are hints, and the one with a lasting effect carries a nonce.

use super::refusal::Refusal;
use crate::table::{Keyed, Table};
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// What is remembered of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    node: NodeId,
    incarnation: u64,
    /// The highest sequence seen.
    highest: u64,
    /// Bit `n`: sequence `highest - n` was seen.
    seen: u64,
    last_heard: Instant,
}

impl Keyed for Window {
    fn node(&self) -> NodeId {
        self.node
    }
}

impl Window {
    /// Takes a sequence in, unless it was seen or is too old to tell.
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
    /// A sender unheard for so long is forgotten when room is needed, and a
    /// lower incarnation of it is believed again.
    lifetime: Duration,
}

impl<'a> ReplayGuard<'a> {
    /// A guard that has seen nothing.
    #[must_use]
    pub fn new(windows: Table<'a, Window>, lifetime: Duration) -> Self {
        Self { windows, lifetime }
    }

    /// Takes in a datagram whose tag holds, or says why not.
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
        let lifetime = self.lifetime;
        let fresh = Window { node, incarnation, highest: sequence, seen: 1, last_heard: now };
        let Some(window) = self.windows.get_mut(node) else { return self.admit(now, fresh) };
        let is_alive = now.since(window.last_heard) < lifetime;
        if incarnation < window.incarnation && is_alive {
            return Err(Refusal::StaleIncarnation);
        }
        if incarnation != window.incarnation {
            *window = fresh;
            return Ok(());
        }
        if !window.accept(sequence) {
            return Err(Refusal::Replay);
        }
        window.last_heard = now;
        Ok(())
    }

    fn admit(&mut self, now: Instant, fresh: Window) -> Result<(), Refusal> {
        if self.windows.len() >= self.windows.capacity() {
            let lifetime = self.lifetime;
            let dead = self.windows.iter().position(|window| now.since(window.last_heard) >= lifetime);
            self.windows.remove(dead.ok_or(Refusal::SendersFull)?);
        }
        self.windows.insert(fresh).map(|_| ()).map_err(|_| Refusal::SendersFull)
    }

    /// Senders remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// True where no sender is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
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
        let (mut slots, mut index) = ([Window::default(); N], vec![0; index_len(N)]);
        test(&mut ReplayGuard::new(Table::new(&mut slots, &mut index), LIFETIME));
    }

    #[test]
    fn each_sequence_is_taken_once_in_any_order() {
        with_guard::<4>(|guard| {
            let node = NodeId(1);
            for sequence in [5u64, 3, 4, 70, 69, 7, 68] {
                assert_eq!(guard.accept(at(0), node, 1, sequence), Ok(()), "{sequence}");
                assert_eq!(guard.accept(at(0), node, 1, sequence), Err(Refusal::Replay));
            }
            // 70 - 64 = 6 has left the window: too old to tell.
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
    fn a_full_table_refuses_newcomers_and_keeps_the_living() {
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
