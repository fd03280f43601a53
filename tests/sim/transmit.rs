//! In the calm phase: a file is sent to all hosts, and they install it from what they keep.

use std::collections::BTreeSet;

use thimble::coding::proof::{BLOCK_BYTES, Cut};
use thimble::fsm::spread::Report;
use thimble::fsm::spread::receiver::POISONED;
use thimble::fsm::spread::sender::Ending;
use thimble::repo::entry::EntryMeta;
use thimble::repo::rollout::RolloutState;
use thimble::types::Hash;

use crate::commands::Command;
use crate::machine::{TIMERS, name};
use crate::receive::SILENT_MS;
use crate::worker::WorkerStep;
use crate::world::World;

/// Until a command is known everywhere, and files are fetched.
const KNOWN_MS: u64 = 3 * TIMERS.sync.hello_interval.as_millis() * 11 / 10;
/// How long one is away that is killed, at most.
const AWAY_MS: u64 = 5_000;
/// The longest that transmissions take which wait for one another, of files as there are here.
const SENT_MS: u64 = 180_000;
/// Until a receiver has ended whose sender is gone.
const ENDED_MS: u64 = SILENT_MS + 5_000;
/// How long two controllers may send at once: until hosts have answered a question.
const OVERLAP_MS: u64 = 1_500;
/// Who sends sends in each span so long.
const SPAN_MS: u64 = 100;

/// What happens to a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// Another controller sends the same.
    Other,
    SenderKilled,
    HostKilled,
    Cut,
    Poison,
}

impl World {
    /// Counts what an install takes from what the host keeps, and what from the session. Returns the steps that
    /// remove what it took.
    pub fn fetch_files(&mut self, machine: usize, files: &[Hash]) -> Vec<WorkerStep> {
        let mut steps = Vec::new();
        for hash in files {
            let size = self.truth.contents[hash].len() as u64;
            let cut = Cut::of(size).expect("a patch file");
            let kept = self.kept(machine, hash);
            let here = (0..cut.blocks()).filter(|block| kept.as_ref().is_some_and(|kept| kept.has(*block)));
            let here: u64 = here.map(|block| cut.block_bytes(block)).sum();
            let taken = self.transmissions.taken.entry(machine).or_default();
            taken[0] += here;
            taken[1] += size - here;
            steps.extend(kept.map(|_| WorkerStep::Uncache(*hash)));
        }
        steps
    }

    /// An answer that names a section as present is true.
    pub fn check_lacks(&self, machine: usize, report: &Report) {
        if !report.missing.is_empty() || report.is_out {
            return;
        }
        let process = self.machines[machine].process.as_ref().expect("it answers");
        let Some(receiving) = process.receiving.as_ref() else { return };
        assert!(receiving.has_whole_file(self, machine), "{machine} names present what it has not");
    }

    /// Everything that is sent is sent in time, and nobody receives any more.
    pub fn end_transmissions(&mut self) {
        let end = self.now + SENT_MS;
        while !self.transmissions.under_way().is_empty() {
            assert!(self.now < end, "{:?} still send", self.transmissions.under_way());
            self.run_for(1_000);
        }
        let receives = |world: &Self| {
            let mut processes = world.machines.iter().filter_map(|machine| machine.process.as_ref());
            processes.any(|process| process.receiving.is_some())
        };
        let end = self.now + ENDED_MS;
        while receives(self) {
            assert!(self.now < end, "a host still receives");
            self.run_for(1_000);
        }
    }

    /// A file of two blocks is sent to all hosts, whatever happens meanwhile. All hosts get it: from what they keep
    /// where nothing happened.
    pub fn transmit(&mut self) {
        if self.spread.is_none() {
            return;
        }
        let complete = self.complete();
        let sender = complete[self.dice.index(complete.len())];
        let others: Vec<usize> = complete.into_iter().filter(|other| *other != sender).collect();
        // All controllers trust its signature.
        let mut content = vec![1; (BLOCK_BYTES + 5_000) as usize];
        while blake3::hash(&content).as_bytes()[0].is_multiple_of(2) {
            content[0] += 1;
        }
        let offered = self.offer("SENT", content, EntryMeta::default());
        let hash = offered.hash;
        self.command(sender, Command::Upload(Box::new(offered)));
        self.run_for(2 * KNOWN_MS);
        self.command(sender, Command::Apply(vec![name("SENT")]));
        self.run_for(KNOWN_MS);
        let trouble = match self.dice.between(0, 9) {
            0..3 if !others.is_empty() => Trouble::Other,
            3 => Trouble::SenderKilled,
            4 => Trouble::HostKilled,
            5 => Trouble::Cut,
            6..8 => Trouble::Poison,
            _ => Trouble::Nothing,
        };
        self.note(format_args!("all are sent SENT: {trouble:?}"));
        self.transmissions.sources.clear();
        self.transmissions.poisoned.clear();
        let rate = 400_000;
        self.send_named(sender, "SENT", rate);
        if trouble == Trouble::Other {
            let other = others[self.dice.index(others.len())];
            let later = self.dice.between(0, 3_000);
            self.run_for(later);
            self.send_named(other, "SENT", rate);
        } else {
            let amid = self.dice.between(500, 3_500);
            self.run_for(amid);
            self.befall(trouble, sender);
        }
        // Whoever was killed is back.
        self.run_for(AWAY_MS + 2 * KNOWN_MS);
        self.end_transmissions();
        self.check_one_sent();
        if matches!(trouble, Trouble::Nothing | Trouble::Other | Trouble::Poison) {
            self.check_all_keep(sender, &hash, trouble);
        }
        self.install_sent(sender, &hash);
    }

    fn send_named(&mut self, at: usize, id: &str, rate: u64) {
        let controller = self.machines[at].controller().expect("calm");
        let slot = controller.map().get(&name(id)).expect("it was uploaded").0;
        self.send_to_all(at, slot, rate);
        let controller = self.machines[at].controller().expect("calm");
        assert!(controller.spreading().0.is_some(), "{at} does not send");
    }

    fn befall(&mut self, trouble: Trouble, sender: usize) {
        let somebody = self.dice.index(self.machines.len());
        match trouble {
            Trouble::SenderKilled => self.kill(sender),
            Trouble::HostKilled => self.kill(somebody),
            Trouble::Cut => self.raise_wall(vec![somebody], false, self.now + 3_000),
            Trouble::Poison => (0..4).for_each(|_| self.inject(sender)),
            Trouble::Nothing | Trouble::Other => {}
        }
    }

    /// Two controllers that can be heard by all did not send for long at once.
    fn check_one_sent(&self) {
        let spans = |at: &Vec<u64>| at.iter().map(|at| at / SPAN_MS).collect::<BTreeSet<_>>();
        let sent: Vec<BTreeSet<u64>> = self.transmissions.sources.values().map(spans).collect();
        if let [one, other] = &sent[..] {
            let both = one.intersection(other).count() as u64 * SPAN_MS;
            assert!(both <= OVERLAP_MS, "two sent for {both} ms at once");
        }
    }

    /// Every host with room keeps all of the file, but the sender's own. A false packet has cost a host its block
    /// and no other, unless it has left.
    fn check_all_keep(&self, sender: usize, hash: &Hash, trouble: Trouble) {
        for machine in self.machines.iter().filter(|machine| machine.roles.is_agent && machine.has_room) {
            // Of two senders, each has its own host, and which one sent is not known here.
            if machine.index == sender || (trouble == Trouble::Other && machine.roles.is_controller) {
                continue;
            }
            let (at, poisoned) = (machine.index, &self.transmissions.poisoned);
            let kept = self.kept(at, hash);
            let has_left = poisoned.iter().filter(|(of, _)| *of == at).count() >= usize::from(POISONED);
            for block in 0..2 {
                let is_here = kept.as_ref().is_some_and(|kept| kept.has(block));
                let may_lack = has_left || poisoned.contains(&(at, block));
                assert!(is_here || may_lack, "{at} does not keep block {block}: {trouble:?}");
            }
        }
        let ending = self.transmissions.last_ending;
        assert!(matches!(ending, Some(Ending::All | Ending::Most | Ending::Nobody)), "{ending:?}");
    }

    /// All hosts install the file: by session, whoever lacks something of it.
    fn install_sent(&mut self, carrier: usize, hash: &Hash) {
        let kept = |world: &Self, machine: usize| {
            let cut = Cut::of(world.truth.contents[hash].len() as u64).expect("a patch file");
            let kept = world.kept(machine, hash);
            (0..cut.blocks()).all(|block| kept.as_ref().is_some_and(|kept| kept.has(block)))
        };
        let keepers: Vec<usize> = (0..self.machines.len()).filter(|at| kept(self, *at)).collect();
        self.transmissions.taken.clear();
        self.change_the_rollout(carrier, RolloutState::Running, 3, 0);
        self.run_for(self.rollout_ms());
        self.end_transmissions();
        self.check_settled();
        for controller in self.controllers() {
            self.check_converged(controller);
        }
        let size = self.truth.contents[hash].len() as u64;
        for (machine, [cached, by_session]) in &self.transmissions.taken {
            let expected = if keepers.contains(machine) { [size, 0] } else { [*cached, size - *cached] };
            assert_eq!([*cached, *by_session], expected, "{machine}");
        }
        let hosts = self.machines.iter().filter(|machine| machine.roles.is_agent).count();
        assert_eq!(self.transmissions.taken.len(), hosts, "all install it");
    }
}
