//! The events of a subscriber for its user.

use core::fmt;

use super::super::event::TopologyEvent;
use super::super::subscription::{Handle, Invalid};
use crate::limits;

/// An event of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberEvent {
    /// A socket is bound in the subscription's range.
    Published(Handle, TopologyEvent),
    /// It is no longer bound.
    Withdrawn(Handle, TopologyEvent),
    /// The subscription has timed out and is removed.
    TimedOut(Handle),
    /// All bindings that existed when the subscription was made have been reported.
    /// Repeated after each gap: bindings not reported again by then are gone.
    Settled(Handle),
    /// The connection was lost. Reported bindings may be outdated until
    /// [`Settled`](Self::Settled) follows.
    Gap,
    /// The service rejected this subscription repeatedly. It is not sent again.
    SetAside(Handle),
}

/// Why a subscription was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The service would reject it.
    Invalid(Invalid),
    /// The handle is in use, or its last subscription has not ended yet.
    HandleTaken,
    /// The handle begins like those of markers.
    HandleReserved,
    /// There are [`limits::TIPC_SUBSCRIPTIONS`] already.
    Full,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => write!(f, "the topology service would refuse it: {invalid}"),
            Self::HandleTaken => f.write_str("there is a subscription with this handle"),
            Self::HandleReserved => f.write_str("a handle must not begin with the bytes ff 65 6e 64"),
            Self::Full => {
                write!(f, "there are {} subscriptions, and no more fit", limits::TIPC_SUBSCRIPTIONS)
            }
        }
    }
}

impl core::error::Error for SubscribeError {}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The service closed it, because it rejected a message.
    ByService,
    /// It could not be made, or broke.
    Lost,
}
