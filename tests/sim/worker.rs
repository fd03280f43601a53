//! Workers: lists of steps, each of which takes time, changes the disk or
//! reports, and may be the last that the worker lives to take.

use std::collections::{BTreeMap, VecDeque};

use thimble::fsm::actions::Install;
use thimble::fsm::event::{Event as Told, WorkerEnd};
use thimble::repo::digest::set_digest;
use thimble::repo::entry::Entry;
use thimble::types::{Digest, Hash, PatchId, Reason, RequestId};
use thimble::wire::frame::InstalledPatch;
use thimble::wire::install::Step;

use crate::disk::Disk;
use crate::world::{Event, World};

/// A host's patches.
pub type Set = BTreeMap<PatchId, Hash>;

pub fn digest_of(set: &Set) -> Digest {
    set_digest(set)
}

/// What is installed on a disk, by its files and nothing else.
pub fn files(disk: &Disk) -> Set {
    disk.folder("root/")
        .map(|(name, bytes)| (crate::machine::name(name), Hash(*blake3::hash(bytes).as_bytes())))
        .collect()
}

/// A worker process.
pub struct Worker {
    pub id: u64,
    pub job: Job,
    pub steps: VecDeque<Do>,
}

/// What it was started for.
#[derive(Clone, Copy)]
pub enum Job {
    /// To install.
    Install,
    /// To clear up after a crash.
    Recover,
    /// Controller: to read the map.
    Load,
    /// Controller: to change the map.
    Change,
}

impl Job {
    /// Whether the agent's state machine waits for its end.
    fn is_agents(self) -> bool {
        matches!(self, Self::Install | Self::Recover)
    }
}

/// A step of a worker.
pub enum Do {
    // --- on the disk ---
    Write(&'static str, Vec<u8>),
    Sync(&'static str),
    Rename(&'static str, &'static str),
    /// Makes all durable. What it makes durable is then true for good.
    SyncAll,
    /// Puts a patch's file in place, or takes it away. Not durable.
    Put(PatchId, Option<Hash>),
    // --- an install ---
    Progress(Step, u8),
    Check,
    /// Over the session to this machine.
    Fetch(Install, usize),
    Begin(Install, Set),
    /// The journal says so: it must not have begun before.
    Begun(RequestId),
    /// With the set to go back to, and the one that is in place.
    Health(Install, Set, Set),
    Recover,
    TellInstalled,
    TellEnd,
    End(Result<(), Reason>),
    // --- a change of the map ---
    Merge(Box<Entry>),
    Loaded,
    Acknowledge(Vec<Entry>),
}

/// The steps that put a file in the place of another, whole or not at all.
pub fn replace(file: &'static str, new: &'static str, bytes: Vec<u8>) -> [Do; 4] {
    [Do::Write(new, bytes), Do::Sync(new), Do::Rename(new, file), Do::SyncAll]
}

impl World {
    pub fn start_worker(&mut self, machine: usize, job: Job, steps: impl IntoIterator<Item = Do>) {
        let id = self.number();
        let Some(process) = &mut self.machines[machine].process else { return };
        let is_one = !process.workers.iter().any(|other| other.job.is_agents() == job.is_agents());
        assert!(is_one, "two workers at the same work");
        process.workers.push(Worker { id, job, steps: steps.into_iter().collect() });
        self.schedule_worker(machine, id);
    }

    fn schedule_worker(&mut self, machine: usize, id: u64) {
        let Some(start) = self.machines[machine].process.as_ref().map(|process| process.start) else {
            return;
        };
        let delay = self.dice.between(0, 25);
        self.schedule(delay, Event::Worker { machine, start, id });
    }

    pub fn on_worker(&mut self, machine: usize, id: u64) {
        if !self.network.is_calm && self.dice.chance(8) {
            return self.crash_worker(machine, id);
        }
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(worker) = process.workers.iter_mut().find(|worker| worker.id == id) else { return };
        match worker.steps.pop_front() {
            Some(step) => {
                self.take_step(machine, id, step);
                self.schedule_worker(machine, id);
            }
            None => process.workers.retain(|worker| worker.id != id),
        }
    }

    fn crash_worker(&mut self, machine: usize, id: u64) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(at) = process.workers.iter().position(|worker| worker.id == id) else { return };
        let job = process.workers.remove(at).job;
        self.note(format_args!("{machine}: a worker dies"));
        if job.is_agents() {
            let reason = Reason::new("killed");
            self.tell_agent(machine, &Told::WorkerEnded(WorkerEnd::Crashed(&reason)));
        } else {
            // What it made durable before it died must be known.
            self.start_load(machine);
        }
    }

    /// Puts steps before all that a worker still has to do.
    pub fn first(&mut self, machine: usize, id: u64, steps: impl IntoIterator<Item = Do>) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(worker) = process.workers.iter_mut().find(|worker| worker.id == id) else { return };
        let rest = std::mem::take(&mut worker.steps);
        worker.steps = steps.into_iter().chain(rest).collect();
    }

    /// Drops all that a worker still has to do, for these steps.
    pub fn instead(&mut self, machine: usize, id: u64, steps: impl IntoIterator<Item = Do>) {
        let Some(process) = &mut self.machines[machine].process else { return };
        if let Some(worker) = process.workers.iter_mut().find(|worker| worker.id == id) {
            worker.steps = steps.into_iter().collect();
        }
    }

    pub fn tell_agent(&mut self, machine: usize, told: &Told<'_>) {
        self.touch(machine, |process, now| process.node.on_event(now, told, &mut process.actions));
    }

    fn take_step(&mut self, machine: usize, id: u64, step: Do) {
        let disk = &mut self.machines[machine].disk;
        match step {
            Do::Write(file, bytes) => disk.write(file, bytes),
            Do::Sync(file) => disk.sync(file),
            Do::Rename(from, to) => disk.rename(from, to),
            Do::SyncAll => {
                disk.sync_all();
                self.on_durable(machine);
            }
            Do::Put(patch, Some(hash)) => {
                disk.write(&format!("root/{patch}"), self.truth.contents[&hash].clone());
            }
            Do::Put(patch, None) => disk.remove(&format!("root/{patch}")),
            Do::Progress(step, percent) => self.tell_agent(machine, &Told::Progress(step, percent)),
            Do::Check => self.check_host(machine, id),
            Do::Fetch(install, server) => self.fetch(machine, id, install, server),
            Do::Begin(install, new) => self.begin(machine, id, install, new),
            Do::Begun(request) => self.truth.on_begun(machine, request),
            Do::Health(install, old, new) => self.health(machine, id, install, &old, &new),
            Do::Recover => self.recover(machine, id),
            Do::TellInstalled => {
                for (id, hash) in files(&self.machines[machine].disk) {
                    self.tell_agent(machine, &Told::Installed(&InstalledPatch { id, hash }));
                }
            }
            Do::TellEnd => self.tell_end(machine),
            Do::End(end) => {
                let Some(process) = &mut self.machines[machine].process else { return };
                process.workers.retain(|worker| worker.id != id);
                self.note(format_args!("{machine}: the worker ends: {end:?}"));
                let end = match &end {
                    Ok(()) => WorkerEnd::Done,
                    Err(reason) => WorkerEnd::Failed(reason),
                };
                self.tell_agent(machine, &Told::WorkerEnded(end));
            }
            Do::Merge(entry) => self.merge(machine, &entry),
            Do::Loaded => self.on_loaded(machine),
            Do::Acknowledge(entries) => self.on_acknowledged(&entries),
        }
    }
}
