//! The changes that were really made to the repository, which no node of the cluster knows
//! completely, and what must follow from them for every map.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use thimble::repo::entry::{Entry, EntryState, Stamp};
use thimble::types::Digest;

use crate::repository::MapFile;

/// A change that was acknowledged as durable.
struct Acknowledged {
    /// The controller that acknowledged it, until its disk is replaced.
    by: Option<usize>,
    entry: Entry,
}

/// A stamp found on a disk.
struct Used {
    /// The changes that may have given it.
    changes: BTreeSet<u64>,
    by: usize,
}

/// One entry as one change made it.
struct Intended {
    change: u64,
    by: usize,
    entry: Entry,
}

#[derive(Default)]
pub struct Ledger {
    changes: u64,
    /// Every entry that a change began to make, durable or not.
    intended: Vec<Intended>,
    acknowledged: Vec<Acknowledged>,
    stamps: BTreeMap<Stamp, Used>,
    /// Replicas restored to a time before they knew another controller: such a controller
    /// cannot know that others have its stamps.
    unguarded: BTreeSet<u64>,
    /// Entries that a merge stamped again, with their original entries.
    restamped: Vec<(Entry, Entry)>,
    /// Tombstones that a purge dropped.
    purged: Vec<Entry>,
    /// Tombstones dropped by a controller that knew no other.
    let_go: Vec<Entry>,
    /// Purge floors that were durable anywhere, and how many changes there were before.
    floors: BTreeMap<u64, u64>,
    /// The map of each digest, and the controllers that have announced it from their
    /// current disk.
    announced: BTreeMap<Digest, (Vec<Entry>, BTreeSet<usize>)>,
}

impl Ledger {
    pub fn on_intended(&mut self, by: usize, entries: &[Entry]) {
        self.changes += 1;
        let change = self.changes;
        self.intended.extend(entries.iter().cloned().map(|entry| Intended { change, by, entry }));
    }

    /// A map was restored to a time before it knew another controller.
    pub fn on_lonely(&mut self, file: &MapFile) {
        self.unguarded.insert(file.replica);
    }

    pub fn on_restamped(&mut self, by: usize, entry: &Entry, from: &Entry) {
        self.on_intended(by, std::slice::from_ref(entry));
        let root = self.root(from).clone();
        self.restamped.push((entry.clone(), root));
    }

    /// The operator's change that an entry results from.
    fn root<'e>(&'e self, entry: &'e Entry) -> &'e Entry {
        self.restamped.iter().find(|(anew, _)| anew == entry).map_or(entry, |(_, root)| root)
    }

    /// A purge drops these. If no other controller was ever known, the floor stays below
    /// them, because no other map is concerned.
    pub fn on_purge(&mut self, tombstones: &[Entry], floor: u64) {
        let (purged, let_go) = tombstones.iter().cloned().partition(|entry| entry.stamp.counter <= floor);
        let (purged, let_go): (Vec<_>, Vec<_>) = (purged, let_go);
        self.purged.extend(purged);
        self.let_go.extend(let_go);
    }

    pub fn on_acknowledged(&mut self, by: usize, entries: &[Entry]) {
        let by = Some(by);
        self.acknowledged.extend(entries.iter().cloned().map(|entry| Acknowledged { by, entry }));
    }

    pub fn on_announced(&mut self, by: usize, digest: Digest, entries: Vec<Entry>) {
        let (held, all) = self.announced.entry(digest).or_insert_with(|| (entries.clone(), BTreeSet::new()));
        assert_eq!(*held, entries, "two maps have one digest");
        all.insert(by);
    }

    /// A map is durable on a machine's disk: no stamp in it belongs to two changes.
    pub fn on_durable(&mut self, file: &MapFile) {
        self.floors.entry(file.floor).or_insert(self.changes);
        for held in &file.entries {
            let of_it: Vec<_> = self.intended.iter().filter(|intended| intended.entry == *held).collect();
            assert!(!of_it.is_empty(), "no change made this entry: {held:?}");
            let changes: BTreeSet<u64> = of_it.iter().map(|intended| intended.change).collect();
            let used = Used { changes, by: of_it[0].by };
            let changes = used.changes.clone();
            let used = self.stamps.entry(held.stamp).or_insert(used);
            used.changes.retain(|change| changes.contains(change));
            let is_guarded = !self.unguarded.contains(&held.stamp.replica);
            assert!(!used.changes.is_empty() || !is_guarded, "a stamp was used twice: {held:?}");
        }
    }

    /// A machine's disk was replaced: changes that only the old one had count as never made.
    /// `disks` are all maps that are left, `backups` those that may be restored.
    pub fn on_other_disk(&mut self, machine: usize, disks: &[&MapFile], backups: &[MapFile]) {
        let stamps = |file: &MapFile| file.entries.iter().map(|entry| entry.stamp).collect::<Vec<_>>();
        let held: BTreeSet<Stamp> = disks.iter().flat_map(|file| stamps(file)).collect();
        // An entry on no disk can return only from a backup.
        let kept = backups.iter().flat_map(stamps).filter(|stamp| !held.contains(stamp));
        self.unguarded.extend(kept.map(|stamp| stamp.replica));
        self.stamps.retain(|stamp, used| used.by != machine || held.contains(stamp));
        let covers = |acked: &Entry| disks.iter().any(|file| self.covers(file, acked));
        let is_left: Vec<bool> = self.acknowledged.iter().map(|acked| covers(&acked.entry)).collect();
        let mut is_left = is_left.into_iter();
        self.purged.retain(|gone| disks.iter().any(|file| file.floor >= gone.stamp.counter));
        self.acknowledged.retain(|_| is_left.next().expect("one each"));
        for (_, by) in self.announced.values_mut() {
            by.remove(&machine);
        }
        for acked in &mut self.acknowledged {
            acked.by = acked.by.filter(|by| *by != machine);
        }
    }

    /// Whether a map contains an entry or its replacement, or has seen it purged.
    fn covers(&self, file: &MapFile, acked: &Entry) -> bool {
        // A controller that dropped a tombstone alone may learn of an older entry later.
        if self.let_go.iter().any(|gone| gone.id == acked.id && order(gone, acked).is_ge()) {
            return true;
        }
        match file.get(&acked.id) {
            Some(held) => order(held, acked).is_ge(),
            None => {
                let is_gone = |entry: &Entry| {
                    entry.state == EntryState::Deleted
                        && entry.id == acked.id
                        && entry.stamp.counter <= file.floor
                        && order(entry, acked).is_ge()
                };
                self.intended.iter().any(|intended| is_gone(&intended.entry))
            }
        }
    }

    /// A controller's disk has every change that the controller acknowledged.
    pub fn check_load(&self, machine: usize, file: &MapFile) {
        for acked in self.acknowledged.iter().filter(|acked| acked.by == Some(machine)) {
            self.check_covers(file, &acked.entry);
        }
    }

    fn check_covers(&self, file: &MapFile, acked: &Entry) {
        let held = file.get(&acked.id);
        let floor = file.floor;
        assert!(self.covers(file, acked), "acknowledged, and lost: {acked:?}; held: {held:?}, floor {floor}");
    }

    /// In the end every map has all acknowledged changes, and no deleted and purged patch is
    /// back.
    pub fn check_final(&self, file: &MapFile) {
        for acked in &self.acknowledged {
            self.check_covers(file, &acked.entry);
        }
        for held in file.live().filter(|held| held.state != EntryState::Committed) {
            let root = self.root(held);
            // An emptied or restored controller gives low stamps to later changes, so
            // such an entry may be back.
            let is_over =
                |gone: &&Entry| gone.id == held.id && order(gone, root).is_gt() && self.is_later(gone, root);
            let gone = self.purged.iter().find(is_over);
            assert!(gone.is_none(), "purged as {gone:?}, and back: {held:?}, made as {root:?}");
        }
    }

    /// Whether one entry was made after another.
    fn is_later(&self, one: &Entry, other: &Entry) -> bool {
        let made = |entry: &Entry| self.intended.iter().rposition(|intended| intended.entry == *entry);
        made(one) > made(other)
    }

    /// A controller confirms to another that the map of this digest is on its disk.
    pub fn check_includes(&self, to: usize, digest: Digest, file: &MapFile) {
        let (acked, by) = self.announced.get(&digest).expect("the digest was announced");
        // It means nothing to a controller whose disk was replaced meanwhile.
        for entry in acked.iter().filter(|_| by.contains(&to)) {
            assert!(self.is_included(file, entry), "confirmed as durable, and is not: {entry:?}; {file:?}");
        }
    }

    /// Whether an entry was made with a counter that a purge had already covered: its
    /// controller was empty, restored to a time before the purge, or unknown, and did not
    /// know of the purge. A controller that knows of it cannot distinguish such an entry
    /// from a purged one. It drops the entry until the maker learns of the purge and stamps
    /// the entry again.
    pub fn is_below_a_purge(&self, entry: &Entry) -> bool {
        let made = self.intended.iter().find(|intended| intended.entry == *entry);
        let mut floors = self.floors.range(entry.stamp.counter..);
        entry.state != EntryState::Committed
            && made.is_some_and(|made| floors.any(|(_, changes)| *changes < made.change))
    }

    pub fn is_included(&self, file: &MapFile, entry: &Entry) -> bool {
        // A purged tombstone is not a loss, nor is the entry that it replaced.
        self.covers(file, entry)
            || file.get(&entry.id).is_none()
                && entry.stamp.counter <= file.floor
                && entry.state == EntryState::Deleted
    }
}

/// Which of two entries of one id every merge must keep, computed here independently of
/// the core.
fn order(one: &Entry, other: &Entry) -> Ordering {
    let is_final = |entry: &Entry| entry.state == EntryState::Committed;
    let stamp = |entry: &Entry| (entry.stamp.counter, entry.stamp.replica);
    let rest = |entry: &Entry| (entry.state, entry.hash, entry.size_bytes);
    (is_final(one), stamp(one), rest(one), &one.meta).cmp(&(
        is_final(other),
        stamp(other),
        rest(other),
        &other.meta,
    ))
}
