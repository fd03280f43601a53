//! The sockets of a file that is sent to all hosts: of a service type of their own, to which a host is bound only
//! meanwhile.
//!
//! TIPC's multicast is reliable until a queue is full; the sender then waits, or the receiver's kernel drops.

use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use heapless::Vec;

use super::address::{Destination, Scope, ServiceRange};
use super::socket::Socket;
use super::transport::Transport;

/// The most sockets that a sender has.
pub const SPREAD_SOCKETS: usize = 1;

impl Transport {
    /// Whether files can be sent to all hosts.
    #[must_use]
    pub fn has_multicast(&self) -> bool {
        true
    }

    /// The socket that sends to all that are bound. It blocks while a link is congested.
    ///
    /// # Errors
    /// As `socket(2)` and `connect(2)`.
    pub fn spread_senders(&self) -> io::Result<Vec<OwnedFd, SPREAD_SOCKETS>> {
        let socket = Socket::broadcast()?;
        socket.connect(&Destination::Range(ServiceRange::all(self.services().spread())))?;
        // std's call works for any kind of socket.
        let socket = UdpSocket::from(OwnedFd::from(socket));
        socket.set_nonblocking(false)?;
        let mut sockets = Vec::new();
        // There is room for it.
        let _ = sockets.push(socket.into());
        Ok(sockets)
    }

    /// A socket that is bound to what is sent.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`.
    pub fn spread_receiver(&self) -> io::Result<OwnedFd> {
        let socket = Socket::broadcast()?;
        socket.bind(&ServiceRange::one(self.services().spread(), 0), Scope::Cluster)?;
        Ok(socket.into())
    }
}
