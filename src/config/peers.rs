//! `network.peers`: nodes that are sent to by unicast.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use super::Family;
use crate::limits;

/// What a peer may be, for an error.
pub(super) const ACCEPTS: &str = "an address or a name, and a port if it is not the default: \"10.0.0.10\", \
                                  \"[fd00::1]:7488\", \"controller-0\"";

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerHost {
    /// By its address.
    Address(IpAddr),
    /// By its name, which the system resolves.
    Name(String),
}

/// A peer as the configuration lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// Who it is.
    pub host: PeerHost,
    /// The interface after the `%` of an address of the link (fe80::).
    pub zone: Option<String>,
    /// Its port as a controller, if it is not this node's own `controller_port`. To agents there
    /// `agent_port` is used.
    pub controller_port: Option<u16>,
}

impl PeerName {
    /// Reads `ADDRESS`, `NAME`, `ADDRESS:PORT`, `NAME:PORT` or, for IPv6, `[ADDRESS]:PORT`. `None`
    /// if it is none of these. What it names may be no node: see [`fault`](Self::fault).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, zone, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                let (address, zone) = address6(host)?;
                (PeerHost::Address(address), zone, port)
            }
            None => match address6(text) {
                Some((address, zone)) => (PeerHost::Address(address), zone, ""),
                None => {
                    let end = text.find(':').unwrap_or(text.len());
                    (named(&text[..end])?, None, &text[end..])
                }
            },
        };
        let controller_port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?),
        };
        Some(Self { host, zone, controller_port })
    }

    /// Why no node can be at this address, or none that is reached by one of the `interfaces`.
    #[must_use]
    pub fn fault(&self, interfaces: &[String]) -> Option<String> {
        let PeerHost::Address(address) = &self.host else { return None };
        if let Some(what) = of_no_node(*address) {
            return Some(format!("{self} is {what}; list each node by its own address"));
        }
        match &self.zone {
            Some(_) if !is_of_link(address) => Some(format!(
                "{self} names an interface, which only an address of the link (fe80::) takes; leave out the % and \
                 what follows"
            )),
            Some(zone) if zone.bytes().all(|byte| byte.is_ascii_digit()) => Some(format!(
                "{self} names its interface by number, which may change; leave out the % and what follows, or write {}",
                interfaces.join(" or ")
            )),
            Some(zone) if !interfaces.contains(zone) => Some(format!(
                "{self} is on the interface {zone}, but thimble serves {} (network.interface)",
                interfaces.join(" and ")
            )),
            _ => None,
        }
    }
}

/// What an address is that is no node's own.
fn of_no_node(address: IpAddr) -> Option<&'static str> {
    Some(match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        _ if address.is_multicast() => "the address of a group",
        _ if address.is_unspecified() => "no address",
        // RFC 1122, 3.2.1.3, and RFC 1112, 4.
        IpAddr::V4(address) if matches!(address.octets()[0], 0 | 240..) => "reserved",
        _ => return None,
    })
}

fn is_of_link(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// An IPv6 address, perhaps with the interface of a link-local one. One that stands for an address
/// of IPv4 is that.
fn address6(text: &str) -> Option<(IpAddr, Option<String>)> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone.to_owned())),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let is_named = zone.as_ref().is_none_or(|zone| !zone.is_empty());
    is_named.then(|| (IpAddr::V6(address).to_canonical(), zone))
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

/// The first address of a node that a name has in one of these families, in the form of IPv6; `None`
/// if the system knows none now. Over TIPC there are no peers, and the system's resolver is left out.
#[must_use]
pub fn address_of(name: &str, families: &[Family]) -> Option<Ipv6Addr> {
    if cfg!(feature = "tipc") {
        return None;
    }
    let mut addresses = (name, 0).to_socket_addrs().ok()?.map(|address| address.ip());
    let is_usable =
        |address: &IpAddr| families.contains(&Family::of(address)) && of_no_node(*address).is_none();
    let address = addresses.find(is_usable)?;
    Some(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    })
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = fmt::from_fn(|f| match &self.zone {
            Some(zone) => write!(f, "%{zone}"),
            None => Ok(()),
        });
        match (&self.host, self.controller_port) {
            (PeerHost::Address(IpAddr::V6(address)), Some(port)) => write!(f, "[{address}{zone}]:{port}"),
            (PeerHost::Address(address), None) => write!(f, "{address}{zone}"),
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
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1"),
            ("::ffff:10.0.0.10", "10.0.0.10"),
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
            "fe80::1%",
            "a..b",
            "-a",
            "a b",
            "a/b",
            &long,
        ] {
            assert_eq!(PeerName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_no_node_can_have_is_refused_in_words() {
        for (text, words) in [
            (
                "255.255.255.255",
                "255.255.255.255 is the broadcast address; list each node by its own address",
            ),
            ("[::ffff:255.255.255.255]:1", "255.255.255.255:1 is the broadcast address"),
            ("239.1.1.1", "239.1.1.1 is the address of a group"),
            ("[ff05::1]:9", "[ff05::1]:9 is the address of a group"),
            ("0.0.0.0", "0.0.0.0 is no address"),
            ("::", ":: is no address"),
            ("0.1.2.3", "0.1.2.3 is reserved"),
            ("250.1.2.3", "250.1.2.3 is reserved"),
            ("fd00::1%eth0", "fd00::1%eth0 names an interface, which only an address of the link"),
            ("fe80::1%2", "fe80::1%2 names its interface by number, which may change; leave out"),
            ("fe80::1%eth1", "fe80::1%eth1 is on the interface eth1, but thimble serves eth0"),
        ] {
            let fault = PeerName::parse(text).unwrap().fault(&["eth0".to_owned()]).unwrap();
            assert!(fault.starts_with(words), "{text}: {fault}");
        }
        for text in ["10.0.0.255", "127.0.0.1", "::1", "fe80::1", "fe80::1%eth0", "controller-0"] {
            assert_eq!(PeerName::parse(text).unwrap().fault(&["eth0".to_owned()]), None, "{text}");
        }
    }
}
