//! How an agent answers `thimble ping`, whatever else it does: the network is asked, not the host.

use heapless::Vec;

use super::Agent;
use crate::fsm::actions::{Actions, Peer, To};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::{Message, Ping, Pong};

/// The time between two answers to asks with the group's key of one sender. Any agent can send them,
/// in any name: in this time no more are answered than there are controllers.
const APART: Duration = Duration::from_millis(200);

/// What one sender has asked with the group's key.
#[derive(Debug)]
struct Asked {
    by: NodeId,
    /// The number of its last ask.
    heard: u64,
    /// When one was answered.
    answered: Instant,
}

/// The asks of the network, by their senders.
#[derive(Debug, Default)]
pub(super) struct Pings(Vec<Asked, { limits::CONTROLLERS }, u8>);

impl Pings {
    /// Notes an ask with the group's key. Whether it is answered.
    fn take(&mut self, now: Instant, by: NodeId, number: u64) -> bool {
        let is_over = |asked: &Asked| now.since(asked.answered) >= APART;
        if let Some(asked) = self.0.iter_mut().find(|asked| asked.by == by) {
            asked.heard = number;
            let is_due = is_over(asked);
            asked.answered = if is_due { now } else { asked.answered };
            return is_due;
        }
        if self.0.is_full()
            && let Some(at) = self.0.iter().position(is_over)
        {
            self.0.swap_remove(at);
        }
        self.0.push(Asked { by, heard: number, answered: now }).is_ok()
    }

    /// The number of a sender's last ask with the group's key; 0 if there is none.
    fn heard(&self, by: NodeId) -> u64 {
        self.0.iter().find(|asked| asked.by == by).map_or(0, |asked| asked.heard)
    }
}

impl Agent<'_> {
    /// Answers an ask to all agents by multicast, and one to this agent alone by unicast, too.
    pub(super) fn on_ping(
        &mut self,
        now: Instant,
        (from, peer): (NodeId, Peer),
        ping: &Ping,
        is_forgeable: bool,
        actions: &mut Actions,
    ) {
        if ping.host != self.facts.node {
            return;
        }
        if is_forgeable && !self.pings.take(now, from, ping.number) {
            return;
        }
        let pong = Pong { number: ping.number, heard: self.pings.heard(from) };
        actions.send(To::Controllers, Message::Pong(pong.clone()));
        if !is_forgeable {
            actions.send(To::Node(from, peer), Message::Pong(pong));
        }
    }
}
