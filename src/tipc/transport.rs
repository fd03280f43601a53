//! The TIPC transport of a node: for each of its roles a socket for datagrams and one that
//! accepts sessions, and the view of the topology service.
//!
//! [`Services`] lists the service types. A group is all instances of a type. A reply
//! goes to the socket that sent the datagram. A session is opened to the service on that
//! socket's node, because a restarted daemon has other sockets.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use super::address::{Destination, Scope, ServiceRange, SocketAddress};
use super::batch::{self, Batch};
use super::services::Services;
use super::socket::{self, Socket};
use super::stream::{Listener, Stream};
use super::taken::{self, Taken, Use};
use super::view::TopologyView;
use crate::config::NetworkConfig;
use crate::fsm::actions::{Peer, To, Undelivered};
use crate::time::Instant;
use crate::wire::frame::Role;

/// The transport's name, for `status`.
pub const NAME: &str = "tipc";
/// How many times `session_proof_ms` a step of a session's proof may take. A link repeats what
/// was lost, in the order of all that it carries to the node, so a new connection only waits
/// behind the first. That a node is lost is known without waiting.
pub const STEP_PROOFS: u64 = 4;
/// A stream session's socket in a worker, where it blocks.
pub type BlockingStream = Stream;
/// Where an accepted stream session comes from: one TIPC node has one.
pub type Origin = u32;

/// TIPC takes one second to settle a new node's address.
const ADDRESS_TRIES: u32 = 30;
const ADDRESS_PAUSE: Duration = Duration::from_millis(100);

/// Why the transport cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// TIPC is not available.
    Tipc(socket::SocketError),
    /// A socket cannot be bound.
    Bind(ServiceRange, io::Error),
    /// A program on this node is bound there already.
    Taken(Box<Taken>),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tipc(error) => write!(f, "{error}"),
            Self::Bind(range, error) => write!(f, "TIPC service {range} cannot be bound: {error}"),
            Self::Taken(taken) => write!(f, "{taken}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Tipc(error.into())
    }
}

/// The sockets of one role.
pub struct Endpoint {
    role: Role,
    /// Datagrams of the role's group, and to this node.
    pub datagrams: Socket,
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
        self.role as usize
    }

    fn open(role: Role, services: Services, node: u32) -> Result<Self, OpenError> {
        let [datagrams, sessions] =
            [services.datagrams(role), services.sessions(role)].map(|of| ServiceRange::one(of, node));
        let listener =
            Listener::bind(&sessions, Scope::Cluster).map_err(|error| OpenError::Bind(sessions, error))?;
        let socket = Socket::rdm()?;
        socket.bind(&datagrams, Scope::Cluster).map_err(|error| OpenError::Bind(datagrams, error))?;
        Ok(Self { role, datagrams: socket, listener })
    }

    /// Receives the datagrams that have arrived, without waiting. After a full batch
    /// there may be more.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; the batch is empty after any error.
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<()> {
        batch::recv_batch(self.datagrams.as_fd(), batch)
    }

    /// Accepts a stream session, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is none.
    pub fn accept(&self) -> io::Result<Stream> {
        self.listener.accept()
    }
}

/// The most endpoints: one for each role.
pub const ENDPOINTS: usize = 2;

/// The transport of a node.
pub struct Transport {
    endpoints: [Option<Endpoint>; ENDPOINTS],
    services: Services,
    /// The view of peers, nodes and links.
    pub view: TopologyView,
}

impl Transport {
    /// Opens the sockets of a node's roles. Waits for the node's address, which comes
    /// a second after its first bearer.
    ///
    /// # Errors
    /// [`OpenError`]: the cause, and how to remove it.
    pub fn open(network: &NetworkConfig, roles: &[Role]) -> Result<Self, OpenError> {
        let services = Services::from(network.service_type);
        let node = own_node()?;
        let view = TopologyView::open(services, node, roles).map_err(OpenError::Tipc)?;
        let mut endpoints = [None, None];
        for role in roles {
            for is_sessions in [false, true] {
                let of = if is_sessions { services.sessions(*role) } else { services.datagrams(*role) };
                let wanted_for = Use { role: *role, is_sessions };
                if let Some(taken) = taken::find(wanted_for, ServiceRange::one(of, node), node)? {
                    return Err(OpenError::Taken(Box::new(taken)));
                }
            }
            endpoints[*role as usize] = Some(Endpoint::open(*role, services, node)?);
        }
        Ok(Self { endpoints, services, view })
    }

    /// The sockets of a role, where the node has it.
    fn endpoint(&self, role: Role) -> Option<&Endpoint> {
        self.endpoint_at(role as usize)
    }

    /// The sockets with this number, where the node has them.
    #[must_use]
    pub fn endpoint_at(&self, at: usize) -> Option<&Endpoint> {
        self.endpoints.get(at)?.as_ref()
    }

    /// None: TIPC has no names.
    #[must_use]
    pub fn peer_address(&self, _: usize) -> Option<std::net::IpAddr> {
        None
    }

    /// Does nothing.
    pub fn resolve(&mut self, _: usize, _: std::net::IpAddr) {}

    /// Whether a node is one of TIPC.
    #[must_use]
    pub fn reaches(&self, peer: Peer) -> bool {
        tipc(peer).is_ok()
    }

    /// Whether there are nodes that are sent to by unicast: over TIPC none.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        false
    }

    /// None: TIPC reaches this node by its groups.
    #[must_use]
    pub fn sent_to_itself_alone(&self) -> u64 {
        0
    }

    /// None: TIPC has no such list.
    #[must_use]
    pub fn unsent_to_peers(&self) -> u64 {
        0
    }

    /// None.
    pub fn peer_news(&mut self, _: Instant) -> Option<(usize, Option<i32>)> {
        None
    }

    /// None.
    pub fn failing_peers(&self) -> impl Iterator<Item = (usize, i32, Instant)> {
        std::iter::empty()
    }

    /// Whether a node is sent to by unicast already: TIPC has no such list.
    #[must_use]
    pub fn has_peer(&self, _: Peer) -> bool {
        false
    }

    /// The sockets of all roles that the node has.
    pub fn endpoints_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.endpoints.iter_mut().flatten()
    }

    /// The cluster's service types.
    pub(super) fn services(&self) -> Services {
        self.services
    }

    /// Sends a datagram from a role's socket, without waiting. Returns the reason if the
    /// datagram is known at once to be undeliverable. An empty group is no error.
    ///
    /// # Errors
    /// As `sendto(2)`: the datagram is not sent.
    pub fn send(&self, as_role: Role, to: &To, datagram: &[u8]) -> io::Result<Option<Undelivered>> {
        let group = |role| Destination::Range(ServiceRange::all(self.services.datagrams(role)));
        let (to, unreachable) = match to {
            To::Controllers => (group(Role::Controller), None),
            To::Agents => (group(Role::Agent), None),
            To::Node(_, peer) | To::Peer(peer) => {
                let (node, port) = tipc(*peer)?;
                (Destination::Socket(SocketAddress { port, node }), Some(Undelivered::NoNode))
            }
        };
        let endpoint = self.endpoint(as_role).ok_or(io::ErrorKind::Unsupported)?;
        match endpoint.datagrams.send_to(datagram, &to) {
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => Ok(unreachable),
            sent => sent.map(|_| None),
        }
    }

    /// Begins to open a stream session to a role of a node, without waiting.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn connect(&self, peer: Peer, role: Role) -> io::Result<Stream> {
        let (node, _) = tipc(peer)?;
        // The lookup is limited to that node, since other nodes might bind its instance.
        let service_type = self.services.sessions(role);
        Stream::connect(&Destination::Service { service_type, instance: node, domain: node })
    }
}

/// Where a node accepts stream sessions, for people.
pub struct Door(pub Peer);

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the session service of node {}", self.0)
    }
}

/// Where a stream session comes from; `None` if the connection is gone.
#[must_use]
pub fn origin(stream: &Stream) -> Option<Origin> {
    stream.peer().ok().map(|address| address.node)
}

/// Takes over a stream session's socket in a worker. Each read and write waits for at
/// most `patience`.
///
/// # Errors
/// As `fcntl(2)` and `setsockopt(2)`.
pub fn blocking(socket: OwnedFd, patience: Duration) -> io::Result<BlockingStream> {
    let stream = Stream::from(socket);
    stream.set_blocking(patience)?;
    Ok(stream)
}

/// Makes each later read and write of a worker wait for at most `patience`, which is not
/// zero.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_patience(stream: &BlockingStream, patience: Duration) -> io::Result<()> {
    stream.set_blocking(patience)
}

/// This node's address.
fn own_node() -> Result<u32, OpenError> {
    let socket = Socket::rdm()?;
    for attempt in 0..ADDRESS_TRIES {
        match socket.address()?.node {
            0 if attempt + 1 < ADDRESS_TRIES => thread::sleep(ADDRESS_PAUSE),
            0 => break,
            node => return Ok(node),
        }
    }
    Err(OpenError::Tipc(socket::SocketError::NoBearer))
}

/// The TIPC address of a peer: node and port.
///
/// # Errors
/// `Unsupported` for an IP address.
fn tipc(peer: Peer) -> io::Result<(u32, u32)> {
    match peer {
        Peer::Tipc { node, port } => Ok((node, port)),
        Peer::Ip(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}
