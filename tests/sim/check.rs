//! Safety checks during a run, and the checks of its final state.

use std::collections::{BTreeMap, BTreeSet};

use thimble::fsm::actions::To;
use thimble::fsm::controller::{Controller, Currency};
use thimble::fsm::requests::{HostRequest, RequestStatus};
use thimble::repo::entry::{Entry, EntryState};
use thimble::repo::map::Map;
use thimble::repo::state::{PatchState, patch_state};
use thimble::types::{Digest, Hash, NodeId, PatchId, RequestId};
use thimble::wire::header::Header;
use thimble::wire::install::{LastInstall, Outcome};
use thimble::wire::messages::{AgentState, Hello, HelloAgentAck, Message, RequestState, SyncReq};

use crate::disk::Bytes;
use crate::installer::Journal;
use crate::machine::short;
use crate::repository::{MapFile, blob};
use crate::worker::{Job, Worker, digest_of, files};
use crate::world::World;

/// What has really happened, which no node of the cluster knows completely.
#[derive(Default)]
pub struct Truth {
    /// Every patch's content, by its hash.
    pub contents: BTreeMap<Hash, Bytes>,
    /// Incarnations that machines have used.
    incarnations: BTreeSet<(usize, u64)>,
    /// Requests whose installs have durably begun, and durably succeeded.
    begun: BTreeSet<(usize, RequestId)>,
    installed: BTreeSet<(usize, RequestId)>,
    /// What was installed when a host's last install began.
    before: BTreeMap<usize, Digest>,
    /// Datagrams that a start of a machine's daemon has accepted: sender, incarnation and
    /// sequence.
    accepted: BTreeSet<(usize, u32, NodeId, u64, u64)>,
    /// Requests that only a lost disk knew: any status is allowed for them.
    forgotten: BTreeSet<(usize, RequestId)>,
}

impl Truth {
    pub fn on_start(&mut self, machine: usize, incarnation: u64) {
        let is_new = self.incarnations.range((machine, incarnation)..=(machine, u64::MAX)).next().is_none();
        assert!(is_new, "incarnation {incarnation} of {machine} is not above all before");
        self.incarnations.insert((machine, incarnation));
    }

    pub fn on_accepted(&mut self, machine: usize, start: u32, datagram: &[u8]) {
        let header = Header::parse(datagram).expect("it was decoded").header;
        let datagram = (machine, start, header.sender, header.incarnation, header.sequence);
        assert!(self.accepted.insert(datagram), "{machine} accepted a datagram twice");
    }

    pub fn on_begin(&mut self, machine: usize, old: Digest) {
        self.before.insert(machine, old);
    }

    /// A host accepts a request that is not in its journal. If it was begun there earlier,
    /// before another one, any status is allowed for it.
    fn on_taken(&mut self, machine: usize, request: RequestId) {
        if self.begun.contains(&(machine, request)) {
            self.forgotten.insert((machine, request));
        }
    }

    pub fn on_begun(&mut self, machine: usize, request: RequestId) {
        let is_first = self.begun.insert((machine, request));
        let is_known = is_first || self.forgotten.contains(&(machine, request));
        assert!(is_known, "{request} was begun twice on {machine}");
    }

    /// A machine's disk was replaced: its installs are no longer visible.
    pub fn on_other_disk(&mut self, machine: usize) {
        let of_it: Vec<_> = self.begun.iter().filter(|begun| begun.0 == machine).copied().collect();
        for request in of_it {
            self.begun.remove(&request);
            self.forgotten.insert(request);
        }
    }
}

impl World {
    fn durable_journal(&self, machine: usize) -> Journal {
        self.machines[machine].disk.decode_durable("journal").unwrap_or_default()
    }

    /// A host accepts a request, or connects for it once more. A request in its journal is
    /// never accepted again, even after later ones were given up. An earlier request may be
    /// accepted again: from a controller that got no answer, or for a rollout that finds the
    /// host failed or behind after another install.
    pub fn check_taken(&mut self, machine: usize) {
        let process = self.machines[machine].process.as_ref().expect("it connects");
        let request = process.node.agent.as_ref().expect("it installs").ack().request_id;
        let last = self.journal(machine).last.map(|last| last.request_id);
        assert_ne!(last, Some(request), "accepted twice by {machine}");
        self.truth.on_taken(machine, request);
    }

    /// A machine's disk was synced: records what its journal contains.
    pub fn on_durable(&mut self, machine: usize) {
        let last = self.durable_journal(machine).last;
        if let Some(LastInstall { request_id, outcome: Outcome::Installed, .. }) = last {
            self.truth.installed.insert((machine, request_id));
        }
        if self.machines[machine].roles.is_controller {
            let file = MapFile::durable(&self.machines[machine].disk);
            if file != self.machines[machine].map {
                self.ledger.on_durable(&file);
                self.machines[machine].map = file;
            }
        }
    }

    /// Checks that a message that a machine sends is true.
    pub fn check_sent(&mut self, machine: usize, to: To, message: &Message) {
        match message {
            Message::HelloAgentAck(ack) => {
                self.check_installed(machine, ack);
                if let RequestState::Ended(outcome) = ack.request {
                    self.check_outcome(machine, ack.request_id, outcome);
                }
            }
            Message::AgentInstallResp(answer) => {
                assert_eq!(answer.status, answer.outcome == Some(Outcome::Installed));
                assert_eq!(answer.status, answer.reject_reason.is_empty(), "failed without a reason");
                if let Some(outcome) = answer.outcome {
                    self.check_outcome(machine, answer.request_id, outcome);
                }
            }
            Message::Hello(Hello { digest, .. }) | Message::SyncReq(SyncReq { digest, .. }) => {
                let map = self.machines[machine].controller().expect("it sent this").map();
                assert_eq!(map.digest(), *digest);
                self.ledger.on_announced(
                    machine,
                    *digest,
                    map.iter_by_id().map(|(_, entry)| entry.clone()).collect(),
                );
            }
            Message::SpreadReport(report) => self.check_lacks(machine, report),
            Message::SyncComplete(done) => {
                if let To::Node(to, _) = to {
                    let file = &self.machines[machine].map;
                    self.ledger.check_includes(self.index(to), done.digest, file);
                } else {
                    // Sent to all without a request: no file is missing any more.
                    let controller = self.machines[machine].controller().expect("it sent this");
                    assert_eq!((done.digest, done.blobs_missing), (controller.map().digest(), 0));
                    assert!(controller.sync().blobs().missing().is_empty());
                }
            }
            _ => {}
        }
    }

    /// An idle agent reports exactly the patches whose files are on its disk. One that
    /// installs may still report those that it began with.
    fn check_installed(&self, machine: usize, ack: &HelloAgentAck) {
        let found = digest_of(&files(&self.machines[machine].disk));
        let is_true = match ack.state {
            AgentState::Installing => {
                ack.installed_digest == found
                    || self.truth.before.get(&machine) == Some(&ack.installed_digest)
            }
            // It does not know, and reports no digest.
            AgentState::InstallFailed if ack.installed_digest == Digest::default() => ack.patch_failed,
            _ => ack.installed_digest == found,
        };
        let (reported, found) = (short(&ack.installed_digest), short(&found));
        assert!(is_true, "{machine} reports {reported} and has {found} ({})", ack.state.as_str());
    }

    fn check_outcome(&self, machine: usize, request: RequestId, outcome: Outcome) {
        if self.truth.forgotten.contains(&(machine, request)) {
            return;
        }
        let is_installed = self.truth.installed.contains(&(machine, request));
        match outcome {
            Outcome::Installed => {
                assert!(is_installed, "{machine} reports {request} as installed, and it is not")
            }
            Outcome::Rejected | Outcome::RolledBack => {
                assert!(!is_installed, "{machine} reports {request} as failed, and it is installed");
            }
            // Sent while the outcome is not known.
            Outcome::Broken => {}
        }
    }

    /// A controller never shows an install as done that is not, and calls no host current
    /// while it lacks a file.
    pub fn check_controller(&self, machine: usize) {
        let Some(controller) = self.machines[machine].controller() else { return };
        self.check_confirmed(machine, controller);
        let process = self.machines[machine].process.as_ref().expect("it has a controller");
        // A worker's report is under way.
        if process.is_loaded && process.workers.iter().all(|worker| worker.job.is_agents()) {
            let disk = &self.machines[machine].disk;
            let wanted = controller.map().iter().filter(|(_, entry)| entry.is_wanted());
            let is_complete = wanted.into_iter().all(|(_, entry)| disk.has(&blob(&entry.hash)));
            for host in controller.hosts().iter() {
                let is_current = controller.currency(host) == Currency::Current;
                assert!(is_complete || !is_current, "{machine} lacks a file and calls a host current");
            }
        }
        for host in controller.hosts().iter() {
            if host.request.status() == RequestStatus::Ended(Outcome::Installed) {
                let index = self.index(host.node);
                let request = host.request.request_id().expect("it has ended");
                self.check_outcome(index, request, Outcome::Installed);
            }
        }
    }

    /// A change that counts as confirmed by another controller is on that controller's disk.
    /// The exception: the other one knew of a purge that this one did not know when it made
    /// the change; then it is on this one's disk.
    fn check_confirmed(&self, machine: usize, controller: &Controller<'_>) {
        let process = self.machines[machine].process.as_ref().expect("it has a controller");
        for neighbour in controller.sync().neighbours().iter().filter(|neighbour| neighbour.confirmed > 0) {
            let file = &self.machines[self.index(neighbour.node)].map;
            let changes = process.changes.iter().filter(|(number, _)| *number <= neighbour.confirmed);
            for entry in changes.flat_map(|(_, entries)| entries) {
                let is_to_come = || {
                    self.ledger.is_below_a_purge(entry)
                        && entry.stamp.counter <= file.floor
                        && self.ledger.is_included(&self.machines[machine].map, entry)
                };
                let is_there = self.ledger.is_included(file, entry) || is_to_come();
                assert!(is_there, "{machine} holds it for durable elsewhere: {entry:?}; {file:?}");
            }
        }
    }

    pub fn index(&self, node: NodeId) -> usize {
        self.machines.iter().position(|machine| machine.id == node).expect("one of ours")
    }

    /// Each kind's set is the wanted, unblocked patches that concern it, computed here
    /// independently of the core.
    pub fn check_effective(&self, machine: usize) {
        let Some(controller) = self.machines[machine].controller() else { return };
        let map = controller.map();
        for kind in controller.kinds().iter() {
            for (slot, entry) in map.iter() {
                let unblocked = is_unblocked(map, entry, &mut BTreeSet::new());
                let is_in = unblocked && entry.meta.concerns(&kind.nodetype);
                assert_eq!(kind.patches.contains(slot), is_in, "{} for {}", entry.id, kind.nodetype);
            }
        }
    }

    /// No worker, session or request is left.
    pub fn check_settled(&self) {
        for machine in &self.machines {
            let process = machine.process.as_ref().expect("calm");
            // One that lacks a key asks for files again and again.
            let is_in_vain = |worker: &Worker| machine.lacks_key && matches!(worker.job, Job::Blobs(_));
            assert!(process.workers.iter().all(is_in_vain), "{}: a worker is left", machine.index);
            assert!(process.sessions.is_empty(), "{}: a session is left", machine.index);
            assert!(process.sending.is_none(), "{}: it still sends", machine.index);
            assert!(process.receiving.is_none(), "{}: it still receives", machine.index);
            let receives = process.node.agent.as_ref().and_then(|agent| agent.receives());
            assert_eq!(receives, None, "{}: no worker receives it", machine.index);
        }
        for controller in self.controllers() {
            self.check_hosts(controller);
        }
    }

    /// A controller knows exactly what is on every host's disk.
    fn check_hosts(&self, controller: usize) {
        let controller = self.machines[controller].controller().expect("calm");
        for machine in self.machines.iter().filter(|machine| machine.roles.is_agent) {
            let host = controller.hosts().get(machine.id).expect("every agent is heard");
            assert!(host.is_known(), "{}: {:?}", machine.index, host.knowledge);
            assert!(!host.request.is_open(), "{}: {:?}", machine.index, host.request);
            self.check_request(machine.index, &host.request);
            let found = files(&machine.disk);
            assert_eq!(host.ack.installed_digest, digest_of(&found));
            let held = host.installed.iter().filter_map(|slot| controller.map().entry(slot));
            let held: BTreeSet<_> = held.map(|entry| (&entry.id, &entry.hash)).collect();
            let known = |(id, hash): &(&PatchId, &Hash)| {
                controller.map().get(id).is_some_and(|(_, e)| e.hash == **hash)
            };
            let expected: BTreeSet<_> = found.iter().filter(known).collect();
            assert_eq!(held, expected, "the installed set of {}, as the controller knows it", machine.index);
        }
    }

    /// In the end, the status of a request is its real outcome.
    fn check_request(&self, machine: usize, request: &HostRequest) {
        // Without a number the host was never asked, or was forgotten.
        let (Some(request), status) = (request.request_id(), request.status()) else { return };
        if self.truth.forgotten.contains(&(machine, request)) {
            return;
        }
        let last = self.durable_journal(machine).last.filter(|last| last.request_id == request);
        match status {
            RequestStatus::Ended(outcome) => {
                self.check_outcome(machine, request, outcome);
                if let Some(last) = last {
                    assert_eq!(outcome, last.outcome, "{machine}, {request}");
                }
            }
            RequestStatus::NoAnswer => {
                assert!(last.is_none(), "{machine} has the outcome of {request} in its journal")
            }
            RequestStatus::None | RequestStatus::Waiting | RequestStatus::Running => {
                panic!("{machine}: {request} is still open")
            }
        }
    }

    /// To this controller every host is current, and every patch has its final state.
    pub fn check_converged(&self, machine: usize) {
        let controller = self.machines[machine].controller().expect("calm");
        let is_complete = controller.sync().blobs().first_wanted(controller.map()).is_none();
        assert!(is_complete || self.machines[machine].lacks_key, "{machine} still lacks a file");
        let expected = if is_complete { Currency::Current } else { Currency::Unknown };
        for host in controller.hosts().iter() {
            let currency = controller.currency(host);
            assert_eq!(currency, expected, "{}: {:?}", self.index(host.node), host.request);
        }
        for (slot, entry) in controller.map().iter() {
            let spread = controller.spread(slot);
            let state = patch_state(entry.state, &spread);
            let expected = match entry.state {
                _ if spread.is_blocked && entry.is_wanted() => PatchState::PartialApply,
                EntryState::Deleted | EntryState::Voided => PatchState::NotApplicable,
                EntryState::Available => PatchState::Available,
                EntryState::Applied => PatchState::Applied,
                EntryState::Committed => PatchState::Committed,
            };
            assert_eq!(state, expected, "{}", entry.id);
        }
    }
}

/// Whether an entry is wanted, and all that it requires is unblocked.
fn is_unblocked<'m>(map: &'m Map<'_>, entry: &'m Entry, above: &mut BTreeSet<&'m PatchId>) -> bool {
    if !entry.is_wanted() {
        return false;
    }
    if !above.insert(&entry.id) {
        return true; // A circle unblocked if all in it is wanted.
    }
    let unblocked = entry
        .meta
        .requires
        .iter()
        .all(|id| map.get(id).is_some_and(|(_, entry)| is_unblocked(map, entry, above)));
    above.remove(&entry.id);
    unblocked
}
