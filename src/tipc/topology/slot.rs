//! One subscription, and what is asked of the service about it.

use super::super::subscription::Subscription;
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// The service does not know of it, and will.
    Waiting,
    /// The service has been asked; its marker is not back.
    Asked,
    /// The service tells.
    Settled,
    /// Its user has cancelled it, and the service may still tell: nobody hears that.
    Ending,
    /// It is not asked again.
    SetAside { is_told: bool },
}

#[derive(Clone, Copy, Debug)]
pub struct SubscriptionSlot {
    /// As its user asked.
    pub wanted: Subscription,
    /// As the service was asked: after a gap less time is left.
    pub sent: Subscription,
    /// When its time is over.
    pub ends_at: Option<Instant>,
    pub standing: SubscriptionState,
    /// The service was asked before, over a connection that is gone.
    pub is_replayed: bool,
    /// How often the connection was closed upon it.
    pub strikes: u8,
}

impl SubscriptionSlot {
    pub fn is_known_to_service(&self) -> bool {
        matches!(
            self.standing,
            SubscriptionState::Asked | SubscriptionState::Settled | SubscriptionState::Ending
        )
    }

    pub fn is_overdue(&self, now: Instant) -> bool {
        self.standing == SubscriptionState::Waiting && self.ends_at.is_some_and(|end| now >= end)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnRequest {
    Ask,
    Cancel,
}

/// What the service is asked right now, and the marker behind it.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub what: TurnRequest,
    pub subscription: Subscription,
    pub stage: TurnStage,
    pub deadline: Instant,
    /// The service has told something since the deadline was set.
    pub is_answered: bool,
}

/// What of a turn is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnStage {
    Subscription,
    Marker,
    Nothing,
}
