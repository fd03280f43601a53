//! How a controller applies the topology service's reports: it greets new peers, and
//! learns at once which peers are gone.

use super::Controller;
use crate::fsm::actions::{Actions, Peer, To};
use crate::fsm::presence::Presence;
use crate::fsm::topology::{PeerEvent, UnheardPeer};
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::frame::Role;

impl Controller<'_> {
    /// Handles a report of the topology service.
    pub(super) fn on_topology(&mut self, now: Instant, event: PeerEvent, actions: &mut Actions) {
        match event {
            PeerEvent::Published(role, peer) => self.on_published(now, role, peer, actions),
            PeerEvent::Withdrawn(role, peer) => {
                self.unheard_peers.take(role, peer);
                self.update_presence(now, |at, of| (at, of) == (peer, role), Presence::on_withdrawn);
            }
            PeerEvent::NodeLost(node) => {
                self.unheard_peers.node_lost(node);
                let is_on_node = |at| matches!(at, Peer::Tipc { node: at, .. } if at == node);
                self.update_presence(now, |at, _| is_on_node(at), Presence::on_node_lost);
            }
            PeerEvent::Gap => {
                self.unheard_peers.clear();
                self.update_presence(now, |_, _| true, Presence::on_gap);
            }
            PeerEvent::Settled => self.update_presence(now, |_, _| true, Presence::on_settled),
        }
    }

    /// A peer that was reported as bound at this address was heard, so its node id is
    /// known.
    pub(super) fn mark_bound(&mut self, node: NodeId, peer: Peer) {
        if let Some(host) = self.hosts.get_mut(node).filter(|host| host.peer == peer) {
            host.presence.on_published();
            // It was asked when its socket was reported.
            if host.unasked_since.take().is_some() {
                host.probe.on_heard();
            }
        }
        let neighbour = self.sync.neighbours_mut().get_mut(node);
        if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.peer() == Some(peer)) {
            neighbour.presence.on_published();
        }
    }

    /// The peers that are bound and were not heard.
    pub fn unheard_peers(&self) -> impl Iterator<Item = &UnheardPeer> {
        self.unheard_peers.iter()
    }

    /// Greets a peer that is new or was gone at once, as the next round may be far away.
    fn on_published(&mut self, now: Instant, role: Role, peer: Peer, actions: &mut Actions) {
        let known = match role {
            Role::Agent => {
                let host = self.hosts.iter_mut().find(|host| host.peer == peer);
                host.map(|host| {
                    host.on_back(now, &self.timers.request);
                    &mut host.presence
                })
            }
            Role::Controller => {
                let mut neighbours = self.sync.neighbours_mut().iter_mut();
                neighbours.find(|one| one.peer() == Some(peer)).map(|one| &mut one.presence)
            }
        };
        match known {
            Some(presence) => {
                let was_gone = presence.is_gone();
                presence.on_published();
                if !was_gone {
                    return;
                }
            }
            None => self.unheard_peers.add(now, role, peer),
        }
        if !self.pacing.take_greeting() {
            return;
        }
        let greeting = match role {
            Role::Agent => Some(self.pacing.greeting(self.hosts.len(), self.map.highest_counter())),
            Role::Controller => self.sync.greeting(&self.map),
        };
        if let Some(greeting) = greeting {
            actions.send(To::Peer(peer), greeting);
        }
    }

    /// Applies `step` to each host and neighbour that `is_meant` selects, and handles
    /// hosts that are gone by it. Skips this node's own agent, which the service reports too
    /// but which is up as long as this process.
    fn update_presence(
        &mut self,
        now: Instant,
        is_meant: impl Fn(Peer, Role) -> bool,
        step: fn(&mut Presence),
    ) {
        let own = self.node;
        let hosts = self.hosts.iter_mut().filter(|host| host.node != own);
        for host in hosts.filter(|host| is_meant(host.peer, Role::Agent)) {
            let before = host.presence;
            step(&mut host.presence);
            if host.presence != before && host.presence.is_gone() {
                host.request.on_gone(now, &self.timers.request);
                self.requests_due = Instant::earliest([self.requests_due, host.request.poll_at()]);
                self.rollout.soon(now);
            }
        }
        for neighbour in self.sync.neighbours_mut().iter_mut() {
            if neighbour.peer().is_some_and(|peer| is_meant(peer, Role::Controller)) {
                step(&mut neighbour.presence);
            }
        }
        // Presence decides which answers to wait for, and which controller is the carrier.
        self.sync.on_neighbours_changed(now);
    }
}
