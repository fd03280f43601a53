//! An install that is in place is committed only after a controller was heard with it: a set
//! with which the host loses its network is undone. Until then the install counts as running.
//! Only a message with this agent's own key counts, since every agent can play a controller with
//! the group's: a controller that sees the ack of such an agent greets it alone. The agent sends
//! that ack at once, to the controller that asked and to all, and again until it is greeted.
//!
//! If the install replaced thimble itself, the new one, which runs, waits. It runs the health
//! scripts first.
//!
//! ```text
//! Recovering,  proof pending         worker ended            controller heard
//! Installing ---------> Checking -----------------> Listening ---------------> Ending --> Idle
//!                          | failed                     | none for too long ------^ |
//! Recovering <-------------+----------------------------------------- failed -------'
//! ```

use super::{Agent, Idle, Installing, Recovering, State, Task};
use crate::fsm::actions::{Action, Actions, To};
use crate::fsm::event::{PendingProof, WorkerEnd};
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::messages::Message;

/// The install whose proof is pending.
#[derive(Debug)]
pub(super) struct Proving {
    pub pending: PendingProof,
    /// The request, if this process received it.
    task: Option<Task>,
    /// A controller was heard.
    is_heard: bool,
    /// When to ask the controllers again.
    asks: Option<Instant>,
    proof: Proof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// A worker runs: of the install, or recovery with the health scripts.
    Checking,
    /// Waiting for a controller until then.
    Listening(Instant),
    /// A worker commits or undoes the install.
    Ending,
}

impl Proving {
    /// When something is due.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.proof {
            Proof::Listening(until) => Instant::earliest([Some(until), self.asks]),
            Proof::Checking | Proof::Ending => None,
        }
    }

    /// Starts to commit the install.
    fn prove(&mut self, actions: &mut Actions) {
        self.proof = Proof::Ending;
        actions.push(Action::StartProof { is_heard: true });
    }

    /// How long it has waited; `None` while it does not.
    pub fn waited(&self, now: Instant) -> Option<Duration> {
        match self.proof {
            Proof::Listening(until) => {
                let left = until.since(now).as_millis();
                Some(Duration::from_millis(self.pending.wait.as_millis().saturating_sub(left)))
            }
            Proof::Checking | Proof::Ending => None,
        }
    }
}

impl Agent<'_> {
    /// An install, or recovery, reports an install that waits for a controller.
    pub(super) fn on_proof_pending(&mut self, now: Instant, pending: PendingProof, actions: &mut Actions) {
        let task = match &self.state {
            State::Recovering(Recovering { has_snapshot: true, crashed, .. }) => *crashed,
            State::Installing(Installing { task, .. }) => Some(*task),
            _ => return,
        };
        self.is_known = true;
        self.recovery_error = Reason::default();
        let proof = Proof::Checking;
        self.state = State::Proving(Proving { pending, task, is_heard: false, asks: None, proof });
        self.ask_controllers(now, actions);
    }

    /// Has controllers send a message, now and later again.
    fn ask_controllers(&mut self, now: Instant, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        proving.asks = proving.pending.asks_every.map(|pause| now + pause);
        let task = proving.task.filter(|_| proving.asks.is_some());
        self.acks.at_once(now);
        if let Some(Task { install, peer }) = task {
            actions.send(To::Node(install.controller, peer), Message::HelloAgentAck(self.ack()));
        }
    }

    /// Asks again, and starts to undo the install if no controller was heard in time.
    pub(super) fn on_proof_timeout(&mut self, now: Instant, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        let Proof::Listening(until) = proving.proof else { return };
        if now >= until {
            proving.proof = Proof::Ending;
            actions.push(Action::StartProof { is_heard: false });
        } else if proving.asks.is_some_and(|due| now >= due) {
            self.ask_controllers(now, actions);
        }
    }

    /// A controller was heard.
    pub(super) fn on_heard(&mut self, from: NodeId, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        if proving.pending.except == Some(from) {
            return;
        }
        proving.is_heard = true;
        if let Proof::Listening(_) = proving.proof {
            proving.prove(actions);
        }
    }

    /// Recovery, or the worker that installs, commits or undoes, ended.
    pub(super) fn on_proof_worker_ended(&mut self, now: Instant, end: &WorkerEnd<'_>, actions: &mut Actions) {
        let State::Proving(proving) = &mut self.state else { return };
        let PendingProof { request_id, wait, .. } = proving.pending;
        let is_journaled = self.last.as_ref().is_some_and(|last| last.request_id == request_id);
        match (proving.proof, end) {
            (_, WorkerEnd::Done) if is_journaled => match proving.task {
                Some(task) => self.finish(now, task, actions),
                None => {
                    self.state = State::Idle(Idle { rejected_until: None });
                    self.acks.on_end(now);
                }
            },
            (Proof::Checking, WorkerEnd::Done) => {
                proving.proof = Proof::Listening(now + wait);
                if proving.is_heard {
                    proving.prove(actions);
                }
            }
            (_, WorkerEnd::Done) => {
                let silent = Reason::truncated("its worker did not report how the install ended");
                self.proof_failed(now, &silent, actions);
            }
            (
                _,
                WorkerEnd::Failed(reason)
                | WorkerEnd::SessionLost(reason)
                | WorkerEnd::Unfinished(reason)
                | WorkerEnd::Crashed(reason),
            ) => {
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
