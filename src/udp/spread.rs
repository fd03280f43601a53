//! The sockets of a file that is sent to all hosts: of a group and a port of their own, which a host joins only
//! meanwhile.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

use heapless::Vec;

use super::endpoint::SocketAddrOf;
use super::{Transport, groups, sys, used};
use crate::config::{Family, NetworkConfig};
use crate::limits;

/// The most sockets that a sender has: one for each link and family.
pub const SPREAD_SOCKETS: usize = 2 * limits::LINKS;

fn group(network: &NetworkConfig, family: Family) -> SocketAddrOf {
    let group = match family {
        Family::V4 => network.spread_group.into(),
        Family::V6 => network.spread_group6.into(),
    };
    SocketAddrOf { group, port: network.spread_port }
}

impl Transport {
    /// Whether files can be sent to all hosts.
    #[must_use]
    pub fn has_multicast(&self) -> bool {
        self.network.is_multicast
    }

    /// Sockets that send to the group, one for each link that is there and family. They block.
    ///
    /// # Errors
    /// As `socket(2)` and `connect(2)`, if there is none.
    pub fn spread_senders(&self) -> io::Result<Vec<OwnedFd, SPREAD_SOCKETS>> {
        let mut sockets = Vec::new();
        let mut failed = io::Error::from_raw_os_error(libc::ENODEV);
        for index in self.links.iter().map(used).filter(|index| *index != 0) {
            for family in &self.network.families {
                let SocketAddrOf { group, port } = group(&self.network, *family);
                let opened = sys::datagrams(*family, 0).and_then(|socket| {
                    groups::send_multicast_by(socket.as_fd(), *family, index)?;
                    groups::set_multicast(socket.as_fd(), *family, self.network.ttl)?;
                    socket.connect((group, port))?;
                    socket.set_nonblocking(false)?;
                    Ok(socket)
                });
                match opened {
                    // There is room for each.
                    Ok(socket) => drop(sockets.push(socket.into())),
                    Err(error) => failed = error,
                }
            }
        }
        if sockets.is_empty() { Err(failed) } else { Ok(sockets) }
    }

    /// A socket that receives what is sent to the group by any link. Of two families IPv4 is enough: a sender
    /// of this cluster has it too.
    ///
    /// # Errors
    /// As `socket(2)`, `bind(2)` and `setsockopt(2)`: no link has joined the group.
    pub fn spread_receiver(&self) -> io::Result<OwnedFd> {
        let mut failed = io::Error::from_raw_os_error(libc::ENODEV);
        for family in &self.network.families {
            let SocketAddrOf { group, port } = group(&self.network, *family);
            let socket: UdpSocket = match groups::member(group, port) {
                Ok(socket) => socket,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            let mut has_joined = false;
            for index in self.links.iter().map(used).filter(|index| *index != 0) {
                match groups::join(socket.as_fd(), group, index) {
                    Ok(()) => has_joined = true,
                    Err(error) => failed = error,
                }
            }
            if has_joined {
                return Ok(socket.into());
            }
        }
        Err(failed)
    }
}
