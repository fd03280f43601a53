//! An install request to one host, from the controller's side.
//!
//! ```text
//!            ask                 ack: running           answer
//! None/Ended ----> Waiting -------------------> Running -------> Ended
//!                   |  ^ retry, or a new nonce    |                ^
//!                   |  `--resend                  |                |
//!                   |                             |                |
//!                   +--- give up ---> NoAnswer <--+ lost, silent   |
//!                   |                     |  |      | too long, or   |
//!                   |                     |  |      | stands still   |
//!                   |                     |  `- ack: runs -> Running
//!                   |                     | ack: failed            |
//!                   `- ack: failed -> Failed --- answer, give up --'
//! ```
//!
//! The request is sent again until it is answered: by an `AgentInstallResp`, or by an
//! ack that reports "installed", which needs no reason. After an ack that reports a
//! failure, the request is sent with nonce 0: the agent answers it from its journal,
//! with the reason, and can never accept it. A result from the journal counts even
//! after the request was given up or refused.
//!
//! A request of another controller, or of this controller before a restart, is
//! *adopted* when an ack reports it: its progress is followed and its reason is asked
//! for, but the request itself is never sent. So the other controllers know every
//! install that a dead controller started.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::actions::{Actions, Peer, To};
use super::movement::Movement;
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId, Nonce, RequestId};
use crate::wire::install::Outcome;
use crate::wire::messages::{AgentInstallReq, AgentInstallResp, HelloAgentAck, Message, RequestState};

/// The request to a host that is known to be gone is given up after this many retries.
const GONE_RETRIES: u64 = 5;

/// When to ask again and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimers {
    /// From one send to the next.
    pub retry: Duration,
    /// From the first send, or from the last ack of a host that installs, until the
    /// request is given up.
    pub give_up: Duration,
    /// An install that has not moved for so long is given up, whatever the host says; see
    /// [`Movement`].
    pub stall: Duration,
}

/// The content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its number.
    pub request_id: RequestId,
    /// The effective set to install.
    pub digest: Digest,
    /// Install even if the lock file forbids it.
    pub force: bool,
}

/// What the agent is known to have done with an open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPhase {
    /// Nothing yet.
    Waiting,
    /// It has accepted the request.
    Running,
    /// It has accepted a request that another controller sent.
    Adopted,
    /// It has ended it with this outcome, and has not sent the reason yet.
    Failed(Outcome),
}

/// A request that has not ended.
#[derive(Clone, Copy, Debug)]
struct OpenRequest {
    ask: Ask,
    phase: RequestPhase,
    /// The nonce that it was last sent with.
    nonce: Nonce,
    next_send: Instant,
    gives_up: Instant,
    movement: Movement,
}

impl OpenRequest {
    fn new(
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        ask: Ask,
        phase: RequestPhase,
    ) -> Self {
        let (gives_up, movement) = (now + timers.give_up, Movement::new(now));
        Self { ask, phase, nonce: target.nonce, next_send: now, gives_up, movement }
    }

    /// The host was heard: it has the full time again, unless its install stands still.
    fn extend(&mut self, now: Instant, timers: &RequestTimers) {
        let silent = now + timers.give_up;
        self.gives_up = match self.phase {
            RequestPhase::Running | RequestPhase::Adopted => {
                silent.min(self.movement.stalls_at(timers.stall))
            }
            RequestPhase::Waiting | RequestPhase::Failed(_) => silent,
        };
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    None,
    Open(OpenRequest),
    Ended(Ask, Outcome),
    NoAnswer(OpenRequest),
}

/// What became of the last install request to a host. The control protocol carries
/// it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestStatus {
    /// There was no request.
    None,
    /// The request was sent; the agent has not confirmed that it works on it.
    Waiting,
    /// The agent works on it, or has failed and is asked for the reason.
    Running,
    /// The install ended with this outcome.
    Ended(Outcome),
    /// The host was silent for too long: the outcome is not known.
    NoAnswer,
}

/// The last install request to one host.
#[derive(Clone, Debug, Default)]
pub struct HostRequest {
    state: State,
    reason_source: ReasonSource,
}

/// Where the reason of a request's outcome is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReasonSource {
    /// There is none: the request succeeded or has not ended.
    #[default]
    Nothing,
    /// The host sent it; [`super::reasons`] keeps it.
    FromHost(RequestId),
    /// No answer came; this text says what that means.
    Fixed(&'static str),
}

/// The host that a request is sent to, as of its last ack.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget {
    /// The host.
    pub node: NodeId,
    /// Its address.
    pub peer: Peer,
    /// Its current nonce.
    pub nonce: Nonce,
}

impl HostRequest {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> RequestStatus {
        match &self.state {
            State::None => RequestStatus::None,
            State::Open(OpenRequest { phase: RequestPhase::Waiting, .. }) => RequestStatus::Waiting,
            State::Open(OpenRequest {
                phase: RequestPhase::Running | RequestPhase::Adopted | RequestPhase::Failed(_),
                ..
            }) => RequestStatus::Running,
            State::Ended(_, outcome) => RequestStatus::Ended(*outcome),
            State::NoAnswer(_) => RequestStatus::NoAnswer,
        }
    }

    /// Where its reason is found.
    #[must_use]
    pub fn reason_source(&self) -> ReasonSource {
        self.reason_source
    }

    /// Its number; `None` if there was no request.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        self.last_ask().map(|ask| ask.request_id)
    }

    /// The set that it asked for; `None` if there was no request, or it was adopted.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.last_ask().map(|ask| ask.digest).filter(|digest| *digest != Digest::default())
    }

    /// Whether it is open: another request must wait.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// While it is open: when it is sent again, unless it is another controller's, and when it
    /// is given up.
    #[must_use]
    pub fn open_until(&self) -> Option<(Option<Instant>, Instant)> {
        let State::Open(open) = &self.state else { return None };
        let is_sent = open.phase != RequestPhase::Adopted;
        Some((is_sent.then_some(open.next_send), open.gives_up))
    }

    /// Whether it is open, and was sent from here.
    #[must_use]
    pub fn is_open_here(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.phase != RequestPhase::Adopted)
    }

    /// Sends a request; false, and nothing changes, if one is open.
    pub fn ask(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        ask: Ask,
        actions: &mut Actions,
    ) -> bool {
        if self.is_open() {
            return false;
        }
        let mut open = OpenRequest::new(now, timers, target, ask, RequestPhase::Waiting);
        send(&mut open, now, timers, target, actions);
        self.reason_source = ReasonSource::Nothing;
        self.state = State::Open(open);
        true
    }

    /// Handles the host's ack. `before` is the request and state of the previous ack.
    pub fn on_ack(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        before: (RequestId, RequestState),
        ack: &HelloAgentAck,
        actions: &mut Actions,
    ) {
        self.adopt(now, timers, target, before, ack);
        let Some(ask) = self.last_ask() else { return };
        let is_ours = ack.request_id == ask.request_id;
        match (ack.request, &mut self.state) {
            // The reason that its answer carried stays.
            (RequestState::Ended(Outcome::Installed), State::Ended(_, Outcome::Installed)) if is_ours => {}
            (RequestState::Ended(Outcome::Installed), _) if is_ours => {
                self.state = State::Ended(ask, Outcome::Installed);
                self.reason_source = ReasonSource::Nothing;
            }
            (RequestState::Ended(outcome), state) if is_ours => {
                let is_news = match state {
                    State::Open(open) => open.phase != RequestPhase::Failed(outcome),
                    State::Ended(_, known) => *known != outcome,
                    State::NoAnswer(_) | State::None => true,
                };
                if is_news {
                    let mut open = OpenRequest::new(now, timers, target, ask, RequestPhase::Failed(outcome));
                    send(&mut open, now, timers, target, actions);
                    self.state = State::Open(open);
                }
            }
            (_, State::Open(OpenRequest { phase: RequestPhase::Failed(_), .. })) => {}
            // It was given up because the host was silent, and it is not any more.
            (RequestState::Running, State::NoAnswer(open)) if is_ours => {
                let stalls_at = open.movement.stalls_at(timers.stall);
                if open.gives_up < stalls_at && now < stalls_at {
                    if open.phase == RequestPhase::Waiting {
                        (open.phase, open.movement) = (RequestPhase::Running, Movement::new(now));
                    }
                    open.movement.note(now, ack);
                    open.extend(now, timers);
                    open.next_send = open.gives_up;
                    self.state = State::Open(*open);
                    self.reason_source = ReasonSource::Nothing;
                }
            }
            (RequestState::Running, State::Open(open)) if is_ours => {
                if open.phase == RequestPhase::Waiting {
                    (open.phase, open.movement) = (RequestPhase::Running, Movement::new(now));
                }
                open.movement.note(now, ack);
                open.extend(now, timers);
                if open.phase == RequestPhase::Adopted {
                    open.next_send = open.gives_up;
                }
            }
            // Adopted requests are never sent.
            (_, State::Open(OpenRequest { phase: RequestPhase::Adopted, .. })) => {}
            // The host did not accept it, and the nonce that it was sent with is used up.
            (_, State::Open(open)) if !is_ours && open.nonce != target.nonce => {
                send(open, now, timers, target, actions);
            }
            _ => {}
        }
    }

    /// Adopts the request that the ack reports, if it is not ours and its state is
    /// new, unless a request of ours is open.
    fn adopt(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        before: (RequestId, RequestState),
        ack: &HelloAgentAck,
    ) {
        let is_news = (ack.request_id, ack.request) != before;
        let is_ours = self.last_ask().is_some_and(|ask| ask.request_id == ack.request_id);
        let is_followed = matches!(self.state, State::Open(OpenRequest { phase: RequestPhase::Adopted, .. }));
        if (self.is_open() && !is_followed) || is_ours || !is_news || ack.request == RequestState::None {
            return;
        }
        let ask = Ask { request_id: ack.request_id, digest: Digest::default(), force: false };
        let adopted = OpenRequest::new(now, timers, target, ask, RequestPhase::Adopted);
        // It is not sent; the host's acks report its progress.
        self.state = State::Open(OpenRequest { next_send: adopted.gives_up, ..adopted });
        self.reason_source = ReasonSource::Nothing;
    }

    /// The last request.
    fn last_ask(&self) -> Option<Ask> {
        match &self.state {
            State::None => None,
            State::Open(OpenRequest { ask, .. })
            | State::NoAnswer(OpenRequest { ask, .. })
            | State::Ended(ask, _) => Some(*ask),
        }
    }

    /// Handles the host's answer; true if its reason is to be kept. An answer to
    /// another request, or a second answer, is ignored. After an ack that reported
    /// "installed", the answer still counts: it may carry a message for the operator.
    pub fn on_response(&mut self, response: &AgentInstallResp) -> bool {
        let ask = match (self.state, self.reason_source) {
            (State::Open(OpenRequest { ask, .. }) | State::NoAnswer(OpenRequest { ask, .. }), _)
            | (State::Ended(ask, Outcome::Installed), ReasonSource::Nothing) => ask,
            _ => return false,
        };
        if response.request_id != ask.request_id {
            return false;
        }
        let outcome = match response.outcome {
            Some(outcome) => outcome,
            None if response.status => Outcome::Installed,
            None => Outcome::Rejected,
        };
        self.state = State::Ended(ask, outcome);
        let has_reason = !response.reject_reason.is_empty();
        self.reason_source =
            if has_reason { ReasonSource::FromHost(ask.request_id) } else { ReasonSource::Nothing };
        has_reason
    }

    /// The topology service reports that the host is gone: the request is given up soon,
    /// unless the host returns and reports that it installs. A thimble that restarts, or
    /// is replaced by an install, is back before that.
    pub fn on_gone(&mut self, now: Instant, timers: &RequestTimers) {
        if let State::Open(open) = &mut self.state {
            open.gives_up = open.gives_up.min(now + timers.retry.times(GONE_RETRIES));
        }
    }

    /// The host answers no ask any more: the request is given up. If the host returns and reports
    /// that it installs, the request is open again.
    pub fn on_silent(&mut self, now: Instant) {
        if let State::Open(open) = &mut self.state {
            open.gives_up = open.gives_up.min(now);
        }
    }

    /// The host is back: the full time to give up starts again.
    pub fn on_back(&mut self, now: Instant, timers: &RequestTimers) {
        if let State::Open(open) = &mut self.state {
            open.extend(now, timers);
        }
    }

    /// The host came to fetch, and this controller had no worker free: it waits for us.
    pub fn on_turned_away(&mut self, now: Instant, timers: &RequestTimers) {
        if let State::Open(open) = &mut self.state {
            open.movement.excuse(now);
            open.extend(now, timers);
        }
    }

    /// Sends again or gives up, if that is due.
    pub fn on_timeout(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        actions: &mut Actions,
    ) {
        let State::Open(open) = &mut self.state else { return };
        if now >= open.gives_up {
            let is_stalled = now >= open.movement.stalls_at(timers.stall);
            let (state, reason) = match open.phase {
                RequestPhase::Running | RequestPhase::Adopted if is_stalled => (
                    State::NoAnswer(*open),
                    "the host says that it installs, and does not get on: its outcome shows once it has ended",
                ),
                RequestPhase::Waiting => (
                    State::NoAnswer(*open),
                    "the host did not answer the install request: is it up and reachable?",
                ),
                RequestPhase::Running | RequestPhase::Adopted => (
                    State::NoAnswer(*open),
                    "the host began the install and fell silent: its outcome shows once it is heard again",
                ),
                RequestPhase::Failed(outcome) => (
                    State::Ended(open.ask, outcome),
                    "the host fell silent before it sent the reason: see its own status and log",
                ),
            };
            (self.state, self.reason_source) = (state, ReasonSource::Fixed(reason));
        } else if now >= open.next_send && actions.room() > 0 {
            send(open, now, timers, target, actions);
        }
    }

    /// When the next call of [`on_timeout`](Self::on_timeout) is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        match &self.state {
            State::Open(open) => Some(open.next_send.min(open.gives_up)),
            _ => None,
        }
    }
}

fn send(
    open: &mut OpenRequest,
    now: Instant,
    timers: &RequestTimers,
    target: RequestTarget,
    actions: &mut Actions,
) {
    let Ask { request_id, digest, force } = open.ask;
    // Nonce 0 only asks for the reason: no agent has that nonce.
    open.nonce = if let RequestPhase::Failed(_) = open.phase { Nonce(0) } else { target.nonce };
    open.next_send = now + timers.retry;
    let request = AgentInstallReq { request_id, nonce: open.nonce, digest, force };
    actions.send(To::Node(target.node, target.peer), Message::AgentInstallReq(request));
}
