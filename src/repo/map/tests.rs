//! Merges, slots, floors and purges of a map.

use std::vec::Vec;

use super::*;
use crate::repo::entry::{EntryState, Stamp};
use crate::repo::fixture::{self, SplitMix, entry, id};

/// Entries of few ids, states and stamps, so that many conflict, some with equal stamps.
fn random_entries(random: &mut SplitMix, count: usize) -> Vec<Entry> {
    use EntryState::{Applied, Available, Committed, Deleted};
    let mut one = || {
        let mut made = entry(["A", "B", "C", "D", "E"][random.below(5)]);
        made.state = [Deleted, Available, Applied, Committed][random.below(4)];
        made.stamp = Stamp { counter: random.below(4) as u64, replica: random.below(3) as u64 };
        made.size_bytes = random.below(2) as u64;
        made.meta.unremovable = random.below(2) == 1;
        made
    };
    (0..count).map(|_| one()).collect()
}

/// The content of a map by id, and its digest.
fn merged(entries: &[&Entry]) -> (Vec<Entry>, Digest) {
    let mut slots = fixture::slots(8);
    let mut map = Map::new(&mut slots);
    for entry in entries {
        map.merge(entry).unwrap();
    }
    (map.iter_by_id().map(|(_, entry)| entry.clone()).collect(), map.digest())
}

#[test]
fn merging_is_commutative_associative_and_idempotent() {
    for seed in 0..200 {
        let mut random = SplitMix::new(seed);
        let entries = random_entries(&mut random, 24);
        let mut order: Vec<&Entry> = entries.iter().collect();
        let whole = merged(&order);
        // Commutative: in any order. Idempotent: repeated entries.
        random.shuffle(&mut order);
        order.extend_from_within(..random.below(24));
        assert_eq!(merged(&order), whole, "seed {seed}");
        // Associative: two parts merged first, then one into the other.
        let (left, right) = order.split_at(random.below(order.len()));
        let (left, right) = (merged(left).0, merged(right).0);
        assert_eq!(merged(&left.iter().chain(&right).collect::<Vec<_>>()), whole, "seed {seed}");
    }
}

#[test]
fn a_commit_wins_over_any_stamp_and_a_later_stamp_over_any_state() {
    let committed = entry("A").state(EntryState::Committed).stamp(1, 1);
    let deleted = entry("A").state(EntryState::Deleted).stamp(9, 1);
    let applied = entry("A").state(EntryState::Applied).stamp(8, 2);
    assert_eq!(merged(&[&committed, &deleted, &applied]).0, [committed]);
    assert_eq!(merged(&[&applied, &deleted]).0, [deleted]);
    let other = entry("A").state(EntryState::Available).stamp(8, 1);
    assert_eq!(merged(&[&applied, &other]).0, [applied], "equal counters: the replica decides");
}

#[test]
fn merge_returns_what_it_did() {
    let mut slots = fixture::slots(2);
    let mut map = Map::new(&mut slots);
    let slot = |index| Slot::new(index).unwrap();
    assert_eq!(map.merge(&entry("B").stamp(2, 0)), Ok(Merged::Inserted(slot(0))));
    assert_eq!(map.merge(&entry("A").stamp(2, 0)), Ok(Merged::Inserted(slot(1))));
    assert_eq!(map.merge(&entry("B").stamp(3, 0)), Ok(Merged::Replaced(slot(0))));
    assert_eq!(map.merge(&entry("B").stamp(3, 0)), Ok(Merged::Unchanged));
    assert_eq!(map.merge(&entry("B").stamp(1, 0)), Ok(Merged::Unchanged));
    assert_eq!(map.entry(slot(0)).unwrap().stamp.counter, 3);
    assert_eq!(map.get(&id("C")), None);
    assert_eq!(map.get(&id("A")).unwrap().0, slot(1));
}

#[test]
fn a_full_map_takes_changes_but_no_new_id() {
    let mut slots = fixture::slots(1);
    let mut map = fixture::map(&mut slots, &[entry("A").stamp(1, 0)]);
    let before = map.digest();
    assert!(map.is_full());
    assert_eq!(map.merge(&entry("B").stamp(7, 0)), Err(Full { entries: 1 }));
    assert_eq!((map.len(), map.digest(), map.highest_counter()), (1, before, 1));
    assert!(map.merge(&entry("A").stamp(2, 0)).is_ok());
    assert_eq!(map.highest_counter(), 2);
}

#[test]
fn a_map_has_room_for_the_bound_and_finds_every_entry() {
    let mut slots = fixture::slots(ENTRIES + 1);
    let mut names: Vec<_> = (0..=ENTRIES).map(|number| std::format!("P-{number}")).collect();
    SplitMix::new(1).shuffle(&mut names);
    let mut map = Map::new(&mut slots);
    for name in &names[..ENTRIES] {
        assert!(map.merge(&entry(name)).is_ok());
    }
    assert_eq!(map.merge(&entry(&names[ENTRIES])), Err(Full { entries: ENTRIES }));
    for (slot, held) in map.iter() {
        assert_eq!(held.id.as_str(), names[slot.index()], "slots are used in order and do not change");
        assert_eq!(map.get(&held.id).unwrap().0, slot);
    }
    assert_eq!(map.iter().count(), ENTRIES);
    assert!(map.iter_by_id().is_sorted_by(|(_, a), (_, b)| a.id < b.id));
    assert_eq!(map.iter_by_id().count(), ENTRIES);
}

#[test]
fn the_digest_follows_every_change_and_tombstones_count() {
    let mut slots = fixture::slots(4);
    let mut map = Map::new(&mut slots);
    let mut digests = std::vec![map.digest()];
    let deleted = entry("B").state(EntryState::Deleted);
    for change in [entry("A"), entry("A").stamp(2, 2), deleted.clone(), deleted.stamp(3, 1)] {
        map.merge(&change).unwrap();
        assert!(!digests.contains(&map.digest()), "{change:?}");
        digests.push(map.digest());
    }
    map.merge(&entry("A")).unwrap();
    assert_eq!(digests.last(), Some(&map.digest()), "nothing has changed");
}

#[test]
fn the_highest_counter_never_falls_when_a_commit_takes_an_entry_back() {
    let mut slots = fixture::slots(1);
    let mut map = fixture::map(&mut slots, &[entry("A").stamp(9, 0)]);
    let committed = entry("A").state(EntryState::Committed).stamp(4, 0);
    assert!(matches!(map.merge(&committed), Ok(Merged::Replaced(_))));
    assert_eq!(map.highest_counter(), 9);
}

/// A map of A (live), B (tombstone) and C (live), of counters 3, 5 and 7.
fn three(slots: &mut Vec<Entry>) -> Map<'_> {
    let b = entry("B").state(EntryState::Deleted).stamp(5, 1);
    fixture::map(slots, &[entry("A").stamp(3, 1), b, entry("C").stamp(7, 1)])
}

#[test]
fn the_floor_only_rises_and_drops_the_tombstones_up_to_it() {
    let mut slots = fixture::slots(3);
    let mut map = three(&mut slots);
    let before = map.digest();
    assert!(map.raise_floor(4).is_empty());
    assert_eq!((map.floor(), map.digest(), map.len()), (4, before, 3));
    let freed = map.raise_floor(5);
    assert!(freed.iter().map(Slot::index).eq([1]));
    assert_eq!((map.floor(), map.len(), map.get(&id("B"))), (5, 2, None));
    assert!(map.iter().map(|(slot, entry)| (slot.index(), entry.id.as_str())).eq([(0, "A"), (2, "C")]));
    assert!(map.iter_by_id().map(|(_, entry)| entry.id.as_str()).eq(["A", "C"]));
    assert_eq!(map.entry(Slot::new(1).unwrap()), None);
    assert!(map.raise_floor(2).is_empty());
    assert_eq!(map.floor(), 5);
    map.raise_floor(20);
    assert_eq!(map.highest_counter(), 20, "a new stamp after a purge is above its floor");
}

#[test]
fn the_digest_depends_on_the_entries_alone_not_on_floor_or_free_slots() {
    let mut slots = fixture::slots(4);
    let mut map = three(&mut slots);
    map.raise_floor(5);
    let entries = [entry("A").stamp(3, 1), entry("C").stamp(7, 1)];
    assert_eq!(map.digest(), merged(&entries.iter().collect::<Vec<_>>()).1);
}

#[test]
fn a_freed_slot_is_used_again_and_a_full_map_has_room() {
    let mut slots = fixture::slots(3);
    let mut map = three(&mut slots);
    assert!(map.is_full() && map.merge(&entry("D")).is_err());
    map.raise_floor(5);
    assert!(!map.is_full());
    assert_eq!(map.merge(&entry("D").stamp(8, 1)), Ok(Merged::Inserted(Slot::new(1).unwrap())));
    assert!(map.is_full() && map.merge(&entry("E")).is_err());
    assert_eq!(map.remove(&id("A")), Slot::new(0));
    assert_eq!(map.merge(&entry("0").stamp(9, 1)), Ok(Merged::Inserted(Slot::new(0).unwrap())));
    assert!(map.iter_by_id().map(|(_, entry)| entry.id.as_str()).eq(["0", "C", "D"]));
}

#[test]
fn a_purged_tombstone_stays_away_and_a_live_entry_or_a_later_one_does_not() {
    let mut slots = fixture::slots(4);
    let mut map = three(&mut slots);
    map.raise_floor(5);
    let b = |state, counter| entry("B").state(state).stamp(counter, 1);
    assert!(map.is_purged(&b(EntryState::Deleted, 5)) && map.is_purged(&b(EntryState::Applied, 4)));
    assert!(!map.is_purged(&b(EntryState::Applied, 6)) && !map.is_purged(&b(EntryState::Committed, 1)));
    assert!(!map.is_purged(&entry("A").stamp(2, 1)), "an entry in the map is merged");
    assert_eq!(map.merge(&b(EntryState::Deleted, 5)), Ok(Merged::Unchanged));
    assert!(matches!(map.merge(&b(EntryState::Deleted, 6)), Ok(Merged::Inserted(_))));
    // A store's own entries are merged at a start, after its floor.
    assert!(matches!(map.merge(&entry("D").stamp(1, 1)), Ok(Merged::Inserted(_))));
    let late = entry("A").state(EntryState::Deleted).stamp(4, 1);
    assert_eq!(map.merge(&late), Ok(Merged::Purged(Slot::new(0).unwrap())));
    assert_eq!(map.get(&id("A")), None, "no tombstone up to the floor is ever in the map");
}

#[test]
fn only_an_entry_that_a_purge_can_have_covered_is_removed() {
    let mut slots = fixture::slots(4);
    let mut map = three(&mut slots);
    map.merge(&entry("D").state(EntryState::Committed).stamp(1, 1)).unwrap();
    map.raise_floor(3);
    assert_eq!(map.remove(&id("C")), None, "changed since");
    assert_eq!(map.remove(&id("D")), None, "committed");
    assert_eq!(map.remove(&id("X")), None, "not here");
    let before = map.digest();
    assert_eq!(map.remove(&id("A")), Slot::new(0));
    assert_ne!(map.digest(), before);
    assert_eq!((map.len(), map.remove(&id("A"))), (3, None));
}
