//! Counts the traffic among controllers, which must be low in the calm phase.

use std::collections::BTreeMap;

use thimble::wire::frame::Purpose;
use thimble::wire::messages::Message;

/// The messages that one machine has sent, and the sessions that it has opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub hellos: u64,
    pub acks: u64,
    pub syncs: u64,
    pub pulls: u64,
    pub blobs: u64,
    pub queries: u64,
}

/// By machine, since the last [`clear`](Self::clear).
#[derive(Default)]
pub struct Traffic {
    counts: BTreeMap<usize, Counts>,
}

impl Traffic {
    pub fn clear(&mut self) {
        self.counts.clear();
    }

    pub fn of(&self, machine: usize) -> Counts {
        self.counts.get(&machine).copied().unwrap_or_default()
    }

    pub fn on_sent(&mut self, machine: usize, message: &Message) {
        let counts = self.counts.entry(machine).or_default();
        match message {
            Message::Hello(_) => counts.hellos += 1,
            Message::HelloAck(_) => counts.acks += 1,
            Message::SyncReq(_) | Message::SyncComplete(_) => counts.syncs += 1,
            _ => {}
        }
    }

    pub fn on_session(&mut self, machine: usize, purpose: Purpose) {
        let counts = self.counts.entry(machine).or_default();
        match purpose {
            Purpose::Pull => counts.pulls += 1,
            Purpose::Blobs => counts.blobs += 1,
            Purpose::QueryDetailed => counts.queries += 1,
            Purpose::Fetch => {}
        }
    }
}
