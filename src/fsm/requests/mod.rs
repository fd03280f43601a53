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
enum Phase {
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
struct Open {
    ask: Ask,
    phase: Phase,
    /// The nonce that it was last sent with.
    nonce: Nonce,
    next_send: Instant,
    gives_up: Instant,
}

impl Open {
    fn new(now: Instant, timers: &RequestTimers, target: Target, ask: Ask, phase: Phase) -> Self {
        Self { ask, phase, nonce: target.nonce, next_send: now, gives_up: now + timers.give_up }
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    None,
    Open(Open),
    Ended(Ask, Outcome),
    NoAnswer(Ask),
}

/// How a request stands, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None was made.
    None,
    /// Sent, and not known to be taken up.
    Waiting,
    /// The agent is at it, or is asked why it failed.
    Running,
    /// Ended, like this.
    Ended(Outcome),
    /// Given up without an answer.
    NoAnswer,
}

/// The last install request to one host.
#[derive(Clone, Debug, Default)]
pub struct Request {
    state: State,
    why: Why,
}

/// Where to read why a request did not end well, or what else is to be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Why {
    /// It did, or has not ended.
    #[default]
    Nothing,
    /// The host's answer tells; see [`super::reasons`].
    Told(RequestId),
    /// No answer came, and this is what that means.
    Untold(&'static str),
}

/// The host that a request is to, as its last ack had it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The host.
    pub node: NodeId,
    /// Where it is.
    pub peer: Peer,
    /// Its current nonce.
    pub nonce: Nonce,
}

impl Request {
    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.state {
            State::None => Standing::None,
            State::Open(Open { phase: Phase::Waiting, .. }) => Standing::Waiting,
            State::Open(Open { phase: Phase::Running | Phase::Adopted | Phase::Failed(_), .. }) => {
                Standing::Running
            }
            State::Ended(_, outcome) => Standing::Ended(*outcome),
            State::NoAnswer(_) => Standing::NoAnswer,
        }
    }

    /// Where to read why it did not end well.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
    }

    /// Its number; `None` where there was none.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        self.asked().map(|ask| ask.request_id)
    }

    /// The set that it asked for; `None` where there was none, or another controller
    /// asked.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.asked().map(|ask| ask.digest).filter(|digest| *digest != Digest::default())
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
        target: Target,
        ask: Ask,
        actions: &mut Actions,
    ) -> bool {
        if self.is_open() {
            return false;
        }
        let mut open = Open::new(now, timers, target, ask, Phase::Waiting);
        send(&mut open, now, timers, target, actions);
        self.why = Why::Nothing;
        self.state = State::Open(open);
        true
    }

    /// The host's ack: how far it is, and with what nonce to ask again. `before` is
    /// what the ack before it told.
    pub fn on_ack(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: Target,
        before: (RequestId, RequestState),
        ack: &HelloAgentAck,
        actions: &mut Actions,
    ) {
        self.adopt(now, timers, target, before, ack);
        let Some(ask) = self.asked() else { return };
        let is_ours = ack.request_id == ask.request_id;
        match (ack.request, &mut self.state) {
            // What its answer told of it stays told.
            (RequestState::Ended(Outcome::Installed), State::Ended(_, Outcome::Installed)) if is_ours => {}
            (RequestState::Ended(Outcome::Installed), _) if is_ours => {
                self.state = State::Ended(ask, Outcome::Installed);
                self.why = Why::Nothing;
            }
            (RequestState::Ended(outcome), state) if is_ours => {
                let is_news = match state {
                    State::Open(open) => open.phase != Phase::Failed(outcome),
                    State::Ended(_, known) => *known != outcome,
                    State::NoAnswer(_) | State::None => true,
                };
                if is_news {
                    let mut open = Open::new(now, timers, target, ask, Phase::Failed(outcome));
                    send(&mut open, now, timers, target, actions);
                    self.state = State::Open(open);
                }
            }
            (_, State::Open(Open { phase: Phase::Failed(_), .. })) => {}
            (RequestState::Running, State::Open(open)) if is_ours => {
                open.gives_up = now + timers.give_up;
                match open.phase {
                    Phase::Adopted => open.next_send = open.gives_up,
                    _ => open.phase = Phase::Running,
                }
            }
            // Not taken up, and what it was sent with is used up: once more.
            (_, State::Open(Open { phase: Phase::Adopted, .. })) => {}
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
        target: Target,
        before: (RequestId, RequestState),
        ack: &HelloAgentAck,
    ) {
        let is_news = (ack.request_id, ack.request) != before;
        let is_ours = self.asked().is_some_and(|ask| ask.request_id == ack.request_id);
        let is_followed = matches!(self.state, State::Open(Open { phase: Phase::Adopted, .. }));
        if (self.is_open() && !is_followed) || is_ours || !is_news || ack.request == RequestState::None {
            return;
        }
        let ask = Ask { request_id: ack.request_id, digest: Digest::default(), force: false };
        let adopted = Open::new(now, timers, target, ask, Phase::Adopted);
        // Nothing is sent for it: its acks tell.
        self.state = State::Open(Open { next_send: adopted.gives_up, ..adopted });
        self.why = Why::Nothing;
    }

    /// What was asked for last.
    fn asked(&self) -> Option<Ask> {
        match &self.state {
            State::None => None,
            State::Open(Open { ask, .. }) | State::Ended(ask, _) | State::NoAnswer(ask) => Some(*ask),
        }
    }

    /// The host's answer; true where its reason is to be kept. One to another
    /// request, or to one that has its answer, is of no interest; an ack that was
    /// faster has not told what there is to tell of an install that went well.
    pub fn on_response(&mut self, response: &AgentInstallResp) -> bool {
        let ask = match (self.state, self.why) {
            (State::Open(Open { ask, .. }) | State::NoAnswer(ask), _)
            | (State::Ended(ask, Outcome::Installed), Why::Nothing) => ask,
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
        self.why = if tells { Why::Told(ask.request_id) } else { Why::Nothing };
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
        target: Target,
        actions: &mut Actions,
    ) {
        let State::Open(open) = &mut self.state else { return };
        if now >= open.gives_up {
            let (state, untold) = match open.phase {
                Phase::Waiting => (
                    State::NoAnswer(open.ask),
                    "the host did not answer the install request: is it up and reachable?",
                ),
                Phase::Running | Phase::Adopted => (
                    State::NoAnswer(open.ask),
                    "the host took the install up and fell silent: its outcome shows once it is heard again",
                ),
                Phase::Failed(outcome) => (
                    State::Ended(open.ask, outcome),
                    "the host fell silent before it said why: its own status and log do",
                ),
            };
            (self.state, self.why) = (state, Why::Untold(untold));
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

fn send(open: &mut Open, now: Instant, timers: &RequestTimers, target: Target, actions: &mut Actions) {
    let Ask { request_id, digest, force } = open.ask;
    // An ended request is asked about, never asked for: no agent's nonce is zero.
    open.nonce = if let Phase::Failed(_) = open.phase { Nonce(0) } else { target.nonce };
    open.next_send = now + timers.retry;
    let request = AgentInstallReq { request_id, nonce: open.nonce, digest, force };
    actions.send(To::Node(target.node, target.peer), Message::AgentInstallReq(request));
}
