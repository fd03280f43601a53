//! A node's view of the others: turns events of the topology service into the core's
//! [`PeerEvent`]s, and counts the nodes and links that are up.

use std::io;

use heapless::Vec;
use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::address::{LINK_STATE, NODE_STATE, ServiceRange, SocketAddress};
use super::event::TopologyEvent;
use super::link::{self, IDENTITY_BYTES};
use super::services::Services;
use super::socket::{Socket, SocketError};
use super::subscription::{Filter, Handle, Subscription, Timeout};
use super::topology::SubscriberEvent;
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

/// A link that is up, or was up to a node that is still within reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The address of the node at its other end.
    pub node: u32,
    /// The numbers of its two ends' bearers.
    bearers: u32,
    /// It is up.
    pub is_up: bool,
    /// Since when that is so: at most since this daemon started.
    pub since: Instant,
}

impl Link {
    /// The number of our bearer.
    #[must_use]
    pub const fn own_bearer(&self) -> u32 {
        self.bearers & 0xffff
    }
}

/// A node's view of the cluster.
pub struct TopologyView {
    watcher: Watcher,
    /// The socket for the kernel's identity queries.
    socket: Socket,
    own: u32,
    nodes_up: u32,
    links_up: u32,
    links: Vec<Link, { limits::TIPC_LINKS }>,
}

impl TopologyView {
    /// Subscribes to nodes and links and, for a controller, to controllers and agents.
    /// An agent waits for requests and needs no more.
    ///
    /// # Errors
    /// [`SocketError`]: TIPC is not available.
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

    /// Registers with a poll, which is ready when there may be events.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.watcher.register(registry, token, Interest::READABLE)
    }

    /// The next event of the topology service, without waiting; `Some(None)` for an event
    /// that the core does not need. One event a call, so that a program that binds and
    /// unbinds without end cannot block the loop.
    pub fn next(&mut self, now: Instant) -> Option<Option<PeerEvent>> {
        let event = self.watcher.turn(now)?;
        Some(self.take(now, &event))
    }

    fn take(&mut self, now: Instant, event: &SubscriberEvent) -> Option<PeerEvent> {
        match event {
            SubscriberEvent::Published(NODES, _) => self.nodes_up = self.nodes_up.saturating_add(1),
            SubscriberEvent::Withdrawn(NODES, event) => {
                self.nodes_up = self.nodes_up.saturating_sub(1);
                self.links.retain(|link| link.node != event.found_lower);
                return Some(PeerEvent::NodeLost(event.found_lower));
            }
            SubscriberEvent::Published(LINKS, event) => {
                let (node, bearers) = (event.found_lower, event.port.port);
                let link = Link { node, bearers, is_up: true, since: now };
                self.links_up = self.links_up.saturating_add(1);
                // The same end of ours had a link that went down.
                let is_former =
                    |old: &Link| !old.is_up && (old.node, old.own_bearer()) == (node, link.own_bearer());
                self.links.retain(|old| !is_former(old));
                if self.links.is_full()
                    && let Some(down) = self.links.iter().position(|old| !old.is_up)
                {
                    self.links.remove(down);
                }
                // Links beyond the capacity are only counted.
                let _ = self.links.push(link);
            }
            SubscriberEvent::Withdrawn(LINKS, event) => {
                self.links_up = self.links_up.saturating_sub(1);
                let ends = (event.found_lower, event.port.port);
                if let Some(link) = self.links.iter_mut().find(|link| (link.node, link.bearers) == ends) {
                    (link.is_up, link.since) = (false, now);
                }
            }
            SubscriberEvent::Published(handle, event) => {
                return self.other(*handle, event).map(|(role, peer)| PeerEvent::Published(role, peer));
            }
            SubscriberEvent::Withdrawn(handle, event) => {
                return self.other(*handle, event).map(|(role, peer)| PeerEvent::Withdrawn(role, peer));
            }
            SubscriberEvent::Settled(_) if self.is_watching() => return Some(PeerEvent::Settled),
            SubscriberEvent::Gap => {
                (self.nodes_up, self.links_up) = (0, 0);
                self.links.clear();
                return Some(PeerEvent::Gap);
            }
            SubscriberEvent::Settled(_) | SubscriberEvent::TimedOut(_) | SubscriberEvent::SetAside(_) => {}
        }
        None
    }

    /// The peer of a binding; `None` for this node's own controller, which does not
    /// greet itself. This node's own agent is a peer like others.
    fn other(&self, handle: Handle, event: &TopologyEvent) -> Option<(Role, Peer)> {
        let role = if handle == CONTROLLERS { Role::Controller } else { Role::Agent };
        let SocketAddress { node, port } = event.port;
        // A node may bind only its own address as instance.
        let is_itself = event.found_lower == node && event.found_upper == node;
        let is_own = node == self.own && role == Role::Controller;
        (is_itself && !is_own).then_some((role, Peer::Tipc { node, port }))
    }

    /// Does what is due, after which there may be events. Does nothing if nothing is due.
    pub fn on_timeout(&mut self, now: Instant) {
        self.watcher.on_timeout(now);
    }

    /// The time of the next call of [`on_timeout`](Self::on_timeout).
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

    /// The bearers of a link's two ends, ours first: `eth0-eth1`; `None` where the kernel has
    /// no such link any more.
    #[must_use]
    pub fn link_name(&self, link: &Link) -> Option<Text<32>> {
        let name = link::name(&self.socket, link.node, link.own_bearer()).ok()?;
        Some(link::ends(name.raw(), self.identity(self.own).raw(), self.identity(link.node).raw()))
    }

    /// How many links are up, and the first of them; with those that went down while their
    /// node stayed within reach.
    #[must_use]
    pub fn links(&self) -> (u32, &[Link]) {
        (self.links_up, &self.links)
    }

    /// The topology service is connected and has reported all bindings. False if it has
    /// refused a subscription, since bindings may be unreported then.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.watcher.subscriber().is_settled() && self.set_aside() == 0
    }

    /// How often the topology service was lost.
    #[must_use]
    pub fn gaps(&self) -> u32 {
        self.watcher.subscriber().gaps()
    }

    /// Subscriptions that the topology service refuses.
    #[must_use]
    pub fn set_aside(&self) -> usize {
        self.watcher.subscriber().set_aside()
    }
}

fn subscribe(watcher: &mut Watcher, handle: Handle, range: ServiceRange) -> io::Result<()> {
    let wanted = Subscription { range, timeout: Timeout::Forever, filter: Filter::Ports, handle };
    watcher.subscribe(Instant::default(), wanted).map_err(|refused| io::Error::other(refused.to_string()))
}
