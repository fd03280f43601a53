//! `network.peers`: nodes that are sent to by unicast.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};

use super::Family;
use crate::limits;

/// What a peer may be, for an error.
pub(super) const ACCEPTS: &str = "an address or a name, and a port if it is not the default: \"10.0.0.10\", \
                                  \"[fd00::1]:7488\", \"controller-0\"";

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerHost {
    /// By its address. One of the link (fe80::) is on the interface that thimble serves.
    Address(IpAddr),
    /// By its name, which the system resolves.
    Name(String),
}

/// A peer as the configuration lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// Who it is.
    pub host: PeerHost,
    /// Its port as a controller, if it is not this node's own `controller_port`. To agents there
    /// `agent_port` is used.
    pub controller_port: Option<u16>,
}

impl PeerName {
    /// Reads `ADDRESS`, `NAME`, `ADDRESS:PORT`, `NAME:PORT` or, for IPv6, `[ADDRESS]:PORT`. `None`
    /// if it is none of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (PeerHost::Address(IpAddr::V6(address6(host)?)), port)
            }
            None => match address6(text) {
                Some(address) => (PeerHost::Address(IpAddr::V6(address)), ""),
                None => {
                    let end = text.find(':').unwrap_or(text.len());
                    (named(&text[..end])?, &text[end..])
                }
            },
        };
        let controller_port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?),
        };
        let is_one = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
        match &host {
            PeerHost::Address(address) if !is_one(address) => None,
            _ => Some(Self { host, controller_port }),
        }
    }
}

/// An IPv6 address, perhaps with the interface of a link-local one. That is the one that thimble
/// serves, whatever is said.
fn address6(text: &str) -> Option<Ipv6Addr> {
    let (address, interface) = text.split_once('%').unwrap_or((text, "one"));
    let address: Ipv6Addr = address.parse().ok()?;
    let is_of_link = address.segments()[0] & 0xFFC0 == 0xFE80;
    (!interface.is_empty() && (is_of_link || !text.contains('%'))).then_some(address)
}

/// An IPv4 address, or a name: letters, digits and hyphens, in parts with dots between.
fn named(text: &str) -> Option<PeerHost> {
    if let Ok(address) = text.parse() {
        return Some(PeerHost::Address(IpAddr::V4(address)));
    }
    let is_part = |part: &str| {
        let is_plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (1..=63).contains(&part.len()) && is_plain && !part.starts_with('-')
    };
    // A mistyped address is no name.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_name = text.len() <= limits::PEER_NAME_BYTES && !is_number && text.split('.').all(is_part);
    is_name.then(|| PeerHost::Name(text.to_owned()))
}

/// The first address of a name in one of these families, in the form of IPv6; `None` if the system
/// knows none now. Over TIPC there are no peers, and the system's resolver is left out.
#[must_use]
pub fn address_of(name: &str, families: &[Family]) -> Option<Ipv6Addr> {
    if cfg!(feature = "tipc") {
        return None;
    }
    let mut addresses = (name, 0).to_socket_addrs().ok()?.map(|address| address.ip());
    let address = addresses.find(|address| families.contains(&Family::of(address)))?;
    Some(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    })
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.controller_port) {
            (PeerHost::Address(IpAddr::V6(address)), Some(port)) => write!(f, "[{address}]:{port}"),
            (PeerHost::Address(address), None) => write!(f, "{address}"),
            (PeerHost::Address(address), Some(port)) => write!(f, "{address}:{port}"),
            (PeerHost::Name(name), None) => f.write_str(name),
            (PeerHost::Name(name), Some(port)) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_or_a_name_with_or_without_a_port() {
        for (text, shown) in [
            ("10.0.0.10", "10.0.0.10"),
            ("10.0.0.10:7500", "10.0.0.10:7500"),
            ("fd00::1", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("[fd00::1]:7488", "[fd00::1]:7488"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%eth0]:1", "[fe80::1]:1"),
            ("controller-0", "controller-0"),
            ("c0.example.org:7488", "c0.example.org:7488"),
        ] {
            assert_eq!(PeerName::parse(text).map(|peer| peer.to_string()).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            ":",
            "10.0.0",
            "10.0.0.300",
            "10.0.0.10:",
            "10.0.0.10:0",
            "10.0.0.10:70000",
            "[fd00::1",
            "[10.0.0.1]",
            "[fd00::1]7488",
            "fd00::1%eth0",
            "fe80::1%",
            "0.0.0.0",
            "::",
            "239.1.1.1",
            "ff05::1",
            "a..b",
            "-a",
            "a b",
            "a/b",
            &long,
        ] {
            assert_eq!(PeerName::parse(text), None, "{text}");
        }
    }
}
