//! The repository on a controller's disk, the worker that reads it, and how the loop
//! handles workers' reports of it.

use serde::{Deserialize, Serialize};
use thimble::job::Report;
use thimble::repo::entry::{Entry, EntryState};
use thimble::repo::join::Origin;
use thimble::repo::map::Map;
use thimble::repo::rollout::Rollout;
use thimble::types::{Hash, Hostname, NodeId, PatchId, Reason};

use crate::disk::{Disk, encode};
use crate::machine::PATCHES;
use crate::worker::{Job, WorkerStep, replace};
use crate::world::World;

/// The repository map on the disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MapFile {
    pub replica: u64,
    pub counter: u64,
    pub floor: u64,
    pub entries: Vec<Entry>,
    pub rollout: Option<Rollout>,
}

impl MapFile {
    pub fn of(disk: &Disk) -> Self {
        disk.decode("map").unwrap_or_default()
    }

    /// The map that is certain to survive a power cut.
    pub fn durable(disk: &Disk) -> Self {
        disk.decode_durable("map").unwrap_or_default()
    }

    pub fn get(&self, id: &PatchId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    pub fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.state != EntryState::Deleted)
    }

    /// Whether an entry that is not deleted names this file.
    pub fn names(&self, hash: &Hash) -> bool {
        self.live().any(|entry| entry.hash == *hash)
    }

    /// The replica and counter for new stamps, above all that the map has seen.
    pub fn origin(&self) -> Origin {
        let stamps = self.entries.iter().map(|entry| entry.stamp);
        let stamps = stamps.chain(self.rollout.map(|rollout| rollout.stamp));
        let highest = stamps.map(|stamp| stamp.counter).max().unwrap_or(0);
        Origin { replica: self.replica, counter: self.counter.max(highest).max(self.floor) }
    }

    /// The entries as the core's map.
    pub fn map<'m>(&self, slots: &'m mut Vec<Entry>) -> Map<'m> {
        slots.reserve_exact(PATCHES);
        let mut map = Map::new(slots);
        map.raise_floor(self.floor);
        for entry in &self.entries {
            map.merge(entry).expect("the patches that there are find room");
        }
        if let Some(rollout) = &self.rollout {
            map.merge_rollout(rollout);
        }
        map
    }

    /// Replaces the entries that have the ids of these.
    pub fn put(&mut self, changed: &[Entry]) {
        for entry in changed {
            self.entries.retain(|old| old.id != entry.id);
            self.entries.push(entry.clone());
            self.counter = self.counter.max(entry.stamp.counter);
        }
    }

    /// The steps that write this map to the disk.
    pub fn commit(&self) -> [WorkerStep; 4] {
        replace("map", encode(self))
    }
}

/// The other controllers that were ever merged with.
pub type Known = Vec<(NodeId, Hostname)>;

/// The names of a patch file, complete and while it is fetched.
pub fn blob(hash: &Hash) -> String {
    format!("blobs/{hash:.16}")
}

pub fn fetched(hash: &Hash) -> String {
    format!("fetch/{hash:.16}")
}

impl World {
    pub fn map_file(&self, machine: usize) -> MapFile {
        MapFile::of(&self.machines[machine].disk)
    }

    /// Starts the worker that reads the repository: at the start, and after a
    /// worker died that may have changed it.
    pub fn start_load(&mut self, machine: usize) {
        let Some(process) = &mut self.machines[machine].process else { return };
        process.must_load = process.workers.iter().any(|worker| matches!(worker.job, Job::Load));
        if !process.must_load {
            if let Some(controller) = &mut process.node.controller {
                controller.on_loading();
            }
            // Syncs writes that a kill left in the page cache, before they are used.
            self.start_worker(machine, Job::Load, [WorkerStep::Lock, WorkerStep::SyncAll, WorkerStep::Read]);
        }
    }

    /// Reads the repository; creates it if there is none.
    pub fn read(&mut self, machine: usize, id: u64) {
        let disk = &self.machines[machine].disk;
        if !disk.has("map") {
            let file = MapFile { replica: self.dice.next(), ..MapFile::default() };
            return self.prepend_steps(machine, id, file.commit().into_iter().chain([WorkerStep::Read]));
        }
        let file = MapFile::of(disk);
        let known: Known = disk.decode("controllers").unwrap_or_default();
        let is_start = self.machines[machine].process.as_ref().is_some_and(|process| !process.is_loaded);
        let mut steps = Vec::new();
        if is_start {
            let named = |name: &str| file.live().any(|entry| format!("{:.16}", entry.hash) == name);
            for folder in ["blobs/", "fetch/"] {
                let gone = disk.folder(folder).filter(|(name, _)| !named(name));
                steps.extend(gone.map(|(name, _)| WorkerStep::Remove(format!("{folder}{name}"))));
            }
        }
        self.ledger.check_load(machine, &file);
        let met = known.into_iter().map(|(node, hostname)| Report::Controller { node, hostname });
        let entries = file.entries.iter().cloned().map(Report::Entry);
        let missing = file.live().filter(|entry| !disk.has(&blob(&entry.hash)));
        let missing =
            missing.map(|entry| Report::BlobMissing { hash: entry.hash, reason: Reason::default() });
        let store = Report::Store { replica: file.replica, counter: file.counter };
        let head = [store].into_iter().chain(met).chain([Report::Floor(file.floor)]);
        let rollout = file.rollout.map(Report::Rollout);
        let reports = head.chain(entries).chain(rollout).chain(missing);
        steps.extend(reports.map(|report| WorkerStep::Report(Box::new(report))));
        steps.extend([WorkerStep::Unlock, WorkerStep::Loaded]);
        self.prepend_steps(machine, id, steps);
    }

    /// Serves the map's purge floor to others, unless a worker may have reported the floor
    /// and not yet all entries: with the floor, an entry that the map lacks counts as purged.
    pub fn settle_floor(&mut self, machine: usize) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let is_partial = process.workers.iter().any(|worker| matches!(worker.job, Job::Load | Job::Pull(_)));
        if let Some(controller) = process.node.controller.as_ref().filter(|_| !is_partial) {
            process.floor_told = controller.map().floor();
        }
    }

    pub fn on_loaded(&mut self, machine: usize) {
        self.note(format_args!("{machine} has its map"));
        self.touch(machine, |process, now| {
            process.is_loaded = true;
            if let Some(controller) = &mut process.node.controller {
                controller.on_loaded(now);
            }
        });
    }

    /// Handles a worker's report as the daemon's loop does.
    pub fn report(&mut self, machine: usize, report: &Report) {
        self.touch(machine, |process, now| {
            let Some(controller) = &mut process.node.controller else { return };
            match report {
                Report::Entry(entry) => {
                    controller.merge(now, entry).expect("the patches that there are find room");
                }
                Report::Rollout(rollout) => controller.merge_rollout(now, rollout),
                Report::EntryPurged(id) => controller.purge_entry(now, id),
                Report::Floor(floor) => controller.raise_floor(now, *floor),
                Report::BlobMissing { hash, reason } => controller.blob_missing(hash, reason),
                Report::BlobHere { hash } => controller.blob_here(hash),
                Report::Store { .. } => {}
                Report::Controller { node, hostname } => {
                    controller.sync_mut().neighbours_mut().know(now, *node, hostname);
                }
                other => unreachable!("no worker here says {other:?}"),
            }
        });
        self.check_effective(machine);
    }
}
