//! What is sent to a group goes by unicast too, to the nodes that are heard by unicast
//! ([`ways`](crate::fsm::ways)); and an agent announces itself to its peers while no controller
//! asks it.

use std::io;

use mio::Token;

use super::event_loop::Daemon;
use super::tokens::SPREAD;
use crate::fsm::actions::{Peer, To};
use crate::fsm::hosts::Host;
use crate::fsm::ways::Way;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::wire::frame::Role;
use crate::wire::messages::{Message, OtherControllers};

/// Hosts that a hello is sent to in one turn of the loop.
const HOSTS_IN_A_TURN: usize = 64;
/// An agent that is not asked announces itself after this part of a hello interval, then after
/// twice that, up to the whole.
const FIRST_PAUSE: u64 = 16;
/// The time without a hello after which an agent announces itself, in quarters of the interval: a
/// controller sends one at the latest after 11 tenths.
const UNASKED_QUARTERS: u64 = 5;

/// Over TIPC a multicast reaches all nodes that are up, and nothing of this is used.
pub(super) const IS_USED: bool = !cfg!(feature = "tipc");

impl Daemon<'_> {
    /// The interval of hellos.
    pub(super) fn hello_interval(&self) -> Duration {
        Duration::from_millis(self.config.timers.hello_interval_ms)
    }

    /// Sends what was sent to a group, whose datagram has this length, to the nodes of that group
    /// that are heard by unicast.
    pub(super) fn send_by_unicast(&mut self, now: Instant, to: &To, message: Message, len: usize) {
        if !IS_USED {
            return;
        }
        match (to, message) {
            // Each host has a key of its own.
            (To::Agents, Message::HelloAgent(hello)) => {
                (self.spread.hello, self.spread.next) = (Some(hello), 0);
                self.ready.insert(Token(SPREAD));
            }
            // The one that asked is answered by unicast anyway.
            (To::Controllers, Message::Pong(_)) => {}
            (To::Controllers, message) if message.msgtype().sender() == Role::Agent => {
                let known = self.controllers.take_by_unicast(now, self.hello_interval());
                for (node, peer) in &known {
                    let others = node.map(|node| self.paths.others(now, node, *peer)).unwrap_or_default();
                    let is_other = |other: &Peer| known.iter().all(|(_, peer)| peer != other);
                    for peer in [*peer].into_iter().chain(others.into_iter().filter(is_other)) {
                        self.send_one(now, Role::Agent, peer, len);
                    }
                }
            }
            (To::Controllers, message) => {
                let neighbour = |at| self.node.controller.as_ref()?.sync().neighbours().iter().nth(at);
                let places = 0..limits::CONTROLLERS;
                let by_unicast = places.filter_map(neighbour).filter(|one| one.way == Some(Way::Unicast));
                let peers: heapless::Vec<_, { limits::CONTROLLERS }, u8> =
                    by_unicast.filter_map(|one| Some((one.node, one.peer()?))).collect();
                for (node, peer) in peers {
                    for peer in [peer].into_iter().chain(self.paths.others(now, node, peer)) {
                        if self.send_one(now, Role::Controller, peer, len) {
                            self.counters.sent_to_controllers.count(&message);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Sends the datagram of this length to one that is not sent to anyway. Whether it was sent.
    fn send_one(&mut self, now: Instant, as_role: Role, peer: Peer, len: usize) -> bool {
        if !self.transport.reaches(peer) || self.transport.has_peer(peer) {
            return false;
        }
        match self.transport.send(as_role, &To::Peer(peer), &self.transmit[..len]) {
            Ok(_) => {
                self.counters.sent += 1;
                true
            }
            Err(error) => {
                self.counters.send_failed(now, &error, self.network.are_up());
                false
            }
        }
    }

    /// Sends the hello to some more hosts.
    #[inline(never)]
    pub(super) fn spread(&mut self, now: Instant) {
        if !IS_USED {
            return;
        }
        let Self { node, transport, codec, transmit, counters, network, spread, paths, .. } = self;
        let (Some(hello), Some(controller)) = (&spread.hello, &node.controller) else { return };
        let hosts = controller.hosts();
        let mut others = OtherControllers::default();
        for neighbour in controller.sync().neighbours().present(now) {
            if let Some(Peer::Ip(at)) = neighbour.peer() {
                // There are no more slots for neighbours.
                let _ = others.at.push(at.into());
            }
        }
        let others = Some(Message::OtherControllers(others)).filter(has_any);
        let mut left = HOSTS_IN_A_TURN;
        while left > 0 && spread.next < hosts.len() {
            let host = hosts.at(spread.next);
            spread.next += 1;
            let Some((to, peer)) = host.and_then(by_unicast) else { continue };
            left -= 1;
            for message in [Some(&Message::HelloAgent(hello.clone())), others.as_ref()].into_iter().flatten()
            {
                let len = codec.encode(message, to, transmit);
                match transport.send(Role::Controller, &To::Peer(peer), &transmit[..len]) {
                    Ok(_) => counters.sent += 1,
                    // The socket's buffer is full: the host is sent to a little later.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        spread.next -= 1;
                        return self.ready.defer(now, Token(SPREAD));
                    }
                    Err(error) => counters.send_failed(now, &error, network.are_up()),
                }
                for other in paths.others(now, to, peer) {
                    let sent = transport.send(Role::Controller, &To::Peer(other), &transmit[..len]);
                    counters.sent += u64::from(sent.is_ok());
                }
            }
        }
        match spread.next < hosts.len() {
            true => self.ready.insert(Token(SPREAD)),
            false => spread.hello = None,
        }
    }

    /// When the agent announces itself to its peers unless it is asked before.
    pub(super) fn announce_at(&self) -> Option<Instant> {
        self.node.agent.as_ref().filter(|_| IS_USED && self.transport.has_peers())?;
        let interval = self.config.timers.hello_interval_ms;
        let quiet = Duration::from_millis(interval.saturating_mul(UNASKED_QUARTERS) / 4);
        let asked = self.counters.asked_by.as_ref().map(|asked| asked.at + quiet);
        let (Some((announced, pause)), asked) = (self.spread.announced, asked) else {
            return Some(asked.unwrap_or(self.started));
        };
        Some(asked.unwrap_or_default().max(announced + pause))
    }

    /// Announces the agent, if that is due.
    pub(super) fn announce(&mut self, now: Instant) {
        if self.announce_at().is_none_or(|due| now < due) {
            return;
        }
        let interval = self.config.timers.hello_interval_ms;
        let first = Duration::from_millis(interval / FIRST_PAUSE);
        let asked = self.counters.asked_by.as_ref().map(|asked| asked.at);
        let pause = match self.spread.announced {
            Some((announced, pause)) if asked.is_none_or(|asked| asked < announced) => {
                pause.times(2).min(Duration::from_millis(interval))
            }
            _ => first,
        };
        self.spread.announced = Some((now, pause));
        if let Some(agent) = &mut self.node.agent {
            agent.announce(now);
        }
    }
}

/// Whether other controllers are named.
fn has_any(message: &Message) -> bool {
    matches!(message, Message::OtherControllers(others) if !others.at.is_empty())
}

/// The key and the address of a host that is heard by unicast.
fn by_unicast(host: &Host) -> Option<(crate::types::NodeId, Peer)> {
    (host.way == Some(Way::Unicast)).then_some((host.node, host.peer))
}
