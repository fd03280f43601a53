//! Random numbers for jitter, request ids and nonces, from a seed that the driver gives.
//!
//! Keyed BLAKE3 of a counter. Without the seed the next number cannot be predicted, as
//! a nonce requires. A simulator run repeats with the same seed.

use crate::time::Duration;

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    /// A generator; a daemon's seed comes from the kernel.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next number, never zero.
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let hash = blake3::keyed_hash(&self.seed, &self.counter.to_le_bytes());
        hash.as_bytes().first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes)).max(1)
    }

    /// A duration below `most`; zero if `most` is zero.
    pub fn below(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.next_u64().checked_rem(most.as_millis()).unwrap_or(0))
    }
}
