//! Counts what the loop allocates, in test builds.
//!
//! After start-up the loop allocates nothing but to start a worker. In a build
//! with the feature `proof` the allocator counts, `status` says how many, and a
//! test holds it to zero. In any other build nothing of this is there.

#[cfg(feature = "proof")]
mod sys;

#[cfg(feature = "proof")]
pub use sys::{exempt, loop_allocations, watch_allocations};

/// Begins to count.
#[cfg(not(feature = "proof"))]
pub fn watch_allocations() {}

/// Runs what may allocate: starting a worker.
#[cfg(not(feature = "proof"))]
pub fn exempt<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// Allocations since counting began; `None` in a build that does not count.
#[cfg(not(feature = "proof"))]
#[must_use]
pub fn loop_allocations() -> Option<u64> {
    None
}
