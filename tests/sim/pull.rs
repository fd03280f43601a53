//! A controller reads another's map over a session, then merges it durably.

use thimble::fsm::event::{Event as NodeEvent, MergedMap};
use thimble::job::Report;
use thimble::repo::entry::{Entry, EntryState};
use thimble::repo::join;
use thimble::repo::rollout::Rollout;
use thimble::repo::slots::Slot;
use thimble::types::{Digest, Hostname, NodeId, Reason};
use thimble::wire::frame::Purpose;

use crate::disk::encode;
use crate::machine::PATCHES;
use crate::repository::{Known, MapFile, blob};
use crate::sessions::Link;
use crate::worker::{Job, WorkerStep, replace};
use crate::world::World;

/// The part of a map that was received.
pub struct Incoming {
    from: NodeId,
    hostname: Hostname,
    floor: u64,
    entries: Vec<Entry>,
    rollout: Option<Rollout>,
}

impl World {
    pub fn start_pull(&mut self, machine: usize, node: NodeId) {
        let link = self.take_link(machine, node, Purpose::Pull);
        self.start_worker(machine, Job::Pull(node), [WorkerStep::PullHead(node, link)]);
    }

    fn fail_pull(&mut self, machine: usize, id: u64, node: NodeId, reason: &str) {
        self.replace_steps(machine, id, [WorkerStep::EndPull(node, Err(Reason::truncated(reason)))]);
    }

    /// The other end's loop answers from the map in its memory.
    pub fn pull_head(&mut self, machine: usize, id: u64, node: NodeId, link: Link) {
        if self.is_broken(machine, link) {
            return self.fail_pull(machine, id, node, "the session was cut");
        }
        let there = self.machines[link.peer].process.as_ref().expect("it holds");
        let controller = there.node.controller.as_ref().filter(|_| there.is_loaded);
        let Some(controller) = controller else {
            return self.fail_pull(machine, id, node, "its repository is still being read");
        };
        if controller.map().floor() != there.floor_told {
            // Neither the old floor, with which its digest would count as merged, nor
            // the new one, with which what it is about to learn would count as purged.
            return self.fail_pull(machine, id, node, "it is merging what was purged");
        }
        let hostname = self.machines[link.peer].hostname();
        let (floor, entries) = (there.floor_told, Vec::new());
        let incoming = Incoming { from: node, hostname, floor, entries, rollout: None };
        self.prepend_steps(machine, id, [WorkerStep::PullEntry(link, 0, Box::new(incoming))]);
    }

    /// The entry in the next used slot. The map may change between two entries.
    pub fn pull_entry(
        &mut self,
        machine: usize,
        id: u64,
        link: Link,
        from: usize,
        mut incoming: Box<Incoming>,
    ) {
        if self.is_broken(machine, link) {
            return self.fail_pull(machine, id, incoming.from, "the session was cut");
        }
        let map = self.machines[link.peer].controller().expect("it holds").map();
        let mut slots = (from..PATCHES).filter_map(Slot::new);
        let next = slots.find_map(|slot| Some((slot.index(), map.entry(slot)?.clone())));
        let step = match next {
            Some((at, entry)) => {
                incoming.entries.retain(|held| held.id != entry.id);
                incoming.entries.push(entry);
                [WorkerStep::PullEntry(link, at + 1, incoming)].into_iter().collect()
            }
            None => {
                incoming.rollout = map.rollout().copied();
                vec![WorkerStep::Lock, WorkerStep::Join(incoming)]
            }
        };
        self.prepend_steps(machine, id, step);
    }

    /// Merges the complete map in one durable commit.
    pub fn join(&mut self, machine: usize, id: u64, incoming: &Incoming) {
        let disk = &self.machines[machine].disk;
        let before = MapFile::of(disk);
        let mut known: Known = disk.decode("controllers").unwrap_or_default();
        let fresh = self.dice.next();
        let mut theirs_slots = Vec::new();
        let theirs_file =
            MapFile { entries: incoming.entries.clone(), rollout: incoming.rollout, ..MapFile::default() };
        let theirs = theirs_file.map(&mut theirs_slots);
        let mut steps = Vec::new();
        if known.iter().all(|(node, _)| *node != incoming.from) {
            known.push((incoming.from, incoming.hostname.clone()));
            steps.extend(replace("controllers", encode(&known)));
        }

        let (mut slots, mut events) = (Vec::new(), Vec::new());
        let mut ours = before.map(&mut slots);
        let mut origin = join::Origin { replica: before.replica, counter: before.counter };
        let is_whole = join::join(&mut ours, &mut origin, &theirs, incoming.floor, fresh, &mut |event| {
            events.push(event)
        });
        assert!(is_whole, "there is room for all, and no counter leaps");
        let entries = ours.iter_by_id().map(|(_, entry)| entry.clone()).collect();
        let (floor, rollout) = (ours.floor(), ours.rollout().copied());
        let after = MapFile { replica: origin.replica, counter: origin.counter, floor, entries, rollout };
        let mut reports =
            vec![Report::Controller { node: incoming.from, hostname: incoming.hostname.clone() }];
        if after.floor > before.floor {
            reports.push(Report::Floor(after.floor));
        }
        for event in &events {
            if let join::MergeEvent::Purged(id) = event {
                reports.push(Report::EntryPurged(id.clone()));
            }
        }
        for event in &events {
            let join::MergeEvent::Changed(entry) = event else { continue };
            reports.push(Report::Entry(entry.clone()));
            if entry.state != EntryState::Deleted && !self.machines[machine].disk.has(&blob(&entry.hash)) {
                reports.push(Report::BlobMissing { hash: entry.hash, reason: Reason::default() });
            }
        }
        reports.extend(after.rollout.filter(|_| after.rollout != before.rollout).map(Report::Rollout));
        let is_anew = |entry: &&Entry| !incoming.entries.contains(entry) && !before.entries.contains(entry);
        let anew: Vec<&Entry> = after.entries.iter().filter(is_anew).collect();
        for entry in anew {
            let held = [&before, &theirs_file].map(|file| file.get(&entry.id));
            let is_it = |old: &&&Entry| (old.state, old.hash) == (entry.state, entry.hash);
            let root = held.iter().flatten().find(is_it).expect("a merge makes up no content");
            self.ledger.on_restamped(machine, entry, root);
        }
        if after != before {
            steps.extend(after.commit());
        }
        let gone = before.live().filter(|entry| !after.names(&entry.hash));
        steps.extend(gone.map(|entry| WorkerStep::Remove(blob(&entry.hash))));
        steps.push(WorkerStep::Unlock);
        steps.extend(reports.into_iter().map(|report| WorkerStep::Report(Box::new(report))));
        steps.push(WorkerStep::EndPull(incoming.from, Ok(theirs.digest())));
        self.note(format_args!(
            "{machine} merges {} entries of {}: {events:?}",
            theirs.len(),
            incoming.hostname
        ));
        self.prepend_steps(machine, id, steps);
    }

    pub fn end_pull(&mut self, machine: usize, id: u64, node: NodeId, end: Result<Digest, Reason>) {
        self.reap(machine, id);
        self.settle_floor(machine);
        if let Err(reason) = &end {
            self.note(format_args!("{machine} merges nothing: {reason}"));
        }
        let end = end.as_ref().map(|digest| MergedMap { digest: *digest, is_whole: true });
        self.pass_event(machine, &NodeEvent::PullEnded(node, end));
    }
}
