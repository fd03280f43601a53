//! An install request to one host, from the controller's side.
//!
//! ```text
//!            ask                 ack: running           answer
//! None/Ended ----> Waiting -------------------> Running -------> Ended
//!                   |  ^ retry, or a new nonce    |                ^
//!                   |  `--resend                  |                |
//!                   |                             |                |
//!                   +--- give up ---> NoAnswer <--+ silent too long|
//!                   |                     | ack: failed            |
//!                   `- ack: failed -> Failed --- answer, give up --'
//! ```
//!
//! The request is sent until it is answered: by an `AgentInstallResp`, or by an
//! ack that says "installed", which has no reason to wait for. After an ack that
//! tells of a failure the request goes out without a nonce: the agent answers it
//! from its journal, with the reason, and can never take it up. What the journal
//! says is believed even after the request was given up or refused.
//!
//! A request of another controller, or of our own before a restart, is *adopted*
//! once an ack tells of it: it is followed, and its reason asked for, but it is
//! never asked for. So a controller that dies leaves nothing that another does not
//! know.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::actions::{Actions, Peer, To};
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId, Nonce, RequestId};
use crate::wire::install::Outcome;
use crate::wire::messages::{AgentInstallReq, AgentInstallResp, HelloAgentAck, Message, RequestState};

/// A host that is known to be gone is given up after so many retries.
const GONE_RETRIES: u64 = 5;

/// When to ask again and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimers {
    /// From one sending to the next.
    pub retry: Duration,
    /// From the asking, or from the last ack of a host at work, to the giving up.
    pub give_up: Duration,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its number.
    pub request_id: RequestId,
    /// The effective set to end with.
    pub digest: Digest,
    /// Install although the lock file says no.
    pub force: bool,
}

/// What the agent is known to have done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPhase {
    /// Nothing yet.
    Waiting,
    /// Taken it up.
    Running,
    /// The same, and another controller asked for it.
    Adopted,
    /// Ended it like this; it has not said why.
    Failed(Outcome),
}

/// A request that is not ended.
#[derive(Clone, Copy, Debug)]
struct OpenRequest {
    ask: Ask,
    phase: RequestPhase,
    /// The nonce that it was last sent with.
    nonce: Nonce,
    next_send: Instant,
    gives_up: Instant,
}

impl OpenRequest {
    fn new(
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        ask: Ask,
        phase: RequestPhase,
    ) -> Self {
        Self { ask, phase, nonce: target.nonce, next_send: now, gives_up: now + timers.give_up }
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    None,
    Open(OpenRequest),
    Ended(Ask, Outcome),
    NoAnswer(Ask),
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

/// Where to read why a request did not end well, or what else is to be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReasonSource {
    /// It did, or has not ended.
    #[default]
    Nothing,
    /// The host's answer tells; see [`super::reasons`].
    FromHost(RequestId),
    /// No answer came, and this is what that means.
    Fixed(&'static str),
}

/// The host that a request is to, as its last ack had it.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget {
    /// The host.
    pub node: NodeId,
    /// Where it is.
    pub peer: Peer,
    /// Its current nonce.
    pub nonce: Nonce,
}

impl HostRequest {
    /// How it stands.
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

    /// Where to read why it did not end well.
    #[must_use]
    pub fn reason_source(&self) -> ReasonSource {
        self.reason_source
    }

    /// Its number; `None` where there was none.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        self.last_ask().map(|ask| ask.request_id)
    }

    /// The set that it asked for; `None` where there was none, or another controller
    /// asked.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.last_ask().map(|ask| ask.digest).filter(|digest| *digest != Digest::default())
    }

    /// Whether it is under way: another must wait.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Asks. A request under way stays, and `false` comes back.
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

    /// The host's ack: how far it is, and with what nonce to ask again. `before` is
    /// what the ack before it told.
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
            // What its answer told of it stays told.
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
            (RequestState::Running, State::Open(open)) if is_ours => {
                open.gives_up = now + timers.give_up;
                match open.phase {
                    RequestPhase::Adopted => open.next_send = open.gives_up,
                    _ => open.phase = RequestPhase::Running,
                }
            }
            // Not taken up, and what it was sent with is used up: once more.
            (_, State::Open(OpenRequest { phase: RequestPhase::Adopted, .. })) => {}
            (_, State::Open(open)) if !is_ours && open.nonce != target.nonce => {
                send(open, now, timers, target, actions);
            }
            _ => {}
        }
    }

    /// Takes over a request that is not ours and that the host has news of, unless
    /// ours is under way.
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
        // Nothing is sent for it: its acks tell.
        self.state = State::Open(OpenRequest { next_send: adopted.gives_up, ..adopted });
        self.reason_source = ReasonSource::Nothing;
    }

    /// What was asked for last.
    fn last_ask(&self) -> Option<Ask> {
        match &self.state {
            State::None => None,
            State::Open(OpenRequest { ask, .. }) | State::Ended(ask, _) | State::NoAnswer(ask) => Some(*ask),
        }
    }

    /// The host's answer; true where its reason is to be kept. One to another
    /// request, or to one that has its answer, is of no interest; an ack that was
    /// faster has not told what there is to tell of an install that went well.
    pub fn on_response(&mut self, response: &AgentInstallResp) -> bool {
        let ask = match (self.state, self.reason_source) {
            (State::Open(OpenRequest { ask, .. }) | State::NoAnswer(ask), _)
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
        let tells = !response.reject_reason.is_empty();
        self.reason_source =
            if tells { ReasonSource::FromHost(ask.request_id) } else { ReasonSource::Nothing };
        tells
    }

    /// The host is gone, as the transport tells: it is given up soon, unless it comes
    /// back and says that it is at work. A thimble that is restarted, or replaced by
    /// what it installs, is back before that.
    pub fn on_gone(&mut self, now: Instant, timers: &RequestTimers) {
        if let State::Open(open) = &mut self.state {
            open.gives_up = open.gives_up.min(now + timers.retry.times(GONE_RETRIES));
        }
    }

    /// The host is back: the time to give up is what it was.
    pub fn on_back(&mut self, now: Instant, timers: &RequestTimers) {
        if let State::Open(open) = &mut self.state {
            open.gives_up = now + timers.give_up;
        }
    }

    /// Sends again what is due, or gives up. Early: does nothing.
    pub fn on_timeout(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: RequestTarget,
        actions: &mut Actions,
    ) {
        let State::Open(open) = &mut self.state else { return };
        if now >= open.gives_up {
            let (state, untold) = match open.phase {
                RequestPhase::Waiting => (
                    State::NoAnswer(open.ask),
                    "the host did not answer the install request: is it up and reachable?",
                ),
                RequestPhase::Running | RequestPhase::Adopted => (
                    State::NoAnswer(open.ask),
                    "the host took the install up and fell silent: its outcome shows once it is heard again",
                ),
                RequestPhase::Failed(outcome) => (
                    State::Ended(open.ask, outcome),
                    "the host fell silent before it said why: its own status and log do",
                ),
            };
            (self.state, self.reason_source) = (state, ReasonSource::Fixed(untold));
        } else if now >= open.next_send && actions.room() > 0 {
            send(open, now, timers, target, actions);
        }
    }

    /// When something is due.
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
    // An ended request is asked about, never asked for: no agent's nonce is zero.
    open.nonce = if let RequestPhase::Failed(_) = open.phase { Nonce(0) } else { target.nonce };
    open.next_send = now + timers.retry;
    let request = AgentInstallReq { request_id, nonce: open.nonce, digest, force };
    actions.send(To::Node(target.node, target.peer), Message::AgentInstallReq(request));
}
