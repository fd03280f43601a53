//! 12, `OtherControllers`: a controller tells one agent where the others are. StarlingX has no such
//! message.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limits;

/// Controller to one agent that it hears by unicast, with each hello. The agent reports to them by
/// unicast too, as far as it has their family of IP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherControllers {
    /// Where they are: the sender's present neighbours.
    pub at: Vec<Contact, { limits::CONTROLLERS - 1 }, u8>,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Its address over IPv6; one over IPv4 is mapped (RFC 4291: ::ffff:0:0/96).
    pub address: [u8; 16],
    /// Its port.
    pub port: u16,
}

impl From<SocketAddr> for Contact {
    fn from(at: SocketAddr) -> Self {
        let address = match at.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self { address: address.octets(), port: at.port() }
    }
}

impl From<Contact> for SocketAddr {
    fn from(contact: Contact) -> Self {
        Self::new(Ipv6Addr::from(contact.address).to_canonical(), contact.port)
    }
}
