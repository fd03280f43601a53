//! A cluster over TIPC: where its nodes are, how a stranger speaks to them, and what
//! their frames look like. `over_udp.rs` has the same of UDP.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use thimble::tipc::address::{Destination, NodeAddress, Scope, ServiceRange};
use thimble::tipc::socket::Socket;
use thimble::wire::frame::Role;

use crate::netns::Namespace;
use crate::switch::VNET_BYTES;
use crate::wait;

/// What `[network]` says of nodes like these: the bearers are the kernel's.
pub const NETWORK: &str = "";

/// What `[network]` may say, and the key that then waits for a restart.
pub const WAITS: (&str, &str) = ("service_type = 7600", "network.service_type");

/// After Ethernet's header; words in network byte order (net/tipc/msg.h).
const TIPC_AT: usize = VNET_BYTES + 14;
const ETHERTYPE: [u8; 2] = [0x88, 0xCA];
/// What carries messages of users: the lowest and the highest importance.
const IMPORTANCES: std::ops::RangeInclusive<u32> = 0..=3;
const BUNDLER: u32 = 6;

/// By when a link is up again after its wire was mended: each end tries once in a
/// tolerance, and both start anew.
pub const MENDED_WITHIN: Duration = Duration::from_secs(8);

/// How often an install is asked for again. A host that is known to be gone is given up
/// after a few times, and one that starts anew takes a while on a kernel in user space.
pub const INSTALL_RETRY_MS: u64 = 500;

/// How `status` says that nothing gets out.
pub const UNPLUGGED: &[&str] = &["No TIPC link is up", "tipc bearer list"];

/// The kernel drops what has no bytes.
pub const CARRIES_NOTHING: bool = false;

/// Where a node is.
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

/// A kernel that finds a TIPC node in another of its own namespaces hands messages over
/// there and then, past every wire. It knows such a node by a hash that nodes announce
/// (user 13, word 13); without it, all goes through the interfaces, as it does between
/// machines.
const USE_THE_WIRE: [&str; 2] = [
    "tc qdisc add dev net0 clsact",
    "tc filter add dev net0 egress protocol 0x88ca u32 match u32 0x1a000000 0x1e000000 at 0 \
     action pedit munge offset 52 u32 set 0",
];

/// Runs a command in a namespace.
fn carry_out(node: &Namespace, line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a command"));
    let output = node.enter(|| command.args(words).output());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
}

/// Has a namespace's `net0` be a bearer, and its kernel have this address. One that
/// is made from an identity takes its node a second to be sure of.
pub fn attach(node: &Namespace, address: Address) {
    node.ip("link set lo up\nlink set net0 up\n");
    for line in USE_THE_WIRE {
        carry_out(node, line);
    }
    carry_out(node, &format!("tipc node set address 1.1.{}", address.0 & 0xFFF));
    carry_out(node, "tipc bearer enable media eth device net0");
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// All nodes of a role.
    All(Role),
    /// One node, in a role.
    One(Role, Address),
}

/// The service type of a role's datagrams; its sessions' is two above.
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
    /// A socket in a namespace, to speak with.
    pub fn new(at: &Namespace) -> Self {
        Self(at.enter(Socket::rdm))
    }

    /// A socket that hears what all nodes of a role are told.
    pub fn receiving(at: &Namespace, role: Role) -> Self {
        Self(at.enter(|| {
            let socket = Socket::rdm()?;
            let own = socket.address()?.node;
            socket.bind(&ServiceRange::one(service_type(role), own), Scope::Cluster)?;
            Ok(socket)
        }))
    }

    /// Sends a datagram, once a link to whom it is for is up.
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

    /// The next datagram and where it is from; panics if none comes.
    pub fn recv(&self) -> (Vec<u8>, Address) {
        let mut buffer = vec![0; 66_000];
        let received = wait::until("a datagram arrives", || match self.0.recv_from(&mut buffer) {
            Ok(received) => Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        buffer.truncate(received.len);
        (buffer, Address(received.from.expect("the sender is told").node))
    }
}

/// A connection from a namespace to a node, in one of its roles. As std has it: what a
/// test does with a stream is asked of any socket in the same way.
pub fn connect(from: &Namespace, role: Role, to: Address) -> TcpStream {
    from.enter(|| {
        let waiting = TcpStream::from(OwnedFd::from(Socket::stream()?));
        waiting.set_nonblocking(false)?;
        let socket = Socket::from(OwnedFd::from(waiting));
        socket.connect(&service(service_type(role) + 2, to))?;
        Ok(TcpStream::from(OwnedFd::from(socket)))
    })
}

/// One message of TIPC, from its header on.
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

/// The messages of users in a frame: one, or those that a link sends in a bundle.
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

/// Whether a frame asks for a connection.
pub fn asks_for_a_connection(frame: &[u8]) -> bool {
    messages(frame).iter().any(Message::is_syn)
}
