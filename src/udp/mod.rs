//! The UDP transport: IPv4 multicast groups, unicast peers, TCP stream sessions.
//!
//! A role has one UDP socket, bound to its port and joined to its group, and one TCP
//! listener on the same port. It sends from that socket, so that the source address of a
//! datagram is the address for replies. Only what comes in by the configured interface is
//! taken, and what this host sends to itself. A send that would block is dropped: the state
//! machines repeat what matters.
//!
//! The interface may come late, go, and be made anew. The kernel reports that (`reports`), and
//! the sockets follow it: [`Transport::follow`].

mod reports;
mod sys;
mod view;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};

use crate::config::NetworkConfig;
use crate::config::interface::{Interface, LOOPBACK};
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::types::InterfaceState;
use crate::wire::frame::Role;

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

/// The sockets of one role.
pub struct Endpoint {
    role: Role,
    group: Ipv4Addr,
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

    /// Sockets that serve this host alone, before they follow the interface.
    fn open(role: Role, network: &NetworkConfig, served: u32) -> Result<Self, OpenError> {
        let (group, port) = match role {
            Role::Controller => (network.controller_group, network.controller_port),
            Role::Agent => (network.agent_group, network.agent_port),
        };
        let failed = |what: String| move |cause| OpenError { what, cause };
        let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
        let in_use = "is another thimble, or another program, running on it?";
        let datagrams =
            UdpSocket::bind(any).map_err(failed(format!("UDP port {port} cannot be bound: {in_use}")))?;
        datagrams.set_nonblocking(true).map_err(failed("UDP socket".into()))?;
        sys::tell_interface(datagrams.as_fd())
            .map_err(failed(format!("UDP port {port} cannot be limited to {}", network.interface)))?;
        let listener = sys::listen(port, served)
            .map_err(failed(format!("TCP port {port} cannot be bound: {in_use}")))?;
        let listener = TcpListener::from_std(listener);
        Ok(Self { role, group, port, served, joined: 0, datagrams, listener })
    }

    /// Moves the sockets to the interface with this index, 0 for none. Returns whether the
    /// listener is another one now.
    ///
    /// # Errors
    /// As `setsockopt(2)`: this host alone is served then, or the group is not joined.
    fn follow(&mut self, index: u32, ttl: u8) -> io::Result<bool> {
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
            self.listener = TcpListener::from_std(sys::listen(self.port, served)?);
            is_another = true;
        }
        self.served = served;
        if index != 0 {
            sys::join(self.datagrams.as_fd(), self.group, index)?;
            self.joined = index;
            sys::send_multicast_by(self.datagrams.as_fd(), index, ttl)?;
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

/// The transport of a node.
pub struct Transport {
    endpoints: [Option<Endpoint>; 2],
    controllers: SocketAddr,
    agents: SocketAddr,
    network: NetworkConfig,
    /// The interface as it was last seen.
    interface: Interface,
    /// Why the sockets cannot be moved to it.
    pub refused: Option<io::Error>,
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
        let mut interface = Interface::look(network).map_err(failed)?;
        let served = if interface.index == 0 { LOOPBACK } else { interface.index };
        let mut endpoints = [None, None];
        let mut refused = None;
        for role in roles {
            let mut endpoint = Endpoint::open(*role, network, served)?;
            if let Err(error) = endpoint.follow(interface.index, network.ttl) {
                (interface.state, refused) = (InterfaceState::Unusable, Some(error));
            }
            endpoints[*role as usize] = Some(endpoint);
        }
        let group = |address, port| SocketAddr::V4(SocketAddrV4::new(address, port));
        Ok(Self {
            endpoints,
            controllers: group(network.controller_group, network.controller_port),
            agents: group(network.agent_group, network.agent_port),
            network: network.clone(),
            interface,
            refused,
            reports,
            view: TopologyView,
        })
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
        mut replaced: impl FnMut(&mut Endpoint) -> io::Result<()>,
    ) -> io::Result<()> {
        let seen = Interface::look(&self.network)?;
        let is_another = is_removed
            || seen.index != self.interface.index
            || self.interface.state == InterfaceState::Unusable;
        (self.interface, self.refused) = (seen, None);
        if is_another {
            for endpoint in self.endpoints.iter_mut().flatten() {
                let followed = endpoint.follow(seen.index, self.network.ttl);
                let done =
                    followed.and_then(|is_replaced| if is_replaced { replaced(endpoint) } else { Ok(()) });
                if let Err(error) = done {
                    self.interface.state = InterfaceState::Unusable;
                    self.refused = Some(error);
                }
            }
        }
        Ok(())
    }

    /// The sockets of a role, where the node has it.
    #[must_use]
    pub fn endpoint(&self, role: Role) -> Option<&Endpoint> {
        self.endpoints[role as usize].as_ref()
    }

    /// The sockets of all roles that the node has.
    pub fn endpoints_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.endpoints.iter_mut().flatten()
    }

    /// Sends a datagram from a role's socket, without waiting. UDP does not report that
    /// it cannot be delivered.
    ///
    /// # Errors
    /// As `sendto(2)`: the datagram is not sent.
    pub fn send(&self, as_role: Role, to: &To, datagram: &[u8]) -> io::Result<Option<Undelivered>> {
        // Without an outgoing interface the kernel would take any.
        if self.interface.index == 0 && matches!(to, To::Controllers | To::Agents) {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let address = match to {
            To::Controllers => self.controllers,
            To::Agents => self.agents,
            To::Node(_, peer) | To::Peer(peer) => ip(*peer)?,
        };
        let endpoint = self.endpoint(as_role).ok_or(io::ErrorKind::Unsupported)?;
        endpoint.datagrams.send_to(datagram, address).map(|_| None)
    }

    /// Begins to open a stream session to a node, without waiting. The port selects the
    /// role.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn connect(&self, peer: Peer, _: Role) -> io::Result<Stream> {
        let stream = TcpStream::connect(ip(peer)?)?;
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
