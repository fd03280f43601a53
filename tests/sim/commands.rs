//! An operator's commands, and the worker that changes the repository: durably, before
//! the command is acknowledged.

use thimble::fsm::controller::Controller;
use thimble::job::{Report, RolloutChange};
use thimble::repo::entry::{Entry, EntryState, Stamp};
use thimble::repo::rollout::{Rollout, RolloutState};
use thimble::repo::rules::{self, OnAllHosts, OnHosts};
use thimble::repo::slots::{Slot, SlotSet};
use thimble::time::Instant;
use thimble::types::{Digest, NodeId, PatchId};

use crate::machine::name;
use crate::repository::{MapFile, blob};
use crate::worker::{Job, WorkerStep};
use crate::world::World;

/// A command that changes the repository.
#[derive(Clone, Debug)]
pub enum Command {
    Upload(Box<Entry>),
    Apply(Vec<PatchId>),
    Remove(Vec<PatchId>),
    Delete(Vec<PatchId>, bool),
    Commit(Vec<PatchId>),
    Purge,
    Rollout(RolloutChange),
}

impl World {
    /// Executes a command as far as the rules allow. It is acknowledged when all of it is
    /// durable.
    pub fn command(&mut self, machine: usize, command: Command) {
        let now = Instant::from_millis(self.now);
        let Some(controller) = self.machines[machine].controller() else { return };
        let Some(process) = &self.machines[machine].process else { return };
        let is_busy = process.workers.iter().any(|worker| matches!(worker.job, Job::Change));
        let refusal = match &command {
            _ if !process.is_loaded || !controller.sync().is_started() => Some("not started".to_string()),
            _ if is_busy => Some("busy".to_string()),
            Command::Delete(..) | Command::Commit(_) if !controller.pacing().is_settled(now) => {
                Some("not settled".to_string())
            }
            Command::Delete(ids, force) => {
                let on_hosts = |slot| controller.on_hosts(now, slot, *force);
                let has_file = |slot| !controller.sync().blobs().missing().contains(slot);
                rules::check_delete(controller.map(), ids, on_hosts, has_file)
                    .err()
                    .map(|reason| reason.to_string())
            }
            Command::Commit(ids) => {
                let on_all_hosts = |slot| on_all_hosts(controller, slot);
                let checked = rules::check_commit(controller.map(), ids, on_all_hosts);
                checked.err().map(|reason| reason.to_string())
            }
            Command::Purge => {
                let checked = controller.sync().check_purge(now, controller.map().digest());
                checked.err().map(|reason| format!("{reason:?}"))
            }
            _ => None,
        };
        if let Some(reason) = refusal {
            return self.note(format_args!("{command:?} at {machine}: {reason}"));
        }
        let (renew, agreed) = (controller.sync().must_renew(), controller.map().digest());
        self.start_worker(
            machine,
            Job::Change,
            [WorkerStep::Lock, WorkerStep::Change(command, renew, agreed)],
        );
    }

    /// The worker decides on the map as it is on the disk, then changes it.
    pub fn change(&mut self, machine: usize, id: u64, command: Command, renew: bool, agreed: Digest) {
        let mut file = self.map_file(machine);
        if renew {
            file.replica = self.dice.next();
            self.note(format_args!("{machine} renews its replica"));
        }
        let steps = match &command {
            Command::Upload(entry) => self.upload(machine, &mut file, entry),
            Command::Purge if file.map(&mut Vec::new()).digest() != agreed => {
                Err("the map has changed meanwhile".to_string())
            }
            Command::Purge => Ok(self.purge(machine, &mut file)),
            Command::Rollout(change) => Self::change_rollout(&mut file, change),
            _ => self.change_states(machine, &mut file, &command),
        };
        match steps {
            Ok(steps) => {
                self.note(format_args!("{command:?} at {machine}"));
                self.prepend_steps(machine, id, steps);
            }
            Err(refusal) => self.note(format_args!("{command:?} at {machine}: {refusal}")),
        }
    }

    fn upload(
        &mut self,
        machine: usize,
        file: &mut MapFile,
        offered: &Entry,
    ) -> Result<Vec<WorkerStep>, String> {
        if self.machines[machine].distrusts(&offered.hash) {
            return Err("its signature is of no trusted key".to_string());
        }
        let mut slots = Vec::new();
        let verdict =
            rules::check_upload(&file.map(&mut slots), offered).map_err(|reason| reason.to_string())?;
        let path = blob(&offered.hash);
        let mut steps = Vec::new();
        if !self.machines[machine].disk.has(&path) {
            let content = self.truth.contents[&offered.hash].clone();
            steps.extend([WorkerStep::Write("upload".into(), content), WorkerStep::Sync("upload".into())]);
            steps.extend([WorkerStep::Rename("upload".into(), path), WorkerStep::SyncAll]);
        }
        let mut changed = Vec::new();
        if verdict == rules::Upload::New {
            changed = vec![Entry { stamp: file.origin().next_stamp(), ..offered.clone() }];
            file.put(&changed);
            self.ledger.on_intended(machine, &changed);
            steps.extend(file.commit());
        }
        steps.push(WorkerStep::Unlock);
        steps.extend(changed.iter().map(|entry| WorkerStep::Report(Box::new(Report::Entry(entry.clone())))));
        steps.push(WorkerStep::Report(Box::new(Report::BlobHere { hash: offered.hash })));
        steps.push(WorkerStep::Acknowledge(changed));
        Ok(steps)
    }

    /// apply, remove, delete, commit.
    fn change_states(
        &mut self,
        machine: usize,
        file: &mut MapFile,
        command: &Command,
    ) -> Result<Vec<WorkerStep>, String> {
        let mut slots = Vec::new();
        let map = file.map(&mut slots);
        let (to, state) = match command {
            Command::Apply(ids) => (rules::check_apply(&map, ids), EntryState::Applied),
            Command::Remove(ids) => (rules::check_remove(&map, ids), EntryState::Available),
            Command::Delete(ids, _) => {
                (rules::check_delete(&map, ids, |_| OnHosts::Nowhere, |_| true), EntryState::Deleted)
            }
            Command::Commit(ids) => (rules::commit_closure(&map, ids), EntryState::Committed),
            Command::Upload(_) | Command::Purge | Command::Rollout(_) => {
                unreachable!("these change no state")
            }
        };
        let to: SlotSet = to.map_err(|reason| reason.to_string())?;
        let stamp = file.origin().next_stamp();
        let entries = to.iter().filter_map(|slot| map.entry(slot));
        let changed: Vec<Entry> = entries.map(|entry| rules::changed(entry, state, stamp)).collect();
        if changed.is_empty() {
            return Err("nothing to change".to_string());
        }
        file.put(&changed);
        self.ledger.on_intended(machine, &changed);
        let mut steps: Vec<WorkerStep> = file.commit().into();
        if state == EntryState::Deleted {
            let gone = changed.iter().filter(|entry| !file.names(&entry.hash));
            steps.extend(gone.map(|entry| WorkerStep::Remove(blob(&entry.hash))));
        }
        steps.push(WorkerStep::Unlock);
        steps.extend(changed.iter().map(|entry| WorkerStep::Report(Box::new(Report::Entry(entry.clone())))));
        steps.push(WorkerStep::Acknowledge(changed));
        Ok(steps)
    }

    fn change_rollout(file: &mut MapFile, change: &RolloutChange) -> Result<Vec<WorkerStep>, String> {
        if file.rollout.map(|held| held.stamp) != change.instead_of {
            return Err("another change of the rollout was faster".to_string());
        }
        let rollout = change.to.stamped(file.origin().next_stamp());
        file.counter = file.counter.max(rollout.stamp.counter);
        file.rollout = Some(rollout);
        let report = WorkerStep::Report(Box::new(Report::Rollout(rollout)));
        Ok(file
            .commit()
            .into_iter()
            .chain([WorkerStep::Unlock, report, WorkerStep::Acknowledge(Vec::new())])
            .collect())
    }

    /// Starts, stops or resumes a rollout, if its state allows it.
    pub fn change_the_rollout(
        &mut self,
        machine: usize,
        state: RolloutState,
        parallel: u16,
        stop_after: u16,
    ) {
        let id = self.dice.next();
        let Some(controller) = self.machines[machine].controller() else { return };
        if state == RolloutState::Running
            && controller.sync().blobs().first_wanted(controller.map()).is_some()
        {
            return self.note(format_args!("a rollout at {machine}: files are missing"));
        }
        let carrier = self.machines[machine].id;
        let new = Rollout { stamp: Stamp::default(), id, carrier, state, parallel, stop_after, force: false };
        let to = match controller.map().rollout() {
            Some(running) if running.is_running() == (state == RolloutState::Running) => return,
            Some(running) if running.is_running() => Rollout { state, ..*running },
            Some(_) => new,
            None if state == RolloutState::Running => new,
            None => return,
        };
        self.settle_rollout(machine, to);
    }

    /// Replaces the rollout by this one.
    pub fn settle_rollout(&mut self, machine: usize, to: Rollout) {
        let Some(controller) = self.machines[machine].controller() else { return };
        let instead_of = controller.map().rollout().map(|rollout| rollout.stamp);
        let renew = controller.sync().must_renew();
        self.command(machine, Command::Rollout(RolloutChange { to, instead_of, renew }));
    }

    fn purge(&mut self, machine: usize, file: &mut MapFile) -> Vec<WorkerStep> {
        let is_tombstone = |entry: &Entry| entry.state == EntryState::Deleted;
        let gone: Vec<Entry> = file.entries.iter().filter(|entry| is_tombstone(entry)).cloned().collect();
        if gone.is_empty() {
            return vec![];
        }
        let highest = file.entries.iter().map(|entry| entry.stamp.counter).max().unwrap_or(0);
        file.counter = file.counter.max(highest);
        // A controller that knows no other must not purge what others have.
        if self.machines[machine].disk.has("controllers") {
            file.floor = file.floor.max(highest);
        }
        file.entries.retain(|entry| !is_tombstone(entry));
        self.ledger.on_purge(&gone, file.floor);
        let reports = gone.iter().map(|entry| Report::EntryPurged(entry.id.clone()));
        let reports = reports.chain([Report::Floor(file.floor)]);
        let steps = file.commit().into_iter().chain([WorkerStep::Unlock]);
        let steps = steps.chain(reports.map(|report| WorkerStep::Report(Box::new(report))));
        steps.chain([WorkerStep::Acknowledge(Vec::new())]).collect()
    }

    pub fn on_acknowledged(&mut self, machine: usize, entries: Vec<Entry>) {
        self.note(format_args!("{machine} acknowledges {} entries", entries.len()));
        self.ledger.on_acknowledged(machine, &entries);
        self.touch(machine, |process, now| {
            let Some(controller) = &mut process.node.controller else { return };
            let number = controller.sync_mut().on_changed(now);
            process.changes.push((number, entries));
        });
    }

    /// Asks a host to install what it should have.
    pub fn ask_install(&mut self, machine: usize, host: NodeId) {
        let mut asked = None;
        self.touch(machine, |process, now| {
            asked = Some(process.node.ask_install(now, host, false, &mut process.actions));
        });
        self.note(format_args!("host-install {host} at {machine}: {asked:?}"));
    }
}

/// Whether every host that a patch concerns is known to have it.
fn on_all_hosts(controller: &Controller<'_>, slot: Slot) -> OnAllHosts {
    let spread = controller.spread(slot);
    match spread.concerned_with == spread.hosts_concerned {
        _ if spread.is_unknown => OnAllHosts::MayNotBeOn(name("untold")),
        true => OnAllHosts::Everywhere,
        false => OnAllHosts::NotOn(name("another")),
    }
}
