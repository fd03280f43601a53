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

/// A transmission that is received.
#[derive(Clone, Copy, Debug)]
struct Following {
    transmission: u64,
    from: NodeId,
    peer: Peer,
    /// Another is wanted: the worker ends.
    is_stopping: bool,
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
}

impl Agent<'_> {
    /// Whether it keeps files that are sent to all hosts.
    pub fn set_takes_part(&mut self, takes_part: bool) {
        self.spreads.takes_part = takes_part;
    }

    /// The transmission that is received.
    #[must_use]
    pub fn receives(&self) -> Option<u64> {
        self.spreads.following.map(|following| following.transmission)
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
            (following.from, following.peer) = (from, peer);
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
            Some(following) if offer.transmission < following.transmission => {
                if !following.is_stopping {
                    following.is_stopping = true;
                    actions.push(Action::StopReceiving);
                }
                return;
            }
            Some(following) => following.transmission,
            None if spreads.refused == Some(offer.transmission) => 0,
            None => {
                spreads.following =
                    Some(Following { transmission: offer.transmission, from, peer, is_stopping: false });
                return actions.push(Action::StartReceiving(offer.clone()));
            }
        };
        if offer.window_ms > 0 && spreads.answer.is_none() {
            let window = Duration::from_millis(u64::from(offer.window_ms)).min(WINDOW_MOST);
            let Offer { transmission, section, round, .. } = *offer;
            let missing = heapless::Vec::new();
            let report = Report { transmission, section, round, is_out: true, other, missing };
            spreads.answer = Some(Answer { due: now + random.below(window), to: (from, peer), report });
        }
    }

    /// The worker that receives says what it lacks.
    pub(super) fn on_lacks(&mut self, report: &Report, actions: &mut Actions) {
        let following = self.spreads.following.filter(|one| one.transmission == report.transmission);
        if let Some(Following { from, peer, .. }) = following {
            actions.send(To::Node(from, peer), Message::SpreadReport(report.clone()));
        }
    }

    /// The worker that receives has ended; `is_refused` if it could not take the file.
    pub(super) fn on_receiving_ended(&mut self, is_refused: bool) {
        let ended = self.spreads.following.take();
        if let Some(Following { transmission, is_stopping: false, .. }) = ended
            && is_refused
        {
            self.spreads.refused = Some(transmission);
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
