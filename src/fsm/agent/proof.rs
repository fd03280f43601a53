//! The new thimble that an install has put in the old one's place, and that runs
//! already, proves itself: its health scripts pass, and it hears a controller. Only
//! then is the install committed, and only then told to have ended.
//!
//! ```text
//!             awaited               scripts pass             controller heard
//! Recovering ---------> Checking -----------------> Listening ---------------> Ending --> Idle
//!     ^                    | failed                     | none for too long ------^ |
//!     `--------------------+--------------------------------------------------------'
//! ```

use super::{Agent, Idle, Recovering, State};
use crate::fsm::actions::{Action, Actions};
use crate::fsm::event::WorkerEnd;
use crate::time::Instant;
use crate::types::{NodeId, Reason, RequestId};

/// The install that waits for the proof.
#[derive(Debug)]
pub(super) struct Proving {
    pub request_id: RequestId,
    pub controller: NodeId,
    /// A controller was heard.
    is_heard: bool,
    proof: Proof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Recovery runs the health scripts.
    Checking,
    /// A controller is waited for until then.
    Listening(Instant),
    /// A worker commits, or undoes.
    Ending,
}

impl Proving {
    /// Undoes what took too long to prove itself. Early: does nothing.
    pub fn on_timeout(&mut self, now: Instant, actions: &mut Actions) {
        if self.poll_at().is_some_and(|until| now >= until) {
            self.proof = Proof::Ending;
            actions.push(Action::StartProof { is_heard: false });
        }
    }

    /// When something is due.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.proof {
            Proof::Listening(until) => Some(until),
            Proof::Checking | Proof::Ending => None,
        }
    }
}

impl Agent<'_> {
    /// Recovery found an install that waits for this very process to prove itself.
    pub(super) fn on_proof_pending(&mut self, now: Instant, request_id: RequestId, controller: NodeId) {
        if matches!(&self.state, State::Recovering(recovering) if recovering.has_snapshot) {
            self.is_known = true;
            self.recovery_error = Reason::default();
            let proof = Proof::Checking;
            self.state = State::Proving(Proving { request_id, controller, is_heard: false, proof });
            self.acks.on_change(now);
        }
    }

    /// A controller was heard.
    pub(super) fn on_heard(&mut self, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        proving.is_heard = true;
        if let Proof::Listening(_) = proving.proof {
            proving.proof = Proof::Ending;
            actions.push(Action::StartProof { is_heard: true });
        }
    }

    /// Recovery or the worker that was to commit ended.
    pub(super) fn on_proof_worker_ended(&mut self, now: Instant, end: &WorkerEnd<'_>, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        let request_id = proving.request_id;
        let is_told = self.last.as_ref().is_some_and(|last| last.request_id == request_id);
        match (proving.proof, end) {
            (_, WorkerEnd::Done) if is_told => {
                self.state = State::Idle(Idle { rejected_until: None });
                self.acks.on_end(now);
            }
            (Proof::Checking, WorkerEnd::Done) => {
                proving.proof = Proof::Listening(now + self.facts.unheard);
                if proving.is_heard {
                    self.on_heard(actions);
                }
            }
            (_, WorkerEnd::Done) => {
                let silent = Reason::truncated("its worker did not say how the install ended");
                self.proof_failed(now, &silent, actions);
            }
            (_, WorkerEnd::Failed(reason) | WorkerEnd::Crashed(reason)) => {
                self.proof_failed(now, reason, actions);
            }
        }
    }

    /// Only the disk knows: recovery is asked again.
    fn proof_failed(&mut self, now: Instant, reason: &Reason, actions: &mut Actions) {
        self.state = State::Recovering(Recovering { again: None, crashed: None, has_snapshot: false });
        self.on_recovery_failed(now, reason, actions);
    }
}
