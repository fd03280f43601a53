//! How a worker's end, of recovery or of an install, ends a request.

use super::{
    ATTEMPT_PAUSE, ATTEMPTS, Agent, Connecting, Idle, Installing, RECOVERY_PAUSE, Recovering, START_PAUSE,
    State, Task, respond,
};
use crate::fsm::actions::{Action, Actions};
use crate::fsm::event::WorkerEnd;
use crate::time::Instant;
use crate::types::Reason;
use crate::wire::install::{LastInstall, Outcome};

impl Agent<'_> {
    pub(super) fn on_worker_ended(&mut self, now: Instant, end: &WorkerEnd<'_>, actions: &mut Actions) {
        self.installed.abandon();
        match (&mut self.state, end) {
            (State::Recovering(recovering), WorkerEnd::Done) if recovering.has_snapshot => {
                let crashed = recovering.crashed.take();
                self.is_known = true;
                self.recovery_error = Reason::default();
                self.state = State::Idle(Idle { rejected_until: None });
                self.acks.on_change(now);
                if let Some(task) = crashed {
                    self.after_crash(now, task, actions);
                }
            }
            (State::Recovering(_), WorkerEnd::Done) => {
                let reason = Reason::truncated("recovery ended without a report of what is installed");
                self.on_recovery_failed(now, &reason, actions);
            }
            (
                State::Recovering(_),
                WorkerEnd::Failed(reason)
                | WorkerEnd::SessionLost(reason)
                | WorkerEnd::Unfinished(reason)
                | WorkerEnd::Crashed(reason),
            ) => {
                self.on_recovery_failed(now, reason, actions);
            }
            (State::Recovering(_), WorkerEnd::NotStarted(reason)) => {
                self.on_recovery_failed(now, reason, actions);
                self.try_soon(now);
            }
            (State::Installing(installing), end) => {
                let task = installing.task;
                let is_journaled =
                    self.last.as_ref().is_some_and(|last| last.request_id == task.install.request_id);
                let crashed = Recovering { again: None, crashed: Some(task), has_snapshot: false };
                match end {
                    WorkerEnd::Done | WorkerEnd::Failed(_) | WorkerEnd::SessionLost(_) if is_journaled => {
                        self.finish(now, task, actions);
                    }
                    WorkerEnd::SessionLost(reason) => self.on_session_lost(now, reason, actions),
                    // The worker has tried to recover already: the next attempt waits.
                    WorkerEnd::Unfinished(reason) => {
                        self.state = State::Recovering(crashed);
                        self.on_recovery_failed(now, reason, actions);
                    }
                    WorkerEnd::Failed(reason) | WorkerEnd::NotStarted(reason) => {
                        self.end(now, task, Outcome::Rejected, (*reason).clone(), actions);
                    }
                    // "Done" without a journal entry is treated as a
                    // crash: recovery reads the disk.
                    WorkerEnd::Done | WorkerEnd::Crashed(_) => {
                        self.state = State::Recovering(crashed);
                        self.acks.on_change(now);
                        actions.push(Action::StartRecovery);
                    }
                }
            }
            (State::Proving(_), end) => self.on_proof_worker_ended(now, end, actions),
            (State::Connecting(_) | State::Idle(_), _) => {}
        }
    }

    /// The session broke before anything was changed: the next one goes on from what has come.
    fn on_session_lost(&mut self, now: Instant, reason: &Reason, actions: &mut Actions) {
        let State::Installing(Installing { task, broken, .. }) = self.state else { return };
        let broken = broken.saturating_add(1);
        if broken >= ATTEMPTS {
            return self.end(now, task, Outcome::Rejected, reason.clone(), actions);
        }
        let again = Some(now + ATTEMPT_PAUSE);
        self.state = State::Connecting(Connecting { task, attempt: 0, broken, again });
        self.acks.on_change(now);
    }

    /// Until recovery succeeds, neither the installed set nor the final outcome of the
    /// install is known.
    pub(super) fn on_recovery_failed(&mut self, now: Instant, reason: &Reason, actions: &mut Actions) {
        let State::Recovering(recovering) = &mut self.state else { return };
        recovering.again = Some(now + RECOVERY_PAUSE);
        recovering.has_snapshot = false;
        let crashed = recovering.crashed;
        self.is_known = false;
        self.recovery_error = match reason.is_empty() {
            true => Reason::truncated("recovery failed without a reason"),
            false => reason.clone(),
        };
        self.acks.on_change(now);
        if let Some(task) = crashed {
            let broken = self.broken(task.install.request_id);
            respond(task.install.controller, task.peer, &broken, actions);
        }
    }

    /// Has recovery tried again soon: whoever starts its worker was not there.
    pub(super) fn try_soon(&mut self, now: Instant) {
        if let State::Recovering(recovering) = &mut self.state {
            recovering.again = Some(now + START_PAUSE);
        }
    }

    /// Recovery after a crash has succeeded: the journal may contain the request.
    fn after_crash(&mut self, now: Instant, task: Task, actions: &mut Actions) {
        let is_journaled = self.last.as_ref().is_some_and(|last| last.request_id == task.install.request_id);
        if is_journaled {
            return self.finish(now, task, actions);
        }
        let reason = Reason::truncated("The install's worker died before it changed anything: ask again.");
        self.end(now, task, Outcome::Rejected, reason, actions);
    }

    /// Ends an install that is not in the journal.
    pub(super) fn end(
        &mut self,
        now: Instant,
        task: Task,
        outcome: Outcome,
        reason: Reason,
        actions: &mut Actions,
    ) {
        let request_id = task.install.request_id;
        self.remember(LastInstall { request_id, outcome, reason, reboot_required: self.requires_reboot });
        self.finish(now, task, actions);
    }

    /// Answers with `last`, the install's result, and becomes idle.
    pub(super) fn finish(&mut self, now: Instant, task: Task, actions: &mut Actions) {
        let is_rejected = self.last.as_ref().is_some_and(|last| last.outcome == Outcome::Rejected);
        let rejected_until = is_rejected.then(|| now + self.facts.rejection_shown);
        self.state = State::Idle(Idle { rejected_until });
        if let Some(last) = &self.last {
            respond(task.install.controller, task.peer, last, actions);
        }
        self.acks.on_end(now);
    }

    pub(super) fn remember(&mut self, last: LastInstall) {
        self.has_failed = match last.outcome {
            Outcome::Installed => false,
            // The host was not changed, so an earlier failure remains.
            Outcome::Rejected => self.has_failed,
            Outcome::RolledBack | Outcome::Broken => true,
        };
        self.requires_reboot = last.reboot_required;
        self.last = Some(last);
    }
}
