//! Borrowed memory that grows in place, up to a bound.
//!
//! A list is used rather than a slice for large entries of which there are often few:
//! its memory is touched, and so resident, only when it is used.

/// A list of `T` in memory that the owner has reserved.
pub trait List<T>: Send + Sync {
    /// The entries so far.
    fn items(&self) -> &[T];

    /// The entries so far, to change.
    fn items_mut(&mut self) -> &mut [T];

    /// The capacity, in entries.
    fn room(&self) -> usize;

    /// Adds an entry; drops it if there is no room.
    fn push(&mut self, entry: T);

    /// Drops the last entry, if there is one.
    fn pop(&mut self);

    /// Drops all entries.
    fn clear(&mut self);
}

impl<T> core::fmt::Debug for dyn List<T> + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} of {}", self.items().len(), self.room())
    }
}

/// A vector with reserved capacity, which it never exceeds, so it never allocates.
#[cfg(feature = "std")]
impl<T: Send + Sync> List<T> for std::vec::Vec<T> {
    fn items(&self) -> &[T] {
        self
    }

    fn items_mut(&mut self) -> &mut [T] {
        self
    }

    fn room(&self) -> usize {
        self.capacity()
    }

    fn push(&mut self, entry: T) {
        if self.len() < self.capacity() {
            Self::push(self, entry);
        }
    }

    fn pop(&mut self) {
        Self::pop(self);
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

/// Where there is no heap, memory that has its place in another.
impl<T: Send + Sync, const N: usize> List<T> for heapless::Vec<T, N> {
    fn items(&self) -> &[T] {
        self
    }

    fn items_mut(&mut self) -> &mut [T] {
        self
    }

    fn room(&self) -> usize {
        N
    }

    fn push(&mut self, entry: T) {
        let _ = Self::push(self, entry);
    }

    fn pop(&mut self) {
        Self::pop(self);
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

/// An empty list with this capacity, which lives as long as the process.
#[cfg(feature = "std")]
#[must_use]
pub fn reserved<T>(most: usize) -> &'static mut std::vec::Vec<T> {
    std::boxed::Box::leak(std::boxed::Box::new(std::vec::Vec::with_capacity(most)))
}
