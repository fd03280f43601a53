//! What the system says of the configured interface: whether it is there and up, and which
//! address datagrams go out from.
//!
//! Nothing here allocates: the loop asks again whenever the kernel reports a change.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use super::{NetworkConfig, sys};
use crate::types::InterfaceState;

/// The index of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`).
pub const LOOPBACK: u32 = 1;

/// An interface as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index; 0 while there is none.
    pub index: u32,
    /// What it is fit for.
    pub state: InterfaceState,
    /// The source of the multicast that this node sends by it; unspecified while it has none.
    pub address: Ipv4Addr,
}

/// There is no such interface.
const MISSING: Interface =
    Interface { index: 0, state: InterfaceState::Missing, address: Ipv4Addr::UNSPECIFIED };

impl Interface {
    /// Asks the kernel about the configured interface.
    ///
    /// # Errors
    /// As `socket(2)`: no descriptor or no memory is free.
    pub fn look(network: &NetworkConfig) -> io::Result<Self> {
        let name = &network.interface;
        // Its address is what the kernel would take as the source: that may be another
        // interface's.
        let scratch = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let socket = scratch.as_fd();
        let Ok(index) = sys::interface_index(socket, name) else { return Ok(MISSING) };
        // It may have gone since.
        let Ok((is_up, has_carrier)) = sys::interface_flags(socket, name) else { return Ok(MISSING) };
        let group = SocketAddrV4::new(network.controller_group, network.controller_port);
        let connected = sys::send_multicast_by(socket, index).and_then(|()| scratch.connect(group));
        let address = match connected.and_then(|()| scratch.local_addr()) {
            Ok(std::net::SocketAddr::V4(source)) => *source.ip(),
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let is_own = || sys::interface_of(socket, address).is_none_or(|of| [index, LOOPBACK].contains(&of));
        let state = match (is_up, has_carrier) {
            (false, _) => InterfaceState::Down,
            (true, false) => InterfaceState::NoCarrier,
            _ if address.is_unspecified() => InterfaceState::NoAddress,
            _ if !is_own() => InterfaceState::Borrowed,
            _ => InterfaceState::Up,
        };
        Ok(Self { index, state, address })
    }
}
