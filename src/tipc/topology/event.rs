//! What a subscriber tells its user.

use core::fmt;

use super::super::event::TopologyEvent;
use super::super::subscription::{Handle, Invalid};
use crate::limits;

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberEvent {
    /// A socket is bound that this subscription asks about.
    Published(Handle, TopologyEvent),
    /// It no longer is.
    Withdrawn(Handle, TopologyEvent),
    /// The subscription's time is over, and it with it.
    TimedOut(Handle),
    /// All that was there when the subscription was made has been told. Comes again
    /// after each gap; what was not told again by then is gone.
    Settled(Handle),
    /// The connection was lost. What was told may no longer be so, until it is told
    /// again and settled.
    Gap,
    /// The service closed the connection upon this subscription, each time. It stays
    /// unasked until it is cancelled.
    SetAside(Handle),
}

/// Why there is no such subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The service would not take it.
    Invalid(Invalid),
    /// There is one with this handle, or one whose end is still on its way.
    HandleTaken,
    /// Handles that begin like this are our own.
    HandleReserved,
    /// There are as many as there may be: [`limits::TIPC_SUBSCRIPTIONS`].
    Full,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "the topology service would refuse it: {why}"),
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
    /// The service has ended it: it dislikes what it was sent.
    ByService,
    /// It could not be had, or broke.
    Lost,
}
