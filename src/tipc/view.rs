//! What a node sees of the others: the topology service's words in the core's terms,
//! and the nodes and links that are up.

use std::io;
use std::thread;
use std::time::Duration as Wait;

use heapless::Vec;
use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::address::{LINK_STATE, NODE_STATE, ServiceRange, SocketAddress};
use super::event::TopologyEvent;
use super::link::{self, IDENTITY_BYTES};
use super::services::Services;
use super::socket::{Socket, SocketError};
use super::subscription::{Filter, Handle, Subscription, Timeout};
use super::topology::SubscriberEvent as Told;
use super::watcher::Watcher;
use crate::fsm::actions::Peer;
use crate::fsm::topology::PeerEvent;
use crate::limits;
use crate::time::Instant;
use crate::types::Text;
use crate::wire::frame::Role;

const NODES: Handle = *b"nodes   ";
const LINKS: Handle = *b"links   ";
const CONTROLLERS: Handle = *b"control ";
const AGENTS: Handle = *b"agents  ";

/// How often, and how far apart, it is looked whether a service is bound already.
const PROBES: u32 = 1_000;
const PROBE_PAUSE: Wait = Wait::from_millis(2);

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The address of the node at its other end.
    pub node: u32,
    /// The numbers of its two ends' bearers.
    bearers: u32,
    /// Since when; or since this daemon started.
    pub since: Instant,
}

/// What a node sees.
pub struct TopologyView {
    watcher: Watcher,
    /// What the kernel is asked for identities with.
    socket: Socket,
    own: u32,
    nodes_up: u32,
    links_up: u32,
    links: Vec<Link, { limits::TIPC_LINKS }>,
}

impl TopologyView {
    /// Wants to know of nodes and links, and of whom this node's roles have to do
    /// with: an agent waits to be asked, a controller asks.
    ///
    /// # Errors
    /// [`SocketError`]: there is no TIPC here for us.
    pub fn open(services: Services, own: u32, roles: &[Role]) -> Result<Self, SocketError> {
        let mut watcher = Watcher::open(own)?;
        let mut wanted: Vec<(Handle, u32), 4> = Vec::from_array([(NODES, NODE_STATE), (LINKS, LINK_STATE)]);
        if roles.contains(&Role::Controller) {
            for (handle, role) in [(CONTROLLERS, Role::Controller), (AGENTS, Role::Agent)] {
                let _ = wanted.push((handle, services.datagrams(role)));
            }
        }
        for (handle, service_type) in wanted {
            subscribe(&mut watcher, handle, ServiceRange::all(service_type))?;
        }
        Ok(Self { watcher, socket: Socket::rdm()?, own, nodes_up: 0, links_up: 0, links: Vec::new() })
    }

    /// Has a poll tell when there may be words.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.watcher.register(registry, token, Interest::READABLE)
    }

    /// The next that is told, without waiting, and the word that it is; some are none.
    /// Never more than one: whoever binds and unbinds without end holds nobody up.
    pub fn next(&mut self, now: Instant) -> Option<Option<PeerEvent>> {
        let told = self.watcher.turn(now)?;
        Some(self.take(now, &told))
    }

    fn take(&mut self, now: Instant, told: &Told) -> Option<PeerEvent> {
        match told {
            Told::Published(NODES, _) => self.nodes_up = self.nodes_up.saturating_add(1),
            Told::Withdrawn(NODES, event) => {
                self.nodes_up = self.nodes_up.saturating_sub(1);
                return Some(PeerEvent::NodeLost(event.found_lower));
            }
            Told::Published(LINKS, event) => {
                let link = Link { node: event.found_lower, bearers: event.port.port, since: now };
                self.links_up = self.links_up.saturating_add(1);
                // Beyond the first of them they are counted.
                let _ = self.links.push(link);
            }
            Told::Withdrawn(LINKS, event) => {
                self.links_up = self.links_up.saturating_sub(1);
                self.links.retain(|link| (link.node, link.bearers) != (event.found_lower, event.port.port));
            }
            Told::Published(handle, event) => {
                return self.other(*handle, event).map(|(role, peer)| PeerEvent::Published(role, peer));
            }
            Told::Withdrawn(handle, event) => {
                return self.other(*handle, event).map(|(role, peer)| PeerEvent::Withdrawn(role, peer));
            }
            Told::Settled(_) if self.is_watching() => return Some(PeerEvent::Settled),
            Told::Gap => {
                (self.nodes_up, self.links_up) = (0, 0);
                self.links.clear();
                return Some(PeerEvent::Gap);
            }
            Told::Settled(_) | Told::TimedOut(_) | Told::SetAside(_) => {}
        }
        None
    }

    /// Who is bound, if it is not this node itself: a controller does not greet itself,
    /// and that its own agent ends is told by that.
    fn other(&self, handle: Handle, event: &TopologyEvent) -> Option<(Role, Peer)> {
        let role = if handle == CONTROLLERS { Role::Controller } else { Role::Agent };
        let SocketAddress { node, port } = event.port;
        // What is bound in another node's name is not what it says.
        let is_itself = event.found_lower == node && event.found_upper == node;
        let is_own = node == self.own && role == Role::Controller;
        (is_itself && !is_own).then_some((role, Peer::Tipc { node, port }))
    }

    /// Does what is due; then there may be words. Early: does nothing.
    pub fn on_timeout(&mut self, now: Instant) {
        self.watcher.on_timeout(now);
    }

    /// When something is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.watcher.poll_at()
    }

    /// This node's address.
    #[must_use]
    pub fn own(&self) -> u32 {
        self.own
    }

    /// A node's identity; empty where the kernel knows none.
    #[must_use]
    pub fn identity(&self, node: u32) -> Text<IDENTITY_BYTES> {
        link::identity(&self.socket, node).unwrap_or_default()
    }

    /// Nodes that are up, this one among them.
    #[must_use]
    pub fn nodes_up(&self) -> u32 {
        self.nodes_up
    }

    /// Links that are up, and the first of them.
    #[must_use]
    pub fn links(&self) -> (u32, &[Link]) {
        (self.links_up, &self.links)
    }

    /// The topology service is connected, and has told all: where it would not take a
    /// subscription, who was not told of may be there all the same.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.watcher.subscriber().is_settled() && self.set_aside() == 0
    }

    /// How often the topology service was lost.
    #[must_use]
    pub fn gaps(&self) -> u32 {
        self.watcher.subscriber().gaps()
    }

    /// Subscriptions that it would not take.
    #[must_use]
    pub fn set_aside(&self) -> usize {
        self.watcher.subscriber().set_aside()
    }
}

fn subscribe(watcher: &mut Watcher, handle: Handle, range: ServiceRange) -> io::Result<()> {
    let wanted = Subscription { range, timeout: Timeout::Forever, filter: Filter::Ports, handle };
    watcher.subscribe(Instant::default(), wanted).map_err(|refused| io::Error::other(refused.to_string()))
}

/// A socket of this node that is bound to an instance already, at start: two thimbles
/// of one role on a node would each get half of what is meant for both.
///
/// # Errors
/// There is no TIPC here for us.
pub fn bound_here(service_type: u32, own: u32) -> io::Result<Option<SocketAddress>> {
    let mut watcher = Watcher::open(0).map_err(|error| io::Error::other(error.to_string()))?;
    subscribe(&mut watcher, NODES, ServiceRange::one(service_type, own))?;
    for _ in 0..PROBES {
        match watcher.turn(Instant::default()) {
            Some(Told::Published(_, event)) if event.port.node == own => return Ok(Some(event.port)),
            Some(Told::Settled(_)) => return Ok(None),
            Some(_) => {}
            None => thread::sleep(PROBE_PAUSE),
        }
    }
    // It does not answer: what it could tell is not worth not starting.
    Ok(None)
}
