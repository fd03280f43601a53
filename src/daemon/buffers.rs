//! Buffers that live as long as the daemon, and cost memory only as they fill.
//!
//! All buffers are one allocation, large enough to come from the kernel as pages
//! of zeros: a page becomes resident when it is first written. Many small
//! allocations would be zeroed one by one, and so be resident from the start.

use crate::limits;

/// A buffer of the pool.
pub type Buffer = &'static mut [u8];

/// What sessions, commands and workers need.
pub const POOL_BYTES: usize = limits::SESSIONS * 2 * limits::FRAME_BYTES
    + limits::CONTROL_CONNECTIONS * (4 + 2 * limits::CONTROL_FRAME_BYTES)
    + limits::JOB_BYTES
    + limits::REPORT_BYTES;

/// The memory that buffers are taken from.
pub struct Pool {
    free: Buffer,
}

impl Pool {
    /// A pool of [`POOL_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self { free: vec![0; POOL_BYTES].leak() }
    }

    /// Takes a buffer of this size out, at start-up.
    ///
    /// # Panics
    /// The pool is used up: [`POOL_BYTES`] forgets somebody.
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
    fn a_pool_gives_out_all_that_it_has_and_no_byte_twice() {
        let mut pool = Pool::new();
        let first = pool.take(5);
        first.fill(1);
        let rest = pool.take(POOL_BYTES - 5);
        assert_eq!(rest.iter().find(|byte| **byte != 0), None);
        assert_eq!(pool.take(0).len(), 0);
    }
}
