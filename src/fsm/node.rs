//! A node: passes messages and events to the roles that it has.

use super::actions::{Actions, Peer};
use super::agent::Agent;
use super::controller::{AskRefusal, Controller};
use super::event::Event;
use super::random::Random;
use super::sync::neighbours::Neighbour;
use super::ways::{Way, is_to_group};
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::codec::{ReceivedDatagram, RefusedDatagram};
use crate::wire::frame::Role;
use crate::wire::refusal::Refusal;

/// A node.
pub struct Node<'a> {
    /// Its controller's side, if it has one.
    pub controller: Option<Controller<'a>>,
    /// Its agent's side, if it has one.
    pub agent: Option<Agent<'a>>,
    /// Jitter, request ids and nonces.
    pub random: Random,
}

impl Node<'_> {
    /// Handles a message that the codec has accepted.
    pub fn on_message(
        &mut self,
        now: Instant,
        peer: Peer,
        received: &ReceivedDatagram,
        actions: &mut Actions,
    ) {
        let ReceivedDatagram { sender, message, .. } = received;
        match (message.msgtype().receiver(), &mut self.controller, &mut self.agent) {
            (Role::Controller, Some(controller), _) => {
                controller.on_message(now, *sender, peer, message, actions);
            }
            (Role::Agent, _, Some(agent)) => {
                agent.on_message(now, peer, received, &mut self.random, actions);
            }
            _ => {}
        }
        self.invariants();
    }

    /// What a refusal means, given the known peers. If an earlier start is alive and sends
    /// from another address than the later one, a second node has the same id. Without
    /// that, anybody could have sent an old datagram of the node again.
    #[must_use]
    pub fn suspicion(&self, refused: &RefusedDatagram, peer: Peer) -> Refusal {
        let RefusedDatagram { refusal, claimed_sender: sender, is_past_alive } = *refused;
        let Some(controller) = self.controller.as_ref().filter(|_| is_past_alive) else { return refusal };
        let host = controller.hosts().get(sender).map(|host| host.peer);
        let neighbour = controller.sync().neighbours().get(sender).and_then(Neighbour::peer);
        // A node with both roles sends from one socket for each.
        let mut known = [host, neighbour].into_iter().flatten().peekable();
        let is_elsewhere = known.peek().is_some() && known.all(|known| !known.is_at(&peer));
        if is_elsewhere { Refusal::DuplicateNodeId } else { refusal }
    }

    /// Notes by which way a message came that [`on_message`](Self::on_message) has handled.
    /// `None` if the transport does not tell.
    pub fn on_way(&mut self, received: &ReceivedDatagram, way: Option<Way>) {
        let ReceivedDatagram { sender, message, .. } = received;
        let Some(controller) = self.controller.as_mut().filter(|_| is_to_group(message)) else { return };
        let known = match message.msgtype().sender() {
            _ if message.msgtype().receiver() == Role::Agent => None,
            Role::Agent => controller.host_way(*sender),
            Role::Controller => {
                controller.sync_mut().neighbours_mut().get_mut(*sender).map(|one| &mut one.way)
            }
        };
        if let Some(known) = known {
            *known = way;
        }
    }

    /// Whether a datagram that is refused as seen before is the copy, by another way, of the one
    /// that came last from this node: nodes with several ways send each message by all of them.
    #[must_use]
    pub fn is_copy(&self, sender: NodeId, peer: Peer, way: Option<Way>) -> bool {
        let Some(controller) = &self.controller else { return false };
        let host = controller.hosts().get(sender).map(|host| (Some(host.peer), host.way));
        let neighbour = controller.sync().neighbours().get(sender).map(|one| (one.peer(), one.way));
        let is_other = |(last, by): (Option<Peer>, Option<Way>)| {
            by.is_some() && way.is_some() && (by != way || last.is_some_and(|last| last != peer))
        };
        [host, neighbour].into_iter().flatten().any(is_other)
    }

    /// Handles an event of a session, a worker or the topology service.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>, actions: &mut Actions) {
        if let Some(controller) = &mut self.controller {
            controller.on_event(now, event, actions);
        }
        if let Some(agent) = &mut self.agent {
            agent.on_event(now, event, &mut self.random, actions);
        }
        self.invariants();
    }

    /// The network is there, or is there again: a controller's next round is due soon.
    pub fn on_network_back(&mut self, now: Instant) {
        if let Some(controller) = &mut self.controller {
            controller.on_network_back(now, &mut self.random);
        }
        // The next hello may be far away, and controllers have lost this host.
        if let Some(agent) = &mut self.agent {
            agent.announce(now);
        }
    }

    /// Does what is due; before that, nothing.
    pub fn on_timeout(&mut self, now: Instant, actions: &mut Actions) {
        // The agent goes first: its actions must find room. A controller that fills
        // the rest pushes a dropped action again later.
        if let Some(agent) = &mut self.agent {
            agent.on_timeout(now, actions);
        }
        if let Some(controller) = &mut self.controller {
            controller.on_timeout(now, &mut self.random, actions);
        }
        self.invariants();
    }

    /// When the next call of [`on_timeout`](Self::on_timeout) is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let controller = self.controller.as_ref().and_then(Controller::poll_at);
        let agent = self.agent.as_ref().and_then(Agent::poll_at);
        Instant::earliest([controller, agent])
    }

    /// Asks a host to install what it should have.
    ///
    /// # Errors
    /// [`AskRefusal`]; nothing has changed then.
    pub fn ask_install(
        &mut self,
        now: Instant,
        host: NodeId,
        force: bool,
        actions: &mut Actions,
    ) -> Result<(), AskRefusal> {
        let controller = self.controller.as_mut().ok_or(AskRefusal::Unknown)?;
        controller.ask_install(now, host, force, &mut self.random, actions)
    }

    fn invariants(&self) {
        if let Some(controller) = &self.controller {
            controller.invariants();
        }
        if let Some(agent) = &self.agent {
            agent.invariants();
        }
    }
}
