//! The UDP transport: multicast groups, unicast peers, TCP stream sessions, over IPv4 and IPv6.
//!
//! A role has for each family one UDP socket, bound to its port and joined to its group on each
//! interface, and one TCP listener on the same port. It sends from that socket, so that the source
//! address of a datagram is the address for replies. Only what comes in by a configured interface
//! is taken, and what this host sends to itself. A send that would block is dropped: the state
//! machines repeat what matters.
//!
//! A configured interface is a *link*, with a number from 0 on. What is for a group goes out once
//! by each link. A link may come late, go, and be made anew, each for itself. The kernel reports
//! that (`reports`), and the sockets follow it: [`Transport::follow`].

mod endpoint;
mod groups;
mod peers;
mod reports;
mod spread;
mod streams;
mod sys;
mod view;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use heapless::Vec;

use mio::net::{TcpListener, TcpStream};

use crate::config::interface::{Interface, LOOPBACK};
use crate::config::{Family, NetworkConfig};
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::limits;
use crate::types::InterfaceState;
use crate::wire::frame::Role;

pub use endpoint::Endpoint;
use endpoint::{SocketAddrOf, group, number};
use peers::Peers;
pub use reports::{Reported, Reports};
pub use spread::SPREAD_SOCKETS;
pub use streams::{Door, blocking, origin, set_patience};
pub use sys::Batch;
pub use view::TopologyView;

/// A stream session's socket.
pub type Stream = TcpStream;
/// The same in a worker, where it blocks.
pub type BlockingStream = std::net::TcpStream;
/// Where an accepted stream session comes from: one machine has one, as far as can be seen.
pub type Origin = IpAddr;
/// What accepts stream sessions.
pub type Listener = TcpListener;
/// The transport's name, for `status`.
pub const NAME: &str = "udp";
/// How many times `session_proof_ms` a step of a session's proof may take. TCP repeats a lost
/// segment of a connection ever later, so a new connection may be faster.
pub const STEP_PROOFS: u64 = 1;

/// Why the transport cannot be opened.
#[derive(Debug)]
pub struct OpenError {
    what: String,
    cause: io::Error,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.cause)
    }
}

impl std::error::Error for OpenError {}

/// The most endpoints: one for each role and family.
pub const ENDPOINTS: usize = 4;

/// The transport of a node.
pub struct Transport {
    endpoints: [Option<Endpoint>; ENDPOINTS],
    peers: Peers,
    /// Datagrams to a group that reached this node alone, which has both roles.
    to_itself_alone: u64,
    network: NetworkConfig,
    /// The links as they were last seen.
    links: Vec<Interface, { limits::LINKS }, u8>,
    /// Why the sockets cannot be moved to one of them.
    pub refused: [Option<io::Error>; limits::LINKS],
    /// This kernel has no IPv6, which the configuration wants.
    pub is_without_ipv6: bool,
    /// Changes of interfaces; or why the kernel does not report them.
    pub reports: io::Result<Reports>,
    /// Reports nothing over UDP.
    pub view: TopologyView,
}

impl Transport {
    /// Opens the sockets of a node's roles. The interfaces may be missing.
    ///
    /// # Errors
    /// [`OpenError`]: which socket, and why not.
    pub fn open(network: &NetworkConfig, roles: &[Role]) -> Result<Self, OpenError> {
        // What changes after the look is reported.
        let reports = Reports::open();
        let failed = |cause| OpenError {
            what: format!("{} \"{}\"", network.interface_key(), network.interfaces.join(", ")),
            cause,
        };
        let links = Interface::look_all(network).map_err(failed)?;
        let served = std::array::from_fn(|link| match links.get(link).map_or(0, used) {
            0 => LOOPBACK,
            index => index,
        });
        let mut endpoints = [const { None }; ENDPOINTS];
        let mut is_without_ipv6 = false;
        for (role, family) in roles.iter().flat_map(|role| network.families.iter().map(|of| (*role, *of))) {
            let opened = Endpoint::open(role, family, network, served)?;
            is_without_ipv6 |= opened.is_none();
            endpoints[number(role, family)] = opened;
        }
        if endpoints.iter().all(Option::is_none) {
            let what = "network.families is [\"ipv6\"], which this kernel does not have".to_owned();
            return Err(OpenError { what, cause: io::Error::from_raw_os_error(libc::EAFNOSUPPORT) });
        }
        let mut transport = Self {
            endpoints,
            peers: Peers::of(network),
            to_itself_alone: 0,
            network: network.clone(),
            links,
            refused: [const { None }; limits::LINKS],
            is_without_ipv6,
            reports,
            view: TopologyView,
        };
        for link in 0..transport.links.len() {
            transport.move_to(link, |_| Ok(()));
        }
        Ok(transport)
    }

    /// Moves the sockets of a link to its interface as it was last seen.
    fn move_to(&mut self, link: usize, mut replaced: impl FnMut(&mut Endpoint) -> io::Result<()>) {
        let Some(seen) = self.links.get_mut(link) else { return };
        let index = used(seen);
        for endpoint in self.endpoints.iter_mut().flatten() {
            let followed = endpoint.follow(link, index, &self.network);
            let done = followed.and_then(|is_replaced| if is_replaced { replaced(endpoint) } else { Ok(()) });
            // Without IPv6 on the interface a node takes part over IPv4 alone.
            let is_needed = endpoint.family == Family::V4 || !self.network.families.contains(&Family::V4);
            if let (Err(error), true) = (done, is_needed) {
                seen.state = InterfaceState::Unusable;
                self.refused[link] = Some(error);
            }
        }
    }

    /// The links as they were last seen, in the order of the configuration.
    #[must_use]
    pub fn links(&self) -> &[Interface] {
        &self.links
    }

    /// Looks at the interfaces anew, and moves the sockets to those that are other ones. One that
    /// was removed (a bit of `removed` for each link) is another one even with the same index.
    /// `replaced` is called with each endpoint whose listener is another one now.
    ///
    /// # Errors
    /// As `socket(2)`: the kernel cannot be asked now. If the sockets cannot be moved, the
    /// interface is unusable until the next look.
    pub fn follow(
        &mut self,
        removed: u8,
        mut replaced: impl FnMut(&mut Endpoint) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = std::mem::replace(&mut self.links, Interface::look_all(&self.network)?);
        for (link, before) in before.iter().enumerate() {
            let Some(seen) = self.links.get(link) else { continue };
            let has_joined =
                |endpoint: &Endpoint| endpoint.has_joined(link, used(seen)) || !self.network.is_multicast;
            let is_another = removed & (1 << link) != 0
                || used(seen) != used(before)
                || before.state == InterfaceState::Unusable
                // IPv6 was away, and with it the membership: at an MTU below 1,280, for instance.
                || (before.address.v6.is_unspecified() && !seen.address.v6.is_unspecified())
                || !self.endpoints.iter().flatten().all(has_joined);
            self.refused[link] = None;
            if is_another {
                self.move_to(link, &mut replaced);
            }
        }
        Ok(())
    }

    /// The sockets with this number, where the node has them.
    #[must_use]
    pub fn endpoint_at(&self, at: usize) -> Option<&Endpoint> {
        self.endpoints.get(at)?.as_ref()
    }

    /// The sockets of all roles that the node has.
    pub fn endpoints_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.endpoints.iter_mut().flatten()
    }

    /// Whether there are nodes that are sent to by unicast, whether they are heard or not.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// The address of the peer with this number in the configuration, once it is known.
    #[must_use]
    pub fn peer_address(&self, at: usize) -> Option<IpAddr> {
        self.peers.address(at)
    }

    /// Sets that of a name.
    pub fn resolve(&mut self, at: usize, address: IpAddr) {
        self.peers.resolve(at, address);
    }

    /// Whether this node has the family of a node's address.
    #[must_use]
    pub fn reaches(&self, peer: Peer) -> bool {
        let has = |endpoint: &Endpoint, address: SocketAddr| endpoint.family == Family::of(&address.ip());
        ip(peer).is_ok_and(|address| self.endpoints.iter().flatten().any(|endpoint| has(endpoint, address)))
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn has_peer(&self, peer: Peer) -> bool {
        ip(peer).is_ok_and(|address| self.peers.has(address))
    }

    /// Sends a datagram from a role's socket, without waiting: to a group by multicast over each
    /// family and link, and to each peer. UDP does not report that it cannot be delivered.
    ///
    /// # Errors
    /// As `sendto(2)`: the datagram is not sent. What concerns a single peer is kept with it
    /// ([`peer_news`](Self::peer_news)).
    pub fn send(&mut self, as_role: Role, to: &To, datagram: &[u8]) -> io::Result<Option<Undelivered>> {
        let role = match to {
            To::Controllers => Role::Controller,
            To::Agents => Role::Agent,
            To::Node(_, peer) | To::Peer(peer) => {
                let address = ip(*peer)?;
                // The agents' group without their peers: a ping.
                let sent = match address.ip().is_multicast() {
                    true => self.multicast(as_role, Role::Agent, datagram),
                    false => self.send_to(as_role, address, datagram),
                };
                return sent.map(|()| None);
            }
        };
        let mut sent = self.send_to_group(as_role, role, datagram);
        // What is there by one link alone is out of reach while that is down.
        let is_cut = self.links.iter().any(|link| link.state != InterfaceState::Up);
        for at in 0..self.peers.len() {
            let Some(address) = self.peers.listens_at(at, role, &self.network) else { continue };
            let done = self.send_to(as_role, address, datagram);
            if self.links.len() > 1 && is_cut && done.is_err() {
                continue;
            }
            sent = sent.and(self.peers.note(at, role, done));
        }
        sent.map(|()| None)
    }

    /// Sends to a group over each family and link. One is enough.
    fn send_to_group(&mut self, as_role: Role, role: Role, datagram: &[u8]) -> io::Result<()> {
        let mut sent =
            if self.network.is_multicast { self.multicast(as_role, role, datagram) } else { Ok(()) };
        // A node with both roles reaches itself whatever the network is.
        let is_both = self.has(role) && as_role != role;
        if is_both && (!self.network.is_multicast || sent.is_err()) {
            let itself = self.send_to_itself(as_role, role, datagram);
            self.to_itself_alone += u64::from(sent.is_err() && itself.is_ok());
            sent = sent.and(itself);
        }
        sent
    }

    /// Sends by multicast over each family and link. Without an outgoing interface the kernel
    /// would take any.
    fn multicast(&self, as_role: Role, role: Role, datagram: &[u8]) -> io::Result<()> {
        let mut sent = Err(io::Error::from_raw_os_error(libc::ENODEV));
        for index in self.links.iter().map(used).filter(|index| *index != 0) {
            for family in Family::ALL {
                let Some(endpoint) = self.endpoint(as_role, family) else { continue };
                if self.links.len() > 1 {
                    let _ = groups::send_multicast_by(endpoint.datagrams.as_fd(), family, index);
                }
                let SocketAddrOf { group, port } = group(&self.network, role, family);
                let one = endpoint.datagrams.send_to(datagram, (group, port)).map(drop);
                if sent.is_err() {
                    sent = one;
                }
            }
        }
        sent
    }

    fn send_to_itself(&self, as_role: Role, role: Role, datagram: &[u8]) -> io::Result<()> {
        let itself: IpAddr = match self.endpoint(role, Family::V4) {
            Some(_) => Ipv4Addr::LOCALHOST.into(),
            None => Ipv6Addr::LOCALHOST.into(),
        };
        let port = group(&self.network, role, Family::V4).port;
        self.send_to(as_role, (itself, port).into(), datagram)
    }

    /// Sends to one node. One of which only an address of the link is known may be on any link.
    fn send_to(&self, as_role: Role, mut address: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let endpoint = self.endpoint(as_role, Family::of(&address.ip())).ok_or(io::ErrorKind::Unsupported)?;
        if !self.is_on_any_link(&address) {
            return endpoint.datagrams.send_to(datagram, address).map(drop);
        }
        let mut sent = Err(io::Error::from_raw_os_error(libc::ENODEV));
        for link in self.links.iter().filter(|link| link.index != 0) {
            set_link(&mut address, link);
            let one = endpoint.datagrams.send_to(datagram, address).map(drop);
            if sent.is_err() {
                sent = one;
            }
        }
        sent
    }

    /// Whether an address of the link does not say of which interface, or is of one that is gone.
    fn is_on_any_link(&self, address: &SocketAddr) -> bool {
        let SocketAddr::V6(address) = address else { return false };
        address.ip().is_unicast_link_local()
            && self.links.iter().all(|link| link.index == 0 || link.index != address.scope_id())
    }

    fn endpoint(&self, role: Role, family: Family) -> Option<&Endpoint> {
        self.endpoint_at(number(role, family))
    }

    fn has(&self, role: Role) -> bool {
        Family::ALL.into_iter().any(|family| self.endpoint(role, family).is_some())
    }

    /// Begins to open a stream session to a node, without waiting. The port selects the
    /// role.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn connect(&self, peer: Peer, _: Role) -> io::Result<Stream> {
        let mut address = ip(peer)?;
        if self.is_on_any_link(&address) {
            // The system would say that an argument is invalid.
            let none = || io::Error::from_raw_os_error(libc::ENODEV);
            set_link(&mut address, self.links.iter().find(|link| link.index != 0).ok_or_else(none)?);
        }
        let stream = TcpStream::connect(address)?;
        let _ = stream.set_nodelay(true);
        if self.links.len() > 1 {
            sys::keep_alive(stream.as_fd());
        }
        Ok(stream)
    }
}

/// An address of the link is on this one.
fn set_link(address: &mut SocketAddr, link: &Interface) {
    if let SocketAddr::V6(address) = address {
        address.set_scope_id(link.index);
    }
}

/// The index of the interface of a link for the sockets; 0 while there is none, or none that may
/// be used.
fn used(link: &Interface) -> u32 {
    if link.state == InterfaceState::SameSubnet { 0 } else { link.index }
}

/// The IP address of a peer.
///
/// # Errors
/// `Unsupported` for a TIPC address.
fn ip(peer: Peer) -> io::Result<SocketAddr> {
    match peer {
        Peer::Ip(address) => Ok(address),
        Peer::Tipc { .. } => Err(io::ErrorKind::Unsupported.into()),
    }
}
