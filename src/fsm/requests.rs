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

use super::actions::{Actions, Peer, To};
use crate::time::{Duration, Instant};
use crate::types::{Digest, NodeId, Nonce, RequestId};
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

/// What the agent is known to have done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing yet.
    Waiting,
    /// Taken it up.
    Running,
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
            State::Open(Open { phase: Phase::Running | Phase::Failed(_), .. }) => Standing::Running,
            State::Ended(_, outcome) => Standing::Ended(*outcome),
            State::NoAnswer(_) => Standing::NoAnswer,
        }
    }

    /// Where to read why it did not end well.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
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

    /// The host's ack: how far it is, and with what nonce to ask again.
    pub fn on_ack(
        &mut self,
        now: Instant,
        timers: &RequestTimers,
        target: Target,
        ack: &HelloAgentAck,
        actions: &mut Actions,
    ) {
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
                open.phase = Phase::Running;
                open.gives_up = now + timers.give_up;
            }
            // Not taken up, and what it was sent with is used up: once more.
            (_, State::Open(open)) if !is_ours && open.nonce != target.nonce => {
                send(open, now, timers, target, actions);
            }
            _ => {}
        }
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
                Phase::Running => (
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::actions::Action;
    use crate::types::Reason;

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

    fn untold(request: &Request) -> &'static str {
        match request.why() {
            Why::Untold(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn hear(request: &mut Request, now: u64, ack: &HelloAgentAck) -> std::vec::Vec<u64> {
        let mut actions = Actions::default();
        request.on_ack(at(now), &TIMERS, target(ack.nonce.0), ack, &mut actions);
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
    fn a_failure_seen_in_an_ack_is_asked_for_its_reason_and_not_for_the_install() {
        let mut request = asked();
        let failed = ack(2, ID, RequestState::Ended(Outcome::RolledBack));
        assert_eq!(hear(&mut request, 10, &failed), [0], "no nonce");
        assert_eq!(hear(&mut request, 20, &ack(3, RequestId(1), RequestState::None)), [0; 0]);
        assert_eq!(hear(&mut request, 30, &ack(2, ID, RequestState::Running)), [0; 0], "a late ack");
        assert_eq!(wait(&mut request, 110), [0], "still without");
        assert_eq!(request.standing(), Standing::Running);
        request.on_response(&AgentInstallResp { request_id: RequestId(1), ..response(Outcome::Broken) });
        assert_eq!(request.standing(), Standing::Running, "another request's answer");
        request.on_response(&response(Outcome::RolledBack));
        assert_eq!(request.standing(), Standing::Ended(Outcome::RolledBack));
        assert_eq!(request.why(), Why::Told(ID));
        request.on_response(&response(Outcome::Installed));
        assert_eq!(request.standing(), Standing::Ended(Outcome::RolledBack), "a doubled answer");
        assert_eq!(hear(&mut request, 200, &failed), [0; 0], "nothing new");
    }

    #[test]
    fn what_is_told_of_an_install_that_went_well_outlives_acks_whichever_comes_first() {
        let installed = ack(1, ID, RequestState::Ended(Outcome::Installed));
        let response = response(Outcome::Installed);
        for is_ack_first in [false, true] {
            let mut request = asked();
            if is_ack_first {
                assert_eq!(hear(&mut request, 10, &installed), []);
            }
            assert!(request.on_response(&response));
            assert_eq!(hear(&mut request, 20, &installed), []);
            assert_eq!(request.standing(), Standing::Ended(Outcome::Installed));
            assert_eq!(request.why(), Why::Told(ID));
            assert!(!request.on_response(&response), "told once");
        }
    }

    #[test]
    fn a_failure_without_its_reason_is_told_when_that_is_given_up() {
        let mut request = asked();
        hear(&mut request, 10, &ack(2, ID, RequestState::Ended(Outcome::RolledBack)));
        wait(&mut request, 1010);
        assert_eq!(request.standing(), Standing::Ended(Outcome::RolledBack));
        assert!(untold(&request).contains("before it said why"));
    }

    #[test]
    fn what_the_journal_says_is_believed_over_an_earlier_refusal() {
        // One copy of the request was refused, a later one was taken up.
        let mut request = asked();
        request.on_response(&AgentInstallResp { outcome: None, ..response(Outcome::Rejected) });
        assert_eq!(request.standing(), Standing::Ended(Outcome::Rejected));
        hear(&mut request, 10, &ack(3, ID, RequestState::Ended(Outcome::Installed)));
        assert_eq!(request.standing(), Standing::Ended(Outcome::Installed));
        assert_eq!(request.why(), Why::Nothing);
    }

    #[test]
    fn silence_is_given_up_with_the_missing_answer_named() {
        let mut request = asked();
        wait(&mut request, 1000);
        assert_eq!(request.standing(), Standing::NoAnswer);
        assert!(untold(&request).contains("did not answer"));

        let mut request = asked();
        hear(&mut request, 900, &ack(2, ID, RequestState::Running));
        wait(&mut request, 1000);
        assert_eq!(request.standing(), Standing::Running, "an ack extends the time");
        wait(&mut request, 1900);
        assert_eq!(request.standing(), Standing::NoAnswer);
        assert!(untold(&request).contains("fell silent"));
        hear(&mut request, 5000, &ack(2, ID, RequestState::Ended(Outcome::Installed)));
        assert_eq!(request.standing(), Standing::Ended(Outcome::Installed), "heard after all");

        let mut request = asked();
        wait(&mut request, 1000);
        assert_eq!(hear(&mut request, 2000, &ack(3, RequestId(9), RequestState::None)), [0; 0], "given up");
        assert_eq!(hear(&mut request, 3000, &ack(3, ID, RequestState::Ended(Outcome::Broken))), [0]);
        request.on_response(&response(Outcome::Broken));
        assert_eq!(request.standing(), Standing::Ended(Outcome::Broken), "and why");
        assert_eq!(request.why(), Why::Told(ID));
    }
}
