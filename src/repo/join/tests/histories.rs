//! Random histories of three controllers that upload, delete, purge, merge and lose their
//! disks.

use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::repo::fixture::SplitMix;

/// The events that may happen in a history.
#[derive(Clone, Copy)]
struct Weather {
    /// Controllers drop each other.
    drops: bool,
    /// A controller's disk is lost.
    wipes: bool,
    /// A controller is restored from a backup.
    restores: bool,
    /// Tombstones are purged.
    purges: bool,
}

/// Three controllers, and the whole truth about them.
struct History {
    random: SplitMix,
    repos: Vec<Repo>,
    /// Which others a controller has merged with.
    known: Vec<BTreeSet<usize>>,
    /// Whether it ever merged with another.
    has_met: Vec<bool>,
    backups: Vec<Option<Repo>>,
    /// The controllers that have not been merged with since a controller was restored
    /// from a backup. While there is one, the next change gets a new replica id.
    unshown: Vec<BTreeSet<usize>>,
    replicas: u64,
    uploads: usize,
    /// Ids that were never deleted and that no lost disk can have removed.
    safe: BTreeSet<String>,
    /// Ids that were deleted when all controllers agreed.
    gone: BTreeSet<String>,
    /// Ids that were void once.
    voided: BTreeSet<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            random: SplitMix::new(seed),
            repos: (1..=3).map(Repo::new).collect(),
            known: Vec::from_iter((0..3).map(|_| BTreeSet::new())),
            has_met: Vec::from_iter([false; 3]),
            backups: Vec::from_iter([None, None, None]),
            unshown: Vec::from_iter((0..3).map(|_| BTreeSet::new())),
            replicas: 3,
            uploads: 0,
            safe: BTreeSet::new(),
            gone: BTreeSet::new(),
            voided: BTreeSet::new(),
        }
    }

    fn new_replica(&mut self) -> u64 {
        self.replicas += 1;
        self.replicas
    }

    fn set(&mut self, at: usize, text: &str, state: EntryState) {
        if !self.unshown[at].is_empty() {
            self.repos[at].origin.replica = self.new_replica();
            self.unshown[at].clear();
        }
        // A controller restored from a backup may change it again.
        self.gone.remove(text);
        let made = self.repos[at].set(text, state).clone();
        self.is_the_only_one(&made);
    }

    /// No other entry, on a disk or in a backup, has the same stamp.
    fn is_the_only_one(&self, made: &Entry) {
        let repos = self.repos.iter().chain(self.backups.iter().flatten());
        for entry in repos.flat_map(|repo| &repo.entries).filter(|entry| entry.stamp == made.stamp) {
            assert_eq!(entry, made, "a stamp is used twice");
        }
    }

    fn pull(&mut self, at: usize, from: usize) {
        let theirs = self.repos[from].clone();
        for event in self.repos[at].pull(&theirs) {
            if let MergeEvent::Changed(entry) = event {
                self.is_the_only_one(&entry);
            }
        }
        self.known[at].insert(from);
        self.has_met[at] = true;
        self.unshown[at].remove(&from);
    }

    fn change_something(&mut self, at: usize, weather: Weather) {
        let live: Vec<_> =
            self.repos[at].entries.iter().filter(|entry| !entry.state.is_deleted()).cloned().collect();
        if live.is_empty() || self.random.below(3) == 0 {
            self.uploads += 1;
            let text = format!("P-{:03}", self.uploads);
            self.set(at, &text, Available);
            self.safe.insert(text);
            return;
        }
        // An id that was void and is purged may be used again.
        let free = self.voided.iter().find(|text| self.repos[at].get(text).is_none()).cloned();
        if let Some(text) = free.filter(|_| self.random.below(4) == 0) {
            return self.set(at, &text, Available);
        }
        let held = &live[self.random.below(live.len())];
        let text = held.id.to_string();
        match (held.state, self.random.below(8)) {
            // A commit is never purged, so a backup brings back what was void.
            (Committed, 0) if !weather.restores => {
                self.safe.remove(&text);
                self.voided.insert(text.clone());
                self.set(at, &text, Voided);
            }
            (Committed, _) => {}
            (_, 0) => self.set(at, &text, Committed),
            (Available, 1..4) => {
                self.safe.remove(&text);
                self.set(at, &text, Deleted);
            }
            (Available, _) => self.set(at, &text, Applied),
            _ => self.set(at, &text, Available),
        }
    }

    /// Entries that only this controller's disk has are no longer safe.
    fn lose(&mut self, at: usize) {
        let others: Vec<usize> = (0..3).filter(|other| *other != at).collect();
        self.safe.retain(|text| others.iter().all(|other| self.repos[*other].is_live(text)));
    }

    fn step(&mut self, weather: Weather) {
        let at = self.random.below(3);
        let other = (at + 1 + self.random.below(2)) % 3;
        match self.random.below(20) {
            0..8 => self.change_something(at, weather),
            8..15 => self.pull(at, other),
            15 | 16 if weather.purges => {
                let digest = self.repos[at].digest();
                if self.known[at].iter().all(|known| self.repos[*known].digest() == digest) {
                    let has_met = self.has_met[at];
                    self.repos[at].purge(has_met);
                }
            }
            17 if weather.drops => {
                self.known[at].remove(&other);
            }
            18 if weather.wipes => {
                self.lose(at);
                self.repos[at] = Repo::new(self.new_replica());
                self.known[at].clear();
                self.has_met[at] = false;
                self.unshown[at].clear();
            }
            18 if weather.restores => {
                self.backups[at] = Some(self.repos[at].clone());
            }
            19 if weather.restores => {
                if let Some(backup) = self.backups[at].clone() {
                    self.lose(at);
                    self.repos[at] = backup;
                    self.unshown[at] = (0..3).filter(|other| *other != at).collect();
                }
            }
            _ => {}
        }
    }

    /// All pull from all, in some order, until nothing changes.
    fn heal(&mut self, seed: u64) {
        let mut pairs: Vec<_> = (0..3).flat_map(|at| [(at, (at + 1) % 3), (at, (at + 2) % 3)]).collect();
        for _ in 0..6 {
            self.random.shuffle(&mut pairs);
            for (at, from) in pairs.clone() {
                self.pull(at, from);
            }
        }
        let all: Vec<_> = self.repos.iter().map(Repo::shown).collect();
        assert!(all[0] == all[1] && all[1] == all[2], "seed {seed}: they differ\n{}", all.join("\n"));
        let digests: Vec<_> = self.repos.iter().map(Repo::digest).collect();
        assert!(digests[0] == digests[1] && digests[1] == digests[2], "seed {seed}");
    }
}

fn history(seed: u64, weather: Weather, stays_deleted: bool) {
    let mut history = History::new(seed);
    for _ in 0..4 {
        for _ in 0..60 {
            history.step(weather);
        }
        history.heal(seed);
        let all = &history.repos[0];
        for text in &history.safe {
            assert!(all.is_live(text), "seed {seed}: {text} is lost of {}", all.shown());
        }
        for text in history.gone.iter().filter(|_| stays_deleted) {
            assert!(!all.is_live(text), "seed {seed}: {text} came back in {}", all.shown());
        }
        let every = (1..=history.uploads).map(|number| format!("P-{number:03}"));
        history.gone = every.filter(|text| !all.is_live(text)).collect();
    }
}

/// How many histories of each kind; `THIMBLE_SEEDS` sets another number.
fn seeds() -> u64 {
    std::env::var("THIMBLE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(16)
}

const FAIR: Weather = Weather { drops: false, wipes: false, restores: false, purges: true };

#[test]
fn in_any_order_all_maps_become_equal_nothing_is_lost_and_nothing_comes_back() {
    for seed in 0..seeds() {
        history(seed, FAIR, true);
    }
}

#[test]
fn a_lost_disk_loses_only_entries_that_no_other_controller_has() {
    for seed in 0..seeds() {
        history(seed, Weather { wipes: true, ..FAIR }, true);
    }
}

#[test]
fn a_restored_backup_brings_back_nothing_loses_nothing_and_uses_no_stamp_twice() {
    for seed in 0..seeds() {
        history(seed, Weather { restores: true, purges: false, ..FAIR }, true);
    }
    for seed in 0..seeds() {
        history(seed, Weather { restores: true, ..FAIR }, false);
    }
}

#[test]
fn controllers_that_a_purge_did_not_wait_for_lose_nothing_of_their_own() {
    for seed in 0..seeds() {
        history(seed, Weather { drops: true, ..FAIR }, false);
    }
}
