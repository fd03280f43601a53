//! Which patch files a controller sends to all hosts at once, one after the other.
//!
//! An operator names them, or a rollout begins here whose hosts lack them: then its hosts are asked only once
//! all are sent. The driver sends ([`spread`](crate::fsm::spread)), and says when it has ended.

use heapless::Vec;

use super::Controller;
use crate::fsm::actions::{Action, Actions};
use crate::fsm::hosts::Host;
use crate::fsm::rollout::RolloutPart;
use crate::fsm::spread::SpreadFile;
use crate::limits::SPREADS;
use crate::repo::entry::Entry;
use crate::repo::rollout::Rollout;
use crate::repo::slots::Slot;
use crate::time::{Duration, Instant};
use crate::wire::messages::kind_bit;

/// What a configuration says of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpreadConfig {
    /// Bytes for a second; 0: a rollout sends nothing of itself.
    pub rate: u64,
    /// A rollout sends no file that is smaller, in bytes.
    pub least_bytes: u64,
    /// The network carries multicast.
    pub has_multicast: bool,
}

/// A rollout sends no file that fewer hosts lack: sessions are as good.
const HOSTS_LEAST: usize = 2;

/// How often other controllers are told that a rollout goes on; one that stands still for `controller_lost_ms` is
/// taken over.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

fn file_of(entry: &Entry, rate: u64, rollout: Option<u64>) -> SpreadFile {
    let kinds = entry.meta.nodetypes.iter().map(kind_bit).fold(0, |all, one| all | one);
    let Entry { id, hash, size_bytes, .. } = entry;
    SpreadFile { id: id.clone(), file: *hash, size_bytes: *size_bytes, kinds, rate, rollout }
}

/// Why a patch is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpreadRefusal {
    /// The configuration has `network.multicast = false`.
    NoMulticast,
    /// As many wait as fit.
    Full,
}

/// The files that are sent.
#[derive(Debug, Default)]
pub(super) struct Spreads {
    config: SpreadConfig,
    waiting: Vec<SpreadFile, SPREADS, u8>,
    current: Option<SpreadFile>,
    /// The current one was told to end.
    is_stopping: bool,
    /// The last rollout whose files were sent, or need not be.
    rollout: Option<u64>,
    /// When other controllers are told next that this one still carries the rollout.
    told: Option<Instant>,
}

impl Controller<'_> {
    /// Sets what the configuration says.
    pub fn set_spread(&mut self, config: SpreadConfig) {
        self.spreads.config = config;
    }

    /// The file that is sent now, and how many wait.
    #[must_use]
    pub fn spreading(&self) -> (Option<&SpreadFile>, usize) {
        (self.spreads.current.as_ref(), self.spreads.waiting.len())
    }

    /// How many hosts may answer an offer: one that has just started knows few of them, and would ask all to answer
    /// at once.
    #[must_use]
    pub fn may_answer(&self, now: Instant) -> usize {
        self.pacing.may_answer(now, self.hosts.len())
    }

    /// Whether so many files more can be sent, or wait.
    #[must_use]
    pub fn has_room_to_send(&self, files: usize) -> bool {
        let spreads = &self.spreads;
        let may_begin = usize::from(spreads.current.is_none());
        spreads.waiting.len().saturating_add(files) <= spreads.waiting.capacity().saturating_add(may_begin)
    }

    /// Sends a patch's file to all hosts, after those that wait. One that waits already stays where it is.
    ///
    /// # Errors
    /// [`SpreadRefusal`]; nothing has changed then.
    pub fn send_to_all(&mut self, slot: Slot, rate: u64, actions: &mut Actions) -> Result<(), SpreadRefusal> {
        if !self.spreads.config.has_multicast {
            return Err(SpreadRefusal::NoMulticast);
        }
        let Some(entry) = self.map.entry(slot) else { return Ok(()) };
        let spread = file_of(entry, rate, None);
        let is_there =
            self.spreads.waiting.iter().chain(&self.spreads.current).any(|one| one.file == spread.file);
        if !is_there {
            self.spreads.waiting.push(spread).map_err(|_| SpreadRefusal::Full)?;
        }
        self.start_spread(actions);
        Ok(())
    }

    /// Sends none of what waits, and ends what is being sent.
    pub fn stop_spread(&mut self, actions: &mut Actions) {
        self.spreads.waiting.clear();
        self.end_spread(actions);
    }

    fn end_spread(&mut self, actions: &mut Actions) {
        if self.spreads.current.is_some() && !self.spreads.is_stopping && actions.room() > 0 {
            self.spreads.is_stopping = true;
            actions.push(Action::StopSpread);
        }
    }

    fn start_spread(&mut self, actions: &mut Actions) {
        let spreads = &mut self.spreads;
        if spreads.current.is_some() || spreads.waiting.is_empty() || actions.room() == 0 {
            return;
        }
        let mut next = spreads.waiting.remove(0);
        if next.rate == 0 {
            next.rate = spreads.config.rate;
        }
        spreads.current = Some(next.clone());
        spreads.is_stopping = false;
        actions.push(Action::StartSpread(next));
    }

    /// The driver has ended what it sent.
    pub(super) fn on_spread_ended(&mut self, now: Instant, actions: &mut Actions) {
        self.spreads.current = None;
        self.start_spread(actions);
        self.rollout.soon(now);
    }

    /// Ends what is sent for nothing: its patch was deleted or replaced, or its rollout is over.
    pub(super) fn drive_spread(&mut self, actions: &mut Actions) {
        let map = &self.map;
        let running = map.rollout().filter(|rollout| rollout.is_running()).map(|rollout| rollout.id);
        let is_wanted = |one: &SpreadFile| {
            let entry = map.get(&one.id).map(|(_, entry)| entry);
            entry.is_some_and(|entry| entry.hash == one.file && !entry.state.is_deleted())
                && (one.rollout.is_none() || one.rollout == running)
        };
        self.spreads.waiting.retain(is_wanted);
        if self.spreads.current.as_ref().is_some_and(|one| !is_wanted(one)) {
            self.end_spread(actions);
        }
        self.start_spread(actions);
    }

    /// Sends what hosts lack for a rollout that this controller carries. Returns whether its hosts are to wait.
    pub(super) fn spreads_for(&mut self, now: Instant, rollout: &Rollout, actions: &mut Actions) -> bool {
        let spreads = &self.spreads;
        if spreads.config.has_multicast && spreads.config.rate > 0 && spreads.rollout != Some(rollout.id) {
            self.spreads.told = None;
            self.spreads.rollout = Some(rollout.id);
            self.queue_for(now, rollout);
            self.start_spread(actions);
        }
        let is_of_it = |one: &SpreadFile| one.rollout == Some(rollout.id);
        let is_sending = self.spreads.current.iter().chain(&self.spreads.waiting).any(is_of_it);
        if !is_sending {
            self.spreads.told = None;
            return false;
        }
        // A carrier that asks nobody would be taken for dead.
        // At least twice before that.
        let again = TOLD_AGAIN.min(Duration::from_millis(self.timers.sync.controller_lost.as_millis() / 3));
        let told = *self.spreads.told.get_or_insert(now + again);
        if now >= told {
            self.spreads.told = None;
            actions.push(Action::SettleRollout(*rollout));
        }
        true
    }

    fn queue_for(&mut self, now: Instant, rollout: &Rollout) {
        for (slot, entry) in self.map.iter_by_id() {
            if !entry.is_wanted() || entry.size_bytes < self.spreads.config.least_bytes {
                continue;
            }
            let lacks = |host: &&Host| {
                entry.meta.concerns(&host.ack.nodetype)
                    && !host.installed.contains(slot)
                    && host.node != self.node
                    && self.part(now, rollout, host) == RolloutPart::Next
            };
            if self.hosts.iter().filter(lacks).take(HOSTS_LEAST).count() >= HOSTS_LEAST {
                let spread = file_of(entry, 0, Some(rollout.id));
                let is_there = self.spreads.waiting.iter().any(|one| one.file == spread.file);
                if !is_there && self.spreads.waiting.push(spread).is_err() {
                    // Sessions bring the rest.
                    return;
                }
            }
        }
    }
}
