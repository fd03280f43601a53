//! TIPC's addresses: a node, a socket, a service, a range of services.
//!
//! A service is a type and an instance, both numbers that applications choose. A socket
//! bound to a range of instances serves each of them. Types below 64 belong to TIPC.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use core::fmt;
use core::str::FromStr;

/// Each node that can be reached is published as an instance of this type.
pub const NODE_STATE: u32 = 0;
/// The topology service: instance 1, on every node, for its own view.
pub const TOPOLOGY_SERVICE: u32 = 1;
/// Each node that a link leads to is published, by the link's end, as an instance
/// of this type.
pub const LINK_STATE: u32 = 2;
/// Service types from here on are for applications; to bind a lower one is refused.
pub const FIRST_SERVICE_TYPE: u32 = 64;

/// A node's address, which TIPC derives from the node's identity. 0 stands for no node
/// in particular, and is the address of a node that never had a bearer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress(pub u32);

impl fmt::Display for NodeAddress {
    /// Eight hexadecimal digits, as `tipc node list` shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A socket's address. The node chooses a random `port` when it makes the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketAddress {
    /// The socket's number on its node.
    pub port: u32,
    /// Its node's address.
    pub node: u32,
}

impl fmt::Display for SocketAddress {
    /// `5c6f6465:826418512`: the node, then the port as `tipc nametable show` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", NodeAddress(self.node), self.port)
    }
}

/// Instances `lower` to `upper`, both included, of a service type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRange {
    /// The service's type.
    pub service_type: u32,
    /// The first instance.
    pub lower: u32,
    /// The last instance, not below `lower`.
    pub upper: u32,
}

impl ServiceRange {
    /// All instances of a type.
    #[must_use]
    pub const fn all(service_type: u32) -> Self {
        Self { service_type, lower: 0, upper: u32::MAX }
    }

    /// One instance of a type.
    #[must_use]
    pub const fn one(service_type: u32, instance: u32) -> Self {
        Self { service_type, lower: instance, upper: instance }
    }
}

impl fmt::Display for ServiceRange {
    /// `18888:6-53`, or `7:5` where it is one instance.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service_type, self.lower)?;
        if self.lower == self.upper { Ok(()) } else { write!(f, "-{}", self.upper) }
    }
}

/// Why a text is not a [`ServiceRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRange {
    /// It is not `TYPE:LOWER-UPPER` or `TYPE:INSTANCE`.
    Form,
    /// One of its numbers is malformed or above 4294967295.
    Number,
    /// Its lower end is above its upper end.
    Backwards,
}

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it must be TYPE:LOWER-UPPER or TYPE:INSTANCE, as in 18888:6-53",
            Self::Number => "type and instances are whole numbers from 0 to 4294967295",
            Self::Backwards => "its first instance is above its last",
        })
    }
}

impl core::error::Error for BadRange {}

impl FromStr for ServiceRange {
    type Err = BadRange;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, BadRange> {
        let number = |digits: &str| {
            // `parse` would take a plus sign.
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { digits.parse::<u32>().map_err(|_| BadRange::Number) } else { Err(BadRange::Number) }
        };
        let (service_type, instances) = text.split_once(':').ok_or(BadRange::Form)?;
        let (lower, upper) = instances.split_once('-').unwrap_or((instances, instances));
        if [service_type, lower, upper].contains(&"") {
            return Err(BadRange::Form);
        }
        let range =
            Self { service_type: number(service_type)?, lower: number(lower)?, upper: number(upper)? };
        if range.lower > range.upper { Err(BadRange::Backwards) } else { Ok(range) }
    }
}

/// The nodes that see a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All nodes of the cluster.
    Cluster,
    /// This node alone.
    Node,
}

/// The destination of a message or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One of the sockets bound to a service, in turn.
    Service {
        /// The service's type.
        service_type: u32,
        /// The instance.
        instance: u32,
        /// The address of the node whose bindings count; 0 for all nodes'.
        domain: u32,
    },
    /// Every socket bound to an instance of the range, on every node: multicast.
    Range(ServiceRange),
    /// One socket.
    Socket(SocketAddress),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_as_it_is_written() {
        for range in [
            ServiceRange { service_type: 18_888, lower: 6, upper: 53 },
            ServiceRange::one(7, 5),
            ServiceRange::all(u32::MAX),
        ] {
            assert_eq!(range.to_string().parse(), Ok(range));
        }
        assert_eq!(ServiceRange { service_type: 18_888, lower: 6, upper: 53 }.to_string(), "18888:6-53");
        assert_eq!(ServiceRange::one(7, 5).to_string(), "7:5");
    }

    #[test]
    fn the_error_names_the_fault_of_a_range() {
        for (text, error) in [
            ("", BadRange::Form),
            ("18888", BadRange::Form),
            ("18888:", BadRange::Form),
            (":5", BadRange::Form),
            ("1:2-", BadRange::Form),
            ("1:-2", BadRange::Form),
            ("1:2-3-4", BadRange::Number),
            ("1:+2", BadRange::Number),
            ("-1:2", BadRange::Number),
            ("1:4294967296", BadRange::Number),
            ("1: 2", BadRange::Number),
            ("1:3-2", BadRange::Backwards),
        ] {
            assert_eq!(text.parse::<ServiceRange>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn addresses_are_shown_as_the_tipc_tool_shows_them() {
        let node = 0x5c6f_6465;
        assert_eq!(NodeAddress(node).to_string(), "5c6f6465");
        assert_eq!(NodeAddress(1).to_string(), "00000001");
        assert_eq!(SocketAddress { port: 826_418_512, node }.to_string(), "5c6f6465:826418512");
    }
}
