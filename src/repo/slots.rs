//! Slots of the repository map, and sets of slots. The patches of a host are kept as a
//! bitmap of 128 bytes rather than as a list of ids.

use core::fmt;

use crate::limits::{ENTRIES, ENTRY_BITMAP_WORDS};

/// The position of an entry in this process's map. It does not change while the entry is
/// in the map. It has no meaning outside of this process: other controllers number their
/// slots differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this index; `None` if it is [`ENTRIES`] or more.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        if index < ENTRIES { u16::try_from(index).ok().map(Self) } else { None }
    }

    /// Its index, below [`ENTRIES`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its word in a bitmap, and its bit there.
    fn word_and_bit(self) -> (usize, u32) {
        (usize::from(self.0 / 32), 1 << (self.0 % 32))
    }
}

/// A set of slots.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotSet {
    words: [u32; ENTRY_BITMAP_WORDS],
}

impl SlotSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; ENTRY_BITMAP_WORDS] }
    }

    /// Inserts `slot`; true if it was not in the set.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = slot.word_and_bit();
        match self.words.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Removes `slot`; true if it was in the set.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let (word, bit) = slot.word_and_bit();
        match self.words.get_mut(word) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }

    /// Removes and returns the lowest slot.
    pub fn pop(&mut self) -> Option<Slot> {
        let lowest = self.iter().next()?;
        self.remove(lowest);
        Some(lowest)
    }

    /// Whether `slot` is in the set.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = slot.word_and_bit();
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Removes all slots.
    pub fn clear(&mut self) {
        self.words = [0; ENTRY_BITMAP_WORDS];
    }

    /// How many slots are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        let ones = self.words.iter().map(|word| word.count_ones()).sum::<u32>();
        usize::try_from(ones).unwrap_or(ENTRIES)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The slots in the set, lowest first.
    #[must_use]
    pub fn iter(&self) -> Iter {
        Iter { words: self.words, word: 0 }
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Slot::index)).finish()
    }
}

impl IntoIterator for &SlotSet {
    type Item = Slot;
    type IntoIter = Iter;
    fn into_iter(self) -> Iter {
        self.iter()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::new();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

/// Iterates over a copy of a set, lowest slot first.
pub struct Iter {
    words: [u32; ENTRY_BITMAP_WORDS],
    word: usize,
}

impl Iterator for Iter {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        loop {
            let word = self.words.get_mut(self.word)?;
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= word.wrapping_sub(1);
                let index = self.word.saturating_mul(32).saturating_add(usize::try_from(bit).ok()?);
                return Slot::new(index);
            }
            self.word = self.word.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: usize) -> Slot {
        Slot::new(index).unwrap()
    }

    #[test]
    fn each_entry_has_a_slot_and_no_more_exist() {
        assert_eq!(slot(ENTRIES - 1).index(), ENTRIES - 1);
        assert_eq!(Slot::new(ENTRIES), None);
        assert_eq!(Slot::new(usize::MAX), None);
    }

    #[test]
    fn a_set_contains_what_was_inserted_and_not_removed() {
        let mut set = SlotSet::new();
        let indices = [0, 31, 32, 33, 511, ENTRIES - 1];
        for index in indices {
            assert!(set.insert(slot(index)));
            assert!(!set.insert(slot(index)), "a second time changes nothing");
        }
        assert_eq!(set.len(), indices.len());
        assert!(set.iter().map(Slot::index).eq(indices));
        assert!(set.remove(slot(32)) && !set.remove(slot(32)));
        assert!(!set.contains(slot(32)) && set.contains(slot(33)));
        assert_eq!(set.pop(), Some(slot(0)));
        assert!(set.iter().map(Slot::index).eq([31, 33, 511, ENTRIES - 1]));
        set.clear();
        assert!(set.is_empty() && set.pop().is_none());
        assert_eq!(set, SlotSet::default());
    }

    #[test]
    fn a_full_set_lists_every_slot_once() {
        let full: SlotSet = (0..ENTRIES).filter_map(Slot::new).collect();
        assert_eq!(full.len(), ENTRIES);
        assert!(full.iter().map(Slot::index).eq(0..ENTRIES));
    }
}
