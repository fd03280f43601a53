//! The floors that this node has, to tell when one is old.

use crate::job::FloorFacts;
use crate::limits;
use crate::repo::map::Map;
use crate::types::Hash;

/// The floors that a node has.
#[derive(Debug, Default)]
pub struct Floors {
    /// An agent's: the one in force on this host.
    pub installed: Option<FloorFacts>,
    /// A controller's: those with the highest serials whose files are here.
    files: heapless::Vec<(Hash, FloorFacts), { limits::FLOORS_WATCHED }, u8>,
}

impl Floors {
    /// A file is a floor. Takes the place of one with a lower serial if there is no room.
    pub fn is_here(&mut self, hash: &Hash, floor: &FloorFacts) {
        let new = (*hash, floor.clone());
        if self.files.contains(&new) {
            return;
        }
        if let Err(new) = self.files.push(new)
            && let Some(lowest) = self.files.iter_mut().min_by_key(|(_, floor)| floor.serial)
            && lowest.1.serial < new.1.serial
        {
            *lowest = new;
        }
    }

    /// The floor in force among the applied patches.
    #[must_use]
    pub fn applied(&self, map: &Map<'_>) -> Option<&FloorFacts> {
        let is_applied = |hash: &Hash, floor: &FloorFacts| {
            map.get(&floor.id).is_some_and(|(_, entry)| entry.is_wanted() && entry.hash == *hash)
        };
        let applied = self.files.iter().filter(|(hash, floor)| is_applied(hash, floor));
        applied.map(|(_, floor)| floor).max_by_key(|floor| floor.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::entry::EntryState;
    use crate::repo::fixture::{entry, id};
    use crate::time::Day;

    fn floor(serial: u32) -> FloorFacts {
        FloorFacts { id: id(&format!("F{serial}")), serial, expires: Day::default() }
    }

    #[test]
    fn the_highest_applied_one_is_in_force_and_lower_ones_make_room() {
        let mut floors = Floors::default();
        let mut memory = Vec::with_capacity(limits::ENTRIES);
        let mut map = Map::new(&mut memory);
        for serial in 1..=20 {
            let state = if serial <= 18 { EntryState::Applied } else { EntryState::Available };
            let entry = entry(&format!("F{serial}")).state(state);
            floors.is_here(&entry.hash, &floor(serial));
            floors.is_here(&entry.hash, &floor(serial));
            map.merge(&entry).unwrap();
        }
        assert_eq!(floors.files.len(), limits::FLOORS_WATCHED);
        assert_eq!(floors.applied(&map), Some(&floor(18)));
        // A file of an entry that has another one now.
        let mut other = Floors::default();
        other.is_here(&Hash([9; 32]), &floor(18));
        assert_eq!(other.applied(&map), None);
        // A lower one finds no room.
        floors.is_here(&Hash([9; 32]), &floor(2));
        assert!(floors.files.iter().all(|(_, floor)| floor.serial > 4));
    }
}
