//! Faults of machines and of the network.

use crate::dice::Dice;
use crate::disk::Disk;
use crate::repository::MapFile;
use crate::world::{Event, World};

/// How long a topology service is lost at most.
const TOPOLOGY_LOST_MOST_MS: u64 = 5_000;
/// Backups of a disk that are kept.
const BACKUPS: usize = 3;

/// The rates of faults in one run.
pub struct Weather {
    /// Per thousand steps of a worker, how often it dies.
    pub worker_deaths: u64,
    /// Per hundred faults, how often a machine gets another disk.
    other_disks: u64,
    /// The longest partition.
    parting_ms: u64,
}

impl Weather {
    pub fn new(dice: &mut Dice) -> Self {
        Self {
            worker_deaths: [0, 8, 8, 40][dice.index(4)],
            other_disks: [0, 2, 4, 12][dice.index(4)],
            parting_ms: [3_000, 10_000, 20_000][dice.index(3)],
        }
    }
}

impl World {
    pub fn on_chaos(&mut self) {
        if self.network.is_calm {
            return;
        }
        let machine = self.dice.index(self.machines.len());
        if self.topology.is_some() && self.dice.chance(100) {
            let back = self.dice.between(50, TOPOLOGY_LOST_MOST_MS);
            self.lose_topology(machine, back);
        }
        if self.spread.is_some() && self.dice.chance(400) {
            (0..3).for_each(|_| self.inject(machine));
        }
        match self.dice.between(0, 99) {
            0..35 => self.crash(machine, false),
            35..55 => self.crash(machine, true),
            55..75 => self.part(),
            75..80 => self.back_up(machine),
            80..83 => self.poison(machine),
            luck if luck < 83 + self.weather.other_disks => self.restore(machine),
            _ if !self.recorded.is_empty() => {
                let (from, to, bytes) = self.recorded[self.dice.index(self.recorded.len())].clone();
                self.note(format_args!("a recorded request of {from} to {to} is sent again"));
                self.deliver(0, from, self.stray_peer(from), to, None, bytes);
            }
            _ => {}
        }
        let pause = self.dice.between(200, 3_000);
        self.schedule(pause, Event::Chaos);
    }

    /// Kills a daemon; it starts again soon.
    pub fn kill(&mut self, machine: usize) {
        self.crash(machine, false);
    }

    fn crash(&mut self, machine: usize, with_power: bool) {
        if self.end(machine, with_power) {
            let pause = self.dice.between(20, 5_000);
            self.schedule(pause, Event::Restart { machine });
        }
    }

    /// Ends a daemon and its workers; a power cut also loses writes that were not synced.
    /// True if the daemon ran.
    pub fn end(&mut self, machine: usize, with_power: bool) -> bool {
        if self.machines[machine].process.take().is_none() {
            return false;
        }
        self.note(format_args!("{machine} {}", if with_power { "loses power" } else { "is killed" }));
        self.transmissions.on_machine_end(machine, self.now);
        if with_power {
            self.machines[machine].disk.cut_power(&mut self.dice);
            self.on_durable(machine);
            self.check_kept(machine);
        }
        self.on_unbound(machine, with_power);
        true
    }

    /// Partitions some machines, one or a random set, from the others.
    fn part(&mut self) {
        let all: Vec<usize> = (0..self.machines.len()).collect();
        let inside = match self.dice.chance(400) {
            true => vec![self.dice.index(all.len())],
            false => self.dice.some(&all),
        };
        let is_one_way = self.dice.chance(300);
        let until = self.now + self.dice.between(200, self.weather.parting_ms);
        let how = if is_one_way { "hear nothing" } else { "are parted" };
        self.note(format_args!("{inside:?} {how} until {until}"));
        self.raise_wall(inside, is_one_way, until);
    }

    /// As [`part`](crate::network::Network::part), and updates the links.
    pub fn raise_wall(&mut self, inside: Vec<usize>, is_one_way: bool, until: u64) {
        self.network.part(inside, is_one_way, until);
        self.review();
        if self.topology.is_some() {
            self.schedule(until - self.now, Event::Links);
        }
    }

    pub fn back_up(&mut self, machine: usize) {
        let here = &mut self.machines[machine];
        if here.backups.len() == BACKUPS {
            here.backups.remove(0);
        }
        here.backups.push(here.disk.image());
        self.note(format_args!("{machine} is backed up"));
    }

    fn restore(&mut self, machine: usize) {
        let backups = self.machines[machine].backups.len();
        let at = (backups > 0 && self.dice.chance(700)).then(|| self.dice.index(backups));
        self.become_backup(machine, at);
    }

    /// A machine's disk is replaced: by a backup of it, or by an empty one.
    pub fn become_backup(&mut self, machine: usize, at: Option<usize>) {
        self.crash(machine, true);
        let here = &mut self.machines[machine];
        let image = at.map(|at| here.backups[at].clone()).unwrap_or_default();
        here.disk = Disk::from(image);
        here.map = MapFile::durable(&here.disk);
        here.has_clock = true;
        self.note(format_args!("{machine} has another disk: {at:?}"));
        self.truth.on_other_disk(machine);
        self.find_network(machine);
        let controllers = self.controllers();
        let disks: Vec<&MapFile> = controllers.iter().map(|index| &self.machines[*index].map).collect();
        let images = self.machines.iter().flat_map(|machine| &machine.backups);
        let backups: Vec<MapFile> = images.map(|image| MapFile::of(&Disk::from(image.clone()))).collect();
        self.ledger.on_other_disk(machine, &disks, &backups);
        if !self.machines[machine].disk.has("controllers") {
            self.ledger.on_lonely(&self.machines[machine].map);
        }
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                process.changes.clear();
            }
        }
    }

    /// Corrupts a partly fetched patch file.
    fn poison(&mut self, machine: usize) {
        let disk = &mut self.machines[machine].disk;
        let coming: Vec<String> = disk.folder("fetch/").map(|(name, _)| format!("fetch/{name}")).collect();
        for file in coming {
            let mut bytes = disk.read(&file).unwrap_or_default().to_vec();
            bytes.push(0);
            bytes[0] ^= 1;
            disk.write(&file, bytes);
        }
    }
}
