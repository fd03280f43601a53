//! Borrowed memory that grows in place, up to a bound.
//!
//! A list rather than a slice where entries are large and often few: memory is
//! touched, and so resident, only as it is needed.

/// A list of `T` whose memory somebody else has reserved.
pub trait List<T>: Send {
    /// The entries so far.
    fn items(&self) -> &[T];

    /// The entries so far, to change.
    fn items_mut(&mut self) -> &mut [T];

    /// How many entries there is room for, those so far included.
    fn room(&self) -> usize;

    /// Adds an entry; where there is no room, it is dropped.
    fn push(&mut self, entry: T);

    /// Drops all entries.
    fn clear(&mut self);
}

impl<T> core::fmt::Debug for dyn List<T> + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} of {}", self.items().len(), self.room())
    }
}

/// A vector with its capacity reserved; it never grows beyond, so never allocates.
#[cfg(feature = "std")]
impl<T: Send> List<T> for std::vec::Vec<T> {
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

    fn clear(&mut self) {
        Self::clear(self);
    }
}
