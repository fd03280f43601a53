//! Two maps, changed, purged and merged.

mod histories;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::repo::fixture::{self, entry, id};
use crate::repo::rollout::RolloutState;
use crate::types::{Digest, NodeId};
use EntryState::{Applied, Available, Committed, Deleted, Voided};

/// A controller's repository: what its map file holds.
#[derive(Clone)]
struct Repo {
    entries: Vec<Entry>,
    floor: u64,
    origin: Origin,
}

impl Repo {
    fn new(replica: u64) -> Self {
        Self { entries: Vec::new(), floor: 0, origin: Origin { replica, counter: 0 } }
    }

    fn with(replica: u64, counter: u64, floor: u64, entries: &[Entry]) -> Self {
        Self { entries: entries.to_vec(), floor, origin: Origin { replica, counter } }
    }

    fn map<'a>(&self, slots: &'a mut Vec<Entry>) -> Map<'a> {
        let mut map = Map::new(slots);
        map.raise_floor(self.floor);
        for entry in &self.entries {
            map.merge(entry).unwrap();
        }
        map
    }

    fn digest(&self) -> Digest {
        self.map(&mut fixture::slots(ROOM)).digest()
    }

    fn get(&self, text: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id.as_str() == text)
    }

    fn is_live(&self, text: &str) -> bool {
        self.get(text).is_some_and(|entry| !entry.state.is_deleted())
    }

    /// A change made here.
    fn set(&mut self, text: &str, state: EntryState) -> &Entry {
        let highest = self.entries.iter().map(|entry| entry.stamp.counter).max();
        self.origin.counter = self.origin.counter.max(highest.unwrap_or(0)).max(self.floor);
        let stamp = self.origin.next_stamp();
        self.entries.retain(|entry| entry.id.as_str() != text);
        self.entries.push(Entry { stamp, ..entry(text).state(state) });
        self.entries.last().unwrap()
    }

    /// Merges another's map as a store does.
    fn pull(&mut self, theirs: &Self) -> Vec<MergeEvent> {
        self.pull_into(theirs, ROOM)
    }

    fn pull_into(&mut self, theirs: &Self, room: usize) -> Vec<MergeEvent> {
        let mut their_slots = fixture::slots(ROOM);
        let their_map = theirs.map(&mut their_slots);
        for floor in [theirs.floor, 0] {
            let (mut slots, mut origin, mut events) = (fixture::slots(room), self.origin, Vec::new());
            let mut map = self.map(&mut slots);
            let fresh = 1_000 + self.origin.replica;
            let is_whole =
                join(&mut map, &mut origin, &their_map, floor, fresh, &mut |event| events.push(event));
            if is_whole || floor == 0 {
                let entries = map.iter_by_id().map(|(_, entry)| entry.clone()).collect();
                *self = Self { entries, floor: map.floor(), origin };
                return events;
            }
        }
        unreachable!("a merge without a floor is the last")
    }

    /// Drops all tombstones as a store does.
    fn purge(&mut self, has_met_others: bool) {
        let highest = self.entries.iter().map(|entry| entry.stamp.counter).max();
        if has_met_others {
            self.floor = self.floor.max(highest.unwrap_or(0));
        }
        self.origin.counter = self.origin.counter.max(self.floor);
        self.entries.retain(|entry| !entry.state.is_deleted());
    }

    /// Ids, states and counters, sorted by id.
    fn shown(&self) -> String {
        let mut lines: Vec<_> = self
            .entries
            .iter()
            .map(|entry| format!("{} {:?} {}", entry.id, entry.state, entry.stamp.counter))
            .collect();
        lines.sort();
        lines.join(", ")
    }
}

const ROOM: usize = 512;

#[test]
fn a_purge_reaches_other_maps_and_dropped_entries_do_not_come_back() {
    let mut one = Repo::new(1);
    one.set("A", Available);
    one.set("B", Available);
    let mut two = Repo::new(2);
    two.pull(&one);
    let old = two.clone();
    one.set("B", Deleted);
    two.pull(&one);
    one.purge(true);
    assert_eq!((one.shown().as_str(), one.floor), ("A Available 1", 3));
    assert_eq!(two.pull(&one), [], "a dropped tombstone is not reported");
    assert_eq!((two.shown(), two.floor), (one.shown(), 3));
    // A controller that was away since before the deletion.
    let mut late = old.clone();
    assert_eq!(late.pull(&one), [MergeEvent::Purged(id("B"))]);
    assert_eq!(late.digest(), one.digest());
    let before = one.digest();
    assert_eq!(one.pull(&old), []);
    assert_eq!(one.digest(), before);
    assert_eq!(late.set("C", Available).stamp.counter, 4, "a new stamp is above the floor");
}

#[test]
fn an_entry_made_where_no_purge_could_see_it_gets_a_new_stamp() {
    let mut purged = Repo::with(1, 9, 9, &[entry("A").stamp(4, 1)]);
    let mut alone = Repo::new(2);
    alone.set("B", Applied);
    alone.set("C", Committed);
    alone.set("D", Deleted);
    let events = alone.pull(&purged);
    assert_eq!(alone.shown(), "A Applied 4, B Applied 10, C Committed 2", "{events:?}");
    purged.pull(&alone);
    assert_eq!(purged.digest(), alone.digest());
}

#[test]
fn a_purge_removes_the_entries_of_others_and_ours_if_the_peer_is_ahead_of_us() {
    let with_later = Repo::with(1, 9, 9, &[entry("Z").stamp(8, 2)]);
    let mut set_back = Repo::with(2, 5, 0, &[entry("A").stamp(3, 2), entry("B").stamp(4, 3)]);
    let events = set_back.pull(&with_later);
    assert!(
        events.contains(&MergeEvent::Renamed) && events.contains(&MergeEvent::Purged(id("A"))),
        "{events:?}"
    );
    assert_eq!(set_back.shown(), "Z Applied 8");
    let mut away = Repo::with(2, 5, 0, &[entry("B").stamp(4, 3)]);
    assert_eq!(away.pull(&Repo::with(1, 9, 9, &[])), [MergeEvent::Purged(id("B"))]);
}

#[test]
fn two_maps_with_one_floor_agree_on_an_entry_that_one_of_them_lacks() {
    let lacks = Repo::with(1, 9, 9, &[]);
    let mut holds = Repo::with(2, 9, 9, &[entry("A").stamp(4, 3), entry("B").stamp(4, 2)]);
    let before = holds.clone();
    let mut other = lacks.clone();
    assert_eq!(other.pull(&holds), [], "an entry up to the floor is not merged");
    assert_eq!(holds.pull(&lacks).len(), 2);
    assert_eq!(holds.shown(), "B Applied 10", "of {}", before.shown());
    other.pull(&holds);
    assert_eq!(other.digest(), holds.digest());
}

#[test]
fn a_deletion_that_a_purge_missed_gets_a_new_stamp_on_either_side() {
    let deletion = [entry("A").state(Deleted).stamp(5, 3)];
    let live = [entry("A").stamp(3, 1)];
    let (missed, purged) = (Repo::with(2, 5, 0, &deletion), Repo::with(1, 9, 9, &live));
    let (mut left, mut right) = (missed.clone(), purged.clone());
    left.pull(&purged);
    assert_eq!(left.shown(), "A Deleted 10");
    right.pull(&missed);
    assert_eq!(right.shown(), "A Deleted 10");
    left.pull(&right);
    right.pull(&left);
    assert_eq!((left.digest(), left.is_live("A")), (right.digest(), false));
}

#[test]
fn a_counter_is_accepted_up_to_the_leap_and_no_further() {
    let leap = crate::limits::COUNTER_LEAP;
    let take = |counter| {
        let mut ours = Repo::with(1, 7, 0, &[]);
        let theirs = Repo::with(2, counter, 0, &[entry("A").stamp(counter, 2), entry("B").stamp(9, 2)]);
        let events = ours.pull(&theirs);
        (ours, events)
    };
    let (ours, events) = take(7 + leap);
    assert_eq!((ours.entries.len(), events.len(), ours.origin.counter), (2, 2, 7 + leap));
    for counter in [8 + leap, u64::MAX] {
        let (ours, events) = take(counter);
        assert_eq!((ours.shown().as_str(), ours.origin.counter), ("B Applied 9", 9), "the rest merges");
        assert!(events.contains(&MergeEvent::Leap(entry("A").stamp(counter, 2))), "{events:?}");
    }
}

#[test]
fn a_map_that_was_not_merged_whole_purges_nothing() {
    let ours = Repo::with(1, 9, 2, &[entry("A").stamp(3, 3), entry("B").state(Deleted).stamp(4, 3)]);
    let theirs = Repo::with(2, 9, 8, &[entry("C").stamp(u64::MAX, 2), entry("D").stamp(9, 2)]);
    let mut after = ours.clone();
    after.pull(&theirs);
    assert_eq!((after.shown().as_str(), after.floor), ("A Applied 3, B Deleted 4, D Applied 9", 2));
    // The same for an entry without room; tombstones take room too.
    let theirs =
        Repo::with(2, 9, 8, &[entry("A").stamp(3, 3), entry("D").stamp(9, 2), entry("E").stamp(9, 2)]);
    let mut after = ours.clone();
    let events = after.pull_into(&theirs, 2);
    assert!(matches!(&events[..], [MergeEvent::NoRoom(..), MergeEvent::NoRoom(..)]), "{events:?}");
    assert_eq!((after.shown(), after.floor), (ours.shown(), 2));
    let mut after = ours.clone();
    after.pull_into(&theirs, 3);
    assert_eq!((after.shown().as_str(), after.floor), ("A Applied 3, D Applied 9, E Applied 9", 8));
}

#[test]
fn a_replaced_change_of_ours_is_reported_with_its_replacement() {
    let ours = entry("A").stamp(3, 1);
    let theirs = entry("A").state(Deleted).stamp(5, 2);
    let mut repo = Repo::with(1, 5, 0, &[ours.clone(), entry("B").stamp(4, 3), entry("C").stamp(5, 1)]);
    let other = [theirs.clone(), entry("B").stamp(5, 2), entry("C").stamp(6, 2)];
    let events = repo.pull(&Repo::with(2, 6, 0, &other));
    let replaced: Vec<_> =
        events.iter().filter(|event| matches!(event, MergeEvent::Replaced { .. })).collect();
    assert_eq!(
        replaced,
        [&MergeEvent::Replaced { ours, theirs }],
        "B was not ours, C has only another stamp"
    );
}

#[test]
fn a_controller_that_sees_its_own_replica_ahead_takes_a_new_replica_id() {
    let ahead = [entry("A").stamp(8, 1), entry("B").stamp(4, 1)];
    for (counter, is_set_back) in [(7, true), (8, false)] {
        let mut ours = Repo::with(1, counter, 0, &[]);
        let events = ours.pull(&Repo::with(2, 9, 0, &ahead));
        assert_eq!(events.contains(&MergeEvent::Renamed), is_set_back, "{events:?}");
        assert_eq!((ours.origin.replica != 1, ours.origin.counter), (is_set_back, 8));
    }
}

#[test]
fn of_two_rollouts_the_later_stays_everywhere_and_their_digests_differ() {
    let rollout = |counter, replica, id| Rollout {
        stamp: Stamp { counter, replica },
        id,
        carrier: NodeId(1),
        state: RolloutState::Running,
        parallel: 1,
        stop_after: 0,
        force: false,
    };
    let (early, late) = (rollout(5, 9, 1), rollout(6, 2, 2));
    let (mut one, mut two) = (fixture::slots(ROOM), fixture::slots(ROOM));
    let (mut one, mut two) = (fixture::map(&mut one, &[]), fixture::map(&mut two, &[]));
    let empty = one.digest();
    assert!(one.merge_rollout(&early) && two.merge_rollout(&late));
    assert!(one.digest() != empty && one.digest() != two.digest());

    let mut origin = Origin { replica: 1, counter: 3 };
    let mut events = Vec::new();
    assert!(join(&mut one, &mut origin, &two, 0, 77, &mut |event| events.push(event)));
    assert_eq!((events.as_slice(), one.digest()), (&[MergeEvent::Rollout(late)][..], two.digest()));
    assert_eq!(origin.next_stamp(), Stamp { counter: 7, replica: 1 }, "the next change is above it");
    assert!(!one.merge_rollout(&early), "a replaced rollout does not come back");

    // An unknown rollout with our own replica id shows that this map is restored.
    let mut back = Origin { replica: 2, counter: 5 };
    let mut slots = fixture::slots(ROOM);
    let mut ours = fixture::map(&mut slots, &[]);
    assert!(join(&mut ours, &mut back, &two, 0, 77, &mut |_| {}));
    assert_eq!(back.replica, 77);

    let mut events = Vec::new();
    let mut leaping = fixture::slots(ROOM);
    let mut leaping = fixture::map(&mut leaping, &[]);
    leaping.merge_rollout(&rollout(u64::MAX, 3, 3));
    assert!(!join(&mut one, &mut origin, &leaping, 0, 77, &mut |event| events.push(event)));
    assert!(matches!(events[..], [MergeEvent::RolloutLeap(_)]) && one.rollout() == Some(&late));
}
