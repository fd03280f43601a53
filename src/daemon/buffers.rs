//! Buffers that live as long as the daemon. A buffer costs memory only as it fills.
//!
//! All buffers are part of one allocation. It is large enough that the allocator maps
//! zero pages for it, and a page becomes resident when it is first written. Many small
//! allocations would each be zeroed, and so be resident from the start.

use crate::limits;

/// A buffer of the pool.
pub type Buffer = &'static mut [u8];

/// The size of all buffers of sessions, commands and workers.
pub const POOL_BYTES: usize = limits::SESSIONS * 2 * limits::FRAME_BYTES
    + limits::CONTROL_CONNECTIONS * (4 + 2 * limits::CONTROL_FRAME_BYTES)
    + limits::JOB_BYTES
    + limits::REPORT_BYTES;

/// The memory that buffers are split off from.
pub struct Pool {
    free: Buffer,
}

impl Pool {
    /// A pool of [`POOL_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self { free: vec![0; POOL_BYTES].leak() }
    }

    /// Splits off a buffer of this size. Called at start-up.
    ///
    /// # Panics
    /// The pool is exhausted: [`POOL_BYTES`] is too small for all callers.
    pub fn take(&mut self, bytes: usize) -> Buffer {
        let (buffer, free) = std::mem::take(&mut self.free).split_at_mut(bytes);
        self.free = free;
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_hands_out_each_of_its_bytes_once() {
        let mut pool = Pool::new();
        let first = pool.take(5);
        first.fill(1);
        let rest = pool.take(POOL_BYTES - 5);
        assert_eq!(rest.iter().find(|byte| **byte != 0), None);
        assert_eq!(pool.take(0).len(), 0);
    }
}
