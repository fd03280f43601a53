//! Which transmission an agent takes part in.
//!
//! One at a time, in a worker. Of two the one with the lower number counts, as for their senders; the sender
//! of the other is told. Offers are forgeable: what follows from one is a bounded cache, and answers that only
//! a controller can read.

use super::Agent;
use crate::fsm::actions::{Action, Actions, Peer, To};
use crate::fsm::random::Random;
use crate::fsm::spread::{OVER, Offer, Report};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::Message;

/// The widest window in which an answer is given.
const WINDOW_MOST: Duration = Duration::from_secs(60);
/// A sender that is silent for so long and its window has ended, if another offers something.
const SILENT: Duration = Duration::from_secs(3);

/// A transmission that is received.
#[derive(Clone, Debug)]
struct Following {
    transmission: u64,
    from: NodeId,
    peer: Peer,
    /// When anything of it was heard last, and how long nothing need be.
    heard: Instant,
    window: Duration,
    /// What is received next: the worker ends for it.
    next: Option<(NodeId, Peer, Offer)>,
}

impl Following {
    /// Whether its sender is gone.
    fn is_silent(&self, now: Instant) -> bool {
        now >= self.heard + self.window + SILENT
    }
}

/// An answer of one that takes no part.
#[derive(Debug)]
struct Answer {
    due: Instant,
    to: (NodeId, Peer),
    report: Report,
}

/// What an agent does about transmissions.
#[derive(Debug, Default)]
pub(super) struct Spreads {
    /// The configuration gives room for what is received, and the network carries multicast.
    pub takes_part: bool,
    following: Option<Following>,
    /// The last transmission that its worker could not take.
    refused: Option<u64>,
    answer: Option<Answer>,
    /// Offers of what is received, by another node than its sender.
    offers_of_other: u64,
}

impl Spreads {
    fn begin(&mut self, now: Instant, (from, peer): (NodeId, Peer), offer: &Offer, actions: &mut Actions) {
        let (transmission, window) = (offer.transmission, window_of(offer));
        self.following = Some(Following { transmission, from, peer, heard: now, window, next: None });
        actions.push(Action::StartReceiving(offer.clone()));
    }
}

impl Agent<'_> {
    /// Whether it keeps files that are sent to all hosts.
    pub fn set_takes_part(&mut self, takes_part: bool) {
        self.spreads.takes_part = takes_part;
    }

    /// The transmission that is received.
    #[must_use]
    pub fn receives(&self) -> Option<u64> {
        self.spreads.following.as_ref().map(|following| following.transmission)
    }

    /// Offers with the number of what is received that came from another node than its sender, and were ignored.
    #[must_use]
    pub fn offers_of_other(&self) -> u64 {
        self.spreads.offers_of_other
    }

    pub(super) fn on_offer(
        &mut self,
        now: Instant,
        (from, peer): (NodeId, Peer),
        offer: &Offer,
        random: &mut Random,
        actions: &mut Actions,
    ) {
        let is_here = self.installed.patches().iter().any(|patch| patch.hash == offer.file);
        let spreads = &mut self.spreads;
        if let Some(following) = &mut spreads.following
            && following.transmission == offer.transmission
        {
            if following.from != from {
                spreads.offers_of_other = spreads.offers_of_other.saturating_add(1);
                return;
            }
            (following.peer, following.heard) = (peer, now);
            following.window = window_of(offer);
            return actions.push(Action::PassOffer(offer.clone()));
        }
        // What its own controller has, it need not hear.
        if !spreads.takes_part || offer.section == OVER || !self.may_send() || from == self.facts.node {
            return;
        }
        let spreads = &mut self.spreads;
        if is_here || !offer.concerns(&self.facts.nodetype) {
            return;
        }
        let other = match &mut spreads.following {
            Some(following) if offer.transmission < following.transmission || following.is_silent(now) => {
                if following.next.replace((from, peer, offer.clone())).is_none() {
                    actions.push(Action::StopReceiving);
                }
                return;
            }
            Some(following) => following.transmission,
            None if spreads.refused == Some(offer.transmission) => 0,
            None => {
                return spreads.begin(now, (from, peer), offer, actions);
            }
        };
        if offer.window_ms > 0 && spreads.answer.is_none() {
            let window = window_of(offer);
            let Offer { transmission, section, round, .. } = *offer;
            let missing = heapless::Vec::new();
            let report = Report { transmission, section, round, is_out: true, other, missing };
            spreads.answer = Some(Answer { due: now + random.below(window), to: (from, peer), report });
        }
    }

    /// The worker that receives says what it lacks.
    pub(super) fn on_lacks(&mut self, report: &Report, actions: &mut Actions) {
        let following = self.spreads.following.as_ref();
        if let Some(one) = following.filter(|one| one.transmission == report.transmission) {
            actions.send(To::Node(one.from, one.peer), Message::SpreadReport(report.clone()));
        }
    }

    /// The worker that receives heard its sender last so long ago.
    pub(super) fn on_receiving(&mut self, now: Instant, silence: Duration) {
        if let Some(following) = &mut self.spreads.following {
            let heard = Instant::from_millis(now.as_millis().saturating_sub(silence.as_millis()));
            following.heard = following.heard.max(heard);
        }
    }

    /// The worker that receives has ended; `is_refused` if it could not take the file.
    pub(super) fn on_receiving_ended(&mut self, now: Instant, is_refused: bool, actions: &mut Actions) {
        match self.spreads.following.take() {
            Some(Following { next: Some((from, peer, offer)), .. }) => {
                self.spreads.begin(now, (from, peer), &offer, actions);
            }
            Some(Following { transmission, .. }) if is_refused => self.spreads.refused = Some(transmission),
            _ => {}
        }
    }

    pub(super) fn answer_offer(&mut self, now: Instant, actions: &mut Actions) {
        if let Some(Answer { to: (node, peer), report, .. }) =
            self.spreads.answer.take_if(|answer| now >= answer.due)
        {
            actions.send(To::Node(node, peer), Message::SpreadReport(report));
        }
    }

    pub(super) fn answers_offer_at(&self) -> Option<Instant> {
        self.spreads.answer.as_ref().map(|answer| answer.due)
    }
}

/// The window of an offer, if it is a sensible one.
fn window_of(offer: &Offer) -> Duration {
    Duration::from_millis(u64::from(offer.window_ms)).min(WINDOW_MOST)
}
