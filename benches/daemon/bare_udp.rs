//! The bare receiver's socket over UDP, and one to send to it.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use crate::netns::Namespace;

/// The controllers' group, and a port where nobody else listens.
const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 84, 72), 7500);

/// A receiver in one namespace and a sender in another.
pub fn pair(receives: &Namespace, sends: &Namespace) -> (UdpSocket, UdpSocket) {
    let receiver = receives.enter(|| UdpSocket::bind(TO)).unwrap();
    receiver.join_multicast_v4(TO.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
    receiver.set_nonblocking(true).unwrap();
    (receiver, sends.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap())
}

/// Sends a datagram to the receiver.
pub fn say(sender: &UdpSocket, datagram: &[u8]) {
    sender.send_to(datagram, TO).unwrap();
}
