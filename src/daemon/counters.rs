//! The loop's counters, shown by `status`. What others refuse is counted by them: sessions by
//! `Sessions`, stale nonces by `Agent`, hosts by `Controller`, controllers by `Neighbours`.
//! Log lines that a peer can cause are rate-limited here too.

use std::fmt;
use std::io;

use log::{info, warn};

use super::log::RateLimit;
use super::os_error::{Errno, OsError};
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::fsm::node::Node;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::Message;
use crate::wire::refusal::{Refusal, RefusalCounts};

/// Counts jobs that start and then succeed or fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobCounts {
    /// Jobs started.
    pub started: u64,
    /// Jobs that succeeded.
    pub done: u64,
    /// Jobs that failed.
    pub failed: u64,
}

impl JobCounts {
    /// Counts a job that has started.
    pub fn begin(&mut self) {
        self.started += 1;
    }

    /// Counts a job that has ended.
    pub fn end(&mut self, is_done: bool) {
        *(if is_done { &mut self.done } else { &mut self.failed }) += 1;
    }
}

/// Datagrams between controllers, in one direction, by message type.
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

/// An event older than this no longer causes an alert; it stays counted.
const RECENT: Duration = Duration::from_secs(600);

/// Whether an event at `at` is recent enough for an alert.
#[must_use]
pub fn is_recent(now: Instant, at: Instant) -> bool {
    now.since(at) < RECENT
}

/// The last datagram of some kind: when it came, and from whom.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    /// When it was received.
    pub at: Instant,
    /// The sender's node id. For a refused datagram this is only the claimed id.
    pub node: NodeId,
    /// The source address.
    pub from: Peer,
}

/// Remembers when a counter that is kept elsewhere last rose.
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

    /// Whether the counter rose recently; see [`is_recent`].
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| is_recent(now, at))
    }
}

/// Datagrams that TIPC returned or could not deliver, by reason. All zero over UDP.
#[derive(Clone, Copy, Debug, Default)]
pub struct UndeliveredCounts([u64; Undelivered::ALL.len()]);

impl UndeliveredCounts {
    /// Counts one datagram.
    pub fn count(&mut self, reason: Undelivered) {
        self.0[reason as usize] += 1;
    }

    /// The name of each counter and its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Undelivered::ALL.iter().map(|(reason, name)| (*name, self.0[*reason as usize]))
    }
}

/// The loop's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams accepted.
    pub received: u64,
    /// Copies of these that came by another way.
    pub copies: u64,
    /// Copies of these that came by another link.
    pub link_copies: u64,
    /// Datagrams accepted, by the key ring slot of their key.
    pub received_with: [u64; limits::KEY_SLOTS],
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams accepted from other controllers.
    pub received_from_controllers: MessageCounts,
    /// Datagrams sent to other controllers.
    pub sent_to_controllers: MessageCounts,
    /// Merges of another controller's map.
    pub pulls: JobCounts,
    /// Sessions over which missing blobs were fetched.
    pub blobs: JobCounts,
    /// Calls to receive that failed.
    pub receive_failed: u64,
    /// Datagrams that could not be sent: no route, or the socket's buffer was full.
    pub sends_failed: u64,
    /// Datagrams that were not delivered.
    pub undelivered: UndeliveredCounts,
    /// Connections that could not be accepted: no file descriptor or no memory.
    pub accepts_failed: u64,
    /// Datagrams refused, by reason.
    pub refusals: RefusalCounts,
    /// The last refused datagram, by reason.
    last_refused: [Option<Contact>; Refusal::ALL.len()],
    /// On an agent: the last HelloAgent.
    pub asked_by: Option<Contact>,
    /// The last failure to send a datagram: when, why, and to which node unless to a group.
    pub send_failure: Option<(Instant, Errno, Option<Peer>)>,
    /// When accepting a connection last failed.
    pub accept_failure: Option<Instant>,
    /// When a host was last refused because the table of hosts is full.
    pub hosts_full: LastSeen,
    /// When a controller was last refused because the table of controllers is full.
    pub controllers_full: LastSeen,
    refusal_lines: [RateLimit; Refusal::ALL.len()],
    serving_lines: RateLimit,
    settling_lines: RateLimit,
    send_lines: RateLimit,
    accept_lines: RateLimit,
}

impl Counters {
    /// Counts the key ring slot of an accepted datagram.
    pub fn count_key_slot(&mut self, slot: u8) {
        if let Some(count) = self.received_with.get_mut(usize::from(slot)) {
            *count += 1;
        }
    }

    /// Counts an accepted datagram.
    pub fn count_received(&mut self, now: Instant, node: NodeId, from: Peer, message: &Message) {
        self.received += 1;
        self.received_from_controllers.count(message);
        if let Message::HelloAgent(_) = message {
            self.asked_by = Some(Contact { at: now, node, from });
        }
    }

    /// Notes whether a table was too full for a node that was heard.
    pub fn note_full(&mut self, now: Instant, node: &Node<'_>) {
        if let Some(controller) = &node.controller {
            self.hosts_full.note(now, controller.hosts_refused());
            self.controllers_full.note(now, controller.sync().neighbours().refused());
        }
    }

    /// The last datagram that was refused for this reason, if that was recent.
    #[must_use]
    pub fn recent_refusal(&self, now: Instant, refusal: Refusal) -> Option<&Contact> {
        self.last_refused.get(refusal as usize)?.as_ref().filter(|contact| is_recent(now, contact.at))
    }

    /// Counts a refused datagram and logs its reason, rate-limited.
    pub fn refuse(&mut self, now: Instant, refusal: Refusal, claimed: NodeId, from: Peer) {
        self.refusals.count(refusal);
        if let Some(last) = self.last_refused.get_mut(refusal as usize) {
            // Noise hides no node.
            let is_noise =
                |last: &Contact| claimed == NodeId(0) && last.node != claimed && is_recent(now, last.at);
            if last.as_ref().is_some_and(is_noise) {
                return self.log_refused(now, refusal, claimed, from);
            }
            *last = Some(Contact { at: now, node: claimed, from });
        }
        self.log_refused(now, refusal, claimed, from);
    }

    fn log_refused(&mut self, now: Instant, refusal: Refusal, claimed: NodeId, from: Peer) {
        if refusal == Refusal::OwnEcho {
            return;
        }
        let line = self.refusal_lines.get_mut(refusal as usize);
        let Some(suppressed) = line.and_then(|line| line.pass(now)) else { return };
        info!("refused a datagram from {from} (node {claimed}): {refusal} ({suppressed} more not logged)");
    }

    /// Logs that a node or a command was not served. Rate-limited: any node with a key
    /// can cause this as often as it likes.
    pub fn log_not_served(&mut self, now: Instant, reason: &dyn fmt::Display) {
        if let Some(suppressed) = self.serving_lines.pass(now) {
            info!("serving: {reason} ({suppressed} more not logged)");
        }
    }

    /// Logs that the rollout's state cannot be written to disk. Rate-limited: the write
    /// is retried once a second.
    pub fn log_not_settled(&mut self, now: Instant, reason: &dyn fmt::Display) {
        if self.settling_lines.pass(now).is_some() {
            warn!("the rollout is stalled: its state cannot be written to disk: {reason}");
        }
    }

    /// Counts a connection that could not be accepted and logs it, rate-limited.
    pub fn accept_failed(&mut self, now: Instant, error: &io::Error) {
        self.accepts_failed += 1;
        self.accept_failure = Some(now);
        if self.accept_lines.pass(now).is_some() {
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => {
                    warn!(
                        "cannot accept a connection: no file descriptor is free; raise the limit on open files"
                    );
                }
                _ => warn!("cannot accept a connection: {}", OsError(error)),
            }
        }
    }

    /// Counts a datagram that could not be sent, and logs it once until the error or the node
    /// changes, rate-limited; not while the interface is down, which says it all.
    #[inline(never)]
    pub fn send_failed(&mut self, now: Instant, error: &io::Error, to: &To, is_up: bool) {
        self.sends_failed += 1;
        let error = Errno(error.raw_os_error().unwrap_or_default());
        let to = match to {
            To::Node(_, peer) | To::Peer(peer) => Some(*peer),
            To::Controllers | To::Agents => None,
        };
        let is_told = |(at, before, whom)| is_recent(now, at) && (before, whom) == (error, to);
        let is_news = !self.send_failure.is_some_and(is_told);
        self.send_failure = Some((now, error, to));
        if is_up && is_news && self.send_lines.pass(now).is_some() {
            warn!("cannot send a datagram{}: {error}", Whom(to));
        }
    }
}

/// The node that a datagram was for, if it was not for a group.
pub struct Whom(pub Option<Peer>);

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |peer| write!(f, " to {peer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_recent_for_ten_minutes_and_stays_counted() {
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        let from = Peer::Ip(([127, 0, 0, 1], 1).into());
        let mut counters = Counters::default();
        counters.refuse(at(5), Refusal::Tag, NodeId(7), from);
        assert_eq!(counters.recent_refusal(at(604), Refusal::Tag).map(|met| met.node), Some(NodeId(7)));
        assert!(counters.recent_refusal(at(604), Refusal::Replay).is_none());
        assert!(counters.recent_refusal(at(605), Refusal::Tag).is_none());
        assert_eq!(counters.refusals.get(Refusal::Tag), 1);
        counters.refuse(at(700), Refusal::Tag, NodeId(0), from);
        assert_eq!(counters.recent_refusal(at(700), Refusal::Tag).map(|met| met.node), Some(NodeId(0)));
        counters.refuse(at(700), Refusal::Tag, NodeId(8), from);
        counters.refuse(at(701), Refusal::Tag, NodeId(0), from);
        assert_eq!(counters.recent_refusal(at(700), Refusal::Tag).map(|met| met.node), Some(NodeId(8)));
    }

    #[test]
    fn a_counter_is_recent_for_ten_minutes_after_it_rose() {
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        let mut full = LastSeen::default();
        full.note(at(1), 0);
        assert!(!full.is_recent(at(1)));
        full.note(at(2), 3);
        full.note(at(500), 3);
        assert!(full.is_recent(at(601)) && !full.is_recent(at(602)));
    }
}
