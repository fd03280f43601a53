//! An install request to one host, from the controller's side.
//!
//! ```text
//!            ask                 ack: running            answer
//! None/Ended ----> Waiting -------------------> Running --------> Ended
//!                   |  ^ retry, or a new nonce    | ^ retry          ^
//!                   |  `--resend                  | `--resend        |
//!                   |                             |                  |
//!                   +--- give up ---> NoAnswer <--+ silent too long  |
//!                   `-------------------- answer --------------------'
//! ```
//!
//! The request is sent until it is answered: by an `AgentInstallResp`, or by an
//! ack that says "installed", which has no reason to wait for. An ack that tells
//! of a failure makes the request go out once more, and the agent answers it
//! from its journal, with the reason.

use super::actions::{Actions, Peer, To};
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId, Nonce, Reason, RequestId};
use crate::wire::install::Outcome;
use crate::wire::messages::{AgentInstallReq, AgentInstallResp, HelloAgentAck, Message, RequestState};

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

/// Whether the agent is known to have taken a request up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
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

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    None,
    Open(Open),
    Ended(Outcome),
    NoAnswer(RequestId),
}

/// How a request stands, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None was made.
    None,
    /// Sent, and not known to be taken up.
    Waiting,
    /// The agent is at it.
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
    /// Why it did not end well.
    reason: Reason,
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
            State::Open(Open { phase: Phase::Running, .. }) => Standing::Running,
            State::Ended(outcome) => Standing::Ended(*outcome),
            State::NoAnswer(_) => Standing::NoAnswer,
        }
    }

    /// Why it did not end well; empty where it did, or has not ended.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
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
        let mut open = Open {
            ask,
            phase: Phase::Waiting,
            nonce: target.nonce,
            next_send: now,
            gives_up: now + timers.give_up,
        };
        send(&mut open, now, timers, target, actions);
        self.reason = Reason::default();
        self.state = State::Open(open);
        true
    }

    /// The host's ack: how far it is, and with what nonce to ask again.
    pub fn on_ack(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: Target,
        ack: &HelloAgentAck,
        actions: &mut Actions,
    ) {
        let State::Open(open) = &mut self.state else { return };
        let is_ours = ack.request_id == open.ask.request_id;
        match ack.request {
            RequestState::Running if is_ours => {
                open.phase = Phase::Running;
                open.gives_up = now + timers.give_up;
            }
            RequestState::Ended(Outcome::Installed) if is_ours => {
                self.state = State::Ended(Outcome::Installed);
            }
            RequestState::Ended(_) if is_ours && open.nonce != target.nonce => {
                send(open, now, timers, target, actions);
            }
            // Not taken up, and what it was sent with is used up: once more.
            _ if !is_ours && open.nonce != target.nonce => send(open, now, timers, target, actions),
            _ => {}
        }
    }

    /// The host's answer. One to another request is of no interest.
    pub fn on_response(&mut self, response: &AgentInstallResp) {
        let State::Open(Open { ask, .. }) = self.state else { return };
        if response.request_id != ask.request_id {
            return;
        }
        let outcome = match response.outcome {
            Some(outcome) => outcome,
            None if response.status => Outcome::Installed,
            None => Outcome::Rejected,
        };
        self.state = State::Ended(outcome);
        self.reason = response.reject_reason.clone();
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
            self.reason = Reason::new(match open.phase {
                Phase::Waiting => "the host did not answer the install request: is it up and reachable?",
                Phase::Running => {
                    "the host took the install up and fell silent: its outcome shows once it is heard again"
                }
            });
            self.state = State::NoAnswer(open.ask.request_id);
        } else if now >= open.next_send && actions.room() > 0 {
            send(open, now, timers, target, actions);
        }
    }

    /// What a host that was given up says of that request after all.
    pub fn on_late_ack(&mut self, ack: &HelloAgentAck) {
        if let State::NoAnswer(request_id) = self.state
            && ack.request_id == request_id
            && let RequestState::Ended(outcome) = ack.request
        {
            self.state = State::Ended(outcome);
            if outcome == Outcome::Installed {
                self.reason = Reason::default();
            }
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
    open.nonce = target.nonce;
    open.next_send = now + timers.retry;
    let request = AgentInstallReq { request_id, nonce: target.nonce, digest, force };
    actions.send(To::Node(target.node, target.peer), Message::AgentInstallReq(request));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::actions::Action;

    const TIMERS: RequestTimers =
        RequestTimers { retry: Duration::from_millis(100), give_up: Duration::from_millis(1000) };
    const ID: RequestId = RequestId(77);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn target(nonce: u64) -> Target {
        let peer = Peer::Ip(([127, 0, 0, 1], 7489).into());
        Target { node: NodeId(5), peer, nonce: Nonce(nonce) }
    }

    fn ack(nonce: u64, request_id: RequestId, request: RequestState) -> HelloAgentAck {
        HelloAgentAck { nonce: Nonce(nonce), request_id, request, ..HelloAgentAck::default() }
    }

    fn asked() -> Request {
        let (mut request, mut actions) = (Request::default(), Actions::default());
        let ask = Ask { request_id: ID, digest: Digest::default(), force: false };
        assert!(request.ask(at(0), &TIMERS, target(1), ask, &mut actions));
        assert_eq!(sent(&mut actions), [1]);
        assert!(!request.ask(at(0), &TIMERS, target(1), ask, &mut actions), "one at a time");
        request
    }

    /// The nonces of the requests that were sent.
    fn sent(actions: &mut Actions) -> std::vec::Vec<u64> {
        core::iter::from_fn(|| actions.pop_front())
            .map(|action| match action {
                Action::Send(To::Node(NodeId(5), _), Message::AgentInstallReq(request)) => {
                    assert_eq!(request.request_id, ID);
                    request.nonce.0
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn hear(request: &mut Request, now: u64, ack: &HelloAgentAck) -> std::vec::Vec<u64> {
        let mut actions = Actions::default();
        request.on_ack(at(now), &TIMERS, target(ack.nonce.0), ack, &mut actions);
        request.on_late_ack(ack);
        sent(&mut actions)
    }

    fn wait(request: &mut Request, now: u64) -> std::vec::Vec<u64> {
        let mut actions = Actions::default();
        request.on_timeout(at(now), &TIMERS, target(1), &mut actions);
        sent(&mut actions)
    }

    fn response(outcome: Outcome) -> AgentInstallResp {
        AgentInstallResp {
            request_id: ID,
            status: outcome == Outcome::Installed,
            outcome: Some(outcome),
            reject_reason: Reason::new("because"),
            reboot_required: false,
        }
    }

    #[test]
    fn a_lost_request_is_sent_again_and_a_lost_answer_is_seen_in_the_ack() {
        let mut request = asked();
        assert_eq!(wait(&mut request, 99), [0; 0]);
        assert_eq!(wait(&mut request, 100), [1]);
        assert_eq!(hear(&mut request, 110, &ack(2, ID, RequestState::Running)), [0; 0]);
        assert_eq!(request.standing(), Standing::Running);
        hear(&mut request, 500, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
        assert_eq!(request.standing(), Standing::Ended(Outcome::Installed));
        assert_eq!(request.poll_at(), None);
    }

    #[test]
    fn a_new_nonce_sends_at_once_and_only_once() {
        let mut request = asked();
        assert_eq!(hear(&mut request, 10, &ack(2, RequestId(0), RequestState::None)), [2]);
        assert_eq!(hear(&mut request, 20, &ack(2, RequestId(0), RequestState::None)), [0; 0]);
    }

    #[test]
    fn a_failure_seen_in_an_ack_is_asked_for_its_reason() {
        let mut request = asked();
        assert_eq!(hear(&mut request, 10, &ack(2, ID, RequestState::Ended(Outcome::RolledBack))), [2]);
        assert_eq!(request.standing(), Standing::Waiting);
        request.on_response(&AgentInstallResp { request_id: RequestId(1), ..response(Outcome::Broken) });
        assert_eq!(request.standing(), Standing::Waiting, "another request's answer");
        request.on_response(&response(Outcome::RolledBack));
        assert_eq!(request.standing(), Standing::Ended(Outcome::RolledBack));
        assert_eq!(request.reason().as_str(), "because");
        request.on_response(&response(Outcome::Installed));
        assert_eq!(request.standing(), Standing::Ended(Outcome::RolledBack), "a doubled answer");
    }

    #[test]
    fn silence_is_given_up_with_the_missing_answer_named() {
        let mut request = asked();
        wait(&mut request, 1000);
        assert_eq!(request.standing(), Standing::NoAnswer);
        assert!(request.reason().as_str().contains("did not answer"));

        let mut request = asked();
        hear(&mut request, 900, &ack(2, ID, RequestState::Running));
        wait(&mut request, 1000);
        assert_eq!(request.standing(), Standing::Running, "an ack extends the time");
        wait(&mut request, 1900);
        assert_eq!(request.standing(), Standing::NoAnswer);
        assert!(request.reason().as_str().contains("fell silent"));
        hear(&mut request, 5000, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
        assert_eq!(request.standing(), Standing::Ended(Outcome::Installed), "heard after all");
    }
}
