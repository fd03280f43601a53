//! One subscription, and what is asked of the service about it.

use super::super::subscription::Subscription;
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
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
pub struct Place {
    /// As its user asked.
    pub wanted: Subscription,
    /// As the service was asked: after a gap less time is left.
    pub sent: Subscription,
    /// When its time is over.
    pub ends_at: Option<Instant>,
    pub standing: Standing,
    /// The service was asked before, over a connection that is gone.
    pub is_replayed: bool,
    /// How often the connection was closed upon it.
    pub strikes: u8,
}

impl Place {
    pub fn is_known_to_service(&self) -> bool {
        matches!(self.standing, Standing::Asked | Standing::Settled | Standing::Ending)
    }

    pub fn is_overdue(&self, now: Instant) -> bool {
        self.standing == Standing::Waiting && self.ends_at.is_some_and(|end| now >= end)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Ask,
    Cancel,
}

/// What the service is asked right now, and the marker behind it.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub what: What,
    pub subscription: Subscription,
    pub stage: Stage,
    pub deadline: Instant,
    /// The service has told something since the deadline was set.
    pub is_answered: bool,
}

/// What of a turn is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Subscription,
    Marker,
    Nothing,
}
