//! The controller's workers and commands: the map on disk, and changes of it
//! that are durable before they are acknowledged.

use serde::{Deserialize, Serialize};
use thimble::repo::entry::{Entry, EntryState, Stamp};
use thimble::repo::map::Map;
use thimble::repo::rules;
use thimble::time::Instant;
use thimble::types::{NodeId, PatchId};

use crate::disk::encode;
use crate::worker::{Do, Job, replace};
use crate::world::World;

/// The repository map as it is on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MapFile {
    pub replica: u64,
    pub counter: u64,
    pub entries: Vec<Entry>,
}

/// A command that changes the repository.
#[derive(Clone, Debug)]
pub enum Command {
    Upload(Box<Entry>),
    Apply(Vec<PatchId>),
    Remove(Vec<PatchId>),
    Delete(Vec<PatchId>, bool),
}

impl World {
    /// The machine that keeps the repository.
    pub const CONTROLLER: usize = 0;

    fn map_file(&self) -> MapFile {
        self.machines[Self::CONTROLLER].disk.decode("map").unwrap_or_default()
    }

    /// Reads the map, at start and after a worker died.
    pub fn start_load(&mut self, machine: usize) {
        let file = self.map_file();
        self.truth.check_map(&file.entries);
        let steps = file.entries.into_iter().map(|entry| Do::Merge(Box::new(entry)));
        // What a kill left in the page cache is made to last before it is believed.
        let steps: Vec<Do> = [Do::SyncAll].into_iter().chain(steps).chain([Do::Loaded]).collect();
        self.start_worker(machine, Job::Load, steps);
    }

    pub fn on_loaded(&mut self, machine: usize) {
        if let Some(process) = &mut self.machines[machine].process {
            process.is_loaded = true;
        }
        self.note(format_args!("{machine} has its map"));
    }

    pub fn merge(&mut self, machine: usize, entry: &Entry) {
        self.touch(machine, |process, now| {
            if let Some(controller) = &mut process.node.controller {
                controller.merge(now, entry).expect("the commands keep to the map's bounds");
            }
        });
        self.check_effective(machine);
    }

    /// Carries a command out as far as the rules allow; its acknowledgement
    /// comes when all of it is durable.
    pub fn command(&mut self, command: &Command) {
        let machine = &self.machines[Self::CONTROLLER];
        let Some(process) = machine.process.as_ref().filter(|process| process.is_loaded) else { return };
        if process.workers.iter().any(|worker| matches!(worker.job, Job::Change | Job::Load)) {
            return self.note(format_args!("{command:?}: busy"));
        }
        let mut file = self.map_file();
        if file.replica == 0 {
            file.replica = self.dice.next();
        }
        file.counter += 1;
        let stamp = Stamp { counter: file.counter, replica: file.replica };
        let changed = match self.changed(command, stamp) {
            Ok(changed) => changed,
            Err(refusal) => return self.note(format_args!("{command:?}: {refusal}")),
        };
        self.note(format_args!("{command:?}: {} entries to change", changed.len()));
        for entry in &changed {
            file.entries.retain(|old| old.id != entry.id);
            file.entries.push(entry.clone());
        }
        self.truth.on_intended(&changed);
        let steps = replace("map", "map.new", encode(&file)).into_iter();
        let steps = steps.chain(changed.iter().cloned().map(|entry| Do::Merge(Box::new(entry))));
        let steps: Vec<Do> = steps.chain([Do::Acknowledge(changed.clone())]).collect();
        self.start_worker(Self::CONTROLLER, Job::Change, steps);
    }

    /// The entries as a command leaves them, or why it is refused.
    fn changed(&self, command: &Command, stamp: Stamp) -> Result<Vec<Entry>, String> {
        let controller = self.machines[Self::CONTROLLER].controller().ok_or("no controller")?;
        let map: &Map<'_> = controller.map();
        let now = Instant::from_millis(self.now);
        let to = |ids: Result<_, rules::Refusal<'_>>, state| -> Result<Vec<Entry>, String> {
            let slots: thimble::repo::slots::SlotSet = ids.map_err(|refusal| refusal.to_string())?;
            let entries = slots.iter().filter_map(|slot| map.entry(slot));
            Ok(entries.map(|entry| rules::changed(entry, state, stamp)).collect())
        };
        match command {
            Command::Upload(entry) => match rules::check_upload(map, entry) {
                Ok(rules::Upload::New) => Ok(vec![Entry { stamp, ..*entry.clone() }]),
                Ok(rules::Upload::Already) => Ok(Vec::new()),
                Err(refusal) => Err(refusal.to_string()),
            },
            Command::Apply(ids) => to(rules::check_apply(map, ids), EntryState::Applied),
            Command::Remove(ids) => to(rules::check_remove(map, ids), EntryState::Available),
            Command::Delete(..) if !controller.pacing().is_settled(now) => Err("not settled yet".to_string()),
            Command::Delete(ids, force) => {
                let on_hosts = |slot| controller.on_hosts(now, slot, *force);
                to(rules::check_delete(map, ids, on_hosts), EntryState::Deleted)
            }
        }
    }

    pub fn on_acknowledged(&mut self, entries: &[Entry]) {
        self.truth.on_acknowledged(entries);
        self.note(format_args!("{} entries acknowledged", entries.len()));
    }

    /// Asks a host to install what it should have.
    pub fn ask_install(&mut self, host: NodeId) {
        let mut asked = None;
        self.touch(Self::CONTROLLER, |process, now| {
            asked = Some(process.node.ask_install(now, host, false, &mut process.actions));
        });
        self.note(format_args!("host-install {host}: {asked:?}"));
    }
}
