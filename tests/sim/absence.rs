//! In the calm, over TIPC: whoever goes is known to be gone in time, by everybody and
//! for the right reason, and a rollout goes by that.

use std::collections::BTreeSet;

use thimble::fsm::presence::LossCause;
use thimble::fsm::requests::RequestStatus;
use thimble::repo::entry::EntryMeta;
use thimble::repo::rollout::RolloutState;
use thimble::time::Instant;

use crate::commands::Command;
use crate::machine::{TIMERS, name};
use crate::topology::{TOLERANCE_MS, WORD_MOST_MS};
use crate::worker::Job;
use crate::world::{Event, World};

/// A round of hellos, with its jitter and what is on its way.
const ROUND_MS: u64 = TIMERS.sync.hello_interval.as_millis() * 11 / 10 + 100;
/// When all know who is gone: long before one is lost by its silence.
const KNOWN_MS: u64 = TOLERANCE_MS + ROUND_MS;
const _: () = assert!(KNOWN_MS < TIMERS.sync.controller_lost.as_millis());
const _: () = assert!(KNOWN_MS < TIMERS.host_lost.as_millis());
/// When a rollout has counted a host at work that is gone: it is given up after five
/// retries, and the rollout looks again each second.
const COUNTED_MS: u64 = KNOWN_MS + 5 * TIMERS.request.retry.as_millis() + 1_500;
/// How long one is away from a rollout.
const AWAY_MS: u64 = 2 * COUNTED_MS;
/// When all that a rollout does here has come to its end.
const ROLLOUT_MOST_MS: u64 = 30_000;

/// How somebody goes.
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
        // Where the service is lost as well, it tells all once it is back.
        let watcher = self.dice.index(self.machines.len());
        if self.dice.chance(500) {
            self.lose_topology(watcher, KNOWN_MS - WORD_MOST_MS);
        }
        self.run_for(KNOWN_MS);
        self.check_gone(gone, way);
        self.run_for(3 * ROUND_MS);
        self.check_all_there();
        self.lose_one_at_work();
        self.check_all_there();
        self.cut_amid();
    }

    /// Somebody is cut off for a short while, and no host is forgotten by that.
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
        // That one was asked in vain the carrier alone knows.
        let controller = self.machines[carrier].controller().expect("calm");
        let rollout = *controller.map().rollout().expect("it was begun");
        let census = controller.census(Instant::from_millis(self.now), &rollout);
        assert_eq!(rollout.state, RolloutState::Ended, "{census:?}");
        assert_eq!((census.next, census.lost), (0, 0), "{census:?}");
    }

    /// One goes, and is back after a while.
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

    /// At a controller: which others are lost, as hosts and as controllers, and why.
    fn lost(&self, machine: usize) -> (BTreeSet<usize>, Vec<LossCause>) {
        let now = Instant::from_millis(self.now);
        let controller = self.machines[machine].controller().expect("it is asked");
        let lost_after = controller.sync().neighbours().lost_after();
        let hosts = controller.hosts().iter().filter(|host| host.is_lost(now, TIMERS.host_lost));
        let hosts = hosts.map(|host| (host.node, host.presence.loss_cause()));
        let neighbours = controller.sync().neighbours().iter();
        let neighbours = neighbours.filter(|one| !one.is_present(now, lost_after));
        let neighbours = neighbours.map(|one| (one.node, one.presence.loss_cause()));
        hosts.chain(neighbours).map(|(node, why)| (self.index(node), why)).unzip()
    }

    /// Nobody is lost, and everybody is known.
    fn check_all_there(&self) {
        for index in self.controllers() {
            let (lost, why) = self.lost(index);
            assert!(lost.is_empty(), "{index} has lost {lost:?}, which are there: {why:?}");
            let controller = self.machines[index].controller().expect("calm");
            let hosts = self.machines.iter().filter(|machine| machine.roles.is_agent).count();
            assert_eq!(controller.hosts().iter().count(), hosts, "{index}");
            assert_eq!(controller.unheard_peers().count(), 0, "{index} has not heard one that speaks");
        }
    }

    /// Every controller knows who is gone and why, and takes nobody else for gone.
    fn check_gone(&self, gone: usize, way: Way) {
        let expected = if matches!(way, Way::Killed) { LossCause::Ended } else { LossCause::OutOfReach };
        for index in self.controllers().into_iter().filter(|index| self.machines[*index].process.is_some()) {
            let (lost, why) = self.lost(index);
            let others = (0..self.machines.len()).filter(|other| *other != gone);
            let meant: BTreeSet<usize> = if index == gone { others.collect() } else { [gone].into() };
            assert_eq!(lost, meant, "{index} has lost others than went: {why:?}");
            assert!(
                why.iter().all(|why| *why != LossCause::Silent),
                "{index} has lost them by their silence"
            );
            // Whoever is told of nobody after a gap cannot tell why.
            let is_whole = !self.has_had_gap(index);
            assert!(!is_whole || why.iter().all(|why| *why == expected), "{index}: {way:?}, {why:?}");
        }
    }

    /// A host goes that is at work for a rollout, which bears no failure: it halts, and
    /// once it is resumed every host gets what it should.
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
            // Its word that it had ended was the last.
            RequestStatus::Ended(_) => assert_ne!(rollout.state, RolloutState::Running, "{census:?}"),
            open => panic!("{gone} is gone, and its request is {open:?}"),
        }
        assert_eq!(census.at_work, 0, "{census:?}");
        self.run_for(AWAY_MS - COUNTED_MS + 3 * ROUND_MS);
        self.end_rollout(carrier);
    }

    /// A host other than the carrier's own that a rollout has put to work.
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

    /// Whatever became of a rollout, another brings every host to what it should have.
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
