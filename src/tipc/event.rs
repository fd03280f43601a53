//! Events of the topology service: the kernel's `struct tipc_event`.

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

use super::address::SocketAddress;
use super::subscription::{self, Malformed, Subscription};

/// The length of an event, in bytes.
pub const BYTES: usize = 48;
/// The offset of the copy of the subscription.
pub const SUBSCRIPTION_AT: usize = 20;

const PUBLISHED: u32 = 1;
const WITHDRAWN: u32 = 2;
const TIMEOUT: u32 = 3;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A socket is bound.
    Published,
    /// It is no longer bound.
    Withdrawn,
    /// The subscription is over (`TIPC_SUBSCR_TIMEOUT`).
    TimedOut,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyEvent {
    /// What happened.
    pub kind: EventKind,
    /// The first instance of the range that was bound; of a node or a link, the
    /// address of the node it is or leads to.
    pub found_lower: u32,
    /// The last instance of that range.
    pub found_upper: u32,
    /// The socket that was bound. Not to be relied on for a node or a link.
    pub port: SocketAddress,
    /// The subscription that this event belongs to.
    pub subscription: Subscription,
}

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEvent {
    /// The number of bytes is wrong.
    Length(usize),
    /// The kind of event is unknown.
    Kind(u32),
    /// The range that was found is backwards.
    Backwards,
    /// The copy of the subscription is malformed.
    Subscription(Malformed),
}

impl fmt::Display for BadEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "{len} bytes are not one whole event of {BYTES}"),
            Self::Kind(kind) => write!(f, "there is no kind of event {kind}"),
            Self::Backwards => f.write_str("its range is backwards"),
            Self::Subscription(malformed) => {
                write!(f, "its copy of the subscription is malformed: {malformed}")
            }
        }
    }
}

impl core::error::Error for BadEvent {}

impl TopologyEvent {
    /// Decodes an event, in the byte order of its subscription.
    ///
    /// # Errors
    /// [`BadEvent`]: the bytes are not exactly one valid event.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEvent> {
        let length = BadEvent::Length(bytes.len());
        let (words, copy) = bytes.split_at_checked(SUBSCRIPTION_AT).ok_or(length)?;
        if copy.len() != subscription::BYTES {
            return Err(length);
        }
        let (subscription, order) = Subscription::decode(copy).map_err(BadEvent::Subscription)?;
        let (&[kind, found_lower, found_upper, port, node], []) = words.as_chunks::<4>() else {
            return Err(length);
        };
        let kind = match order.read(kind) {
            PUBLISHED => EventKind::Published,
            WITHDRAWN => EventKind::Withdrawn,
            TIMEOUT => EventKind::TimedOut,
            other => return Err(BadEvent::Kind(other)),
        };
        let (found_lower, found_upper) = (order.read(found_lower), order.read(found_upper));
        if found_lower > found_upper {
            return Err(BadEvent::Backwards);
        }
        let port = SocketAddress { port: order.read(port), node: order.read(node) };
        Ok(Self { kind, found_lower, found_upper, port, subscription })
    }

    /// Encodes the event as the service does for a subscription in this machine's byte
    /// order.
    #[must_use]
    pub fn encode(&self) -> [u8; BYTES] {
        let kind = match self.kind {
            EventKind::Published => PUBLISHED,
            EventKind::Withdrawn => WITHDRAWN,
            EventKind::TimedOut => TIMEOUT,
        };
        let SocketAddress { port, node } = self.port;
        let words = [kind, self.found_lower, self.found_upper, port, node].map(u32::to_ne_bytes);
        let copy = self.subscription.encode();
        let mut bytes = [0; BYTES];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened().iter().chain(&copy)) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscription::tests::{TEXTBOOK, swap_numbers};
    use super::*;

    const EVENT: TopologyEvent = TopologyEvent {
        kind: EventKind::Withdrawn,
        found_lower: 6,
        found_upper: 53,
        port: SocketAddress { port: 0x0102_0304, node: 0xa0b0_c0d0 },
        subscription: TEXTBOOK,
    };

    #[test]
    fn its_bytes_are_those_of_the_kernels_struct() {
        let mut expected: Vec<u8> =
            [2, 6, 53, 0x0102_0304, 0xa0b0_c0d0_u32].iter().flat_map(|number| number.to_ne_bytes()).collect();
        expected.extend(TEXTBOOK.encode());
        assert_eq!(EVENT.encode()[..], expected);
        assert_eq!(TopologyEvent::decode(&expected), Ok(EVENT));
    }

    #[test]
    fn the_other_byte_order_decodes_to_the_same_event() {
        let mut bytes = EVENT.encode();
        swap_numbers(&mut bytes[..40]);
        assert_eq!(TopologyEvent::decode(&bytes), Ok(EVENT));
    }

    #[test]
    fn each_kind_reads_as_it_is_written_and_no_other_does() {
        for kind in [EventKind::Published, EventKind::Withdrawn, EventKind::TimedOut] {
            let event = TopologyEvent { kind, ..EVENT };
            assert_eq!(TopologyEvent::decode(&event.encode()), Ok(event));
        }
        for other in [0, 4, 0x0100_0000, u32::MAX] {
            let mut bytes = EVENT.encode();
            bytes[..4].copy_from_slice(&other.to_ne_bytes());
            assert_eq!(TopologyEvent::decode(&bytes), Err(BadEvent::Kind(other)));
        }
    }

    #[test]
    fn anything_but_one_whole_event_is_refused() {
        let bytes = EVENT.encode();
        for len in 0..BYTES {
            assert_eq!(TopologyEvent::decode(&bytes[..len]), Err(BadEvent::Length(len)));
        }
        let two = [bytes, bytes].concat();
        assert_eq!(TopologyEvent::decode(&two), Err(BadEvent::Length(96)));
        let backwards = TopologyEvent { found_lower: 54, ..EVENT };
        assert_eq!(TopologyEvent::decode(&backwards.encode()), Err(BadEvent::Backwards));
        let mut bytes = bytes;
        bytes[SUBSCRIPTION_AT + subscription::FILTER_AT..][..4].fill(0);
        assert_eq!(TopologyEvent::decode(&bytes), Err(BadEvent::Subscription(Malformed::Filter(0))));
    }
}
