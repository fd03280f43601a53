//! Workers: lists of steps. Each step takes time, changes the disk or reports, and may be
//! the last before the worker dies.

use std::collections::{BTreeMap, VecDeque};

use thimble::fsm::event::{Event as NodeEvent, WorkerEnd};
use thimble::job::Report;
use thimble::repo::digest::set_digest;
use thimble::repo::entry::Entry;
use thimble::types::{Digest, Hash, NodeId, PatchId, Reason, RequestId};
use thimble::wire::frame::InstalledPatch;
use thimble::wire::install::InstallRequest;
use thimble::wire::install::Step;

use crate::awaited::Awaits;
use crate::commands::Command;
use crate::disk::{Bytes, Disk};
use crate::pull::Incoming;
use crate::sessions::Link;
use crate::world::{Event, World};

/// A host's patches.
pub type Set = BTreeMap<PatchId, Hash>;

pub fn digest_of(set: &Set) -> Digest {
    set_digest(set)
}

/// The patches installed on a disk, by its files alone.
pub fn files(disk: &Disk) -> Set {
    disk.hashes("root/").map(|(name, hash)| (crate::machine::name(name), hash)).collect()
}

/// A worker process.
pub struct Worker {
    pub id: u64,
    pub job: Job,
    pub steps: VecDeque<WorkerStep>,
}

/// The job of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// To install.
    Install,
    /// To recover after a crash.
    Recover,
    /// To commit an install that waits, or undo it.
    Prove,
    /// Controller: to read the repository.
    Load,
    /// Controller: to change it.
    Change,
    /// Controller: to merge another's map.
    Pull(NodeId),
    /// Controller: to fetch patch files from another.
    Blobs(NodeId),
}

impl Job {
    /// Whether it is a job of the agent rather than of the controller.
    pub fn is_agents(self) -> bool {
        matches!(self, Self::Install | Self::Recover | Self::Prove)
    }

    /// Whether at most one of these two jobs may run at a time.
    fn is_like(self, other: Self) -> bool {
        let kind = |job| match job {
            Self::Install | Self::Recover | Self::Prove => 0,
            Self::Load => 1,
            Self::Change => 2,
            Self::Pull(_) => 3,
            Self::Blobs(_) => 4,
        };
        kind(self) == kind(other)
    }
}

/// A step of a worker.
pub enum WorkerStep {
    // --- on the disk ---
    Write(String, Bytes),
    Sync(String),
    Rename(String, String),
    Remove(String),
    /// Makes all changes durable, and records them.
    SyncAll,
    /// Creates or removes a patch's file. Not durable.
    Put(PatchId, Option<Hash>),
    // --- an install ---
    Progress(Step, u8),
    Check,
    /// Over the session to this machine.
    Fetch(InstallRequest, Link),
    /// What was kept of a file that was sent to all hosts is verified, and goes.
    Uncache(Hash),
    Begin(InstallRequest, Set),
    /// The journal records the begin; the install must not have begun before.
    Begun(RequestId),
    /// With the set to go back to, and the one that is in place.
    Health(InstallRequest, Set, Set),
    /// The network is lost until the set before is back.
    LoseNetwork,
    FindNetwork,
    TellAwaited(RequestId, Awaits),
    /// What the journal says, rather than the files.
    TellBefore,
    Prove(bool),
    Recover,
    TellInstalled,
    TellEnd,
    End(Result<(), Reason>),
    // --- the repository ---
    /// Waits until no other worker has it open to change it.
    Lock,
    Unlock,
    Report(Box<Report>),
    Read,
    Loaded,
    /// With a new replica id or not; a purge only if the map still has this digest.
    Change(Command, bool, Digest),
    Acknowledge(Vec<Entry>),
    PullHead(NodeId, Link),
    PullEntry(Link, usize, Box<Incoming>),
    Join(Box<Incoming>),
    EndPull(NodeId, Result<Digest, Reason>),
    BlobList(NodeId, Link),
    BlobReq(NodeId, Link, Hash),
    BlobPiece(NodeId, Link, Hash),
    BlobCheck(Hash),
    EndBlobs(NodeId, Result<(), Reason>),
}

/// The steps that replace a file, whole or not at all.
pub fn replace(file: &str, bytes: Vec<u8>) -> [WorkerStep; 4] {
    let (file, new) = (file.to_string(), format!("{file}.new"));
    [
        WorkerStep::Write(new.clone(), bytes.into()),
        WorkerStep::Sync(new.clone()),
        WorkerStep::Rename(new, file),
        WorkerStep::SyncAll,
    ]
}

impl World {
    pub fn start_worker(&mut self, machine: usize, job: Job, steps: impl IntoIterator<Item = WorkerStep>) {
        let id = self.number();
        let Some(process) = &mut self.machines[machine].process else { return };
        assert!(!process.workers.iter().any(|other| other.job.is_like(job)), "two workers at the same work");
        process.workers.push(Worker { id, job, steps: steps.into_iter().collect() });
        self.schedule_worker(machine, id);
    }

    fn schedule_worker(&mut self, machine: usize, id: u64) {
        let Some(start) = self.machines[machine].process.as_ref().map(|process| process.start) else {
            return;
        };
        // Faults are found when work is slow compared with the deadlines, which it is
        // not in a real cluster.
        let delay = self.dice.between(0, if self.network.is_calm { 2 } else { 25 });
        self.schedule(delay, Event::Worker { machine, start, id });
    }

    pub fn on_worker(&mut self, machine: usize, id: u64) {
        if !self.network.is_calm && self.dice.chance(self.weather.worker_deaths) {
            return self.crash_worker(machine, id);
        }
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(worker) = process.workers.iter_mut().find(|worker| worker.id == id) else { return };
        match worker.steps.pop_front() {
            Some(step) => {
                self.take_step(machine, id, step);
                self.schedule_worker(machine, id);
            }
            None => {
                let job = self.reap(machine, id);
                if job == Some(Job::Load) {
                    self.reload(machine);
                }
                self.settle_floor(machine);
            }
        }
    }

    /// Removes a worker and the lock that it held, and returns its job.
    pub fn reap(&mut self, machine: usize, id: u64) -> Option<Job> {
        let process = self.machines[machine].process.as_mut()?;
        let at = process.workers.iter().position(|worker| worker.id == id)?;
        process.lock = process.lock.filter(|holder| *holder != id);
        Some(process.workers.remove(at).job)
    }

    fn reload(&mut self, machine: usize) {
        if self.machines[machine].process.as_ref().is_some_and(|process| process.must_load) {
            self.start_load(machine);
        }
    }

    fn crash_worker(&mut self, machine: usize, id: u64) {
        let Some(job) = self.reap(machine, id) else { return };
        self.note(format_args!("{machine}: a worker dies: {job:?}"));
        // Its durable changes must be known.
        if !job.is_agents() {
            self.start_load(machine);
        }
        let reason = Reason::truncated("killed");
        match job {
            Job::Install | Job::Recover | Job::Prove => {
                self.pass_event(machine, &NodeEvent::WorkerEnded(WorkerEnd::Crashed(&reason)));
            }
            Job::Pull(node) => self.pass_event(machine, &NodeEvent::PullEnded(node, Err(&reason))),
            Job::Blobs(node) => self.pass_event(machine, &NodeEvent::BlobsEnded(node, Err(&reason))),
            Job::Load | Job::Change => {}
        }
    }

    /// Inserts steps before a worker's remaining ones.
    pub fn prepend_steps(&mut self, machine: usize, id: u64, steps: impl IntoIterator<Item = WorkerStep>) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(worker) = process.workers.iter_mut().find(|worker| worker.id == id) else { return };
        let rest = std::mem::take(&mut worker.steps);
        worker.steps = steps.into_iter().chain(rest).collect();
    }

    /// Replaces a worker's remaining steps.
    pub fn replace_steps(&mut self, machine: usize, id: u64, steps: impl IntoIterator<Item = WorkerStep>) {
        let Some(process) = &mut self.machines[machine].process else { return };
        if let Some(worker) = process.workers.iter_mut().find(|worker| worker.id == id) {
            worker.steps = steps.into_iter().collect();
        }
    }

    pub fn pass_event(&mut self, machine: usize, event: &NodeEvent<'_>) {
        self.touch(machine, |process, now| process.node.on_event(now, event, &mut process.actions));
    }

    fn take_step(&mut self, machine: usize, id: u64, step: WorkerStep) {
        let disk = &mut self.machines[machine].disk;
        match step {
            WorkerStep::Write(file, bytes) => disk.write(&file, bytes),
            WorkerStep::Sync(file) => disk.sync(&file),
            WorkerStep::Rename(from, to) => disk.rename(&from, &to),
            WorkerStep::Remove(file) => disk.remove(&file),
            WorkerStep::SyncAll => {
                disk.sync_all();
                self.on_durable(machine);
            }
            WorkerStep::Put(patch, Some(hash)) => {
                disk.write(&format!("root/{patch}"), self.truth.contents[&hash].clone());
            }
            WorkerStep::Put(patch, None) => disk.remove(&format!("root/{patch}")),
            WorkerStep::Progress(step, percent) => {
                self.pass_event(machine, &NodeEvent::Progress(step, percent))
            }
            WorkerStep::Check => self.check_host(machine, id),
            WorkerStep::Fetch(install, link) => self.fetch(machine, id, install, link),
            WorkerStep::Uncache(hash) => self.uncache(machine, &hash),
            WorkerStep::Begin(install, new) => self.begin(machine, id, install, new),
            WorkerStep::Begun(request) => self.truth.on_begun(machine, request),
            WorkerStep::Health(install, old, new) => self.health(machine, id, install, &old, &new),
            WorkerStep::LoseNetwork => self.lose_network(machine),
            WorkerStep::FindNetwork => self.find_network(machine),
            WorkerStep::TellAwaited(request, awaits) => self.tell_awaited(machine, request, awaits),
            WorkerStep::TellBefore => self.tell_before(machine),
            WorkerStep::Prove(is_heard) => self.prove(machine, id, is_heard),
            WorkerStep::Recover => self.recover(machine, id),
            WorkerStep::TellInstalled => {
                for (id, hash) in files(&self.machines[machine].disk) {
                    self.pass_event(machine, &NodeEvent::Installed(&InstalledPatch { id, hash }));
                }
            }
            WorkerStep::TellEnd => self.report_end(machine),
            WorkerStep::End(end) => {
                self.reap(machine, id);
                self.note(format_args!("{machine}: the worker ends: {end:?}"));
                let end = match &end {
                    Ok(()) => WorkerEnd::Done,
                    Err(reason) => WorkerEnd::Failed(reason),
                };
                self.pass_event(machine, &NodeEvent::WorkerEnded(end));
            }
            WorkerStep::Lock => self.lock(machine, id),
            WorkerStep::Unlock => {
                if let Some(process) = &mut self.machines[machine].process {
                    process.lock = None;
                }
            }
            WorkerStep::Report(report) => self.report(machine, &report),
            WorkerStep::Read => self.read(machine, id),
            WorkerStep::Loaded => self.on_loaded(machine),
            WorkerStep::Change(command, renew, agreed) => self.change(machine, id, command, renew, agreed),
            WorkerStep::Acknowledge(entries) => self.on_acknowledged(machine, entries),
            WorkerStep::PullHead(node, link) => self.pull_head(machine, id, node, link),
            WorkerStep::PullEntry(link, from, incoming) => self.pull_entry(machine, id, link, from, incoming),
            WorkerStep::Join(incoming) => self.join(machine, id, &incoming),
            WorkerStep::EndPull(node, end) => self.end_pull(machine, id, node, end),
            WorkerStep::BlobList(node, link) => self.blob_list(machine, id, node, link),
            WorkerStep::BlobReq(node, link, hash) => self.blob_request(machine, id, node, link, hash),
            WorkerStep::BlobPiece(node, link, hash) => self.blob_piece(machine, id, node, link, hash),
            WorkerStep::BlobCheck(hash) => self.blob_check(machine, id, hash),
            WorkerStep::EndBlobs(node, end) => self.end_blobs(machine, id, node, &end),
        }
    }

    fn lock(&mut self, machine: usize, id: u64) {
        let Some(process) = &mut self.machines[machine].process else { return };
        match process.lock {
            None => process.lock = Some(id),
            Some(_) => self.prepend_steps(machine, id, [WorkerStep::Lock]),
        }
    }
}
