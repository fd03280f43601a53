//! The state of one subscription, and the request about it in progress.

use super::super::subscription::Subscription;
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Not sent to the service yet.
    Waiting,
    /// Sent; the marker has not come back yet.
    Asked,
    /// The service has reported the existing bindings and reports changes.
    Settled,
    /// Cancelled by the user. Events that the service still sends are dropped.
    Ending,
    /// Rejected by the service and not sent again.
    SetAside { is_reported: bool },
}

#[derive(Clone, Copy, Debug)]
pub struct SubscriptionSlot {
    /// The subscription as the user made it.
    pub wanted: Subscription,
    /// The subscription as sent: after a gap its timeout is shorter.
    pub sent: Subscription,
    /// The end of its timeout.
    pub ends_at: Option<Instant>,
    pub state: SubscriptionState,
    /// It was sent before, over a connection that is lost.
    pub is_replayed: bool,
    /// How often the service rejected it by closing the connection.
    pub strikes: u8,
}

impl SubscriptionSlot {
    pub fn is_known_to_service(&self) -> bool {
        matches!(
            self.state,
            SubscriptionState::Asked | SubscriptionState::Settled | SubscriptionState::Ending
        )
    }

    pub fn is_overdue(&self, now: Instant) -> bool {
        self.state == SubscriptionState::Waiting && self.ends_at.is_some_and(|end| now >= end)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnRequest {
    Ask,
    Cancel,
}

/// The request in progress: a subscription or its end, followed by a marker.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub what: TurnRequest,
    pub subscription: Subscription,
    pub stage: TurnStage,
    pub deadline: Instant,
    /// The service has sent an event since the deadline was set.
    pub is_answered: bool,
}

/// The next message of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnStage {
    Subscription,
    Marker,
    Nothing,
}
