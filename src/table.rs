//! A table of nodes in borrowed memory, with dense slots and lookup by node id.
//!
//! The slots are those of a list, so memory is touched only when it is used. A
//! hash index of slot numbers finds a slot in constant time on average. It uses linear
//! probing and is at most half full. Node ids are random, but a stolen agent can claim
//! any; bad ids can slow a lookup down and nothing else.

use crate::list::List;
use crate::types::NodeId;

/// An entry that belongs to one node.
pub trait Keyed {
    /// That node.
    fn node(&self) -> NodeId;
}

/// Marks an unused index bucket.
pub const EMPTY: u16 = u16::MAX;

/// A table of nodes over borrowed slots and a borrowed index.
#[derive(Debug)]
pub struct Table<'a, T> {
    slots: &'a mut dyn List<T>,
    index: &'a mut [u16],
}

/// Buckets that an index over `slots` slots needs.
#[must_use]
pub const fn index_len(slots: usize) -> usize {
    slots.saturating_mul(2).next_power_of_two()
}

impl<'a, T: Keyed> Table<'a, T> {
    /// An empty table. `index` should have [`index_len`] buckets; a table never
    /// holds more than half as many nodes as it has buckets.
    #[must_use]
    pub fn new(slots: &'a mut dyn List<T>, index: &'a mut [u16]) -> Self {
        slots.clear();
        index.fill(EMPTY);
        Self { slots, index }
    }

    /// Nodes in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.items().len()
    }

    /// True of a table without nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest number of nodes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.room().min(self.index.len() / 2)
    }

    fn buckets(&self, node: NodeId) -> impl Iterator<Item = usize> + use<T> {
        let len = self.index.len();
        // Fibonacci hashing: the high half of the product depends on all bits.
        let start = (node.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        (0..len).map(move |step| start.wrapping_add(step).checked_rem(len).unwrap_or(0))
    }

    /// The slot of a node.
    #[must_use]
    pub fn find(&self, node: NodeId) -> Option<usize> {
        let entries = self.slots.items();
        for bucket in self.buckets(node) {
            let slot = *self.index.get(bucket)?;
            if slot == EMPTY {
                return None;
            }
            let slot = usize::from(slot);
            if entries.get(slot).is_some_and(|entry| entry.node() == node) {
                return Some(slot);
            }
        }
        None
    }

    /// The entry of a node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&T> {
        self.at(self.find(node)?)
    }

    /// The entry of a node, to change all of it but its node id.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut T> {
        self.at_mut(self.find(node)?)
    }

    /// Adds a node that is not in the table yet.
    ///
    /// # Errors
    /// Returns the entry if the table is full; nothing has changed.
    pub fn insert(&mut self, entry: T) -> Result<(), T> {
        if self.len() >= self.capacity() {
            return Err(entry);
        }
        self.link(entry.node(), self.len());
        self.slots.push(entry);
        Ok(())
    }

    fn link(&mut self, node: NodeId, slot: usize) {
        for bucket in self.buckets(node) {
            if let Some(found) = self.index.get_mut(bucket)
                && *found == EMPTY
            {
                *found = u16::try_from(slot).unwrap_or(EMPTY);
                return;
            }
        }
    }

    /// Removes a slot; the last slot moves into it. It rebuilds the index, which is fine for
    /// a rare operation.
    pub fn remove(&mut self, slot: usize) {
        let Some(last) = self.len().checked_sub(1).filter(|last| slot <= *last) else { return };
        self.slots.items_mut().swap(slot, last);
        self.slots.pop();
        self.index.fill(EMPTY);
        for slot in 0..last {
            if let Some(node) = self.at(slot).map(Keyed::node) {
                self.link(node, slot);
            }
        }
    }

    /// The entries, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.items().iter()
    }

    /// The entries, in the order of their slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.items_mut().iter_mut()
    }

    /// The entry in a slot.
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<&T> {
        self.slots.items().get(slot)
    }

    /// The entry in a slot.
    pub fn at_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.items_mut().get_mut(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Item(u64);
    impl Keyed for Item {
        fn node(&self) -> NodeId {
            NodeId(self.0)
        }
    }

    #[test]
    fn an_inserted_node_is_found_until_it_is_removed() {
        let (mut slots, mut index) = (Vec::with_capacity(100), [0; index_len(100)]);
        let mut table = Table::new(&mut slots, &mut index);
        // Ids whose hashes collide in the low bits, to walk over full buckets.
        let ids: Vec<u64> = (1..=100u64).map(|n| (n << 56) | (n % 3)).collect();
        for id in &ids {
            assert!(table.insert(Item(*id)).is_ok());
        }
        assert!(table.insert(Item(7)).is_err());
        for (count, id) in ids.iter().enumerate() {
            assert_eq!(table.get(NodeId(*id)), Some(&Item(*id)));
            table.remove(table.find(NodeId(*id)).unwrap());
            assert_eq!(table.get(NodeId(*id)), None);
            assert_eq!(table.len(), 99 - count);
            assert_eq!(table.iter().count(), table.len());
        }
        assert!(table.insert(Item(7)).is_ok());
    }

    #[test]
    fn a_table_without_room_refuses() {
        let mut slots = Vec::new();
        let mut table: Table<'_, Item> = Table::new(&mut slots, &mut []);
        assert!(table.insert(Item(1)).is_err());
        assert_eq!(table.find(NodeId(1)), None);
        table.remove(0);
    }
}
