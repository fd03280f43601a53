//! What becomes of a datagram on its way, and of a stream session.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// The network between all machines.
#[derive(Default)]
pub struct Network {
    /// No losses, no doubles, short delays.
    pub is_calm: bool,
    /// Machines that are cut off, each until a moment.
    cut_off: BTreeMap<usize, u64>,
}

/// How a session that was asked for goes.
pub enum Fate {
    /// It opens.
    Ready,
    /// The other end has no worker free.
    Busy,
    /// It fails, for a reason that the initiator sees.
    Failed,
}

impl Network {
    pub fn cut_off(&mut self, machine: usize, until: u64) {
        self.cut_off.insert(machine, until);
    }

    pub fn heal(&mut self) {
        self.cut_off.clear();
        self.is_calm = true;
    }

    /// Whether nothing passes between two machines. A machine always hears itself.
    pub fn is_cut(&self, now: u64, from: usize, to: usize) -> bool {
        let is_off = |machine| self.cut_off.get(&machine).is_some_and(|until| now < *until);
        from != to && (is_off(from) || is_off(to))
    }

    /// After how many milliseconds a datagram arrives: not at all, once or twice.
    pub fn deliveries(&self, dice: &mut Dice, now: u64, from: usize, to: usize) -> Vec<u64> {
        if self.is_calm || from == to {
            return vec![dice.between(0, 3)];
        }
        if self.is_cut(now, from, to) || dice.chance(150) {
            return Vec::new();
        }
        let copies = if dice.chance(100) { 2 } else { 1 };
        let mut delay = || match dice.between(0, 9) {
            0 => dice.between(20, 3_000),
            _ => dice.between(0, 20),
        };
        (0..copies).map(|_| delay()).collect()
    }

    /// How a session goes that both ends are there for.
    pub fn session(&self, dice: &mut Dice, now: u64, from: usize, to: usize) -> Fate {
        match dice.between(0, 19) {
            _ if self.is_cut(now, from, to) => Fate::Failed,
            _ if self.is_calm => Fate::Ready,
            0..3 => Fate::Failed,
            3..5 => Fate::Busy,
            _ => Fate::Ready,
        }
    }
}
