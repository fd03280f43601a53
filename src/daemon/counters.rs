//! What happened how often, for `status`: everything that is refused or dropped
//! has a name here.

use std::fmt;
use std::io;

use log::{info, warn};

use super::log::RateLimit;
use crate::fsm::actions::{Peer, Undelivered};
use crate::fsm::node::Node;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::Message;
use crate::wire::refusal::{Refusal, RefusalCounts};

/// Work that begins and then ends, well or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobCounts {
    /// Begun.
    pub started: u64,
    /// Ended well.
    pub done: u64,
    /// Ended otherwise.
    pub failed: u64,
}

impl JobCounts {
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
pub struct MessageCounts {
    /// 1, Hello.
    pub hello: u64,
    /// 2, HelloAck.
    pub hello_ack: u64,
    /// 3, SyncReq.
    pub sync_req: u64,
    /// 4, SyncComplete.
    pub sync_complete: u64,
}

impl MessageCounts {
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

/// What happened longer ago than this is history: counted, and no trouble any more.
const RECENT: Duration = Duration::from_secs(600);

/// Whether what happened then is worth an operator's attention now.
#[must_use]
pub fn is_recent(now: Instant, at: Instant) -> bool {
    now.since(at) < RECENT
}

/// A node that was met, as far as what it says of itself is true.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    /// When.
    pub at: Instant,
    /// Its node id; of what was refused, the one that it claims.
    pub node: NodeId,
    /// From where.
    pub from: Peer,
}

/// Something that is counted elsewhere, and when it happened last.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastSeen {
    count: u64,
    at: Option<Instant>,
}

impl LastSeen {
    fn note(&mut self, now: Instant, count: u64) {
        if count != self.count {
            *self = Self { count, at: Some(now) };
        }
    }

    /// Whether it happened lately.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| is_recent(now, at))
    }
}

/// Datagrams that came back, or that had nobody to go to, by reason. Over UDP none does.
#[derive(Clone, Copy, Debug, Default)]
pub struct UndeliveredCounts([u64; Undelivered::ALL.len()]);

impl UndeliveredCounts {
    /// Counts one.
    pub fn count(&mut self, why: Undelivered) {
        self.0[why as usize] += 1;
    }

    /// Each reason's counter and its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Undelivered::ALL.iter().map(|(why, name)| (*name, self.0[*why as usize]))
    }
}

/// The loop's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams believed.
    pub received: u64,
    /// The same, by the slot of the key ring that they were sent with.
    pub received_with: [u64; limits::KEY_SLOTS],
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams believed, of those between controllers.
    pub received_from_controllers: MessageCounts,
    /// Datagrams sent, of those between controllers.
    pub sent_to_controllers: MessageCounts,
    /// Merges of another controller's map.
    pub pulls: JobCounts,
    /// Sessions over which missing blobs were fetched.
    pub blobs: JobCounts,
    /// Calls to receive that failed.
    pub receive_failed: u64,
    /// Datagrams not sent: no route, no room.
    pub sends_failed: u64,
    /// Datagrams that came back.
    pub undelivered: UndeliveredCounts,
    /// Connections that could not be accepted: no descriptor, no memory.
    pub accepts_failed: u64,
    /// Datagrams refused, by reason.
    pub refusals: RefusalCounts,
    /// Who was refused last, by reason.
    last_refused: [Option<Contact>; Refusal::ALL.len()],
    /// An agent's: the controller that asked it last.
    pub asked_by: Option<Contact>,
    /// When a datagram could not be sent last, and why.
    pub send_failure: Option<(Instant, io::ErrorKind)>,
    /// When a connection could not be accepted last.
    pub accept_failure: Option<Instant>,
    /// Words of hosts for which there was no room.
    pub hosts_full: LastSeen,
    /// Words of controllers for which there was no room.
    pub controllers_full: LastSeen,
    refusal_lines: [RateLimit; Refusal::ALL.len()],
    serving_lines: RateLimit,
    settling_lines: RateLimit,
    send_lines: RateLimit,
    accept_lines: RateLimit,
}

impl Counters {
    /// Counts the slot of the key ring that a datagram which is believed was sent with.
    pub fn count_key_slot(&mut self, slot: Option<u8>) {
        if let Some(count) = slot.and_then(|slot| self.received_with.get_mut(usize::from(slot))) {
            *count += 1;
        }
    }

    /// Counts a datagram that is believed.
    pub fn count_received(&mut self, now: Instant, node: NodeId, from: Peer, message: &Message) {
        self.received += 1;
        self.received_from_controllers.count(message);
        if let Message::HelloAgent(_) = message {
            self.asked_by = Some(Contact { at: now, node, from });
        }
    }

    /// Notes whether a role had no room for somebody whom it heard.
    pub fn note_full(&mut self, now: Instant, node: &Node<'_>) {
        if let Some(controller) = &node.controller {
            self.hosts_full.note(now, controller.hosts_refused());
            self.controllers_full.note(now, controller.sync().neighbours().refused());
        }
    }

    /// Who was refused last for this reason, if that was lately.
    #[must_use]
    pub fn recent_refusal(&self, now: Instant, refusal: Refusal) -> Option<&Contact> {
        self.last_refused.get(refusal as usize)?.as_ref().filter(|met| is_recent(now, met.at))
    }

    /// Counts a refused datagram, and logs its reason now and then.
    pub fn refuse(&mut self, now: Instant, refusal: Refusal, claimed: NodeId, from: Peer) {
        self.refusals.count(refusal);
        if let Some(last) = self.last_refused.get_mut(refusal as usize) {
            *last = Some(Contact { at: now, node: claimed, from });
        }
        if refusal == Refusal::OwnEcho {
            return;
        }
        let Some(more) = self.refusal_lines.get_mut(refusal as usize).and_then(|line| line.pass(now)) else {
            return;
        };
        info!("refused a datagram from {from} (node {claimed}): {refusal}, and {more} more lately");
    }

    /// Logs now and then that somebody was not served: who has a key can bring that
    /// about as often as it likes.
    pub fn log_not_served(&mut self, now: Instant, reason: &dyn fmt::Display) {
        if let Some(more) = self.serving_lines.pass(now) {
            info!("serving: {reason}, and {more} more lately");
        }
    }

    /// Logs now and then that what became of the rollout cannot be written down: that is
    /// tried once a second.
    pub fn log_not_settled(&mut self, now: Instant, reason: &dyn fmt::Display) {
        if self.settling_lines.pass(now).is_some() {
            warn!("the rollout stands still, since how it stands cannot be written down: {reason}");
        }
    }

    /// Counts a connection that could not be accepted, and logs it now and then.
    pub fn accept_failed(&mut self, now: Instant, error: &io::Error) {
        self.accepts_failed += 1;
        self.accept_failure = Some(now);
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
    pub fn send_failed(&mut self, now: Instant, error: &io::Error) {
        self.sends_failed += 1;
        self.send_failure = Some((now, error.kind()));
        if self.send_lines.pass(now).is_some() {
            warn!("a datagram cannot be sent: {}", error.kind());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_the_present_for_ten_minutes_and_counted_for_ever() {
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        let from = Peer::Ip(([127, 0, 0, 1], 1).into());
        let mut counters = Counters::default();
        counters.refuse(at(5), Refusal::Tag, NodeId(7), from);
        assert_eq!(counters.recent_refusal(at(604), Refusal::Tag).map(|met| met.node), Some(NodeId(7)));
        assert!(counters.recent_refusal(at(604), Refusal::Replay).is_none());
        assert!(counters.recent_refusal(at(605), Refusal::Tag).is_none());
        assert_eq!(counters.refusals.get(Refusal::Tag), 1);
        counters.refuse(at(700), Refusal::Tag, NodeId(8), from);
        assert_eq!(counters.recent_refusal(at(700), Refusal::Tag).map(|met| met.node), Some(NodeId(8)));
    }

    #[test]
    fn what_is_counted_elsewhere_is_late_while_it_grows() {
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        let mut full = LastSeen::default();
        full.note(at(1), 0);
        assert!(!full.is_recent(at(1)));
        full.note(at(2), 3);
        full.note(at(500), 3);
        assert!(full.is_recent(at(601)) && !full.is_recent(at(602)));
    }
}
