//! Operators: random commands at any controller, at any time.

use thimble::coding::proof::BLOCK_BYTES;
use thimble::repo::entry::{Entry, EntryMeta, EntryState, Stamp};
use thimble::repo::rollout::RolloutState;
use thimble::types::{Hash, NodeId, PatchId};

use crate::commands::Command;
use crate::machine::name;
use crate::spread::LEAST_BYTES;
use crate::world::{Event, World};

pub const WILD_MS: u64 = 60_000;
/// The ids of patches.
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
        let controllers = self.controllers();
        let at = controllers[self.dice.index(controllers.len())];
        if self.spread.is_some() && self.dice.chance(200) {
            self.spread_command(at);
        }
        match self.dice.between(0, 99) {
            0..25 => {
                let entry = self.patch();
                self.command(at, Command::Upload(Box::new(entry)));
            }
            25..43 => {
                let ids = self.some_patches(at, |_| true);
                self.command(at, Command::Apply(ids));
            }
            43..53 => {
                let ids = self.some_patches(at, |entry| entry.state == EntryState::Applied);
                self.command(at, Command::Remove(ids));
            }
            53..65 => {
                let mut ids = self.some_patches(at, |entry| entry.state == EntryState::Available);
                ids.truncate(1);
                let force = self.dice.chance(200);
                self.command(at, Command::Delete(ids, force));
            }
            65..69 => {
                let mut ids = self.some_patches(at, |entry| entry.state == EntryState::Applied);
                ids.truncate(1);
                // None would mean all.
                if !ids.is_empty() {
                    self.command(at, Command::Commit(ids));
                }
            }
            69..74 => self.command(at, Command::Purge),
            74..77 => {
                let parallel = u16::try_from(self.dice.between(1, 3)).expect("3 at most");
                self.change_the_rollout(at, RolloutState::Running, parallel, parallel % 3);
            }
            77..78 => self.change_the_rollout(at, RolloutState::Stopped, 0, 0),
            78..98 => {
                let hosts = self.hosts(at);
                for host in self.dice.some(&hosts) {
                    self.ask_install(at, host);
                }
            }
            _ => {
                let hosts = self.hosts(at);
                if !hosts.is_empty() {
                    let host = hosts[self.dice.index(hosts.len())];
                    self.note(format_args!("drop-host {host} at {at}"));
                    self.touch(at, |process, now| {
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

    /// Some of the patches that a controller knows, without deleted ones.
    fn some_patches(&mut self, at: usize, which: impl Fn(&Entry) -> bool) -> Vec<PatchId> {
        let controller = self.machines[at].controller();
        let entries = controller.iter().flat_map(|controller| controller.map().iter_by_id());
        let entries = entries.map(|(_, entry)| entry).filter(|entry| entry.state != EntryState::Deleted);
        let ids: Vec<_> = entries.filter(|entry| which(entry)).map(|entry| entry.id.clone()).collect();
        self.dice.some(&ids)
    }

    /// The hosts that a controller knows.
    fn hosts(&self, at: usize) -> Vec<NodeId> {
        let controller = self.machines[at].controller();
        controller.iter().flat_map(|controller| controller.hosts().iter()).map(|host| host.node).collect()
    }

    /// A patch to upload: a new id, or one that may exist with the same or other content.
    fn patch(&mut self) -> Entry {
        let number = self.dice.between(0, PATCHES - 1);
        let mut content = format!("patch {number}, made {}", self.dice.between(0, 1)).into_bytes();
        // Some are sent to all hosts: of some packets, and one of two blocks.
        if number.is_multiple_of(3) {
            let size = if number == 9 { BLOCK_BYTES + 2_500 } else { LEAST_BYTES + (number + 4) * 2_000 };
            content.resize(size as usize, 7);
        }
        let lower: Vec<PatchId> = (0..number).map(|lower| name(&format!("P-{lower}"))).collect();
        let mut requires = if self.dice.chance(400) { self.dice.some(&lower) } else { Vec::new() };
        requires.truncate(2);
        let nodetypes: &[&str] = match self.dice.between(0, 5) {
            0 => &["worker"],
            1 => &["controller"],
            _ => &[],
        };
        let meta = EntryMeta {
            requires: requires.into_iter().collect(),
            nodetypes: nodetypes.iter().map(|kind| name(kind)).collect(),
            ..EntryMeta::default()
        };
        self.offer(&format!("P-{number}"), content, meta)
    }

    /// A patch of this content, as it is offered for upload.
    pub fn offer(&mut self, id: &str, content: Vec<u8>, meta: EntryMeta) -> Entry {
        let hash = Hash(*blake3::hash(&content).as_bytes());
        let size_bytes = content.len() as u64;
        self.truth.contents.insert(hash, content.into());
        Entry { id: name(id), hash, size_bytes, state: EntryState::Available, stamp: Stamp::default(), meta }
    }
}
