//! Groups of multicast: their members, and by which interface and how far a socket sends to one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::sys::{ON, bind, bind_to, open, set};
use crate::config::Family;

/// A socket for what is sent to this group and port, once it has joined that. It has as much room as
/// the system gives. Another may have the port: a daemon that is replaced still does. Without blocking,
/// close-on-exec.
///
/// # Errors
/// As `socket(2)`, `setsockopt(2)` and `bind(2)`.
pub fn member(group: IpAddr, port: u16) -> io::Result<UdpSocket> {
    const ROOM_BYTES: libc::c_int = 2 * 1024 * 1024;
    let socket = open(Family::of(&group), libc::SOCK_DGRAM)?;
    set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &ON)?;
    if set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &ROOM_BYTES).is_err() {
        let _ = set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &ROOM_BYTES);
    }
    match group {
        IpAddr::V4(_) => bind_to(socket.as_fd(), group, port)?,
        // An address of the link would need its interface.
        IpAddr::V6(_) => bind(socket.as_fd(), Family::V6, port)?,
    }
    Ok(UdpSocket::from(socket))
}

/// Joins `group` on an interface, and receives no other groups.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn join(socket: BorrowedFd<'_>, group: IpAddr, interface: u32) -> io::Result<()> {
    const OFF: libc::c_int = 0;
    match group {
        IpAddr::V4(group) => {
            set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &OFF)?;
            set(socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request(group, interface)?)
        }
        IpAddr::V6(group) => {
            // Linux 4.20 and later; before, a socket takes what any socket of the host has joined.
            let _ = set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL, &OFF);
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request6(group, interface))
        }
    }
}

/// Leaves `group` on an interface, which may be gone: the socket still has the membership then.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn leave(socket: BorrowedFd<'_>, group: IpAddr, interface: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            set(socket, libc::IPPROTO_IP, libc::IP_DROP_MEMBERSHIP, &request(group, interface)?)
        }
        IpAddr::V6(group) => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_DROP_MEMBERSHIP, &request6(group, interface))
        }
    }
}

/// Sends a socket's multicast on this interface from now on.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn send_multicast_by(socket: BorrowedFd<'_>, family: Family, interface: u32) -> io::Result<()> {
    match family {
        Family::V4 => {
            let by = request(Ipv4Addr::UNSPECIFIED, interface)?;
            set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &by)
        }
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &interface),
    }
}

/// Sends a socket's multicast with this TTL, which IPv6 calls a hop limit. Multicast is looped
/// back, because a node may have both roles.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_multicast(socket: BorrowedFd<'_>, family: Family, ttl: u8) -> io::Result<()> {
    let ttl = libc::c_int::from(ttl);
    match family {
        Family::V4 => {
            set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, &ttl)?;
            set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, &ON)
        }
        Family::V6 => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &ttl)?;
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, &ON)
        }
    }
}

fn request6(group: Ipv6Addr, interface: u32) -> libc::ipv6_mreq {
    libc::ipv6_mreq {
        ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
        // A signed number by some C libraries.
        ipv6mr_interface: interface as _,
    }
}

fn request(group: Ipv4Addr, interface: u32) -> io::Result<libc::ip_mreqn> {
    Ok(libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from(group).to_be() },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: interface.try_into().map_err(|_| io::ErrorKind::InvalidInput)?,
    })
}
