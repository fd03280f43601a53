//! What the control protocol carries as it is: how a thing is, or how it ended.

use serde::{Deserialize, Serialize};

/// How a transmission of a file to all hosts ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpreadEnding {
    /// All hosts that took part have the file.
    All,
    /// Some have not: they fetch what they lack.
    Most,
    /// No host that listens lacks it.
    Nobody,
    /// Hosts took part, and answer no more.
    Silent,
    /// Another controller sends, and does not end.
    Yielded,
    /// It was stopped: the patch was deleted, or an operator said so.
    Stopped,
}

/// What the configured network interface is fit for. The control protocol carries it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceState {
    /// It is up and has an address.
    #[default]
    Up,
    /// There is none of that name.
    Missing,
    /// It is set down.
    Down,
    /// It is up, and nothing is at its other end.
    NoCarrier,
    /// Neither it nor any other has an IPv4 address: others hear nothing of this node.
    NoAddress,
    /// The same, where only IPv6 is used.
    NoAddress6,
    /// It has an address of neither family.
    NoAddressOfBoth,
    /// It has no IPv4 address; datagrams go out from that of another interface.
    Borrowed,
    /// The sockets could not be moved to it.
    Unusable,
    /// It is up, in the subnet of another one that is used.
    SameSubnet,
}

impl InterfaceState {
    /// For people, to complete `The interface is ..` and `.. was`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Missing => "missing",
            Self::Down => "down",
            Self::NoCarrier => "without a carrier",
            Self::NoAddress => "without an IPv4 address",
            Self::NoAddress6 => "without an IPv6 address",
            Self::NoAddressOfBoth => "without an IP address",
            Self::Borrowed => "without an IPv4 address of its own",
            Self::Unusable => "not usable",
            Self::SameSubnet => "in the subnet of another one",
        }
    }

    /// In a word, for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Missing => "missing",
            Self::Down => "down",
            Self::NoCarrier => "no-carrier",
            Self::NoAddress | Self::NoAddress6 | Self::NoAddressOfBoth => "no-address",
            Self::Borrowed => "borrowed-address",
            Self::Unusable => "unusable",
            Self::SameSubnet => "same-subnet",
        }
    }
}
