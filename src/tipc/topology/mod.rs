//! One connection to a topology service, and the subscriptions that it carries.
//!
//! ```text
//!            again_at over: connect          connected
//!   Down ----------------------> Connecting ----------> Up
//!    ^                               |                  |
//!    +---- closed, or too late ------+------------------+
//! ```
//!
//! The service tells, for a new subscription, what is there already, and then says
//! nothing that would end that list. So each is followed by a *marker*: a
//! subscription to nothing that times out at once. Its timeout comes behind the
//! list, and then the subscription is settled.
//!
//! The service does not answer what it dislikes: it closes the connection, and all
//! subscriptions are gone. They are asked for again, one at a time, each with its
//! marker, so that it is known which one the connection was closed upon. One on
//! which it was closed twice is set aside.
//!
//! What bytes go where, and when a connection is there, is for the driver: it asks
//! [`Subscriber::wants_connection`] and [`Subscriber::to_send`], and takes
//! [`Subscriber::poll_word`] until there is none.

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

mod event;
mod slot;
#[cfg(test)]
mod tests;

use heapless::Vec;

use super::address::ServiceRange;
use super::event::{EventKind, TopologyEvent};
use super::subscription::{self, Filter, Handle, Subscription, Timeout};
use crate::limits;
use crate::time::{Duration, Instant};
use slot::{SubscriptionSlot, SubscriptionState, Turn, TurnRequest, TurnStage};

pub use event::{Closed, SubscribeError, SubscriberEvent};

/// From the loss of a connection to the next try.
pub const PAUSE: Duration = Duration::from_secs(1);
/// How long the service may take to accept a connection, or to answer a marker.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Closings on a subscription until it is set aside.
const STRIKES: u8 = 2;
/// How a marker's handle begins; a number follows.
const MARKER: [u8; 4] = *b"\xffend";

#[derive(Clone, Copy, Debug)]
enum ConnectionState {
    Down { again_at: Instant },
    Connecting { deadline: Instant },
    Up { turn: Option<Turn> },
}

/// The subscriptions, and how far the service knows of them.
#[derive(Debug)]
pub struct Subscriber {
    places: Vec<SubscriptionSlot, { limits::TIPC_SUBSCRIPTIONS }, u8>,
    state: ConnectionState,
    /// The number of the turn's marker.
    serial: u32,
    is_gap_told: bool,
    gaps: u32,
}

impl Default for Subscriber {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber {
    /// Without subscriptions; wants to be connected at once.
    #[must_use]
    pub const fn new() -> Self {
        let state = ConnectionState::Down { again_at: Instant::from_millis(0) };
        Self { places: Vec::new(), state, serial: 0, is_gap_told: true, gaps: 0 }
    }

    /// Wants these events from now on.
    ///
    /// # Errors
    /// [`SubscribeError`]: nothing has changed.
    pub fn subscribe(&mut self, now: Instant, wanted: Subscription) -> Result<(), SubscribeError> {
        wanted.validate().map_err(SubscribeError::Invalid)?;
        if wanted.handle.starts_with(&MARKER) {
            return Err(SubscribeError::HandleReserved);
        }
        if self.find(wanted.handle).is_some() {
            return Err(SubscribeError::HandleTaken);
        }
        let ends_at = match wanted.timeout {
            Timeout::Forever => None,
            Timeout::Ms(ms) => Some(now + Duration::from_millis(u64::from(ms))),
        };
        let standing = SubscriptionState::Waiting;
        let place =
            SubscriptionSlot { wanted, sent: wanted, ends_at, standing, is_replayed: false, strikes: 0 };
        self.places.push(place).map_err(|_| SubscribeError::Full)?;
        self.invariants();
        Ok(())
    }

    /// Wants no more of a subscription: not a word of it comes from now on. False
    /// where there is none with this handle, which can be used again once the service
    /// has ended it.
    pub fn cancel(&mut self, handle: Handle) -> bool {
        let Some(at) = self.find(handle) else { return false };
        let Some(place) = self.places.get_mut(at) else { return false };
        if place.standing == SubscriptionState::Ending {
            return false;
        }
        if place.is_known_to_service() {
            place.standing = SubscriptionState::Ending;
        } else {
            self.places.remove(at);
            // A turn that has not begun to be sent.
            if let ConnectionState::Up { turn } = &mut self.state {
                turn.take_if(|turn| {
                    turn.stage == TurnStage::Subscription && turn.subscription.handle == handle
                });
            }
        }
        self.invariants();
        true
    }

    /// The driver is to connect, and to say so by [`on_connecting`](Self::on_connecting).
    #[must_use]
    pub fn wants_connection(&self, now: Instant) -> bool {
        matches!(self.state, ConnectionState::Down { again_at } if now >= again_at)
    }

    /// The driver is to have no connection, nor to be making one.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, ConnectionState::Down { .. })
    }

    /// The driver is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, ConnectionState::Up { .. })
    }

    /// A connection is being made.
    pub fn on_connecting(&mut self, now: Instant) {
        if self.is_down() {
            self.state = ConnectionState::Connecting { deadline: now + PATIENCE };
        }
    }

    /// It is there.
    pub fn on_connected(&mut self) {
        if let ConnectionState::Connecting { .. } = self.state {
            self.state = ConnectionState::Up { turn: None };
        }
    }

    /// It is gone, or could not be had.
    pub fn on_closed(&mut self, now: Instant, how: Closed) {
        let ConnectionState::Up { turn } = self.state else {
            self.state = ConnectionState::Down { again_at: now + PAUSE };
            return;
        };
        if self.places.iter().any(SubscriptionSlot::is_known_to_service) {
            self.is_gap_told = false;
            self.gaps = self.gaps.saturating_add(1);
        }
        self.places.retain(|place| place.standing != SubscriptionState::Ending);
        let closed_upon = turn.filter(|turn| {
            how == Closed::ByService && turn.what == TurnRequest::Ask && turn.stage != TurnStage::Subscription
        });
        for place in &mut self.places {
            if !place.is_known_to_service() {
                continue;
            }
            place.standing = SubscriptionState::Waiting;
            place.is_replayed = true;
            if closed_upon.is_some_and(|turn| turn.subscription.handle == place.wanted.handle) {
                place.strikes = place.strikes.saturating_add(1);
                if place.strikes >= STRIKES {
                    place.standing = SubscriptionState::SetAside { is_told: false };
                }
            }
        }
        self.state = ConnectionState::Down { again_at: now + PAUSE };
        self.invariants();
    }

    /// What is to be sent next, the same until it was: see [`on_sent`](Self::on_sent).
    pub fn to_send(&mut self, now: Instant) -> Option<[u8; subscription::BYTES]> {
        let ConnectionState::Up { turn } = self.state else { return None };
        let turn = turn.or_else(|| self.next_turn(now))?;
        self.state = ConnectionState::Up { turn: Some(turn) };
        self.invariants();
        match (turn.stage, turn.what) {
            (TurnStage::Subscription, TurnRequest::Ask) => Some(turn.subscription.encode()),
            (TurnStage::Subscription, TurnRequest::Cancel) => Some(turn.subscription.encode_cancel()),
            (TurnStage::Marker, _) => Some(self.marker().encode()),
            (TurnStage::Nothing, _) => None,
        }
    }

    /// The next to be cancelled, else to be asked for: those first on which the
    /// connection was not closed.
    fn next_turn(&mut self, now: Instant) -> Option<Turn> {
        let deadline = now + PATIENCE;
        let (stage, is_answered) = (TurnStage::Subscription, false);
        if let Some(place) = self.places.iter().find(|place| place.standing == SubscriptionState::Ending) {
            return Some(Turn {
                what: TurnRequest::Cancel,
                subscription: place.sent,
                stage,
                deadline,
                is_answered,
            });
        }
        let waiting = |place: &&mut SubscriptionSlot| {
            place.standing == SubscriptionState::Waiting && !place.is_overdue(now)
        };
        let place = self.places.iter_mut().filter(waiting).min_by_key(|place| place.strikes)?;
        if let Some(end) = place.ends_at.filter(|_| place.is_replayed) {
            let left = u32::try_from(end.since(now).as_millis()).unwrap_or(u32::MAX);
            place.sent.timeout = Timeout::Ms(left);
        }
        Some(Turn { what: TurnRequest::Ask, subscription: place.sent, stage, deadline, is_answered })
    }

    fn marker(&self) -> Subscription {
        let [a, b, c, d] = MARKER;
        let [e, f, g, h] = self.serial.to_ne_bytes();
        Subscription {
            range: ServiceRange::one(u32::MAX, 0),
            timeout: Timeout::Ms(1),
            filter: Filter::Service,
            handle: [a, b, c, d, e, f, g, h],
        }
    }

    /// What [`to_send`](Self::to_send) gave has been sent.
    pub fn on_sent(&mut self) {
        let ConnectionState::Up { turn: Some(turn) } = &mut self.state else { return };
        match turn.stage {
            TurnStage::Subscription => {
                turn.stage = TurnStage::Marker;
                let (what, handle) = (turn.what, turn.subscription.handle);
                self.serial = self.serial.wrapping_add(1);
                if let Some(at) = self.find(handle)
                    && let Some(place) = self.places.get_mut(at)
                    && what == TurnRequest::Ask
                {
                    place.standing = SubscriptionState::Asked;
                }
            }
            TurnStage::Marker => turn.stage = TurnStage::Nothing,
            TurnStage::Nothing => {}
        }
        self.invariants();
    }

    /// The service has told something. `None` where that is for nobody.
    pub fn on_event(&mut self, event: &TopologyEvent) -> Option<SubscriberEvent> {
        let ConnectionState::Up { turn } = &mut self.state else { return None };
        if let Some(turn) = turn {
            turn.is_answered = true;
        }
        let turn = *turn;
        let word = match turn {
            Some(turn) if event.subscription == self.marker() && turn.stage == TurnStage::Nothing => {
                self.on_marker(event, turn)
            }
            _ => self.on_told(event),
        };
        self.invariants();
        word
    }

    fn on_marker(&mut self, event: &TopologyEvent, turn: Turn) -> Option<SubscriberEvent> {
        if event.kind != EventKind::TimedOut {
            return None;
        }
        self.state = ConnectionState::Up { turn: None };
        // Gone where its own time was over before its marker's.
        let at = self.find(turn.subscription.handle)?;
        let place = self.places.get_mut(at)?;
        match (turn.what, place.standing) {
            (TurnRequest::Cancel, _) => {
                self.places.remove(at);
                None
            }
            (TurnRequest::Ask, SubscriptionState::Asked) => {
                place.standing = SubscriptionState::Settled;
                place.strikes = 0;
                Some(SubscriberEvent::Settled(turn.subscription.handle))
            }
            (TurnRequest::Ask, _) => None,
        }
    }

    fn on_told(&mut self, event: &TopologyEvent) -> Option<SubscriberEvent> {
        let handle = event.subscription.handle;
        let at = self.find(handle)?;
        let place = self.places.get(at)?;
        let is_heard = matches!(place.standing, SubscriptionState::Asked | SubscriptionState::Settled);
        if !is_heard || place.sent != event.subscription {
            return None;
        }
        Some(match event.kind {
            EventKind::Published => SubscriberEvent::Published(handle, *event),
            EventKind::Withdrawn => SubscriberEvent::Withdrawn(handle, *event),
            EventKind::TimedOut => {
                self.places.remove(at);
                SubscriberEvent::TimedOut(handle)
            }
        })
    }

    /// What there is to tell besides the service's own events.
    pub fn poll_word(&mut self, now: Instant) -> Option<SubscriberEvent> {
        if !self.is_gap_told {
            self.is_gap_told = true;
            return Some(SubscriberEvent::Gap);
        }
        let untold = SubscriptionState::SetAside { is_told: false };
        if let Some(place) = self.places.iter_mut().find(|place| place.standing == untold) {
            place.standing = SubscriptionState::SetAside { is_told: true };
            return Some(SubscriberEvent::SetAside(place.wanted.handle));
        }
        // The service does not know of it, and so will not say that its time is over.
        let at = self.places.iter().position(|place| place.is_overdue(now))?;
        let handle = self.places.get(at)?.wanted.handle;
        self.cancel(handle);
        Some(SubscriberEvent::TimedOut(handle))
    }

    /// Time has passed: gives a connection up that does not move; one that tells, and has
    /// only not told all, moves. See
    /// [`is_down`](Self::is_down).
    pub fn on_timeout(&mut self, now: Instant) {
        let deadline = match self.state {
            ConnectionState::Connecting { deadline } => Some(deadline),
            ConnectionState::Up { turn } => turn.map(|turn| turn.deadline),
            ConnectionState::Down { .. } => None,
        };
        if deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.state {
            ConnectionState::Up { turn: Some(turn) } if turn.is_answered => {
                (turn.deadline, turn.is_answered) = (now + PATIENCE, false);
            }
            _ => self.on_closed(now, Closed::Lost),
        }
    }

    /// When time matters next.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let state = match self.state {
            ConnectionState::Down { again_at } => Some(again_at),
            ConnectionState::Connecting { deadline } => Some(deadline),
            ConnectionState::Up { turn } => turn.map(|turn| turn.deadline),
        };
        let waiting = self.places.iter().filter(|place| place.standing == SubscriptionState::Waiting);
        Instant::earliest([state, waiting.filter_map(|place| place.ends_at).min()])
    }

    /// The service has told all that is there, for all subscriptions but those set
    /// aside.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let settled = |place: &SubscriptionSlot| {
            matches!(place.standing, SubscriptionState::Settled | SubscriptionState::SetAside { .. })
        };
        self.is_up() && self.places.iter().all(settled)
    }

    /// How often the connection was lost while something was asked for.
    #[must_use]
    pub fn gaps(&self) -> u32 {
        self.gaps
    }

    /// Subscriptions that are set aside.
    #[must_use]
    pub fn set_aside(&self) -> usize {
        let is_aside =
            |place: &&SubscriptionSlot| matches!(place.standing, SubscriptionState::SetAside { .. });
        self.places.iter().filter(is_aside).count()
    }

    /// Subscriptions, whatever has become of them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True of one without subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn find(&self, handle: Handle) -> Option<usize> {
        self.places.iter().position(|place| place.wanted.handle == handle)
    }

    /// Checks what must always hold; nothing in a release build.
    pub fn invariants(&self) {
        let places = || self.places.iter().enumerate();
        for (at, place) in places() {
            let handle = place.wanted.handle;
            debug_assert!(self.find(handle) == Some(at), "no two have one handle");
            debug_assert!(place.sent == Subscription { timeout: place.sent.timeout, ..place.wanted });
            debug_assert!(
                place.strikes < STRIKES || matches!(place.standing, SubscriptionState::SetAside { .. })
            );
            debug_assert!(self.is_up() || !place.is_known_to_service(), "nobody is there to know it");
        }
        let asked = places().filter(|(_, place)| place.standing == SubscriptionState::Asked);
        match self.state {
            ConnectionState::Up { turn: Some(Turn { what: TurnRequest::Ask, subscription, stage, .. }) } => {
                let mut asked = asked.map(|(_, place)| place.sent);
                debug_assert!(asked.next().is_none_or(|sent| sent == subscription), "asked in its turn");
                debug_assert!(asked.next().is_none(), "one at a time");
                let is_there = self.find(subscription.handle).is_some();
                debug_assert!(stage != TurnStage::Subscription || is_there, "what is to be asked is wanted");
            }
            _ => debug_assert!(asked.count() == 0, "asked in a turn of its own"),
        }
    }
}
