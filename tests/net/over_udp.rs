//! The UDP side of the tests: addresses, sockets outside of a daemon, and the format of
//! frames. `over_tipc.rs` has the same for TIPC.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use thimble::wire::frame::Role;

use crate::netns::Namespace;
use crate::switch::VNET_BYTES;
use crate::wait;

/// The `[network]` section of all nodes.
pub const NETWORK: &str = "interface = \"net0\"";

/// A line for `[network]`, and the key that then waits for a restart.
pub const WAITS: (&str, &str) = ("ttl = 3", "network.ttl");

/// Ethernet, IPv4 without options.
const IP_AT: usize = VNET_BYTES + 14;
const PROTOCOL_AT: usize = IP_AT + 9;
const TRANSPORT_AT: usize = IP_AT + 20;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The flags in TCP.
const TCP_FLAGS_AT: usize = TRANSPORT_AT + 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The time until datagrams pass again after a wire was restored.
pub const MENDED_WITHIN: Duration = Duration::ZERO;

/// The interval of repeated install requests.
pub const INSTALL_RETRY_MS: u64 = 100;

/// Words of the alert that `status` shows when the interface is down.
pub const UNPLUGGED: &[&str] = &["The interface net0 is down, for ", "ip link set dev"];

/// What the log says of it, then and when the interface is up again.
pub const UNPLUGGED_LOG: [&str; 2] = ["the interface net0 is down", "the interface net0 is up with "];

/// Whether the transport carries empty datagrams.
pub const CARRIES_NOTHING: bool = true;

/// A node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(Ipv4Addr);

impl Address {
    /// The address of the node with this number.
    pub const fn of(number: u8) -> Self {
        Self(Ipv4Addr::new(10, 84, 0, number))
    }
}

/// As `thimble status` shows it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Gives `net0` of a namespace this address.
pub fn attach(node: &Namespace, address: Address) {
    node.ip(&format!(
        "link set lo up\naddress add {address}/24 dev net0\nlink set net0 up\nroute add 239.0.0.0/8 dev net0\n"
    ));
}

/// The destination of a datagram.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// All nodes of a role.
    All(Role),
    /// One node, in a role.
    One(Role, Address),
}

impl To {
    fn socket(self) -> SocketAddrV4 {
        let group = |role| match role {
            Role::Controller => Ipv4Addr::new(239, 255, 84, 72),
            Role::Agent => Ipv4Addr::new(239, 255, 84, 73),
        };
        let port = |role| match role {
            Role::Controller => 7488,
            Role::Agent => 7489,
        };
        match self {
            Self::All(role) => SocketAddrV4::new(group(role), port(role)),
            Self::One(role, address) => SocketAddrV4::new(address.0, port(role)),
        }
    }
}

/// A socket for datagrams that belongs to no node.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    /// A socket in a namespace, for sending.
    pub fn new(at: &Namespace) -> Self {
        Self(at.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap())
    }

    /// A socket that receives datagrams to all nodes of a role.
    pub fn receiving(at: &Namespace, role: Role) -> Self {
        let group = To::All(role).socket();
        let socket = at.enter(|| UdpSocket::bind(group)).unwrap();
        socket.join_multicast_v4(group.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
        socket.set_read_timeout(Some(wait::LONG)).unwrap();
        Self(socket)
    }

    /// A socket that sends and receives as a role of a node: what is sent to it, and to all.
    pub fn serving(at: &Namespace, role: Role) -> Self {
        let group = To::All(role).socket();
        let socket = at.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port()))).unwrap();
        socket.join_multicast_v4(group.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
        socket.set_read_timeout(Some(wait::LONG)).unwrap();
        Self(socket)
    }

    /// Sends a datagram.
    pub fn send(&self, datagram: &[u8], to: To) {
        self.0.send_to(datagram, to.socket()).unwrap();
    }

    /// The next datagram and its source; panics if none is received.
    pub fn recv(&self) -> (Vec<u8>, Address) {
        let mut buffer = vec![0; 65_536];
        let (len, from) = wait::uninterrupted(|| self.0.recv_from(&mut buffer)).expect("a datagram arrives");
        let SocketAddr::V4(from) = from else { unreachable!("a socket of IPv4") };
        buffer.truncate(len);
        (buffer, Address(*from.ip()))
    }
}

/// A connection from a namespace to a role of a node.
pub fn connect(from: &Namespace, role: Role, to: Address) -> TcpStream {
    from.enter(|| TcpStream::connect(To::One(role, to).socket())).unwrap()
}

/// The payloads of the datagrams in a frame.
pub fn payloads(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_udp = frame.get(PROTOCOL_AT) == Some(&UDP);
    frame.get(TRANSPORT_AT + 8..).filter(|_| is_udp).into_iter()
}

/// Whether a frame contains a connection request.
pub fn asks_for_a_connection(frame: &[u8]) -> bool {
    let flags = frame.get(TCP_FLAGS_AT).filter(|_| frame[PROTOCOL_AT] == TCP);
    flags.is_some_and(|flags| flags & (SYN | ACK) == SYN)
}
