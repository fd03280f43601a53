//! Those who meddle: the operator with her whims, and what goes wrong. Then
//! the calm.

use thimble::repo::entry::{Entry, EntryMeta, EntryState, Stamp};
use thimble::time::Instant;
use thimble::types::{Hash, NodeId, PatchId};

use crate::controller::Command;
use crate::machine::name;
use crate::world::{Event, World};

const WILD_MS: u64 = 60_000;
/// Long enough for the longest pauses: recovery again, queries' backoff.
const SETTLE_MS: u64 = 45_000;
const INSTALL_MS: u64 = 30_000;
/// Patches that there are.
const PATCHES: u64 = 10;

impl World {
    pub fn wild_phase(&mut self) {
        for machine in 0..self.machines.len() {
            let delay = self.dice.between(0, 500);
            self.schedule(delay, Event::Restart { machine });
        }
        self.schedule(1_000, Event::Operator);
        self.schedule(2_000, Event::Chaos);
        self.run_until(WILD_MS);
    }

    pub fn on_operator(&mut self) {
        if self.network.is_calm {
            return;
        }
        let ids = self.patches(|_| true);
        match self.dice.between(0, 99) {
            0..25 => {
                let entry = self.patch();
                self.command(&Command::Upload(Box::new(entry)));
            }
            25..45 => {
                let ids = self.dice.some(&ids);
                self.command(&Command::Apply(ids));
            }
            45..55 => {
                let ids = self.dice.some(&self.patches(|entry| entry.state == EntryState::Applied));
                self.command(&Command::Remove(ids));
            }
            55..65 => {
                let mut ids = self.dice.some(&self.patches(|entry| entry.state == EntryState::Available));
                ids.truncate(1);
                let force = self.dice.chance(200);
                self.command(&Command::Delete(ids, force));
            }
            65..98 => {
                let hosts = self.hosts();
                for host in self.dice.some(&hosts) {
                    self.ask_install(host);
                }
            }
            _ => {
                let hosts = self.hosts();
                if !hosts.is_empty() {
                    let host = hosts[self.dice.index(hosts.len())];
                    self.note(format_args!("drop-host {host}"));
                    self.touch(Self::CONTROLLER, |process, now| {
                        if let Some(controller) = &mut process.node.controller {
                            controller.drop_host(now, host, &mut process.actions);
                        }
                    });
                }
            }
        }
        let pause = self.dice.between(50, 800);
        self.schedule(pause, Event::Operator);
    }

    /// The ids of entries that the controller knows.
    fn patches(&self, which: impl Fn(&Entry) -> bool) -> Vec<PatchId> {
        let controller = self.machines[Self::CONTROLLER].controller();
        let entries = controller.iter().flat_map(|controller| controller.map().iter_by_id());
        let entries = entries.map(|(_, entry)| entry).filter(|entry| entry.state != EntryState::Deleted);
        entries.filter(|entry| which(entry)).map(|entry| entry.id.clone()).collect()
    }

    /// The hosts that the controller knows.
    fn hosts(&self) -> Vec<NodeId> {
        let controller = self.machines[Self::CONTROLLER].controller();
        controller.iter().flat_map(|controller| controller.hosts().iter()).map(|host| host.node).collect()
    }

    /// A patch to upload: new, or an id that may be there with the same or
    /// other content.
    fn patch(&mut self) -> Entry {
        let number = self.dice.between(0, PATCHES - 1);
        let content = format!("patch {number}, made {}", self.dice.between(0, 1)).into_bytes();
        let lower: Vec<PatchId> = (0..number).map(|lower| name(&format!("P-{lower}"))).collect();
        let mut requires = if self.dice.chance(400) { self.dice.some(&lower) } else { Vec::new() };
        requires.truncate(2);
        let nodetypes: &[&str] = match self.dice.between(0, 5) {
            0 => &["worker"],
            1 => &["controller"],
            _ => &[],
        };
        let hash = Hash(*blake3::hash(&content).as_bytes());
        let size_bytes = content.len() as u64;
        self.truth.contents.insert(hash, content);
        Entry {
            id: name(&format!("P-{number}")),
            hash,
            size_bytes,
            state: EntryState::Available,
            stamp: Stamp::default(),
            meta: EntryMeta {
                requires: requires.into_iter().collect(),
                nodetypes: nodetypes.iter().map(|kind| name(kind)).collect(),
                ..EntryMeta::default()
            },
        }
    }

    pub fn on_chaos(&mut self) {
        if self.network.is_calm {
            return;
        }
        let machine = self.dice.index(self.machines.len());
        match self.dice.between(0, 99) {
            0..40 => self.crash(machine, false),
            40..60 => self.crash(machine, true),
            60..75 => {
                let until = self.now + self.dice.between(200, 6_000);
                self.note(format_args!("{machine} is cut off until {until}"));
                self.network.cut_off(machine, until);
            }
            _ if !self.recorded.is_empty() => {
                let (from, to, bytes) = self.recorded[self.dice.index(self.recorded.len())].clone();
                self.note(format_args!("a recorded request of {from} to {to} is sent again"));
                self.deliver(0, from, to, bytes);
            }
            _ => {}
        }
        let pause = self.dice.between(200, 3_000);
        self.schedule(pause, Event::Chaos);
    }

    /// Ends a daemon and its workers; with the power, also what was not synced.
    fn crash(&mut self, machine: usize, with_power: bool) {
        if self.machines[machine].process.take().is_none() {
            return;
        }
        self.note(format_args!("{machine} {}", if with_power { "loses power" } else { "is killed" }));
        if with_power {
            self.machines[machine].disk.cut_power(&mut self.dice);
        }
        let pause = self.dice.between(20, 5_000);
        self.schedule(pause, Event::Restart { machine });
    }

    /// No more trouble: everything must come to its end.
    pub fn calm_phase(&mut self) {
        self.note(format_args!("calm"));
        self.network.heal();
        for machine in 0..self.machines.len() {
            self.restart(machine);
        }
        self.run_until(WILD_MS + SETTLE_MS);
        self.check_settled();
        for host in self.hosts() {
            if !self.is_current(host) {
                self.ask_install(host);
            }
        }
        self.run_until(WILD_MS + SETTLE_MS + INSTALL_MS);
        self.check_settled();
        self.check_converged();
        self.truth.check_map(&self.controller_entries());
    }

    fn is_current(&self, node: NodeId) -> bool {
        use thimble::fsm::controller::Currency;
        let controller = self.machines[Self::CONTROLLER].controller().expect("calm");
        let host = controller.hosts().get(node).expect("it was listed");
        controller.currency(host) == Currency::Current
            && !host.is_lost(Instant::from_millis(self.now), controller.timers().host_lost)
    }

    fn controller_entries(&self) -> Vec<Entry> {
        let controller = self.machines[Self::CONTROLLER].controller().expect("calm");
        controller.map().iter().map(|(_, entry)| entry.clone()).collect()
    }
}
