//! The event sources that may have more to read.
//!
//! mio is edge-triggered: it reports an edge once. A source that is not drained to
//! `WouldBlock` in its turn stays in this set, and the loop polls without waiting
//! while the set is not empty. So turns can be short, and no source starves another.
//! A source that failed because a descriptor or memory was not free is deferred: it
//! is ready again after a pause, since no further edge is reported for it.

use mio::Token;

use crate::time::{Duration, Instant};

/// The set holds tokens below this.
pub const TOKENS: usize = 128;

/// How long a deferred source waits.
const PAUSE: Duration = Duration::from_millis(100);

/// A set of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadySet {
    now: u128,
    deferred: u128,
    /// When the deferred sources are ready again.
    deferred_until: Option<Instant>,
}

impl ReadySet {
    /// Adds a source.
    pub fn insert(&mut self, token: Token) {
        self.now |= bit(token);
    }

    /// Adds a source after a pause.
    pub fn defer(&mut self, now: Instant, token: Token) {
        self.deferred |= bit(token);
        self.deferred_until.get_or_insert(now + PAUSE);
    }

    /// Makes the deferred sources ready if their time has come.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.deferred_until.is_some_and(|later_at| now >= later_at) {
            self.now |= std::mem::take(&mut self.deferred);
            self.deferred_until = None;
        }
    }

    /// When the deferred sources are ready again.
    #[must_use]
    pub fn poll_at(self) -> Option<Instant> {
        self.deferred_until
    }

    /// Whether no source is ready now.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.now == 0
    }

    /// Takes all ready sources out. The caller gives each a turn and inserts it again
    /// if it has more.
    pub fn take(&mut self) -> impl Iterator<Item = Token> + use<> {
        let mut left = std::mem::take(&mut self.now);
        std::iter::from_fn(move || {
            let token = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (token < 128).then_some(Token(token as usize))
        })
    }
}

fn bit(token: Token) -> u128 {
    u32::try_from(token.0).ok().and_then(|at| 1u128.checked_shl(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferred_source_is_ready_once_after_the_pause() {
        let at = Instant::from_millis;
        let mut ready = ReadySet::default();
        ready.defer(at(0), Token(3));
        ready.defer(at(90), Token(4));
        assert!(ready.is_empty(), "the loop does not busy-poll for deferred sources");
        assert_eq!(ready.poll_at(), Some(at(100)));
        ready.on_timeout(at(99));
        assert!(ready.is_empty());
        ready.on_timeout(at(100));
        assert_eq!(ready.take().map(|token| token.0).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(ready.poll_at(), None);
    }

    #[test]
    fn every_source_gets_one_turn() {
        let mut ready = ReadySet::default();
        for token in [0, 5, 127, 5, 128] {
            ready.insert(Token(token));
        }
        assert_eq!(ready.take().map(|token| token.0).collect::<Vec<_>>(), [0, 5, 127]);
        assert!(ready.is_empty());
    }
}
