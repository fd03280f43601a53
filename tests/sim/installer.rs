//! The agent's workers: install and recover, with a journal that is written before the
//! first change and after the last.

use serde::{Deserialize, Serialize};
use thimble::fsm::event::Event as NodeEvent;
use thimble::repo::effective::effective_set;
use thimble::types::{Hash, PatchId, Reason, RequestId};
use thimble::wire::frame::Purpose;
use thimble::wire::install::{InstallRequest, LastInstall, Outcome, Step};

use crate::awaited::Awaits;
use crate::disk::encode;
use crate::machine::{Machine, short};
use crate::repository::{MapFile, blob};
use crate::sessions::Link;
use crate::worker::{Job, Set, WorkerStep, digest_of, files, replace};
use crate::world::World;

/// The agent's journal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    /// What is installed, unless an install is open.
    pub installed: Vec<(PatchId, Hash)>,
    /// The install that has begun and not ended.
    pub open: Option<RequestId>,
    /// It is in place and waits for a controller.
    pub awaits: Option<Awaits>,
    /// How the last one ended.
    pub last: Option<LastInstall>,
}

impl Journal {
    pub fn set(&self) -> Set {
        self.installed.iter().cloned().collect()
    }

    /// The journal after an install's end.
    pub fn ended(set: &Set, request_id: RequestId, outcome: Outcome, reason: &str) -> Self {
        let reason = Reason::truncated(reason);
        let last = LastInstall { request_id, outcome, reason, reboot_required: false };
        Self { installed: set.clone().into_iter().collect(), open: None, awaits: None, last: Some(last) }
    }

    pub fn replace(&self) -> [WorkerStep; 4] {
        replace("journal", encode(self))
    }
}

/// The steps from what is on the disk to a set.
pub fn switch(from: &Set, to: &Set) -> Vec<WorkerStep> {
    let gone = from.keys().filter(|id| !to.contains_key(*id)).map(|id| WorkerStep::Put(id.clone(), None));
    let other = to.iter().filter(|(id, hash)| from.get(*id) != Some(*hash));
    gone.chain(other.map(|(id, hash)| WorkerStep::Put(id.clone(), Some(*hash)))).collect()
}

fn refused(reason: &str) -> [WorkerStep; 1] {
    [WorkerStep::End(Err(Reason::truncated(reason)))]
}

impl World {
    pub fn journal(&self, machine: usize) -> Journal {
        self.machines[machine].disk.decode("journal").unwrap_or_default()
    }

    pub fn start_install(&mut self, machine: usize, install: InstallRequest) {
        let link = self.take_link(machine, install.controller, Purpose::Fetch);
        self.note(format_args!("{machine} installs {} for {}", short(&install.digest), install.request_id));
        let steps =
            [WorkerStep::Progress(Step::Checking, 0), WorkerStep::Check, WorkerStep::Fetch(install, link)];
        self.start_worker(machine, Job::Install, steps);
        let installs = |machine: &Machine| {
            let workers = machine.process.iter().flat_map(|process| &process.workers);
            workers.filter(|worker| worker.job == Job::Install).count()
        };
        let at_work: usize = self.machines.iter().map(installs).sum();
        assert!(self.rollout_most.is_none_or(|most| at_work <= most), "{at_work} install at once");
    }

    pub fn check_host(&mut self, machine: usize, id: u64) {
        if !self.network.is_calm && self.dice.chance(50) {
            self.replace_steps(machine, id, refused("Node must be locked."));
        }
    }

    /// Fetches the manifest, whose digest must be the requested one, then the files, from
    /// the controller's disk.
    pub fn fetch(&mut self, machine: usize, id: u64, install: InstallRequest, link: Link) {
        if self.is_broken(machine, link) {
            return self.replace_steps(machine, id, refused("the session ended"));
        }
        let server = &self.machines[link.peer].disk;
        let (file, mut slots) = (MapFile::of(server), Vec::new());
        let map = file.map(&mut slots);
        let set = effective_set(&map, &self.machines[machine].nodetype);
        let entries = set.iter().filter_map(|slot| map.entry(slot));
        let manifest: Set = entries.map(|entry| (entry.id.clone(), entry.hash)).collect();
        if digest_of(&manifest) != install.digest {
            return self.replace_steps(machine, id, refused("the controller's set has changed: ask again"));
        }
        if !manifest.values().all(|hash| server.has(&blob(hash))) {
            return self.replace_steps(machine, id, refused("the controller does not have the patch file"));
        }
        let old = self.journal(machine).set();
        let new: Vec<Hash> =
            manifest.values().filter(|hash| !old.values().any(|had| had == *hash)).copied().collect();
        let uncached = self.fetch_files(machine, &new);
        let steps = [WorkerStep::Progress(Step::Fetching, 10), WorkerStep::Progress(Step::Verifying, 40)];
        let steps = steps.into_iter().chain(uncached).chain([WorkerStep::Begin(install, manifest)]);
        self.prepend_steps(machine, id, steps);
    }

    /// The journal first; then the files, the health check and the end.
    pub fn begin(&mut self, machine: usize, id: u64, install: InstallRequest, new: Set) {
        let journal = self.journal(machine);
        let old = journal.set();
        assert_eq!(files(&self.machines[machine].disk), old, "an install begins on a whole set");
        self.truth.on_begin(machine, digest_of(&old));
        let intent = Journal { open: Some(install.request_id), ..journal };
        let steps = intent.replace().into_iter();
        let steps =
            steps.chain([WorkerStep::Begun(install.request_id), WorkerStep::Progress(Step::Switching, 60)]);
        let steps = steps.chain(switch(&old, &new));
        let steps =
            steps.chain([WorkerStep::Progress(Step::Health, 90), WorkerStep::Health(install, old, new)]);
        let steps: Vec<WorkerStep> = steps.collect();
        self.prepend_steps(machine, id, steps);
    }

    pub fn health(&mut self, machine: usize, id: u64, install: InstallRequest, old: &Set, new: &Set) {
        let is_well = self.network.is_calm || !self.dice.chance(200);
        if is_well {
            let steps = self.in_place(machine, &install);
            return self.prepend_steps(machine, id, steps);
        }
        let reason = "the health script failed";
        let mut steps = vec![WorkerStep::Progress(Step::RollingBack, 90)];
        steps.extend(switch(new, old));
        steps.push(WorkerStep::SyncAll);
        steps.extend(Journal::ended(old, install.request_id, Outcome::RolledBack, reason).replace());
        steps.extend([WorkerStep::TellInstalled, WorkerStep::TellEnd]);
        steps.push(WorkerStep::End(Err(Reason::truncated(reason))));
        self.prepend_steps(machine, id, steps);
    }

    pub fn start_recovery(&mut self, machine: usize) {
        self.note(format_args!("{machine} recovers"));
        self.start_worker(machine, Job::Recover, [WorkerStep::Recover]);
    }

    /// Undoes an open install, then reports what is installed.
    pub fn recover(&mut self, machine: usize, id: u64) {
        if !self.network.is_calm && self.dice.chance(50) {
            return self.replace_steps(machine, id, refused("no space left"));
        }
        let journal = self.journal(machine);
        let (old, found) = (journal.set(), files(&self.machines[machine].disk));
        let mut steps = Vec::new();
        match (journal.open, journal.awaits.filter(Awaits::goes_on)) {
            (Some(request), Some(awaits)) => {
                let steps = self.waits_on(machine, request, awaits);
                return self.prepend_steps(machine, id, steps);
            }
            (Some(request), None) => {
                steps.extend(switch(&found, &old));
                steps.extend([WorkerStep::SyncAll, WorkerStep::FindNetwork]);
                let ended = Journal::ended(&old, request, Outcome::RolledBack, "the host went down");
                steps.extend(ended.replace());
            }
            (None, _) => {
                assert_eq!(found, old, "without an open install the host has one whole set");
                // Syncs writes that a kill left in the page cache.
                steps.push(WorkerStep::SyncAll);
            }
        }
        steps.extend([WorkerStep::TellInstalled, WorkerStep::TellEnd, WorkerStep::End(Ok(()))]);
        self.prepend_steps(machine, id, steps);
    }

    pub fn report_end(&mut self, machine: usize) {
        let digest = digest_of(&files(&self.machines[machine].disk));
        let journal = self.journal(machine);
        self.pass_event(machine, &NodeEvent::InstalledEnd(digest, journal.last.as_ref()));
    }
}
