//! Entries and maps for the tests of this folder.

use std::vec::Vec;

use crate::repo::entry::{Entry, EntryMeta, EntryState, Stamp};
use crate::repo::map::{Map, Merged};
use crate::repo::slots::Slot;
use crate::types::{Hash, NodeType, PatchId};

/// A patch id.
pub fn id(text: &str) -> PatchId {
    PatchId::new(text).unwrap()
}

/// Several patch ids.
pub fn ids(texts: &[&str]) -> Vec<PatchId> {
    texts.iter().map(|text| id(text)).collect()
}

/// A kind of host.
pub fn nodetype(text: &str) -> NodeType {
    NodeType::new(text).unwrap()
}

/// An applied patch that requires nothing and concerns all hosts; its hash
/// follows from its id.
pub fn entry(text: &str) -> Entry {
    Entry {
        id: id(text),
        hash: Hash(*blake3::hash(text.as_bytes()).as_bytes()),
        size_bytes: 1,
        state: EntryState::Applied,
        stamp: Stamp { counter: 1, replica: 1 },
        meta: EntryMeta::default(),
    }
}

impl Entry {
    /// This entry in another state.
    pub fn state(self, state: EntryState) -> Self {
        Self { state, ..self }
    }

    /// This entry, with this stamp.
    pub fn stamp(self, counter: u64, replica: u64) -> Self {
        Self { stamp: Stamp { counter, replica }, ..self }
    }

    /// This entry, requiring these patches.
    pub fn requires(mut self, texts: &[&str]) -> Self {
        self.meta.requires = texts.iter().map(|text| id(text)).collect();
        self
    }

    /// This entry, for these kinds of hosts.
    pub fn concerning(mut self, texts: &[&str]) -> Self {
        self.meta.nodetypes = texts.iter().map(|text| nodetype(text)).collect();
        self
    }

    /// This entry, unremovable.
    pub fn unremovable(mut self) -> Self {
        self.meta.unremovable = true;
        self
    }
}

/// Memory for a map of this many entries.
pub fn slots(entries: usize) -> Vec<Entry> {
    Vec::with_capacity(entries)
}

/// The map of these entries, inserted in this order.
pub fn map<'a>(slots: &'a mut Vec<Entry>, entries: &[Entry]) -> Map<'a> {
    let mut map = Map::new(slots);
    for entry in entries {
        assert!(matches!(map.merge(entry), Ok(Merged::Inserted(_))), "{}", entry.id);
    }
    map
}

/// The slot of an id in a map.
pub fn slot(map: &Map<'_>, text: &str) -> Slot {
    map.get(&id(text)).unwrap().0
}

/// A sequence of numbers determined by a seed (xorshift64*).
pub struct SplitMix(u64);

impl SplitMix {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap() % bound
    }

    /// Puts a slice in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
