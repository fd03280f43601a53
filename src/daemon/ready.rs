//! The sources that may have more for us.
//!
//! mio tells of an edge once. A source that is not drained to `WouldBlock` in
//! its turn stays in this set, and while the set is not empty the loop polls
//! without waiting; so turns can be short, and no source starves another.

use mio::Token;

/// Tokens below this can be in the set.
pub const TOKENS: usize = 128;

/// A set of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadySet(u128);

impl ReadySet {
    /// Adds a source.
    pub fn insert(&mut self, token: Token) {
        if token.0 < TOKENS {
            self.0 |= 1 << token.0;
        }
    }

    /// Whether no source may have more.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes all sources out: each gets its turn, and is put in again if there is more.
    pub fn take(&mut self) -> impl Iterator<Item = Token> + use<> {
        let mut left = std::mem::take(&mut self.0);
        std::iter::from_fn(move || {
            let token = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (token < 128).then_some(Token(token as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
