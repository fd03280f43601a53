//! How an agent answers `thimble ping`, whatever else it does: the network is asked, not the host.

use super::Agent;
use crate::fsm::actions::{Actions, Peer, To};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::{Message, Ping, Pong};

/// The time between two answers to asks with the group's key: any agent can send them.
const APART: Duration = Duration::from_millis(200);

/// The asks of the network.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// The number of the last ask with the group's key.
    heard: u64,
    /// When one was answered.
    answered: Option<Instant>,
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
        let pings = &mut self.pings;
        if is_forgeable {
            pings.heard = ping.number;
            if pings.answered.is_some_and(|answered| now.since(answered) < APART) {
                return;
            }
            pings.answered = Some(now);
        }
        let pong = Pong { number: ping.number, heard: pings.heard };
        actions.send(To::Controllers, Message::Pong(pong.clone()));
        if !is_forgeable {
            actions.send(To::Node(from, peer), Message::Pong(pong));
        }
    }
}
