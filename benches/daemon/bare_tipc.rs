//! The bare receiver's socket over TIPC, and one to send to it.

use std::io;

use thimble::tipc::address::{Destination, Scope, ServiceRange};
use thimble::tipc::socket::Socket;

use crate::netns::Namespace;
use crate::wait;

/// A service that nobody else is bound to.
const SERVICE: ServiceRange = ServiceRange::one(7500, 1);

/// A receiver in one namespace and a sender in another.
pub fn pair(receives: &Namespace, sends: &Namespace) -> (Socket, Socket) {
    let receiver = receives.enter(Socket::rdm).unwrap();
    receiver.bind(&SERVICE, Scope::Cluster).unwrap();
    (receiver, sends.enter(Socket::rdm).unwrap())
}

/// Sends a datagram to the receiver, once it is known there.
pub fn say(sender: &Socket, datagram: &[u8]) {
    wait::until("a datagram is sent", || match sender.send_to(datagram, &Destination::Range(SERVICE)) {
        Ok(_) => Some(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) if error.kind() == io::ErrorKind::HostUnreachable => None,
        Err(error) => panic!("{error}"),
    });
}
