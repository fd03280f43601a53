//! What the system says of a configured interface: whether it is there and up, and which
//! address datagrams go out from.
//!
//! Nothing here allocates: the loop asks again whenever the kernel reports a change.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use heapless::Vec;

use super::{Family, NetworkConfig, sys};
use crate::limits;
use crate::types::{InterfaceAddresses, InterfaceState};

/// The index of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`).
pub const LOOPBACK: u32 = 1;

/// An interface as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index; 0 while there is none.
    pub index: u32,
    /// What it is fit for.
    pub state: InterfaceState,
    /// The sources of the multicast that this node sends by it, of the families that it uses.
    pub address: InterfaceAddresses,
    /// The mask of its IPv4 subnet; 0 if it has none.
    pub mask: u32,
}

/// There is no such interface.
pub const MISSING: Interface =
    Interface { index: 0, state: InterfaceState::Missing, address: InterfaceAddresses::NONE, mask: 0 };

impl Interface {
    /// Asks the kernel about all configured interfaces, in their order. One in the subnet of an
    /// earlier one that is up is not fit: the kernel sends what goes there by the first alone.
    ///
    /// # Errors
    /// As `socket(2)`: no descriptor or no memory is free.
    pub fn look_all(network: &NetworkConfig) -> io::Result<Vec<Self, { limits::LINKS }, u8>> {
        let mut all: Vec<Self, { limits::LINKS }, u8> = Vec::new();
        for name in network.interfaces.iter().take(limits::LINKS) {
            let mut seen = Self::look(network, name)?;
            if seen.state == InterfaceState::Up && all.iter().any(|before| before.shares_subnet(&seen)) {
                seen.state = InterfaceState::SameSubnet;
            }
            // There is room for each.
            let _ = all.push(seen);
        }
        Ok(all)
    }

    /// Whether another interface is in the same subnet, while this one is up. Of IPv6 the first 64
    /// bits are compared; addresses of the link say nothing.
    fn shares_subnet(&self, other: &Self) -> bool {
        let mask = self.mask & other.mask;
        let net4 = |of: &Self| u32::from(of.address.v4) & mask;
        let net6 = |of: &Self| u128::from(of.address.v6) >> 64;
        let has6 = !self.address.v6.is_unspecified() && !self.address.v6.is_unicast_link_local();
        let is_same4 = mask != 0 && net4(self) == net4(other);
        self.state == InterfaceState::Up && (is_same4 || (has6 && net6(self) == net6(other)))
    }

    /// Asks the kernel about one interface.
    fn look(network: &NetworkConfig, name: &str) -> io::Result<Self> {
        let scratch = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let socket = scratch.as_fd();
        let Ok(index) = sys::interface_index(socket, name) else { return Ok(MISSING) };
        // It may have gone since.
        let Ok((is_up, has_carrier)) = sys::interface_flags(socket, name) else { return Ok(MISSING) };
        let uses = |family| network.families.contains(&family);
        let address = InterfaceAddresses {
            v4: if uses(Family::V4) { source4(&scratch, index, network) } else { Ipv4Addr::UNSPECIFIED },
            v6: if uses(Family::V6) { source6(index, network) } else { Ipv6Addr::UNSPECIFIED },
        };
        let state = match (is_up, has_carrier) {
            (false, _) => InterfaceState::Down,
            (true, false) => InterfaceState::NoCarrier,
            // What has one of the two families takes part by that one.
            _ if !address.v6.is_unspecified() => InterfaceState::Up,
            _ if address.v4.is_unspecified() => match (uses(Family::V4), uses(Family::V6)) {
                (true, true) => InterfaceState::NoAddressOfBoth,
                (true, false) => InterfaceState::NoAddress,
                (false, _) => InterfaceState::NoAddress6,
            },
            // By loopback nothing leaves this host, whatever its address.
            _ if index != LOOPBACK && !is_of(socket, address.v4, index) => InterfaceState::Borrowed,
            _ => InterfaceState::Up,
        };
        let mask = match (address.v4.is_unspecified(), state) {
            (false, InterfaceState::Up) => sys::interface_mask(socket, name).unwrap_or(0),
            _ => 0,
        };
        Ok(Self { index, state, address, mask })
    }
}

/// What the kernel would take as the source over IPv4: that may be another interface's address.
fn source4(scratch: &UdpSocket, index: u32, network: &NetworkConfig) -> Ipv4Addr {
    let group = SocketAddrV4::new(network.controller_group, network.controller_port);
    let connected = sys::send_multicast_by(scratch.as_fd(), index).and_then(|()| scratch.connect(group));
    match connected.and_then(|()| scratch.local_addr()) {
        Ok(SocketAddr::V4(source)) => *source.ip(),
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// What the kernel would take as the source over IPv6: always an address of the interface, once
/// the kernel has found out that no other node has it.
fn source6(index: u32, network: &NetworkConfig) -> Ipv6Addr {
    let source = || {
        let scratch = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        sys::send_multicast6_by(scratch.as_fd(), index)?;
        scratch.connect(SocketAddrV6::new(network.controller_group6, network.controller_port, 0, index))?;
        scratch.local_addr()
    };
    match source().map(|source| source.ip()) {
        Ok(IpAddr::V6(source)) => source,
        _ => Ipv6Addr::UNSPECIFIED,
    }
}

/// Whether an address is one of the interface's, or of loopback's.
fn is_of(socket: BorrowedFd<'_>, address: Ipv4Addr, index: u32) -> bool {
    sys::interface_of(socket, address).is_none_or(|of| [index, LOOPBACK].contains(&of))
}
