//! Workers: lists of steps, each of which takes time, changes the disk or
//! reports, and may be the last that the worker lives to take.

use std::collections::{BTreeMap, VecDeque};

use thimble::fsm::event::{Event as Told, WorkerEnd};
use thimble::job::Report;
use thimble::repo::digest::set_digest;
use thimble::repo::entry::Entry;
use thimble::types::{Digest, Hash, NodeId, PatchId, Reason, RequestId};
use thimble::wire::frame::InstalledPatch;
use thimble::wire::install::InstallRequest;
use thimble::wire::install::Step;

use crate::commands::Command;
use crate::disk::Disk;
use crate::pull::Incoming;
use crate::sessions::Link;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// To install.
    Install,
    /// To clear up after a crash.
    Recover,
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
    /// Whether it is of no concern to the controller on the machine.
    pub fn is_agents(self) -> bool {
        matches!(self, Self::Install | Self::Recover)
    }

    /// Those of which there is one at most.
    fn is_like(self, other: Self) -> bool {
        let kind = |job| match job {
            Self::Install | Self::Recover => 0,
            Self::Load => 1,
            Self::Change => 2,
            Self::Pull(_) => 3,
            Self::Blobs(_) => 4,
        };
        kind(self) == kind(other)
    }
}

/// A step of a worker.
pub enum Do {
    // --- on the disk ---
    Write(String, Vec<u8>),
    Sync(String),
    Rename(String, String),
    Remove(String),
    /// Makes all durable. What it makes durable is then true for good.
    SyncAll,
    /// Puts a patch's file in place, or takes it away. Not durable.
    Put(PatchId, Option<Hash>),
    // --- an install ---
    Progress(Step, u8),
    Check,
    /// Over the session to this machine.
    Fetch(InstallRequest, Link),
    Begin(InstallRequest, Set),
    /// The journal says so: it must not have begun before.
    Begun(RequestId),
    /// With the set to go back to, and the one that is in place.
    Health(InstallRequest, Set, Set),
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
    /// Under a new replica or not; a purge only if the map still has this digest.
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

/// The steps that put a file in the place of another, whole or not at all.
pub fn replace(file: &str, bytes: Vec<u8>) -> [Do; 4] {
    let (file, new) = (file.to_string(), format!("{file}.new"));
    [Do::Write(new.clone(), bytes), Do::Sync(new.clone()), Do::Rename(new, file), Do::SyncAll]
}

impl World {
    pub fn start_worker(&mut self, machine: usize, job: Job, steps: impl IntoIterator<Item = Do>) {
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
        // Trouble is found where work is slow beside the deadlines; a cluster's
        // work is not.
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
                let job = self.bury(machine, id);
                if job == Some(Job::Load) {
                    self.load_again(machine);
                }
                self.settle_floor(machine);
            }
        }
    }

    /// A worker is gone, and the lock that it held; gives what it was for.
    pub fn bury(&mut self, machine: usize, id: u64) -> Option<Job> {
        let process = self.machines[machine].process.as_mut()?;
        let at = process.workers.iter().position(|worker| worker.id == id)?;
        process.lock = process.lock.filter(|holder| *holder != id);
        Some(process.workers.remove(at).job)
    }

    fn load_again(&mut self, machine: usize) {
        if self.machines[machine].process.as_ref().is_some_and(|process| process.must_load) {
            self.start_load(machine);
        }
    }

    fn crash_worker(&mut self, machine: usize, id: u64) {
        let Some(job) = self.bury(machine, id) else { return };
        self.note(format_args!("{machine}: a worker dies: {job:?}"));
        // What it made durable before it died must be known.
        if !job.is_agents() {
            self.start_load(machine);
        }
        let reason = Reason::truncated("killed");
        match job {
            Job::Install | Job::Recover => {
                self.tell_node(machine, &Told::WorkerEnded(WorkerEnd::Crashed(&reason)));
            }
            Job::Pull(node) => self.tell_node(machine, &Told::PullEnded(node, Err(&reason))),
            Job::Blobs(node) => self.tell_node(machine, &Told::BlobsEnded(node, Err(&reason))),
            Job::Load | Job::Change => {}
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

    pub fn tell_node(&mut self, machine: usize, told: &Told<'_>) {
        self.touch(machine, |process, now| process.node.on_event(now, told, &mut process.actions));
    }

    fn take_step(&mut self, machine: usize, id: u64, step: Do) {
        let disk = &mut self.machines[machine].disk;
        match step {
            Do::Write(file, bytes) => disk.write(&file, bytes),
            Do::Sync(file) => disk.sync(&file),
            Do::Rename(from, to) => disk.rename(&from, &to),
            Do::Remove(file) => disk.remove(&file),
            Do::SyncAll => {
                disk.sync_all();
                self.on_durable(machine);
            }
            Do::Put(patch, Some(hash)) => {
                disk.write(&format!("root/{patch}"), self.truth.contents[&hash].clone());
            }
            Do::Put(patch, None) => disk.remove(&format!("root/{patch}")),
            Do::Progress(step, percent) => self.tell_node(machine, &Told::Progress(step, percent)),
            Do::Check => self.check_host(machine, id),
            Do::Fetch(install, link) => self.fetch(machine, id, install, link),
            Do::Begin(install, new) => self.begin(machine, id, install, new),
            Do::Begun(request) => self.truth.on_begun(machine, request),
            Do::Health(install, old, new) => self.health(machine, id, install, &old, &new),
            Do::Recover => self.recover(machine, id),
            Do::TellInstalled => {
                for (id, hash) in files(&self.machines[machine].disk) {
                    self.tell_node(machine, &Told::Installed(&InstalledPatch { id, hash }));
                }
            }
            Do::TellEnd => self.tell_end(machine),
            Do::End(end) => {
                self.bury(machine, id);
                self.note(format_args!("{machine}: the worker ends: {end:?}"));
                let end = match &end {
                    Ok(()) => WorkerEnd::Done,
                    Err(reason) => WorkerEnd::Failed(reason),
                };
                self.tell_node(machine, &Told::WorkerEnded(end));
            }
            Do::Lock => self.lock(machine, id),
            Do::Unlock => {
                if let Some(process) = &mut self.machines[machine].process {
                    process.lock = None;
                }
            }
            Do::Report(report) => self.report(machine, &report),
            Do::Read => self.read(machine, id),
            Do::Loaded => self.on_loaded(machine),
            Do::Change(command, renew, agreed) => self.change(machine, id, command, renew, agreed),
            Do::Acknowledge(entries) => self.on_acknowledged(machine, entries),
            Do::PullHead(node, link) => self.pull_head(machine, id, node, link),
            Do::PullEntry(link, from, incoming) => self.pull_entry(machine, id, link, from, incoming),
            Do::Join(incoming) => self.join(machine, id, &incoming),
            Do::EndPull(node, end) => self.end_pull(machine, id, node, end),
            Do::BlobList(node, link) => self.blob_list(machine, id, node, link),
            Do::BlobReq(node, link, hash) => self.blob_request(machine, id, node, link, hash),
            Do::BlobPiece(node, link, hash) => self.blob_piece(machine, id, node, link, hash),
            Do::BlobCheck(hash) => self.blob_check(machine, id, hash),
            Do::EndBlobs(node, end) => self.end_blobs(machine, id, node, &end),
        }
    }

    fn lock(&mut self, machine: usize, id: u64) {
        let Some(process) = &mut self.machines[machine].process else { return };
        match process.lock {
            None => process.lock = Some(id),
            Some(_) => self.first(machine, id, [Do::Lock]),
        }
    }
}
