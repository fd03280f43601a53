//! What is sent to a group goes by unicast too, to the nodes that are heard by unicast
//! ([`ways`](crate::fsm::ways)); and an agent announces itself to its peers while no controller
//! asks it.

use std::{fmt, io};

use log::{info, warn};
use mio::Token;

use super::event_loop::Daemon;
use super::links::{IS_USED, send_by_links};
use super::os_error::Errno;
use super::tokens::HELLOS;
use crate::config::PeerName;
use crate::fsm::actions::{Peer, To};
use crate::fsm::hosts::Host;
use crate::fsm::ways::Way;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
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
        if self.network.are_up() {
            self.tell_of_peers(now);
        }
        match (to, message) {
            // Each host has a key of its own.
            (To::Agents, Message::HelloAgent(hello)) => {
                (self.hellos.hello, self.hellos.next) = (Some(hello), 0);
                self.ready.insert(Token(HELLOS));
            }
            // The one that asked is answered by unicast anyway.
            (To::Controllers, Message::Pong(_)) => {}
            (To::Controllers, message) if message.msgtype().sender() == Role::Agent => {
                let mut peers = Addresses::new();
                for (node, peer) in self.controllers.take_by_unicast(now, self.hello_interval()) {
                    add(&mut peers, peer);
                    let others = node.map(|node| self.paths.others(now, node, peer));
                    others.into_iter().flatten().for_each(|other| add(&mut peers, other));
                }
                self.send_each(now, Role::Agent, &peers, len);
            }
            (To::Controllers, message) => {
                let mut peers = Addresses::new();
                let neighbours = self.node.controller.iter().flat_map(|one| one.sync().neighbours().iter());
                for one in neighbours.filter(|one| one.way == Some(Way::Unicast)) {
                    let Some(peer) = one.peer() else { continue };
                    add(&mut peers, peer);
                    self.paths
                        .others(now, one.node, peer)
                        .into_iter()
                        .for_each(|other| add(&mut peers, other));
                }
                for _ in 0..self.send_each(now, Role::Controller, &peers, len) {
                    self.counters.sent_to_controllers.count(&message);
                }
            }
            _ => {}
        }
    }

    /// Sends the datagram of this length to each of these that is not sent to anyway. Returns to how
    /// many. Where there are several links, one of them may be out of reach.
    fn send_each(&mut self, now: Instant, as_role: Role, peers: &[Peer], len: usize) -> u64 {
        let Self { transport, transmit, counters, network, paths, .. } = self;
        let (mut sent, mut failed) = (0, None);
        for peer in peers {
            if !transport.reaches(*peer) || transport.has_peer(*peer) || is_itself(*peer) {
                continue;
            }
            match transport.send(as_role, &To::Peer(*peer), &transmit[..len]) {
                Ok(_) => sent += 1,
                Err(error) => failed = Some((error, To::Peer(*peer))),
            }
        }
        counters.sent += sent;
        if let Some((error, to)) = failed.filter(|_| sent == 0 || !paths.is_used()) {
            counters.send_failed(now, &error, &to, network.are_up());
        }
        sent
    }

    /// Logs which peers cannot be sent to, and which can be again: once, until that changes.
    #[inline(never)]
    fn tell_of_peers(&mut self, now: Instant) {
        while let Some((at, failed)) = self.transport.peer_news(now) {
            match (self.config.network.peers.get(at), failed) {
                (Some(peer), Some(number)) => {
                    warn!("a peer cannot be sent to: {}", Unsent(peer, Errno(number)));
                }
                (Some(peer), None) => info!("the peer {peer} is sent to again"),
                (None, _) => {}
            }
        }
    }

    /// Sends the hello to some more hosts.
    #[inline(never)]
    pub(super) fn send_hellos(&mut self, now: Instant) {
        if !IS_USED {
            return;
        }
        let Self { node, transport, codec, transmit, counters, network, hellos, paths, .. } = self;
        let (Some(hello), Some(controller)) = (&hellos.hello, &node.controller) else { return };
        let hosts = controller.hosts();
        let neighbours = controller.sync().neighbours();
        let mut left = HOSTS_IN_A_TURN;
        while left > 0 && hellos.next < hosts.len() {
            let host = hosts.at(hellos.next);
            hellos.next += 1;
            let Some((host, peer)) = host.and_then(by_unicast) else { continue };
            let to = To::Node(host, peer);
            left -= 1;
            let links = paths.links_of(now, host);
            let mut others = OtherControllers::default();
            for neighbour in neighbours.present(now) {
                // Where it is heard by a link of the host: by another the host may not reach it.
                let mut peers = paths.by_links(now, neighbour.node, links);
                if !paths.is_used() {
                    peers.extend(neighbour.peer());
                }
                for peer in peers {
                    if let Peer::Ip(at) = peer {
                        // What there is no room for is left out.
                        let _ = others.at.push(at.into());
                    }
                }
            }
            let others = Some(Message::OtherControllers(others)).filter(has_any);
            // This node's own agent got it when the group was sent to.
            let hello = Some(Message::HelloAgent(hello.clone())).filter(|_| host != codec.identity().node);
            for message in [hello, others].into_iter().flatten() {
                let len = codec.encode(&message, host, transmit);
                let by = (&mut *transport, &*paths);
                match send_by_links(now, by, Role::Controller, &to, &transmit[..len]) {
                    Ok(_) => counters.sent += 1,
                    // The socket's buffer is full: the host is sent to a little later.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        hellos.next -= 1;
                        return self.ready.defer(now, Token(HELLOS));
                    }
                    Err(error) => counters.send_failed(now, &error, &to, network.are_up()),
                }
            }
        }
        match hellos.next < hosts.len() {
            true => self.ready.insert(Token(HELLOS)),
            false => hellos.hello = None,
        }
    }

    /// When the agent announces itself to its peers unless it is asked before.
    pub(super) fn announce_at(&self) -> Option<Instant> {
        self.node.agent.as_ref().filter(|_| IS_USED && self.transport.has_peers())?;
        let interval = self.config.timers.hello_interval_ms;
        let quiet = Duration::from_millis(interval.saturating_mul(UNASKED_QUARTERS) / 4);
        let asked = self.counters.asked_by.as_ref().map(|asked| asked.at + quiet);
        let (Some((announced, pause)), asked) = (self.hellos.announced, asked) else {
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
        let pause = match self.hellos.announced {
            Some((announced, pause)) if asked.is_none_or(|asked| asked < announced) => {
                pause.times(2).min(Duration::from_millis(interval))
            }
            _ => first,
        };
        self.hellos.announced = Some((now, pause));
        if let Some(agent) = &mut self.node.agent {
            agent.announce(now);
        }
    }
}

/// The addresses of all controllers.
type Addresses = heapless::Vec<Peer, { limits::CONTROLLERS * limits::LINKS }, u8>;

/// Adds one that is not there yet: an address may be known of its node and as another told it.
fn add(peers: &mut Addresses, peer: Peer) {
    if !peers.contains(&peer) {
        // There is room for each.
        let _ = peers.push(peer);
    }
}

/// Why a peer cannot be sent to, and what to do.
pub(super) struct Unsent<'p>(pub &'p PeerName, pub Errno);

impl fmt::Display for Unsent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(peer, error) = self;
        let remedy = match error.0 {
            libc::EACCES => "it is a broadcast address, or a route forbids it; correct network.peers",
            libc::EPERM => "a firewall of this node forbids it",
            _ => "see the routes of this node, and network.peers",
        };
        write!(f, "{peer}, {error}; {remedy}")
    }
}

/// Whether an address is of this host: what it says to itself is sent with what is for the group.
fn is_itself(peer: Peer) -> bool {
    matches!(peer, Peer::Ip(address) if address.ip().is_loopback())
}

/// Whether other controllers are named.
fn has_any(message: &Message) -> bool {
    matches!(message, Message::OtherControllers(others) if !others.at.is_empty())
}

/// The key and the address of a host that is heard by unicast.
fn by_unicast(host: &Host) -> Option<(NodeId, Peer)> {
    (host.way == Some(Way::Unicast)).then_some((host.node, host.peer))
}
