//! The calm phase after the wild one: without faults, everything must converge in time.

use std::collections::BTreeSet;

use thimble::fsm::controller::Currency;
use thimble::fsm::rollout::RolloutPart;
use thimble::repo::entry::{Entry, EntryMeta, EntryState};
use thimble::repo::rollout::RolloutState;
use thimble::time::Instant;
use thimble::types::NodeId;

use crate::commands::Command;
use crate::machine::{Machine, TIMERS, name};
use crate::operator::WILD_MS;
use crate::repository::blob;
use crate::sessions::SILENCE_MOST_MS;
use crate::worker::{Job, WorkerStep};
use crate::world::World;

/// Two hello intervals, each with its jitter.
const TWO_HELLOS_MS: u64 = TIMERS.sync.hello_interval.as_millis() * 11 / 5;
/// When all controllers must have the same map: by then sessions that hung before the calm
/// have ended, and after the restarts two hello intervals are enough.
const AGREE_MS: u64 = SILENCE_MOST_MS + TWO_HELLOS_MS;
/// Long enough for the longest pauses: of recovery, and the backoff of queries.
const SETTLE_MS: u64 = 45_000;
const INSTALL_MS: u64 = 20_000;
/// Long enough for one host after another, and a controller that restarts.
const ROLLOUT_MS: u64 = 60_000;
/// The same of what it sends to all hosts before.
const SENT_MS: u64 = 90_000;
/// How long a restored controller is alone: longer than its start takes.
const ALONE_MS: u64 = 2 * TWO_HELLOS_MS;
/// After this time a controller that cannot get a file asks for it rarely.
const RESTED_MS: u64 = 30_000;
/// How long the traffic is counted.
const QUIET_HELLOS: u64 = 5;

impl World {
    pub fn run_for(&mut self, span: u64) {
        self.run_until(self.now + span);
    }

    pub fn calm_phase(&mut self) {
        self.note(format_args!("calm"));
        self.network.heal();
        self.review();
        for machine in 0..self.machines.len() {
            self.restart(machine);
        }
        self.run_for(AGREE_MS);
        self.check_agreed();
        self.mend();
        self.run_until(WILD_MS + SETTLE_MS);
        self.end_transmissions();
        self.check_settled();
        self.check_agreed();

        if self.dice.chance(500) {
            self.install_all();
            self.run_for(INSTALL_MS);
        } else {
            self.roll_out();
        }
        self.end_transmissions();
        self.check_settled();
        for controller in self.controllers() {
            self.check_converged(controller);
        }
        self.transmit();
        self.absences();
        self.purge_all();
        self.set_back();
        self.check_quiet();
    }

    /// All controllers have the same map, in memory as on the disk, with all that it must
    /// contain.
    fn check_agreed(&self) {
        let controllers = self.controllers();
        let first = self.machines[controllers[0]].controller().expect("calm").map();
        for index in controllers {
            let map = self.machines[index].controller().expect("calm").map();
            let held: Vec<&Entry> = map.iter_by_id().map(|(_, entry)| entry).collect();
            let all: Vec<&Entry> = first.iter_by_id().map(|(_, entry)| entry).collect();
            assert_eq!(held, all, "{index} has another map");
            // The carrier of a rollout writes its record anew while it sends files to all hosts.
            let are_told = self.transmissions.under_way().is_empty();
            let digests = (map.digest(), first.digest());
            assert!(digests.0 == digests.1 || !are_told, "{index}: {digests:?}");
            assert_eq!(map.floor(), first.floor(), "{index}");
            let mut file = self.machines[index].map.clone();
            self.ledger.check_final(&file);
            file.entries.sort_by(|one, other| one.id.cmp(&other.id));
            assert_eq!(file.entries.iter().collect::<Vec<_>>(), held, "{index} has another map in memory");
        }
    }

    /// The operator uploads patch files again that no controller has any more.
    fn mend(&mut self) {
        let trusted = self.controllers().into_iter().find(|index| !self.machines[*index].lacks_key);
        let trusted = trusted.expect("the first has all keys");
        let file = self.map_file(trusted);
        for entry in file.live() {
            let has = |index: &usize| self.machines[*index].disk.has(&blob(&entry.hash));
            if !self.controllers().iter().any(has) {
                self.command(trusted, Command::Upload(Box::new(entry.clone())));
                self.run_for(1_000);
            }
        }
    }

    /// The controllers that have all files that hosts should have.
    pub fn complete(&self) -> Vec<usize> {
        let is_complete = |index: &usize| {
            let controller = self.machines[*index].controller().expect("calm");
            controller.sync().blobs().first_wanted(controller.map()).is_none()
        };
        let complete: Vec<usize> = self.controllers().into_iter().filter(is_complete).collect();
        assert!(!complete.is_empty(), "no controller has all files");
        complete
    }

    /// A rollout whose carrier may be killed. No more hosts are at work at once than allowed,
    /// no host is asked twice, and it ends. Hosts that failed with the carrier are left to
    /// the next rollout.
    fn roll_out(&mut self) {
        let complete = self.complete();
        let carrier = complete[self.dice.index(complete.len())];
        let parallel = self.dice.between(1, 3);
        self.rollout_most = Some(parallel as usize);
        self.change_the_rollout(carrier, RolloutState::Running, parallel as u16, 0);
        let first = self.dice.between(100, 2_000);
        self.run_for(first);
        let mut interrupted = BTreeSet::new();
        if self.dice.chance(500) {
            interrupted = self.needing(carrier);
            self.kill(carrier);
        }
        self.run_for(self.rollout_ms());
        if self.check_rolled_out(&interrupted) {
            self.change_the_rollout(carrier, RolloutState::Running, parallel as u16, 0);
            self.run_for(self.rollout_ms());
            assert!(!self.check_rolled_out(&BTreeSet::new()), "no host may fail");
        }
        self.rollout_most = None;
    }

    /// How long a rollout takes at most.
    pub fn rollout_ms(&self) -> u64 {
        if self.spread.is_some() { SENT_MS + ROLLOUT_MS } else { ROLLOUT_MS }
    }

    /// Hosts whose installs fail with a controller's process: those that still fetch from it,
    /// and the one on its own machine.
    fn needing(&self, carrier: usize) -> BTreeSet<usize> {
        let needs = |machine: &&Machine| {
            let workers = machine.process.iter().flat_map(|process| &process.workers);
            let mut installs = workers.filter(|worker| worker.job == Job::Install);
            let is_fetch =
                |step: &WorkerStep| matches!(step, WorkerStep::Fetch(_, link) if link.peer == carrier);
            installs.any(|worker| machine.index == carrier || worker.steps.iter().any(is_fetch))
        };
        self.machines.iter().filter(needs).map(|machine| machine.index).collect()
    }

    /// The rollout has ended, and all hosts have what is wanted except those in `may_fail`,
    /// which may have failed. Returns whether any has.
    fn check_rolled_out(&self, may_fail: &BTreeSet<usize>) -> bool {
        let now = Instant::from_millis(self.now);
        let mut has_failed = false;
        for index in self.controllers() {
            let controller = self.machines[index].controller().expect("calm");
            let rollout = *controller.map().rollout().expect("it was begun");
            let census = controller.census(now, &rollout);
            assert_eq!(rollout.state, RolloutState::Ended, "{index}: {census:?}");
            assert_eq!(census.hosts(), census.done + census.current + census.failed, "{index}: {census:?}");
            for host in controller.hosts().iter() {
                let is_failed = controller.part(now, &rollout, host) == RolloutPart::Failed;
                let machine = self.index(host.node);
                assert!(!is_failed || may_fail.contains(&machine), "{index}: {machine} has failed");
                has_failed |= is_failed;
            }
        }
        has_failed
    }

    fn install_all(&mut self) {
        let hosts: Vec<NodeId> = self.machines.iter().filter(|m| m.roles.is_agent).map(|m| m.id).collect();
        let complete = self.complete();
        for host in hosts {
            let asked = complete[self.dice.index(complete.len())];
            if !self.is_current(asked, host) {
                self.ask_install(asked, host);
            }
        }
    }

    fn is_current(&self, controller: usize, node: NodeId) -> bool {
        let controller = self.machines[controller].controller().expect("calm");
        let host = controller.hosts().get(node).expect("it was listed");
        controller.currency(host) == Currency::Current
            && !host.is_lost(Instant::from_millis(self.now), controller.timers().host_lost)
    }

    /// A purge on one controller drops all tombstones on all, and a deleted patch can be
    /// uploaded again.
    fn purge_all(&mut self) {
        let controllers = self.controllers();
        let purger = controllers[self.dice.index(controllers.len())];
        let deleted: Vec<Entry> = self.map_file(purger).entries;
        let deleted = deleted.into_iter().find(|entry| entry.state == EntryState::Deleted);
        self.command(purger, Command::Purge);
        self.run_for(TWO_HELLOS_MS);
        self.check_agreed();
        for index in &controllers {
            let file = self.map_file(*index);
            assert!(file.entries.iter().all(|e| e.state != EntryState::Deleted), "{index} keeps a tombstone");
        }
        let Some(deleted) = deleted else { return };
        let offered = Entry { state: EntryState::Available, ..deleted };
        let id = offered.id.clone();
        self.command(0, Command::Upload(Box::new(offered)));
        self.run_for(TWO_HELLOS_MS);
        self.check_agreed();
        assert!(self.map_file(0).get(&id).is_some(), "a purged patch can be uploaded");
    }

    /// A controller is restored from a backup that has a patch which was deleted and purged
    /// since. Its changes while it is alone get a new replica id, and the old patch is purged
    /// again.
    fn set_back(&mut self) {
        let trusted = |index: &usize| !self.machines[*index].lacks_key;
        let trusted: Vec<usize> = self.controllers().into_iter().filter(trusted).collect();
        let [deleter, .., here] = trusted[..] else { return };
        let upload = |world: &mut Self, at: usize, id: &str| {
            let offered = world.offer(id, id.into(), EntryMeta::default());
            world.command(at, Command::Upload(Box::new(offered)));
            world.run_for(TWO_HELLOS_MS);
        };
        upload(self, deleter, "GOES");
        self.back_up(here);
        let backup = self.machines[here].backups.len() - 1;
        upload(self, here, "STAYS");
        self.command(deleter, Command::Delete(vec![name("GOES")], true));
        self.run_for(TWO_HELLOS_MS);
        self.command(deleter, Command::Purge);
        self.run_for(TWO_HELLOS_MS);
        self.check_agreed();
        assert!(self.map_file(here).get(&name("GOES")).is_none(), "it was deleted and purged");

        self.become_backup(here, Some(backup));
        self.raise_wall(vec![here], false, self.now + ALONE_MS);
        // Waits for datagrams under way, so that the controller is alone.
        self.run_for(10);
        self.restart(here);
        self.run_for(ALONE_MS - TWO_HELLOS_MS);
        upload(self, here, "ALONE");
        self.run_for(AGREE_MS + TWO_HELLOS_MS);
        self.check_agreed();
        for index in self.controllers() {
            let file = self.map_file(index);
            assert!(file.get(&name("GOES")).is_none(), "{index} has a purged patch again");
            let has = |id| file.get(&name(id)).is_some();
            assert!(has("STAYS") && has("ALONE"), "{index} has lost a change made meanwhile");
        }
    }

    /// No controller sends more than necessary, even if it can never get a file.
    fn check_quiet(&mut self) {
        self.run_for(RESTED_MS);
        self.traffic.clear();
        self.run_for(QUIET_HELLOS * TIMERS.sync.hello_interval.as_millis());
        let controllers = self.controllers();
        let others = controllers.len() as u64 - 1;
        for index in controllers {
            let counts = self.traffic.of(index);
            let is_incomplete =
                !self.machines[index].controller().expect("calm").sync().blobs().missing().is_empty();
            let blobs_most = if is_incomplete { 2 * others } else { 0 };
            assert!(counts.hellos <= QUIET_HELLOS + 1, "{index}: {counts:?}");
            assert!(counts.acks <= others * (QUIET_HELLOS + 1), "{index}: {counts:?}");
            assert_eq!((counts.syncs, counts.pulls, counts.queries), (0, 0, 0), "{index}: {counts:?}");
            assert!(counts.blobs <= blobs_most, "{index}: {counts:?}");
        }
    }
}
