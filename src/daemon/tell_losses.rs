//! The log's lines for what is lost and what is back: hosts and controllers, the controllers of an
//! agent, TIPC's links.

use log::{info, warn};

use super::answers::wording::DisplayName;
use super::event_loop::Daemon;
use super::settings::unasked_after;
use crate::fsm::controller::Controller;
use crate::time::{Duration, Instant, Span};
use crate::wire::frame::Role;

/// The time between two looks.
const APART: Duration = Duration::from_secs(1);
/// Lines of one look; the rest is counted.
const LINES: usize = 16;

impl Daemon<'_> {
    /// When the log must be told of a loss, if nothing else happens until then.
    pub(super) fn loss_due(&self) -> Option<Instant> {
        let is_told = self.losses.unasked_since.is_some();
        let unasked = self.node.agent.as_ref().filter(|_| !is_told).map(|_| self.asked_until());
        let wanted = self.losses.is_wanted.then_some(self.losses.next);
        Instant::earliest([wanted, unasked]).map(|due| due.max(self.losses.next))
    }

    /// An agent's controllers count as lost from this time on, unless one is heard.
    fn asked_until(&self) -> Instant {
        self.last_asked() + unasked_after(&self.config.timers)
    }

    fn last_asked(&self) -> Instant {
        self.counters.asked_by.map_or(self.started, |contact| contact.at)
    }

    /// Logs what was lost and what is back since the last look, which is at most a second ago.
    #[inline(never)]
    pub(super) fn note_losses(&mut self, now: Instant) {
        #[cfg(feature = "tipc")]
        self.see_link();
        let unanswered = self.node.controller.as_ref().map_or(0, Controller::unanswered);
        self.losses.is_wanted |= unanswered != self.losses.unanswered;
        self.losses.unanswered = unanswered;
        if now < self.losses.next {
            return;
        }
        (self.losses.next, self.losses.is_wanted) = (now + APART, false);
        let mut count = 0;
        if let Some(controller) = &mut self.node.controller {
            controller.note_turns(now, |turn| {
                count += 1;
                if count > LINES {
                    return;
                }
                let role = if turn.role == Role::Agent { "host" } else { "controller" };
                let name = DisplayName(turn.node, turn.hostname);
                match turn.lost {
                    Some(cause) => warn!(
                        "{role} {name} is lost: {}; it was last heard {} ago",
                        cause.words(),
                        Span(turn.silence)
                    ),
                    None => info!("{role} {name} is back"),
                }
            });
        }
        if let Some(more) = count.checked_sub(LINES).filter(|more| *more > 0) {
            warn!("and {more} more hosts were lost or are back: thimble query-hosts lists them");
        }
        if self.node.agent.is_some() {
            self.note_controllers(now);
        }
        #[cfg(feature = "tipc")]
        self.note_links(now);
    }

    /// Logs that no controller is heard any more, or that one is heard again.
    fn note_controllers(&mut self, now: Instant) {
        let is_asked = now < self.asked_until();
        match (self.losses.unasked_since, is_asked) {
            (None, false) => {
                self.losses.unasked_since = Some(self.last_asked());
                warn!("no controller has been heard for {}", Span(now.since(self.last_asked())));
            }
            (Some(since), true) => {
                self.losses.unasked_since = None;
                let Some(contact) = self.counters.asked_by else { return };
                info!("controller {} is heard, after {}", contact.node, Span(contact.at.since(since)));
            }
            _ => {}
        }
    }

    /// Sees a link that may be gone again at the next look.
    #[cfg(feature = "tipc")]
    fn see_link(&mut self) {
        self.losses.was_linked |= self.losses.unlinked_since.is_none() && self.transport.view.links().0 > 0;
    }

    /// Logs that the last TIPC link is lost, or that one is up again.
    #[cfg(feature = "tipc")]
    fn note_links(&mut self, now: Instant) {
        let view = &self.transport.view;
        if !view.is_watching() {
            return;
        }
        let is_linked = view.links().0 > 0;
        let losses = &mut self.losses;
        if std::mem::replace(&mut losses.was_linked, is_linked) == is_linked {
            return;
        }
        match (is_linked, losses.unlinked_since.take()) {
            (false, _) => {
                losses.unlinked_since = Some(now);
                warn!("no TIPC link is up any more: no other node is reached");
            }
            (true, Some(since)) => info!("a TIPC link is up again, after {}", Span(now.since(since))),
            (true, None) => {}
        }
    }
}
