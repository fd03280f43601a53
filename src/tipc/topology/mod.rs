//! One connection to a topology service, and the subscriptions that it carries.
//!
//! ```text
//!            again_at over: connect          connected
//!   Down ----------------------> Connecting ----------> Up
//!    ^                               |                  |
//!    +---- closed, or too late ------+------------------+
//! ```
//!
//! For a new subscription the service reports the existing bindings, but does not mark
//! the end of that list. So each subscription is followed by a *marker*: a subscription
//! to nothing that times out at once. Its timeout event comes after the list, and then
//! the subscription is settled.
//!
//! The service does not answer a request that it rejects: it closes the connection, which
//! ends all subscriptions. They are sent again, one at a time, each with its marker, so
//! that the rejected one is known. A subscription rejected twice is set aside.
//!
//! The driver does the I/O: it checks [`Subscriber::wants_connection`], sends the bytes
//! of [`Subscriber::to_send`], and takes [`Subscriber::poll_event`] until `None`.

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

/// The time from the loss of a connection to the next attempt.
pub const PAUSE: Duration = Duration::from_secs(1);
/// The time limit for the service to accept a connection or to answer a marker.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Rejections of a subscription until it is set aside.
const STRIKES: u8 = 2;
/// The first bytes of a marker's handle; a serial number follows.
const MARKER: [u8; 4] = *b"\xffend";

#[derive(Clone, Copy, Debug)]
enum ConnectionState {
    Down { again_at: Instant },
    Connecting { deadline: Instant },
    Up { turn: Option<Turn> },
}

/// The subscriptions and their states.
#[derive(Debug)]
pub struct Subscriber {
    slots: Vec<SubscriptionSlot, { limits::TIPC_SUBSCRIPTIONS }, u8>,
    state: ConnectionState,
    /// The number of the turn's marker.
    serial: u32,
    is_gap_reported: bool,
    gaps: u32,
}

impl Default for Subscriber {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber {
    /// A subscriber without subscriptions, to be connected at once.
    #[must_use]
    pub const fn new() -> Self {
        let state = ConnectionState::Down { again_at: Instant::from_millis(0) };
        Self { slots: Vec::new(), state, serial: 0, is_gap_reported: true, gaps: 0 }
    }

    /// Adds a subscription.
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
        let state = SubscriptionState::Waiting;
        let slot = SubscriptionSlot { wanted, sent: wanted, ends_at, state, is_replayed: false, strikes: 0 };
        self.slots.push(slot).map_err(|_| SubscribeError::Full)?;
        self.invariants();
        Ok(())
    }

    /// Cancels a subscription: no event of it follows. False if there is none with this
    /// handle. The handle can be used again once the service has ended the subscription.
    pub fn cancel(&mut self, handle: Handle) -> bool {
        let Some(at) = self.find(handle) else { return false };
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if slot.state == SubscriptionState::Ending {
            return false;
        }
        if slot.is_known_to_service() {
            slot.state = SubscriptionState::Ending;
        } else {
            self.slots.remove(at);
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

    /// Whether the driver is to connect, and call [`on_connecting`](Self::on_connecting).
    #[must_use]
    pub fn wants_connection(&self, now: Instant) -> bool {
        matches!(self.state, ConnectionState::Down { again_at } if now >= again_at)
    }

    /// Whether the driver is to close its connection, complete or not.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, ConnectionState::Down { .. })
    }

    /// Whether the driver is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, ConnectionState::Up { .. })
    }

    /// The driver has begun to connect.
    pub fn on_connecting(&mut self, now: Instant) {
        if self.is_down() {
            self.state = ConnectionState::Connecting { deadline: now + PATIENCE };
        }
    }

    /// The connection is complete.
    pub fn on_connected(&mut self) {
        if let ConnectionState::Connecting { .. } = self.state {
            self.state = ConnectionState::Up { turn: None };
        }
    }

    /// The connection was lost or could not be made.
    pub fn on_closed(&mut self, now: Instant, how: Closed) {
        let ConnectionState::Up { turn } = self.state else {
            self.state = ConnectionState::Down { again_at: now + PAUSE };
            return;
        };
        if self.slots.iter().any(SubscriptionSlot::is_known_to_service) {
            self.is_gap_reported = false;
            self.gaps = self.gaps.saturating_add(1);
        }
        self.slots.retain(|slot| slot.state != SubscriptionState::Ending);
        let closed_upon = turn.filter(|turn| {
            how == Closed::ByService && turn.what == TurnRequest::Ask && turn.stage != TurnStage::Subscription
        });
        for slot in &mut self.slots {
            if !slot.is_known_to_service() {
                continue;
            }
            slot.state = SubscriptionState::Waiting;
            slot.is_replayed = true;
            if closed_upon.is_some_and(|turn| turn.subscription.handle == slot.wanted.handle) {
                slot.strikes = slot.strikes.saturating_add(1);
                if slot.strikes >= STRIKES {
                    slot.state = SubscriptionState::SetAside { is_reported: false };
                }
            }
        }
        self.state = ConnectionState::Down { again_at: now + PAUSE };
        self.invariants();
    }

    /// The next message to send; the same until [`on_sent`](Self::on_sent).
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

    /// The next subscription to cancel, else to send: the one with the fewest rejections.
    fn next_turn(&mut self, now: Instant) -> Option<Turn> {
        let deadline = now + PATIENCE;
        let (stage, is_answered) = (TurnStage::Subscription, false);
        if let Some(slot) = self.slots.iter().find(|slot| slot.state == SubscriptionState::Ending) {
            return Some(Turn {
                what: TurnRequest::Cancel,
                subscription: slot.sent,
                stage,
                deadline,
                is_answered,
            });
        }
        let waiting =
            |slot: &&mut SubscriptionSlot| slot.state == SubscriptionState::Waiting && !slot.is_overdue(now);
        let slot = self.slots.iter_mut().filter(waiting).min_by_key(|slot| slot.strikes)?;
        if let Some(end) = slot.ends_at.filter(|_| slot.is_replayed) {
            let left = u32::try_from(end.since(now).as_millis()).unwrap_or(u32::MAX);
            slot.sent.timeout = Timeout::Ms(left);
        }
        Some(Turn { what: TurnRequest::Ask, subscription: slot.sent, stage, deadline, is_answered })
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

    /// The message of [`to_send`](Self::to_send) was sent.
    pub fn on_sent(&mut self) {
        let ConnectionState::Up { turn: Some(turn) } = &mut self.state else { return };
        match turn.stage {
            TurnStage::Subscription => {
                turn.stage = TurnStage::Marker;
                let (what, handle) = (turn.what, turn.subscription.handle);
                self.serial = self.serial.wrapping_add(1);
                if let Some(at) = self.find(handle)
                    && let Some(slot) = self.slots.get_mut(at)
                    && what == TurnRequest::Ask
                {
                    slot.state = SubscriptionState::Asked;
                }
            }
            TurnStage::Marker => turn.stage = TurnStage::Nothing,
            TurnStage::Nothing => {}
        }
        self.invariants();
    }

    /// Handles an event of the service. `None` if no subscription is concerned.
    pub fn on_event(&mut self, event: &TopologyEvent) -> Option<SubscriberEvent> {
        let ConnectionState::Up { turn } = &mut self.state else { return None };
        if let Some(turn) = turn {
            turn.is_answered = true;
        }
        let turn = *turn;
        let result = match turn {
            Some(turn) if event.subscription == self.marker() && turn.stage == TurnStage::Nothing => {
                self.on_marker(event, turn)
            }
            _ => self.on_subscribed_event(event),
        };
        self.invariants();
        result
    }

    fn on_marker(&mut self, event: &TopologyEvent, turn: Turn) -> Option<SubscriberEvent> {
        if event.kind != EventKind::TimedOut {
            return None;
        }
        self.state = ConnectionState::Up { turn: None };
        // The subscription is gone if it timed out before its marker.
        let at = self.find(turn.subscription.handle)?;
        let slot = self.slots.get_mut(at)?;
        match (turn.what, slot.state) {
            (TurnRequest::Cancel, _) => {
                self.slots.remove(at);
                None
            }
            (TurnRequest::Ask, SubscriptionState::Asked) => {
                slot.state = SubscriptionState::Settled;
                slot.strikes = 0;
                Some(SubscriberEvent::Settled(turn.subscription.handle))
            }
            (TurnRequest::Ask, _) => None,
        }
    }

    fn on_subscribed_event(&mut self, event: &TopologyEvent) -> Option<SubscriberEvent> {
        let handle = event.subscription.handle;
        let at = self.find(handle)?;
        let slot = self.slots.get(at)?;
        let is_heard = matches!(slot.state, SubscriptionState::Asked | SubscriptionState::Settled);
        if !is_heard || slot.sent != event.subscription {
            return None;
        }
        Some(match event.kind {
            EventKind::Published => SubscriberEvent::Published(handle, *event),
            EventKind::Withdrawn => SubscriberEvent::Withdrawn(handle, *event),
            EventKind::TimedOut => {
                self.slots.remove(at);
                SubscriberEvent::TimedOut(handle)
            }
        })
    }

    /// The next event that is not one of the service's own.
    pub fn poll_event(&mut self, now: Instant) -> Option<SubscriberEvent> {
        if !self.is_gap_reported {
            self.is_gap_reported = true;
            return Some(SubscriberEvent::Gap);
        }
        let unreported = SubscriptionState::SetAside { is_reported: false };
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.state == unreported) {
            slot.state = SubscriptionState::SetAside { is_reported: true };
            return Some(SubscriberEvent::SetAside(slot.wanted.handle));
        }
        // The service does not have this subscription, so its timeout is reported here.
        let at = self.slots.iter().position(|slot| slot.is_overdue(now))?;
        let handle = self.slots.get(at)?.wanted.handle;
        self.cancel(handle);
        Some(SubscriberEvent::TimedOut(handle))
    }

    /// Handles deadlines: gives up a connection that makes no progress. A service that
    /// is still sending events makes progress. See [`is_down`](Self::is_down).
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

    /// The time of the next deadline.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let state = match self.state {
            ConnectionState::Down { again_at } => Some(again_at),
            ConnectionState::Connecting { deadline } => Some(deadline),
            ConnectionState::Up { turn } => turn.map(|turn| turn.deadline),
        };
        let waiting = self.slots.iter().filter(|slot| slot.state == SubscriptionState::Waiting);
        Instant::earliest([state, waiting.filter_map(|slot| slot.ends_at).min()])
    }

    /// Whether the service has reported all existing bindings, for all subscriptions that
    /// are not set aside.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let settled = |slot: &SubscriptionSlot| {
            matches!(slot.state, SubscriptionState::Settled | SubscriptionState::SetAside { .. })
        };
        self.is_up() && self.slots.iter().all(settled)
    }

    /// How often the connection was lost with active subscriptions.
    #[must_use]
    pub fn gaps(&self) -> u32 {
        self.gaps
    }

    /// Subscriptions that are set aside.
    #[must_use]
    pub fn set_aside(&self) -> usize {
        let is_aside = |slot: &&SubscriptionSlot| matches!(slot.state, SubscriptionState::SetAside { .. });
        self.slots.iter().filter(is_aside).count()
    }

    /// The number of subscriptions in any state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True of one without subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn find(&self, handle: Handle) -> Option<usize> {
        self.slots.iter().position(|slot| slot.wanted.handle == handle)
    }

    /// Checks the invariants in debug builds.
    pub fn invariants(&self) {
        let slots = || self.slots.iter().enumerate();
        for (at, slot) in slots() {
            let handle = slot.wanted.handle;
            debug_assert!(self.find(handle) == Some(at), "no two have one handle");
            debug_assert!(slot.sent == Subscription { timeout: slot.sent.timeout, ..slot.wanted });
            debug_assert!(slot.strikes < STRIKES || matches!(slot.state, SubscriptionState::SetAside { .. }));
            debug_assert!(
                self.is_up() || !slot.is_known_to_service(),
                "no service has it without a connection"
            );
        }
        let asked = slots().filter(|(_, slot)| slot.state == SubscriptionState::Asked);
        match self.state {
            ConnectionState::Up { turn: Some(Turn { what: TurnRequest::Ask, subscription, stage, .. }) } => {
                let mut asked = asked.map(|(_, slot)| slot.sent);
                debug_assert!(asked.next().is_none_or(|sent| sent == subscription), "asked in its turn");
                debug_assert!(asked.next().is_none(), "one at a time");
                let is_there = self.find(subscription.handle).is_some();
                debug_assert!(
                    stage != TurnStage::Subscription || is_there,
                    "only existing subscriptions are sent"
                );
            }
            _ => debug_assert!(asked.count() == 0, "asked in a turn of its own"),
        }
    }
}
