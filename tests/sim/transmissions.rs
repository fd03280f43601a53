//! What is known of all transmissions of a run, and which no node knows.

use std::collections::BTreeMap;

use thimble::fsm::spread::sender::Ending;

/// One of them.
struct Alive {
    machine: usize,
    /// When its worker ended; `None` while it runs.
    ended: Option<u64>,
}

#[derive(Default)]
pub struct Transmissions {
    all: BTreeMap<u64, Alive>,
    /// When machines sent source packets, since that was last cleared.
    pub sources: BTreeMap<usize, Vec<u64>>,
    /// Blocks whose hash did not agree, since that was last cleared: machine and block, each as often.
    pub poisoned: Vec<(usize, u64)>,
    /// How the last one ended; `None` if its worker died.
    pub last_ending: Option<Ending>,
    /// Bytes that installs took from what hosts keep, and over sessions, since these were last cleared; by machine.
    pub taken: BTreeMap<usize, [u64; 2]>,
}

impl Transmissions {
    pub fn begin(&mut self, id: u64, machine: usize) {
        let is_new = self.all.insert(id, Alive { machine, ended: None }).is_none();
        assert!(is_new, "two transmissions have one number");
    }

    pub fn end(&mut self, id: u64, now: u64) {
        self.all.get_mut(&id).expect("it began").ended = Some(now);
    }

    /// A machine's daemon is gone, with its workers.
    pub fn on_machine_end(&mut self, machine: usize, now: u64) {
        for one in self.all.values_mut().filter(|one| one.machine == machine) {
            one.ended.get_or_insert(now);
        }
    }

    pub fn on_source(&mut self, machine: usize, now: u64) {
        self.sources.entry(machine).or_default().push(now);
    }

    /// A receiver ends in time after its sender.
    pub fn check_not_outlived(&self, machine: usize, id: u64, now: u64, most: u64) {
        let ended = self.all[&id].ended;
        assert!(ended.is_none_or(|ended| now <= ended + most), "{machine} still receives {id:x}: {ended:?}");
    }

    /// Machines that still send.
    pub fn under_way(&self) -> Vec<usize> {
        self.all.values().filter(|one| one.ended.is_none()).map(|one| one.machine).collect()
    }
}
