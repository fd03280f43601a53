//! The UDP transport: multicast groups, unicast peers, TCP stream sessions, over IPv4 and IPv6.
//!
//! A role has for each family one UDP socket, bound to its port and joined to its group, and one
//! TCP listener on the same port. It sends from that socket, so that the source address of a
//! datagram is the address for replies. Only what comes in by the configured interface is
//! taken, and what this host sends to itself. A send that would block is dropped: the state
//! machines repeat what matters.
//!
//! The interface may come late, go, and be made anew. The kernel reports that (`reports`), and
//! the sockets follow it: [`Transport::follow`].

mod peers;
mod reports;
mod sys;
mod view;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};

use crate::config::interface::{Interface, LOOPBACK};
use crate::config::{Family, NetworkConfig};
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::types::InterfaceState;
use crate::wire::frame::Role;

use peers::Peers;
pub use reports::{Reported, Reports};
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

/// The sockets of one role, over one family.
pub struct Endpoint {
    role: Role,
    family: Family,
    group: IpAddr,
    port: u16,
    /// The index of the interface that is served: that of loopback while the configured one is
    /// missing.
    served: u32,
    /// The index of the interface on which the group is joined; 0 if on none.
    joined: u32,
    /// Datagrams of the role's group, and to this node.
    pub datagrams: UdpSocket,
    /// Stream sessions to this node.
    pub listener: Listener,
}

impl Endpoint {
    /// The role whose sockets these are.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Their number among the transport's.
    #[must_use]
    pub fn at(&self) -> usize {
        number(self.role, self.family)
    }

    /// Sockets that serve this host alone, before they follow the interface. `None` if this kernel
    /// does not have the family.
    fn open(
        role: Role,
        family: Family,
        network: &NetworkConfig,
        served: u32,
    ) -> Result<Option<Self>, OpenError> {
        let SocketAddrOf { group, port } = group(network, role, family);
        let failed = |what: String| move |cause| OpenError { what, cause };
        let in_use = "is another thimble, or another program, running on it?";
        let datagrams = match sys::datagrams(family, port) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
            opened => opened.map_err(failed(format!("UDP port {port} cannot be bound: {in_use}")))?,
        };
        let listener = sys::listen(family, port, served)
            .map_err(failed(format!("TCP port {port} cannot be bound: {in_use}")))?;
        let listener = TcpListener::from_std(listener);
        Ok(Some(Self { role, family, group, port, served, joined: 0, datagrams, listener }))
    }

    /// Moves the sockets to the interface with this index, 0 for none. Returns whether the
    /// listener is another one now.
    ///
    /// # Errors
    /// As `setsockopt(2)`: this host alone is served then, or the group is not joined.
    fn follow(&mut self, index: u32, network: &NetworkConfig) -> io::Result<bool> {
        if self.joined != 0 {
            let _ = sys::leave(self.datagrams.as_fd(), self.group, self.joined);
            self.joined = 0;
        }
        let served = if index == 0 { LOOPBACK } else { index };
        let is_moved = served != self.served;
        let mut is_another = false;
        if is_moved && let Err(error) = sys::admit(self.listener.as_fd(), served) {
            // Without the capability that its filter takes. A socket cannot be bound to a second
            // interface, but two sockets of two interfaces may have one port.
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            self.listener = TcpListener::from_std(sys::listen(self.family, self.port, served)?);
            is_another = true;
        }
        self.served = served;
        if index != 0 && network.is_multicast {
            sys::join(self.datagrams.as_fd(), self.group, index)?;
            self.joined = index;
            sys::send_multicast_by(self.datagrams.as_fd(), self.family, index, network.ttl)?;
        }
        Ok(is_another)
    }

    /// Receives the datagrams that have arrived, without waiting. After a full batch
    /// there may be more. Those of another interface than the configured one are marked.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; the batch is empty after any error.
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<()> {
        sys::recv_batch(self.datagrams.as_fd(), self.served, batch)
    }

    /// Accepts a stream session, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is none.
    pub fn accept(&self) -> io::Result<Stream> {
        let (stream, _) = self.listener.accept()?;
        // The peer waits for each frame.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// A group and its port.
struct SocketAddrOf {
    group: IpAddr,
    port: u16,
}

/// The group of a role over a family.
fn group(network: &NetworkConfig, role: Role, family: Family) -> SocketAddrOf {
    let (v4, v6, port) = match role {
        Role::Controller => (network.controller_group, network.controller_group6, network.controller_port),
        Role::Agent => (network.agent_group, network.agent_group6, network.agent_port),
    };
    let group = match family {
        Family::V4 => IpAddr::V4(v4),
        Family::V6 => IpAddr::V6(v6),
    };
    SocketAddrOf { group, port }
}

/// The number of an endpoint.
fn number(role: Role, family: Family) -> usize {
    2 * role as usize + family as usize
}

/// The transport of a node.
pub struct Transport {
    endpoints: [Option<Endpoint>; ENDPOINTS],
    peers: Peers,
    network: NetworkConfig,
    /// The interface as it was last seen.
    interface: Interface,
    /// Why the sockets cannot be moved to it.
    pub refused: Option<io::Error>,
    /// This kernel has no IPv6, which the configuration wants.
    pub is_without_ipv6: bool,
    /// Changes of interfaces; or why the kernel does not report them.
    pub reports: io::Result<Reports>,
    /// Reports nothing over UDP.
    pub view: TopologyView,
}

impl Transport {
    /// Opens the sockets of a node's roles. The interface may be missing.
    ///
    /// # Errors
    /// [`OpenError`]: which socket, and why not.
    pub fn open(network: &NetworkConfig, roles: &[Role]) -> Result<Self, OpenError> {
        // What changes after the look is reported.
        let reports = Reports::open();
        let failed =
            |cause| OpenError { what: format!("network.interface \"{}\"", network.interface), cause };
        let interface = Interface::look(network).map_err(failed)?;
        let served = if interface.index == 0 { LOOPBACK } else { interface.index };
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
            network: network.clone(),
            interface,
            refused: None,
            is_without_ipv6,
            reports,
            view: TopologyView,
        };
        transport.move_to(interface.index, |_| Ok(()));
        Ok(transport)
    }

    /// Moves the sockets to the interface with this index.
    fn move_to(&mut self, index: u32, mut replaced: impl FnMut(&mut Endpoint) -> io::Result<()>) {
        for endpoint in self.endpoints.iter_mut().flatten() {
            let followed = endpoint.follow(index, &self.network);
            let done = followed.and_then(|is_replaced| if is_replaced { replaced(endpoint) } else { Ok(()) });
            // Without IPv6 on the interface a node takes part over IPv4 alone.
            let is_needed = endpoint.family == Family::V4 || !self.network.families.contains(&Family::V4);
            if let (Err(error), true) = (done, is_needed) {
                self.interface.state = InterfaceState::Unusable;
                self.refused = Some(error);
            }
        }
    }

    /// The interface as it was last seen.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Looks at the interface anew, and moves the sockets to it if it is another one. If it was
    /// removed, one that is there now is another one even with the same index. `replaced` is
    /// called with each endpoint whose listener is another one now.
    ///
    /// # Errors
    /// As `socket(2)`: the kernel cannot be asked now. If the sockets cannot be moved, the
    /// interface is unusable until the next look.
    pub fn follow(
        &mut self,
        is_removed: bool,
        replaced: impl FnMut(&mut Endpoint) -> io::Result<()>,
    ) -> io::Result<()> {
        let seen = Interface::look(&self.network)?;
        let has_joined = |endpoint: &Endpoint| endpoint.joined == seen.index || !self.network.is_multicast;
        let is_another = is_removed
            || seen.index != self.interface.index
            || self.interface.state == InterfaceState::Unusable
            // IPv6 was away, and with it the membership: at an MTU below 1,280, for instance.
            || (self.interface.address.v6.is_unspecified() && !seen.address.v6.is_unspecified())
            || !self.endpoints.iter().flatten().all(has_joined);
        (self.interface, self.refused) = (seen, None);
        if is_another {
            self.move_to(seen.index, replaced);
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
    /// family, and to each peer. UDP does not report that it cannot be delivered.
    ///
    /// # Errors
    /// As `sendto(2)`: the datagram is not sent, or not to all peers.
    pub fn send(&self, as_role: Role, to: &To, datagram: &[u8]) -> io::Result<Option<Undelivered>> {
        let role = match to {
            To::Controllers => Role::Controller,
            To::Agents => Role::Agent,
            To::Node(_, peer) | To::Peer(peer) => {
                return self.send_to(as_role, ip(*peer)?, datagram).map(|()| None);
            }
        };
        let mut sent = self.send_to_group(as_role, role, datagram);
        for address in self.peers.addresses(role, &self.network) {
            sent = sent.and(self.send_to(as_role, address, datagram));
        }
        sent.map(|()| None)
    }

    /// Sends to a group over each family. One is enough.
    fn send_to_group(&self, as_role: Role, role: Role, datagram: &[u8]) -> io::Result<()> {
        // Without an outgoing interface the kernel would take any.
        let mut sent = match (self.interface.index, self.network.is_multicast) {
            (0, true) => Err(io::Error::from_raw_os_error(libc::ENODEV)),
            (0, false) | (_, false) => Ok(()),
            (_, true) => self.multicast(as_role, role, datagram),
        };
        // A node with both roles reaches itself whatever the network is.
        let is_both = self.has(role) && as_role != role;
        if is_both && (!self.network.is_multicast || sent.is_err()) {
            let itself = self.send_to_itself(as_role, role, datagram);
            sent = sent.and(itself);
        }
        sent
    }

    /// Sends by multicast over each family.
    fn multicast(&self, as_role: Role, role: Role, datagram: &[u8]) -> io::Result<()> {
        let mut all: Option<io::Result<()>> = None;
        for family in Family::ALL {
            let Some(endpoint) = self.endpoint(as_role, family) else { continue };
            let SocketAddrOf { group, port } = group(&self.network, role, family);
            let sent = endpoint.datagrams.send_to(datagram, (group, port)).map(|_| ());
            all = Some(match all {
                Some(Ok(())) => Ok(()),
                Some(Err(error)) => sent.map_err(|_| error),
                None => sent,
            });
        }
        all.unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()))
    }

    fn send_to_itself(&self, as_role: Role, role: Role, datagram: &[u8]) -> io::Result<()> {
        let itself: IpAddr = match self.endpoint(role, Family::V4) {
            Some(_) => Ipv4Addr::LOCALHOST.into(),
            None => Ipv6Addr::LOCALHOST.into(),
        };
        let port = group(&self.network, role, Family::V4).port;
        self.send_to(as_role, (itself, port).into(), datagram)
    }

    /// Sends to one node.
    fn send_to(&self, as_role: Role, address: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let address = self.on_interface(address);
        let endpoint = self.endpoint(as_role, Family::of(&address.ip())).ok_or(io::ErrorKind::Unsupported)?;
        endpoint.datagrams.send_to(datagram, address).map(|_| ())
    }

    /// An address of the link is on the interface as it is now.
    fn on_interface(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V6(mut address) if address.ip().is_unicast_link_local() => {
                address.set_scope_id(self.interface.index);
                SocketAddr::V6(address)
            }
            address => address,
        }
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
        let stream = TcpStream::connect(self.on_interface(ip(peer)?))?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Where a node accepts stream sessions, for people who open firewalls.
pub struct Door(pub Peer);

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Peer::Ip(address) => write!(f, "TCP port {} of {}", address.port(), self.0),
            Peer::Tipc { .. } => write!(f, "{}", self.0),
        }
    }
}

/// Where a stream session comes from; `None` if the connection is gone.
#[must_use]
pub fn origin(stream: &Stream) -> Option<Origin> {
    stream.peer_addr().ok().map(|address| address.ip())
}

/// Takes over a stream session's socket in a worker. Each read and write waits for at
/// most `patience`.
///
/// # Errors
/// As `fcntl(2)` and `setsockopt(2)`.
pub fn blocking(socket: OwnedFd, patience: Duration) -> io::Result<BlockingStream> {
    let stream = BlockingStream::from(socket);
    stream.set_nonblocking(false)?;
    set_patience(&stream, patience)?;
    Ok(stream)
}

/// Makes each later read and write of a worker wait for at most `patience`, which is not
/// zero.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_patience(stream: &BlockingStream, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))
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
