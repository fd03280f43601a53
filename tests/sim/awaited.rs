//! Installs that wait for a controller: the worker that ends them, and sets with which a host
//! loses its network. None of those may ever be committed.

use serde::{Deserialize, Serialize};
use thimble::fsm::event::{Event as NodeEvent, PendingProof};
use thimble::time::{Duration, Instant};
use thimble::types::{NodeId, RequestId};
use thimble::wire::frame::InstalledPatch;
use thimble::wire::install::{InstallRequest, Outcome};

use crate::installer::{Journal, switch};
use crate::worker::{Job, WorkerStep, digest_of, files};
use crate::world::World;

/// How long a host waits: longer than a controller that was killed is away.
const WAIT: Duration = Duration::from_secs(10);
const ASKS_EVERY: Duration = Duration::from_millis(200);
/// How often the wait begins anew.
const STARTS: u32 = 3;

/// An install in a host's journal that is in place and waits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Awaits {
    controller: NodeId,
    /// The own controller of the node does not count.
    needs_other: bool,
    starts: u32,
}

impl Awaits {
    /// Whether it goes on waiting after a start.
    pub fn goes_on(&self) -> bool {
        self.starts < STARTS
    }
}

impl World {
    /// Whether another controller is present at this machine's.
    fn has_other(&self, machine: usize) -> bool {
        let now = Instant::from_millis(self.now);
        self.machines[machine].controller().is_some_and(|controller| {
            let neighbours = controller.sync().neighbours();
            neighbours.iter().any(|neighbour| neighbour.is_present(now, neighbours.lost_after()))
        })
    }

    /// The steps of an install whose scripts have passed. With some sets the network is lost.
    pub fn in_place(&mut self, machine: usize, install: &InstallRequest) -> Vec<WorkerStep> {
        let needs_other = self.has_other(machine);
        let is_remote = needs_other || !self.machines[machine].roles.is_controller;
        let awaits = Awaits { controller: install.controller, needs_other, starts: 0 };
        let journal = Journal { awaits: Some(awaits), ..self.journal(machine) };
        let mut steps = vec![WorkerStep::SyncAll];
        if !self.network.is_calm && is_remote && self.dice.chance(150) {
            steps.push(WorkerStep::LoseNetwork);
        }
        steps.extend(journal.replace());
        steps.extend([WorkerStep::TellAwaited(install.request_id, awaits), WorkerStep::End(Ok(()))]);
        steps
    }

    /// The steps of a recovery that goes on waiting.
    pub fn waits_on(&mut self, machine: usize, request: RequestId, awaits: Awaits) -> Vec<WorkerStep> {
        let awaits = Awaits { starts: awaits.starts + 1, ..awaits };
        let journal = Journal { awaits: Some(awaits), ..self.journal(machine) };
        let mut steps = vec![WorkerStep::SyncAll];
        steps.extend(journal.replace());
        let tells = [WorkerStep::TellBefore, WorkerStep::TellAwaited(request, awaits)];
        steps.extend(tells.into_iter().chain([WorkerStep::End(Ok(()))]));
        steps
    }

    /// Reports what the journal says is installed: the set before, while an install waits.
    pub fn tell_before(&mut self, machine: usize) {
        let journal = self.journal(machine);
        for (id, hash) in journal.installed.iter().cloned() {
            self.pass_event(machine, &NodeEvent::Installed(&InstalledPatch { id, hash }));
        }
        let digest = digest_of(&journal.set());
        self.pass_event(machine, &NodeEvent::InstalledEnd(digest, journal.last.as_ref()));
    }

    pub fn tell_awaited(&mut self, machine: usize, request_id: RequestId, awaits: Awaits) {
        let Awaits { controller, needs_other, .. } = awaits;
        let except = needs_other.then_some(self.machines[machine].id);
        let pending =
            PendingProof { request_id, controller, wait: WAIT, asks_every: Some(ASKS_EVERY), except };
        self.pass_event(machine, &NodeEvent::ProofPending(pending));
    }

    pub fn start_proof(&mut self, machine: usize, is_heard: bool) {
        self.note(format_args!("{machine} was heard: {is_heard}"));
        self.start_worker(machine, Job::Prove, [WorkerStep::Prove(is_heard)]);
    }

    /// Commits the install that waits, or undoes it.
    pub fn prove(&mut self, machine: usize, id: u64, is_heard: bool) {
        let journal = self.journal(machine);
        let (old, new) = (journal.set(), files(&self.machines[machine].disk));
        let mut steps = Vec::new();
        if let (Some(request), Some(_)) = (journal.open, journal.awaits) {
            let ended = if is_heard {
                assert!(!self.network.is_lost(machine), "{machine} keeps a set without a network");
                Journal::ended(&new, request, Outcome::Installed, "")
            } else {
                steps.extend(switch(&new, &old));
                steps.extend([WorkerStep::SyncAll, WorkerStep::FindNetwork]);
                Journal::ended(&old, request, Outcome::RolledBack, "the network was lost with this set")
            };
            steps.extend(ended.replace());
        }
        steps.extend([WorkerStep::TellInstalled, WorkerStep::TellEnd, WorkerStep::End(Ok(()))]);
        self.prepend_steps(machine, id, steps);
    }

    /// The network of a machine is lost until the set before is back.
    pub fn lose_network(&mut self, machine: usize) {
        self.note(format_args!("{machine} has lost its network with its set"));
        self.network.lose(machine);
        self.review();
    }

    pub fn find_network(&mut self, machine: usize) {
        if self.network.is_lost(machine) {
            self.note(format_args!("{machine} has its network again"));
            self.network.find(machine);
            self.review();
        }
    }
}
