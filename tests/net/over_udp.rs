//! The UDP side of the tests: addresses, sockets outside of a daemon, and the format of
//! frames. `over_tipc.rs` has the same for TIPC.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::LazyLock;
use std::time::Duration;

use thimble::wire::frame::Role;

use crate::netns::Namespace;
use crate::switch::VNET_BYTES;
use crate::wait;

/// Whether the tests run over IPv6 alone: with `THIMBLE_TEST_FAMILY=ipv6`, else over IPv4 alone.
pub fn is_ipv6() -> bool {
    static IS_IPV6: LazyLock<bool> =
        LazyLock::new(|| std::env::var("THIMBLE_TEST_FAMILY").is_ok_and(|family| family == "ipv6"));
    *IS_IPV6
}

/// The `[network]` section of all nodes. Several interfaces have commas between.
pub fn network(interfaces: &str) -> String {
    let families = if is_ipv6() { "families = [\"ipv6\"]\n" } else { "" };
    match interfaces.contains(',') {
        false => format!("{families}interface = \"{interfaces}\""),
        true => format!("{families}interfaces = {:?}", interfaces.split(',').collect::<Vec<_>>()),
    }
}

/// A line for `[network]`, and the key that then waits for a restart.
pub const WAITS: (&str, &str) = ("ttl = 3", "network.ttl");

/// Ethernet, then IP without options.
const IP_AT: usize = VNET_BYTES + 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// How the addresses of groups on Ethernet begin: those by default, over IPv4 and IPv6, and those
/// of the link that some tests set.
const GROUPS: [[u8; 5]; 3] =
    [[0x01, 0x00, 0x5E, 0x7F, 0x54], [0x33, 0x33, 0x00, 0x54, 0x00], [0x33, 0x33, 0x00, 0x00, 0x54]];
/// The flags in TCP.
const TCP_FLAGS_AT: usize = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The time until datagrams pass again after a wire was restored.
pub const MENDED_WITHIN: Duration = Duration::ZERO;

/// The interval of repeated install requests.
pub const INSTALL_RETRY_MS: u64 = 100;

/// Words of the alert that `status` shows when the interface is down.
pub const UNPLUGGED: &[&str] = &["The interface net0 is down, for ", "ip link set dev net0 up"];

/// What the log says of it, then and when the interface is up again.
pub const UNPLUGGED_LOG: [&str; 2] = ["the interface net0 is down", "the interface net0 is up with "];

/// Whether the transport carries empty datagrams.
pub const CARRIES_NOTHING: bool = true;

/// A node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u8);

impl Address {
    /// The address of the node with this number.
    pub const fn of(number: u8) -> Self {
        Self(number)
    }

    /// Over IPv4.
    pub const fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 84, 0, self.0)
    }

    /// Over IPv6.
    pub const fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xFD84, 0, 0, 0, 0, 0, 0, self.0 as u16)
    }

    /// Over the family of the tests.
    pub fn ip(self) -> IpAddr {
        if is_ipv6() { self.v6().into() } else { self.v4().into() }
    }
}

/// As `thimble status` shows it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// Gives `net0` of a namespace this address, of the family of the tests alone.
pub fn attach(node: &Namespace, address: Address) {
    match is_ipv6() {
        false => attach4(node, address),
        true => attach6(node, address),
    }
}

/// The same over IPv4.
pub fn attach4(node: &Namespace, address: Address) {
    node.ip(&format!(
        "link set lo up\naddress add {}/24 dev net0\nlink set net0 up\nroute add 239.0.0.0/8 dev net0\n",
        address.v4()
    ));
}

/// The same over IPv6. Nobody else has the address: the kernel need not find that out.
pub fn attach6(node: &Namespace, address: Address) {
    node.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/net0/accept_dad", "0")).unwrap();
    node.ip(&format!("link set lo up\nlink set net0 up\naddress add {}/64 dev net0 nodad\n", address.v6()));
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
    fn socket(self) -> SocketAddr {
        let group = |role| -> IpAddr {
            match (role, is_ipv6()) {
                (Role::Controller, false) => [239, 255, 84, 72].into(),
                (Role::Agent, false) => [239, 255, 84, 73].into(),
                (Role::Controller, true) => [0xFF15, 0, 0, 0, 0, 0, 0x54, 0x48].into(),
                (Role::Agent, true) => [0xFF15, 0, 0, 0, 0, 0, 0x54, 0x49].into(),
            }
        };
        let port = |role| match role {
            Role::Controller => 7488,
            Role::Agent => 7489,
        };
        match self {
            Self::All(role) => SocketAddr::new(group(role), port(role)),
            Self::One(role, address) => SocketAddr::new(address.ip(), port(role)),
        }
    }
}

/// Every address of the family of the tests.
fn any() -> IpAddr {
    if is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// A socket for datagrams that belongs to no node.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    /// A socket in a namespace, for sending.
    pub fn new(at: &Namespace) -> Self {
        Self(at.enter(|| UdpSocket::bind((any(), 0))).unwrap())
    }

    /// A socket that receives datagrams to all nodes of a role.
    pub fn receiving(at: &Namespace, role: Role) -> Self {
        let group = To::All(role).socket();
        let socket = at.enter(|| UdpSocket::bind(group)).unwrap();
        Self(joined(at, socket, group.ip()))
    }

    /// A socket that sends and receives as a role of a node: what is sent to it, and to all.
    pub fn serving(at: &Namespace, role: Role) -> Self {
        let group = To::All(role).socket();
        let socket = at.enter(|| UdpSocket::bind((any(), group.port()))).unwrap();
        Self(joined(at, socket, group.ip()))
    }

    /// Sends a datagram.
    pub fn send(&self, datagram: &[u8], to: To) {
        self.0.send_to(datagram, to.socket()).unwrap();
    }

    /// The next datagram and its source; panics if none is received.
    pub fn recv(&self) -> (Vec<u8>, Address) {
        let mut buffer = vec![0; 65_536];
        let (len, from) = wait::uninterrupted(|| self.0.recv_from(&mut buffer)).expect("a datagram arrives");
        let number = match from.ip() {
            IpAddr::V4(from) => from.octets()[3],
            IpAddr::V6(from) => from.octets()[15],
        };
        buffer.truncate(len);
        (buffer, Address(number))
    }
}

/// A socket that has joined a group, and waits for a datagram as long as the test.
fn joined(at: &Namespace, socket: UdpSocket, group: IpAddr) -> UdpSocket {
    match group {
        IpAddr::V4(group) => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED).unwrap(),
        IpAddr::V6(group) => {
            let shown = at.run("ip", "-o link show dev net0", "");
            let index = shown.split(':').next().unwrap().parse().unwrap();
            socket.join_multicast_v6(&group, index).unwrap();
        }
    }
    socket.set_read_timeout(Some(wait::LONG)).unwrap();
    socket
}

/// A connection from a namespace to a role of a node.
pub fn connect(from: &Namespace, role: Role, to: Address) -> TcpStream {
    from.enter(|| TcpStream::connect(To::One(role, to).socket())).unwrap()
}

/// Whether a frame is to one of the groups.
pub fn is_to_group(frame: &[u8]) -> bool {
    frame.get(VNET_BYTES..).is_some_and(|frame| GROUPS.iter().any(|group| frame.starts_with(group)))
}

/// What IP carries in a frame, if it is of this protocol.
fn carried(frame: &[u8], protocol: u8) -> Option<&[u8]> {
    let packet = frame.get(IP_AT..)?;
    let (at, is_of_it) = match packet.first()? >> 4 {
        4 => (20, packet.get(9) == Some(&protocol)),
        6 => (40, packet.get(6) == Some(&protocol)),
        _ => return None,
    };
    packet.get(at..).filter(|_| is_of_it)
}

/// The payloads of the datagrams in a frame.
pub fn payloads(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    carried(frame, UDP).and_then(|datagram| datagram.get(8..)).into_iter()
}

/// Whether a frame contains a connection request.
pub fn asks_for_a_connection(frame: &[u8]) -> bool {
    let flags = carried(frame, TCP).and_then(|segment| segment.get(TCP_FLAGS_AT));
    flags.is_some_and(|flags| flags & (SYN | ACK) == SYN)
}
