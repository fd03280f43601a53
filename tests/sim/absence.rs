//! In the calm phase, over TIPC: every controller learns in time which node is gone and
//! why, and a rollout takes account of it.

use std::collections::BTreeSet;

use thimble::fsm::presence::LossCause;
use thimble::fsm::requests::RequestStatus;
use thimble::repo::entry::EntryMeta;
use thimble::repo::rollout::RolloutState;
use thimble::time::Instant;

use crate::commands::Command;
use crate::machine::{TIMERS, name};
use crate::topology::{REPORT_DELAY_MOST_MS, TOLERANCE_MS};
use crate::worker::Job;
use crate::world::{Event, World};

/// A round of hellos, with its jitter and the datagrams under way.
const ROUND_MS: u64 = TIMERS.sync.hello_interval.as_millis() * 11 / 10 + 100;
/// When all controllers know that a node is gone: long before it is lost by silence.
const KNOWN_MS: u64 = TOLERANCE_MS + ROUND_MS;
const _: () = assert!(KNOWN_MS < TIMERS.sync.controller_lost.as_millis());
const _: () = assert!(KNOWN_MS < TIMERS.host_lost.as_millis());
/// When a rollout has counted a gone host that was at work: the request is given up after
/// five retries, and the rollout looks again each second.
const COUNTED_MS: u64 = KNOWN_MS + 5 * TIMERS.request.retry.as_millis() + 1_500;
/// How long a node is away from a rollout.
const AWAY_MS: u64 = 2 * COUNTED_MS;
/// When a rollout has ended.
const ROLLOUT_MOST_MS: u64 = 30_000;

/// How a node goes away.
#[derive(Clone, Copy, Debug)]
enum Way {
    Killed,
    WithoutPower,
    Cut,
}

impl World {
    pub fn absences(&mut self) {
        if self.topology.is_none() {
            return;
        }
        self.check_all_there();
        let gone = self.dice.index(self.machines.len());
        let way = self.go(gone, KNOWN_MS + ROUND_MS);
        // If the service is lost as well, it reports all once it is back.
        let watcher = self.dice.index(self.machines.len());
        if self.dice.chance(500) {
            self.lose_topology(watcher, KNOWN_MS - REPORT_DELAY_MOST_MS);
        }
        self.run_for(KNOWN_MS);
        self.check_gone(gone, way);
        self.run_for(3 * ROUND_MS);
        self.check_all_there();
        self.lose_one_at_work();
        self.check_all_there();
        self.cut_amid();
    }

    /// A node is cut off for a short time, and a rollout leaves no host out.
    fn cut_amid(&mut self) {
        let offered = self.offer("CUT", b"CUT".to_vec(), EntryMeta::default());
        self.command(0, Command::Upload(Box::new(offered)));
        self.run_for(2 * ROUND_MS);
        self.command(0, Command::Apply(vec![name("CUT")]));
        self.run_for(3 * ROUND_MS);
        let complete = self.complete();
        let carrier = complete[self.dice.index(complete.len())];
        self.change_the_rollout(carrier, RolloutState::Running, 1, 0);
        if self.await_one_at_work(carrier).is_none() {
            return;
        }
        let who = self.dice.index(self.machines.len());
        self.note(format_args!("{who} is cut off"));
        self.raise_wall(vec![who], false, self.now + 3_500);
        self.run_for(3_500 + ROLLOUT_MOST_MS);
        // Only the carrier knows that a request got no answer.
        let controller = self.machines[carrier].controller().expect("calm");
        let rollout = *controller.map().rollout().expect("it was begun");
        let census = controller.census(Instant::from_millis(self.now), &rollout);
        assert_eq!(rollout.state, RolloutState::Ended, "{census:?}");
        assert_eq!((census.next, census.lost), (0, 0), "{census:?}");
    }

    /// A node goes away, and is back after a while.
    fn go(&mut self, gone: usize, away: u64) -> Way {
        let way = [Way::Killed, Way::WithoutPower, Way::Cut][self.dice.index(3)];
        self.note(format_args!("{gone} goes for {away}: {way:?}"));
        match way {
            Way::Cut => self.raise_wall(vec![gone], false, self.now + away),
            Way::Killed | Way::WithoutPower => {
                assert!(self.end(gone, matches!(way, Way::WithoutPower)), "all run in the calm");
                self.schedule(away, Event::Restart { machine: gone });
            }
        }
        way
    }

    /// The nodes that a controller holds for lost, as hosts and as controllers, and why.
    fn lost(&self, machine: usize) -> (BTreeSet<usize>, Vec<LossCause>) {
        let now = Instant::from_millis(self.now);
        let controller = self.machines[machine].controller().expect("it is asked");
        let lost_after = controller.sync().neighbours().lost_after();
        let hosts = controller.hosts().iter().filter(|host| host.is_lost(now, TIMERS.host_lost));
        let hosts = hosts.map(|host| (host.node, host.presence.loss_cause()));
        let neighbours = controller.sync().neighbours().iter();
        let neighbours = neighbours.filter(|one| !one.is_present(now, lost_after));
        let neighbours = neighbours.map(|one| (one.node, one.presence.loss_cause()));
        hosts.chain(neighbours).map(|(node, cause)| (self.index(node), cause)).unzip()
    }

    /// No node is lost, and every node is known.
    fn check_all_there(&self) {
        for index in self.controllers() {
            let (lost, cause) = self.lost(index);
            assert!(lost.is_empty(), "{index} has lost {lost:?}, which are up: {cause:?}");
            let controller = self.machines[index].controller().expect("calm");
            let hosts = self.machines.iter().filter(|machine| machine.roles.is_agent).count();
            assert_eq!(controller.hosts().iter().count(), hosts, "{index}");
            assert_eq!(controller.unheard_peers().count(), 0, "{index} has not heard a peer that is up");
        }
    }

    /// Every controller knows which node is gone and why, and holds no other for gone.
    fn check_gone(&self, gone: usize, way: Way) {
        let expected = if matches!(way, Way::Killed) { LossCause::Ended } else { LossCause::OutOfReach };
        for index in self.controllers().into_iter().filter(|index| self.machines[*index].process.is_some()) {
            let (lost, cause) = self.lost(index);
            let others = (0..self.machines.len()).filter(|other| *other != gone);
            let meant: BTreeSet<usize> = if index == gone { others.collect() } else { [gone].into() };
            assert_eq!(lost, meant, "{index} holds other nodes for lost: {cause:?}");
            // A controller that missed the loss in a gap does not know the cause: silence, if
            // nothing else.
            let is_whole = !self.has_had_gap(index);
            assert!(!is_whole || cause.iter().all(|cause| *cause == expected), "{index}: {way:?}, {cause:?}");
        }
    }

    /// A host that is at work for a rollout goes away. The rollout, which allows no failure,
    /// halts. Once it is resumed, every host gets what it should have.
    fn lose_one_at_work(&mut self) {
        let offered = self.offer("AWAY", b"AWAY".to_vec(), EntryMeta::default());
        self.command(0, Command::Upload(Box::new(offered)));
        self.run_for(2 * ROUND_MS);
        self.command(0, Command::Apply(vec![name("AWAY")]));
        self.run_for(3 * ROUND_MS);
        let complete = self.complete();
        let carrier = complete[self.dice.index(complete.len())];
        let parallel = self.dice.between(1, 3) as u16;
        self.change_the_rollout(carrier, RolloutState::Running, parallel, 1);
        let Some(gone) = self.await_one_at_work(carrier) else { return self.end_rollout(carrier) };
        self.go(gone, AWAY_MS);
        self.run_for(COUNTED_MS);
        let controller = self.machines[carrier].controller().expect("calm");
        let host = controller.hosts().get(self.machines[gone].id).expect("it was asked");
        let rollout = *controller.map().rollout().expect("it was begun");
        let census = controller.census(Instant::from_millis(self.now), &rollout);
        match host.request.status() {
            RequestStatus::NoAnswer => assert_eq!(rollout.state, RolloutState::Halted, "{census:?}"),
            // Its last message reported the end.
            RequestStatus::Ended(_) => assert_ne!(rollout.state, RolloutState::Running, "{census:?}"),
            open => panic!("{gone} is gone, and its request is {open:?}"),
        }
        // The carrier's own host waits for another controller, and this may be the only one.
        let waits = self.journal(carrier).awaits.is_some();
        assert!(census.at_work == 0 || (waits && census.at_work == 1), "{census:?}");
        self.run_for(AWAY_MS - COUNTED_MS + 3 * ROUND_MS);
        self.end_rollout(carrier);
    }

    /// Waits until a rollout has a host at work other than the carrier's own.
    fn await_one_at_work(&mut self, carrier: usize) -> Option<usize> {
        for _ in 0..1_000 {
            let is_at_work = |index: &usize| {
                let process = self.machines[*index].process.as_ref();
                process.is_some_and(|process| process.workers.iter().any(|worker| worker.job == Job::Install))
            };
            let at_work = (0..self.machines.len()).filter(|index| *index != carrier).find(is_at_work);
            if at_work.is_some() {
                return at_work;
            }
            self.run_for(2);
        }
        None
    }

    /// After any rollout, another one brings every host to what it should have.
    fn end_rollout(&mut self, carrier: usize) {
        self.change_the_rollout(carrier, RolloutState::Running, 2, 0);
        let end = self.now + ROLLOUT_MOST_MS;
        let is_running = |world: &Self| {
            let controller = world.machines[carrier].controller().expect("calm");
            controller.map().rollout().is_none_or(|rollout| rollout.is_running())
        };
        self.run_for(2 * ROUND_MS);
        while is_running(self) && self.now < end {
            self.run_for(ROUND_MS);
        }
        self.run_for(2 * ROUND_MS);
        for index in self.controllers() {
            let controller = self.machines[index].controller().expect("calm");
            let rollout = *controller.map().rollout().expect("it was begun");
            let census = controller.census(Instant::from_millis(self.now), &rollout);
            assert_eq!(rollout.state, RolloutState::Ended, "{index}: {census:?}");
            self.check_converged(index);
        }
    }
}
