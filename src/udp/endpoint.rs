//! The sockets of one role over one family, and how they follow the interfaces.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;

use mio::net::TcpListener;

use super::{Batch, Listener, OpenError, Stream, groups, sys};
use crate::config::interface::LOOPBACK;
use crate::config::{Family, NetworkConfig};
use crate::limits;
use crate::wire::frame::Role;

/// The indices of the interfaces that are served, by link.
pub(super) type Served = [u32; limits::LINKS];

/// The sockets of one role, over one family.
pub struct Endpoint {
    role: Role,
    pub(super) family: Family,
    group: IpAddr,
    port: u16,
    /// The index of each interface that is served: that of loopback in place of one that is
    /// missing.
    served: Served,
    /// There are several links: each connection is asked by which it came.
    are_several: bool,
    /// The index of each interface on which the group is joined; 0 if it is not.
    joined: [u32; limits::LINKS],
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

    /// Their number among the transport's.
    #[must_use]
    pub fn at(&self) -> usize {
        number(self.role, self.family)
    }

    /// Sockets that have joined no group, before they follow the interfaces. `None` if this kernel
    /// does not have the family.
    pub(super) fn open(
        role: Role,
        family: Family,
        network: &NetworkConfig,
        served: Served,
    ) -> Result<Option<Self>, OpenError> {
        let SocketAddrOf { group, port } = group(network, role, family);
        let failed = |what: String| move |cause| OpenError { what, cause };
        let in_use = "is another thimble, or another program, running on it?";
        let datagrams = match sys::datagrams(family, port) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
            opened => opened.map_err(failed(format!("UDP port {port} cannot be bound: {in_use}")))?,
        };
        let listener = sys::listen(family, port, &served, network.interfaces.len() > 1)
            .map_err(failed(format!("TCP port {port} cannot be bound: {in_use}")))?;
        let listener = TcpListener::from_std(listener);
        let are_several = network.interfaces.len() > 1;
        Ok(Some(Self {
            role,
            family,
            group,
            port,
            served,
            are_several,
            joined: [0; limits::LINKS],
            datagrams,
            listener,
        }))
    }

    /// Whether the group is joined on the interface with this index, as that of a link.
    pub(super) fn has_joined(&self, link: usize, index: u32) -> bool {
        self.joined.get(link) == Some(&index)
    }

    /// Moves the sockets of a link to the interface with this index, 0 for none. Returns whether
    /// the listener is another one now.
    ///
    /// # Errors
    /// As `setsockopt(2)`: the interface is not served then, or the group is not joined.
    pub(super) fn follow(&mut self, link: usize, index: u32, network: &NetworkConfig) -> io::Result<bool> {
        let (Some(served), Some(joined)) = (self.served.get_mut(link), self.joined.get_mut(link)) else {
            return Ok(false);
        };
        if *joined != 0 {
            let _ = groups::leave(self.datagrams.as_fd(), self.group, *joined);
            *joined = 0;
        }
        let before = std::mem::replace(served, if index == 0 { LOOPBACK } else { index });
        let mut is_another = false;
        if before != *served
            && let Err(error) = sys::admit(self.listener.as_fd(), &self.served)
        {
            // Without the capability that its filter takes. A socket cannot be bound to a second
            // interface, but two sockets of two interfaces may have one port.
            match error.kind() {
                io::ErrorKind::PermissionDenied if self.are_several => {}
                io::ErrorKind::PermissionDenied => {
                    let listener = sys::listen(self.family, self.port, &self.served, false)?;
                    self.listener = TcpListener::from_std(listener);
                    is_another = true;
                }
                _ => return Err(error),
            }
        }
        if index != 0 && network.is_multicast {
            groups::join(self.datagrams.as_fd(), self.group, index)?;
            self.joined[link] = index;
            groups::send_multicast_by(self.datagrams.as_fd(), self.family, index)?;
            groups::set_multicast(self.datagrams.as_fd(), self.family, network.ttl)?;
        }
        Ok(is_another)
    }

    /// Receives the datagrams that have arrived, without waiting. After a full batch
    /// there may be more. Those of another interface than the configured ones are marked.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; the batch is empty after any error.
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<()> {
        sys::recv_batch(self.datagrams.as_fd(), &self.served, batch)
    }

    /// Accepts a stream session, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is none, `ConnectionAborted` of one that is closed again: it came in
    /// by another interface.
    pub fn accept(&self) -> io::Result<Stream> {
        let (stream, _) = self.listener.accept()?;
        let is_served = |index: u32| index == LOOPBACK || self.served.contains(&index);
        if self.are_several && !sys::came_by(stream.as_fd(), self.family).is_some_and(is_served) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // The peer waits for each frame.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// A group and its port.
pub(super) struct SocketAddrOf {
    pub group: IpAddr,
    pub port: u16,
}

/// The group of a role over a family.
pub(super) fn group(network: &NetworkConfig, role: Role, family: Family) -> SocketAddrOf {
    let (v4, v6, port) = match role {
        Role::Controller => (network.controller_group, network.controller_group6, network.controller_port),
        Role::Agent => (network.agent_group, network.agent_group6, network.agent_port),
    };
    let group = match family {
        Family::V4 => IpAddr::V4(v4),
        Family::V6 => IpAddr::V6(v6),
    };
    SocketAddrOf { group, port }
}

/// The number of an endpoint.
pub(super) fn number(role: Role, family: Family) -> usize {
    2 * role as usize + family as usize
}
