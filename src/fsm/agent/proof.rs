//! An install that replaced thimble itself is committed only after the new thimble,
//! which already runs, has proven itself: its health scripts pass, and it hears a
//! controller. Until then the install counts as running. Only a message with this agent's own
//! key counts: a controller that sees the ack of such an agent greets it alone.
//!
//! ```text
//!             proof pending         scripts pass             controller heard
//! Recovering ---------> Checking -----------------> Listening ---------------> Ending --> Idle
//!     ^                    | failed                     | none for too long ------^ |
//!     `--------------------+--------------------------------------------------------'
//! ```

use super::{Agent, Idle, Recovering, State};
use crate::fsm::actions::{Action, Actions};
use crate::fsm::event::WorkerEnd;
use crate::time::Instant;
use crate::types::{NodeId, Reason, RequestId};

/// The install whose proof is pending.
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
    /// Waiting for a controller until then.
    Listening(Instant),
    /// A worker commits or undoes the install.
    Ending,
}

impl Proving {
    /// Starts to undo the install if no controller was heard in time.
    pub fn on_timeout(&mut self, now: Instant, actions: &mut Actions) {
        if self.poll_at().is_some_and(|until| now >= until) {
            self.proof = Proof::Ending;
            actions.push(Action::StartProof { is_heard: false });
        }
    }

    /// When the next call of [`on_timeout`](Self::on_timeout) is due.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.proof {
            Proof::Listening(until) => Some(until),
            Proof::Checking | Proof::Ending => None,
        }
    }
}

impl Agent<'_> {
    /// Recovery found an install that waits for this process to prove itself.
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

    /// Recovery, or the worker that commits or undoes, ended.
    pub(super) fn on_proof_worker_ended(&mut self, now: Instant, end: &WorkerEnd<'_>, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        let request_id = proving.request_id;
        let is_journaled = self.last.as_ref().is_some_and(|last| last.request_id == request_id);
        match (proving.proof, end) {
            (_, WorkerEnd::Done) if is_journaled => {
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
                let silent = Reason::truncated("its worker did not report how the install ended");
                self.proof_failed(now, &silent, actions);
            }
            (_, WorkerEnd::Failed(reason) | WorkerEnd::Unfinished(reason) | WorkerEnd::Crashed(reason)) => {
                self.proof_failed(now, reason, actions);
            }
            (_, WorkerEnd::NotStarted(reason)) => {
                self.proof_failed(now, reason, actions);
                self.try_soon(now);
            }
        }
    }

    /// Runs recovery again, which reads the outcome from the disk.
    fn proof_failed(&mut self, now: Instant, reason: &Reason, actions: &mut Actions) {
        self.state = State::Recovering(Recovering { again: None, crashed: None, has_snapshot: false });
        self.on_recovery_failed(now, reason, actions);
    }
}
