//! The TIPC side of the tests: addresses, sockets outside of a daemon, and the format of
//! frames. `over_udp.rs` has the same for UDP.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use thimble::tipc::address::{Destination, NodeAddress, Scope, ServiceRange};
use thimble::tipc::socket::Socket;
use thimble::wire::frame::Role;

use crate::netns::Namespace;
use crate::switch::VNET_BYTES;
use crate::wait;

/// The `[network]` section of all nodes: empty, since bearers belong to the kernel.
pub fn network(_: &str) -> String {
    String::new()
}

/// A line for `[network]`, and the key that then waits for a restart.
pub const WAITS: (&str, &str) = ("service_type = 7600", "network.service_type");

/// The TIPC header follows Ethernet's; its words are in network byte order
/// (net/tipc/msg.h).
const TIPC_AT: usize = VNET_BYTES + 14;
const ETHERTYPE: [u8; 2] = [0x88, 0xCA];
/// The message users that carry user data: the lowest to the highest importance.
const IMPORTANCES: std::ops::RangeInclusive<u32> = 0..=3;
const BUNDLER: u32 = 6;

/// The time until a link is up again after its wire was restored: each end tries once in
/// a tolerance, and both reset the link.
pub const MENDED_WITHIN: Duration = Duration::from_secs(8);

/// The interval of repeated install requests. A host known to be gone is given up after a
/// few of them, and a restart takes a while on a kernel in user space.
pub const INSTALL_RETRY_MS: u64 = 500;

/// Words of the alert that `status` shows when the interface is down.
pub const UNPLUGGED: &[&str] = &["No TIPC link is up", "tipc bearer list"];

/// What the log says of it, then and when the interface is up again.
pub const UNPLUGGED_LOG: [&str; 2] = ["no TIPC link is up any more", "a TIPC link is up again, after "];

/// Whether the transport carries empty datagrams: the kernel drops them.
pub const CARRIES_NOTHING: bool = false;

/// A node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u32);

impl Address {
    /// The address of the node with this number: `1.1.NUMBER` in the old notation.
    pub const fn of(number: u8) -> Self {
        Self(0x0100_1000 + number as u32)
    }
}

/// As `thimble status` shows it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NodeAddress(self.0).fmt(f)
    }
}

/// A kernel delivers messages to a TIPC node in another of its own namespaces directly,
/// without using the interfaces. It recognizes such a node by a hash in the discovery
/// messages (user 13, word 13). Clearing the hash makes all messages use the interfaces,
/// as between machines.
const USE_THE_WIRE: &str = "qdisc add dev net0 clsact
filter add dev net0 egress protocol 0x88ca u32 match u32 0x1a000000 0x1e000000 at 0 \
    action pedit munge offset 52 u32 set 0
";

/// Makes `net0` of a namespace a bearer and sets its node address. An address that is
/// derived from an identity would take a second of duplicate detection.
pub fn attach(node: &Namespace, address: Address) {
    node.ip("link set lo up\nlink set net0 up\n");
    node.run("tc", "-batch -", USE_THE_WIRE);
    node.run("tipc", &format!("node set address 1.1.{}", address.0 & 0xFFF), "");
    node.run("tipc", "bearer enable media eth device net0", "");
}

/// Makes everything that a node sends arrive later.
pub fn delay(node: &Namespace, ms: u64) {
    node.run("tc", &format!("qdisc add dev net0 root netem delay {ms}ms"), "");
}

/// The destination of a datagram.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// All nodes of a role.
    All(Role),
    /// One node, in a role.
    One(Role, Address),
}

/// The service type of a role's datagrams. Its sessions use that number plus two.
const fn service_type(role: Role) -> u32 {
    match role {
        Role::Controller => 7488,
        Role::Agent => 7489,
    }
}

fn service(service_type: u32, instance: Address) -> Destination {
    Destination::Service { service_type, instance: instance.0, domain: 0 }
}

/// A socket for datagrams that belongs to no node.
pub struct Datagrams(Socket);

impl Datagrams {
    /// A socket in a namespace, for sending.
    pub fn new(at: &Namespace) -> Self {
        Self(at.enter(Socket::rdm).unwrap())
    }

    /// A socket that receives datagrams to all nodes of a role.
    pub fn receiving(at: &Namespace, role: Role) -> Self {
        let Self(socket) = Self::new(at);
        let own = socket.address().unwrap().node;
        socket.bind(&ServiceRange::one(service_type(role), own), Scope::Cluster).unwrap();
        Self(socket)
    }

    /// A socket that sends and receives as a role of a node: what is sent to it, and to all.
    pub fn serving(at: &Namespace, role: Role) -> Self {
        Self::receiving(at, role)
    }

    /// Sends a datagram, once a link to the destination is up.
    pub fn send(&self, datagram: &[u8], to: To) {
        let to = match to {
            To::All(role) => Destination::Range(ServiceRange::all(service_type(role))),
            To::One(role, address) => service(service_type(role), address),
        };
        wait::until("a datagram is sent", || match self.0.send_to(datagram, &to) {
            Ok(_) => Some(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => None,
            Err(error) => panic!("{to:?}: {error}"),
        });
    }

    /// The next datagram and its source; panics if none is received.
    pub fn recv(&self) -> (Vec<u8>, Address) {
        let mut buffer = vec![0; 66_000];
        let received = wait::until("a datagram arrives", || match self.0.recv_from(&mut buffer) {
            Ok(received) => Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        buffer.truncate(received.len);
        (buffer, Address(received.from.expect("recvmsg gives the source").node))
    }
}

/// A connection from a namespace to a role of a node. Its type is std's: what a test does
/// with a stream works on any socket.
pub fn connect(from: &Namespace, role: Role, to: Address) -> TcpStream {
    from.enter(|| {
        wait::until("the role's service is known here", || {
            let connect = || -> io::Result<TcpStream> {
                let waiting = TcpStream::from(OwnedFd::from(Socket::stream()?));
                waiting.set_nonblocking(false)?;
                let socket = Socket::from(OwnedFd::from(waiting));
                socket.connect(&service(service_type(role) + 2, to))?;
                Ok(TcpStream::from(OwnedFd::from(socket)))
            };
            match connect() {
                Err(error) if error.kind() == io::ErrorKind::HostUnreachable => None,
                result => Some(result.unwrap()),
            }
        })
    })
}

/// One TIPC message, header included.
#[derive(Clone, Copy)]
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let message = Self(bytes);
        let (header, len) = (message.header_len()?, message.len()?);
        (24..=len).contains(&header).then_some(())?;
        Some(Self(bytes.get(..len)?))
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(4 * at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    fn user(&self) -> Option<u32> {
        Some(self.word(0)? >> 25 & 0xF)
    }

    fn header_len(&self) -> Option<usize> {
        Some((self.word(0)? >> 21 & 0xF) as usize * 4)
    }

    fn len(&self) -> Option<usize> {
        Some((self.word(0)? & 0x1_FFFF) as usize)
    }

    fn is_syn(&self) -> bool {
        self.word(0).is_some_and(|word| word >> 17 & 1 == 1)
    }

    fn payload(&self) -> &'a [u8] {
        let header = self.header_len().expect("checked when it was found");
        &self.0[header..]
    }
}

/// The user messages in a frame: one, or those in a bundle.
fn messages(frame: &[u8]) -> Vec<Message<'_>> {
    let is_tipc = frame.get(TIPC_AT - 2..TIPC_AT) == Some(&ETHERTYPE);
    let outer = frame.get(TIPC_AT..).filter(|_| is_tipc).and_then(Message::first);
    let mut found: Vec<Message<'_>> = outer.into_iter().collect();
    if let Some(bundle) = outer.filter(|outer| outer.user() == Some(BUNDLER)) {
        let mut rest = bundle.payload();
        while let Some(message) = Message::first(rest) {
            found.push(message);
            rest = rest.get(message.0.len().next_multiple_of(4)..).unwrap_or_default();
        }
    }
    found.retain(|message| message.user().is_some_and(|user| IMPORTANCES.contains(&user)));
    found
}

/// The payloads of the datagrams in a frame.
pub fn payloads(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    messages(frame).into_iter().map(|message| message.payload())
}

/// Whether a frame contains a connection request.
pub fn asks_for_a_connection(frame: &[u8]) -> bool {
    messages(frame).iter().any(Message::is_syn)
}

/// Nothing is: the groups are the kernel's.
pub fn is_to_group(_: &[u8]) -> bool {
    false
}
