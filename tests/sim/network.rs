//! The fate of datagrams and stream sessions.

use std::collections::BTreeSet;

use crate::dice::Dice;

/// The network between all machines.
#[derive(Default)]
pub struct Network {
    /// No losses, no duplicates, short delays.
    pub is_calm: bool,
    walls: Vec<Wall>,
    /// The machines that have lost their network.
    lost: BTreeSet<usize>,
}

/// A partition, until a given time.
struct Wall {
    /// The machines on one side.
    inside: Vec<usize>,
    /// Whether datagrams from the inside still get out.
    is_one_way: bool,
    until: u64,
}

/// The fate of a requested session.
pub enum Fate {
    /// It opens.
    Ready,
    /// The other end has no worker free.
    Busy,
    /// It fails, for a reason that the initiator sees.
    Failed,
}

impl Network {
    /// Partitions some machines from all others: in both directions, or so that they are
    /// heard and hear nothing.
    pub fn part(&mut self, inside: Vec<usize>, is_one_way: bool, until: u64) {
        self.walls.push(Wall { inside, is_one_way, until });
    }

    pub fn heal(&mut self) {
        self.walls.clear();
        self.lost.clear();
        self.is_calm = true;
    }

    /// Whether no datagram passes from one machine to another. A machine always
    /// hears itself.
    pub fn is_cut(&self, now: u64, from: usize, to: usize) -> bool {
        if from != to && (self.is_lost(from) || self.is_lost(to)) {
            return true;
        }
        self.walls.iter().filter(|wall| now < wall.until).any(|wall| {
            let (is_from, is_to) = (wall.inside.contains(&from), wall.inside.contains(&to));
            is_from != is_to && (is_to || !wall.is_one_way)
        })
    }

    /// A machine loses its network.
    pub fn lose(&mut self, machine: usize) {
        self.lost.insert(machine);
    }

    /// It has it again.
    pub fn find(&mut self, machine: usize) {
        self.lost.remove(&machine);
    }

    /// Whether a machine has lost its network.
    pub fn is_lost(&self, machine: usize) -> bool {
        self.lost.contains(&machine)
    }

    /// Whether no session holds between two machines: one needs both ways.
    pub fn is_apart(&self, now: u64, one: usize, other: usize) -> bool {
        self.is_cut(now, one, other) || self.is_cut(now, other, one)
    }

    /// The delays in milliseconds of a datagram's copies: none, one or two.
    pub fn deliveries(&self, dice: &mut Dice, now: u64, from: usize, to: usize) -> Vec<u64> {
        if self.is_cut(now, from, to) {
            return Vec::new();
        }
        if self.is_calm || from == to {
            return vec![dice.between(0, 3)];
        }
        if dice.chance(150) {
            return Vec::new();
        }
        let copies = if dice.chance(100) { 2 } else { 1 };
        let mut delay = || match dice.between(0, 9) {
            0 => dice.between(20, 3_000),
            _ => dice.between(0, 20),
        };
        (0..copies).map(|_| delay()).collect()
    }

    /// The fate of a session whose ends both run.
    pub fn session(&self, dice: &mut Dice, now: u64, from: usize, to: usize) -> Fate {
        match dice.between(0, 19) {
            _ if self.is_apart(now, from, to) => Fate::Failed,
            _ if self.is_calm => Fate::Ready,
            0..3 => Fate::Failed,
            3..5 => Fate::Busy,
            _ => Fate::Ready,
        }
    }
}
