//! What happened how often, for `status`: everything that is refused or dropped
//! has a name here.

use log::{info, warn};

use super::log::RateLimit;
use crate::fsm::actions::Peer;
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::messages::Message;
use crate::wire::refusal::{Refusal, RefusalCounts};

/// Work that begins and then ends, well or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Begun.
    pub started: u64,
    /// Ended well.
    pub done: u64,
    /// Ended otherwise.
    pub failed: u64,
}

impl Work {
    /// Some has begun.
    pub fn begin(&mut self) {
        self.started += 1;
    }

    /// Some has ended.
    pub fn end(&mut self, is_done: bool) {
        *(if is_done { &mut self.done } else { &mut self.failed }) += 1;
    }
}

/// Datagrams between controllers of one direction, by their type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    /// 1, Hello.
    pub hello: u64,
    /// 2, HelloAck.
    pub hello_ack: u64,
    /// 3, SyncReq.
    pub sync_req: u64,
    /// 4, SyncComplete.
    pub sync_complete: u64,
}

impl Words {
    /// Counts a message.
    pub fn count(&mut self, message: &Message) {
        match message {
            Message::Hello(_) => self.hello += 1,
            Message::HelloAck(_) => self.hello_ack += 1,
            Message::SyncReq(_) => self.sync_req += 1,
            Message::SyncComplete(_) => self.sync_complete += 1,
            _ => {}
        }
    }
}

/// The loop's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams believed.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams believed, of those between controllers.
    pub heard_of_controllers: Words,
    /// Datagrams sent, of those between controllers.
    pub said_to_controllers: Words,
    /// Merges of another controller's map.
    pub pulls: Work,
    /// Sessions over which missing blobs were fetched.
    pub blobs: Work,
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
