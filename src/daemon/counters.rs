//! What happened how often, for `status`: everything that is refused or dropped
//! has a name here.

use log::{info, warn};

use super::log::RateLimit;
use crate::fsm::actions::Peer;
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::refusal::{Refusal, RefusalCounts};

/// The loop's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams believed.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Calls to receive that failed.
    pub receive_failed: u64,
    /// Datagrams not sent: no route, no room.
    pub sends_failed: u64,
    /// Connections that could not be accepted: no descriptor, no memory.
    pub accepts_failed: u64,
    /// A node id that two nodes use, the last that was met.
    pub duplicate: Option<NodeId>,
    /// Datagrams refused, by reason.
    pub refusals: RefusalCounts,
    refusal_lines: [RateLimit; Refusal::ALL.len()],
    send_lines: RateLimit,
    accept_lines: RateLimit,
}

impl Counters {
    /// Counts a refused datagram, and logs its reason now and then.
    pub fn refuse(&mut self, now: Instant, refusal: Refusal, claimed: NodeId, from: Peer) {
        self.refusals.count(refusal);
        if refusal == Refusal::DuplicateNodeId {
            self.duplicate = Some(claimed);
        }
        if refusal == Refusal::OwnEcho {
            return;
        }
        let Some(more) = self.refusal_lines.get_mut(refusal as usize).and_then(|line| line.pass(now)) else {
            return;
        };
        info!("refused a datagram from {from} (node {claimed}): {refusal}, and {more} more lately");
    }

    /// Counts a connection that could not be accepted, and logs it now and then.
    pub fn accept_failed(&mut self, now: Instant, error: &std::io::Error) {
        self.accepts_failed += 1;
        if self.accept_lines.pass(now).is_some() {
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => {
                    warn!(
                        "a connection cannot be accepted yet: no descriptor is free; raise the limit on open files"
                    );
                }
                _ => warn!("a connection cannot be accepted yet: {}", error.kind()),
            }
        }
    }

    /// Counts a datagram that could not be sent, and logs it now and then.
    pub fn send_failed(&mut self, now: Instant, error: &std::io::Error) {
        self.sends_failed += 1;
        if self.send_lines.pass(now).is_some() {
            warn!("a datagram cannot be sent: {}", error.kind());
        }
    }
}
