//! Counts the loop's allocations, in test builds.
//!
//! After start-up the loop allocates only to start a worker. In a build with the
//! feature `proof` the allocator counts all other allocations, `status` shows the
//! count, and a test requires it to be zero. Other builds contain none of this.

#[cfg(feature = "proof")]
mod sys;

#[cfg(feature = "proof")]
pub use sys::{exempt, loop_allocations, watch_allocations};

/// Starts counting.
#[cfg(not(feature = "proof"))]
pub fn watch_allocations() {}

/// Runs `start` without counting its allocations.
#[cfg(not(feature = "proof"))]
pub fn exempt<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// Allocations since [`watch_allocations`]; `None` in a build that does not count.
#[cfg(not(feature = "proof"))]
#[must_use]
pub fn loop_allocations() -> Option<u64> {
    None
}
