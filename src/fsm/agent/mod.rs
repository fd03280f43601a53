//! The agent's side: it reports the state of its host and installs on request.
//!
//! ```text
//!           recovered                request, nonce right
//! Recovering ------------> Idle --------------------------> Connecting
//!     ^  |  failed       ^  ^  ^                              |  | failed, busy
//!     |  `-> (again      |  |  `---- given up ----------------'  `--> again
//!     |      later)      |  |                                 |
//!     |                  |  `----- worker: done, failed ----  | session ready
//!     |                  `-- rejection no longer shown      \ v
//!     `---------- worker: crashed, unfinished ----------- Installing
//! ```
//!
//! A worker whose session broke before anything was changed leads back to Connecting, where it has
//! not recorded an end of the install.
//!
//! An install that is in place is not committed yet: its worker, or recovery, reports that its
//! proof is pending. The agent is then Proving (see `proof.rs`): the request still runs until a
//! controller was heard. If none is heard in time, the install is undone. One that replaced
//! thimble itself ends in another process: the daemon execs the new binary, which recovers.
//!
//! A request is accepted once. Its nonce is used up; its number is written to the
//! journal before anything is changed; and a request whose number is known is answered
//! instead of installed again. A refusal uses up the nonce too, so a late copy of the
//! request is not accepted after its controller received the refusal. The agent sends
//! nothing before recovery has reported what is on the disk. If recovery fails, or an
//! install could be neither ended nor undone, the agent sends acks without an installed
//! set and tries recovery again every 30 s.

mod ended;
mod pings;
mod proof;
mod spread;
mod view;

#[cfg(test)]
mod tests;

use super::acks::Acks;
use super::actions::{Action, Actions, Peer, To};
use super::event::Event;
use super::installed::Installed;
use super::random::Random;
use crate::time::{Duration, Instant};
use crate::types::{Hostname, NodeId, NodeType, Nonce, Reason, RequestId, SwVersion};
use crate::wire::codec::ReceivedDatagram;
use crate::wire::frame::Purpose;
use crate::wire::install::{InstallRequest, LastInstall, Outcome, Step};
use crate::wire::messages::{AgentInstallReq, AgentInstallResp, Message};
use pings::Pings;
use proof::Proving;
use spread::Spreads;

/// How many sessions are tried for one install before it is given up.
const ATTEMPTS: u8 = 6;
/// The pause before the second attempt; each further one is twice as long.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
/// The pause before recovery is tried again after it failed.
const RECOVERY_PAUSE: Duration = Duration::from_secs(30);
/// The same where its worker could not be started, as while the installer is started again.
const START_PAUSE: Duration = Duration::from_secs(2);

/// An agent's configuration.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// Its node id.
    pub node: NodeId,
    /// What the host calls itself.
    pub hostname: Hostname,
    /// Its kind.
    pub nodetype: NodeType,
    /// The release that runs.
    pub sw_version: SwVersion,
    /// How long a rejected install is shown.
    pub rejection_shown: Duration,
    /// From one HelloAgent of a controller to the next.
    pub hello_interval: Duration,
}

/// The request that is being executed, and the address for its answer.
#[derive(Clone, Copy, Debug)]
struct Task {
    install: InstallRequest,
    peer: Peer,
}

/// Recovery, at start or after a worker crashed.
#[derive(Debug)]
struct Recovering {
    /// When to start the worker (again); `None` while it runs.
    again: Option<Instant>,
    /// The install whose worker crashed or left it unfinished.
    crashed: Option<Task>,
    /// The worker has reported what is on the disk.
    has_snapshot: bool,
}

/// Opening a session to the controller that has the patches.
#[derive(Debug)]
struct Connecting {
    task: Task,
    attempt: u8,
    /// The sessions of this install that broke.
    broken: u8,
    /// When to open the next session; `None` while one is opening.
    again: Option<Instant>,
}

/// A worker installs.
#[derive(Debug)]
struct Installing {
    task: Task,
    /// The sessions that broke before.
    broken: u8,
    step: Step,
    percent: u8,
}

/// No install and no recovery.
#[derive(Debug)]
struct Idle {
    /// A rejected install is shown until then.
    rejected_until: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Recovering(Recovering),
    Proving(Proving),
    Connecting(Connecting),
    Installing(Installing),
    Idle(Idle),
}

/// An agent.
#[derive(Debug)]
pub struct Agent<'a> {
    facts: AgentFacts,
    state: State,
    installed: Installed<'a>,
    /// The snapshot is what is on the disk: recovery reported it, and has not failed
    /// since.
    is_known: bool,
    /// How the last install ended.
    last: Option<LastInstall>,
    /// How the last install in the journal ended. An install that was given up before
    /// a worker started does not replace it.
    journaled: Option<LastInstall>,
    /// Whether the last install failed to bring the host to the requested set.
    has_failed: bool,
    /// Why the last recovery failed; empty if it succeeded.
    recovery_error: Reason,
    requires_reboot: bool,
    nonce: Nonce,
    acks: Acks,
    /// A controller that asked this agent alone and is to be answered alone, too.
    asked_by: Option<(NodeId, Peer)>,
    pings: Pings,
    spreads: Spreads,
    /// Requests that carried another nonce than the current one.
    stale_nonces: u64,
}

impl<'a> Agent<'a> {
    /// An agent that starts with recovery.
    #[must_use]
    pub fn new(now: Instant, facts: AgentFacts, installed: Installed<'a>, random: &mut Random) -> Self {
        let acks = Acks::new(facts.hello_interval);
        Self {
            facts,
            state: State::Recovering(Recovering { again: Some(now), crashed: None, has_snapshot: false }),
            installed,
            is_known: false,
            last: None,
            journaled: None,
            has_failed: false,
            recovery_error: Reason::default(),
            requires_reboot: false,
            nonce: Nonce(random.next_u64()),
            acks,
            asked_by: None,
            pings: Pings::default(),
            spreads: Spreads::default(),
            stale_nonces: 0,
        }
    }

    /// Changes the configuration; the next ack carries it.
    pub fn set_facts(&mut self, now: Instant, facts: AgentFacts) {
        self.facts = facts;
        self.acks.set_hello_interval(self.facts.hello_interval);
        self.acks.on_change(now);
    }

    /// Reports the state of the host soon, though nobody has asked.
    pub fn announce(&mut self, now: Instant) {
        self.acks.on_change(now);
    }

    /// Handles a message of a controller.
    pub fn on_message(
        &mut self,
        now: Instant,
        peer: Peer,
        received: &ReceivedDatagram,
        random: &mut Random,
        actions: &mut Actions,
    ) {
        let ReceivedDatagram { sender: from, message, is_forgeable, .. } = received;
        if !is_forgeable {
            self.on_heard(*from, actions);
        }
        match message {
            // A controller that missed this agent asks for an answer at once.
            Message::HelloAgent(hello) if !is_forgeable && hello.ack_window_ms == 0 => {
                self.asked_by = Some((*from, peer));
                self.acks.at_once(now);
            }
            // The end of the proof is its answer.
            Message::HelloAgent(_) if !is_forgeable && matches!(self.state, State::Proving(_)) => {}
            Message::HelloAgent(hello) => self.acks.on_hello(now, *from, hello.ack_window_ms, random),
            Message::SpreadOffer(offer) => self.on_offer(now, (*from, peer), offer, random, actions),
            Message::Ping(ping) => self.on_ping(now, (*from, peer), ping, *is_forgeable, actions),
            Message::AgentInstallReq(request) => self.on_request(now, *from, peer, request, random, actions),
            _ => {}
        }
        self.send_due_ack(now, actions);
    }

    fn on_request(
        &mut self,
        now: Instant,
        from: NodeId,
        peer: Peer,
        request: &AgentInstallReq,
        random: &mut Random,
        actions: &mut Actions,
    ) {
        let mut known = [&self.last, &self.journaled].into_iter().flatten();
        if let Some(last) = known.find(|last| last.request_id == request.request_id) {
            return respond(from, peer, last, actions);
        }
        if self.current_request().is_some_and(|(request_id, _)| request_id == request.request_id) {
            if self.has_recovery_failed() {
                return respond(from, peer, &self.broken(request.request_id), actions);
            }
            return self.acks.on_change(now);
        }
        if !self.may_send() {
            // Recovery runs. The journal, not read yet, may contain the request.
            return;
        }
        if request.nonce != self.nonce {
            self.stale_nonces = self.stale_nonces.saturating_add(1);
            return self.acks.on_change(now);
        }
        if let Some(reason) = self.busy_reason() {
            self.nonce = Nonce(random.next_u64());
            self.acks.on_change(now);
            return actions.send(To::Node(from, peer), busy(request, reason));
        }
        self.nonce = Nonce(random.next_u64());
        let AgentInstallReq { request_id, digest, force, .. } = *request;
        let install = InstallRequest { request_id, controller: from, digest, force };
        self.state = State::Connecting(Connecting {
            task: Task { install, peer },
            attempt: 0,
            broken: 0,
            again: None,
        });
        self.acks.on_change(now);
        actions.push(Action::Connect(from, peer, Purpose::Fetch));
    }

    /// Why a request cannot be accepted now; `None` if it can.
    fn busy_reason(&self) -> Option<Reason> {
        if self.has_recovery_failed() {
            let error = &self.recovery_error;
            return Some(Reason::format(format_args!(
                "The host has an install to recover from first: {error}"
            )));
        }
        let (request_id, controller) = self.current_request()?;
        Some(Reason::format(format_args!(
            "The host is at work on request {request_id} of controller {controller}: wait for its end."
        )))
    }

    /// The result of an install that recovery could not clean up.
    fn broken(&self, request_id: RequestId) -> LastInstall {
        LastInstall {
            request_id,
            outcome: Outcome::Broken,
            reason: self.recovery_error.clone(),
            reboot_required: self.requires_reboot,
        }
    }

    /// Handles an event of the session or the worker.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>, random: &mut Random, actions: &mut Actions) {
        match event {
            Event::SessionReady(_, Purpose::Fetch) => self.on_session(now, actions),
            Event::SessionBusy(_, Purpose::Fetch, pause) => self.on_no_session(now, *pause, None, actions),
            Event::SessionFailed(_, Purpose::Fetch, reason) => {
                self.on_no_session(now, ATTEMPT_PAUSE, Some(reason), actions);
            }
            Event::Progress(step, percent) => {
                if let State::Installing(installing) = &mut self.state {
                    (installing.step, installing.percent) = (*step, *percent);
                    self.acks.on_change(now);
                }
            }
            Event::Installed(patch) => self.installed.push(patch),
            Event::InstalledEnd(digest, last) => {
                self.installed.complete(*digest, random.next_u64());
                if let State::Recovering(recovering) = &mut self.state {
                    recovering.has_snapshot = true;
                }
                if let Some(last) = last {
                    self.journaled = Some((*last).clone());
                    self.remember((*last).clone());
                }
            }
            Event::Lacks(report) => self.on_lacks(report, actions),
            Event::Receiving(silence) => self.on_receiving(now, *silence),
            Event::ReceivingEnded(is_refused) => self.on_receiving_ended(now, *is_refused, actions),
            Event::ProofPending(pending) => self.on_proof_pending(now, *pending, actions),
            Event::WorkerEnded(end) => self.on_worker_ended(now, end, actions),
            _ => {}
        }
        self.send_due_ack(now, actions);
    }

    fn on_session(&mut self, now: Instant, actions: &mut Actions) {
        if let State::Connecting(Connecting { task, broken, .. }) = &self.state {
            let (task, broken) = (*task, *broken);
            self.state = State::Installing(Installing { task, broken, step: Step::Checking, percent: 0 });
            self.acks.on_change(now);
            actions.push(Action::StartInstall(task.install));
        }
    }

    fn on_no_session(
        &mut self,
        now: Instant,
        pause: Duration,
        reason: Option<&Reason>,
        actions: &mut Actions,
    ) {
        let State::Connecting(connecting) = &mut self.state else { return };
        let Some(reason) = reason else {
            // A busy controller does not count as a failed attempt: it answers.
            (connecting.attempt, connecting.again) = (0, Some(now + pause));
            return;
        };
        connecting.attempt = connecting.attempt.saturating_add(1);
        if connecting.attempt < ATTEMPTS {
            let doubled = pause.times(1 << connecting.attempt.saturating_sub(1).min(6));
            connecting.again = Some(now + doubled);
            return;
        }
        let task = connecting.task;
        let reason = Reason::format(format_args!("The host cannot fetch from the controller: {reason}"));
        self.end(now, task, Outcome::Rejected, reason, actions);
    }

    /// Does what is due; before that, nothing.
    pub fn on_timeout(&mut self, now: Instant, actions: &mut Actions) {
        match &mut self.state {
            State::Recovering(recovering) if recovering.again.is_some_and(|again| now >= again) => {
                recovering.again = None;
                actions.push(Action::StartRecovery);
            }
            State::Proving(_) => self.on_proof_timeout(now, actions),
            State::Connecting(connecting) if connecting.again.is_some_and(|again| now >= again) => {
                connecting.again = None;
                let task = connecting.task;
                actions.push(Action::Connect(task.install.controller, task.peer, Purpose::Fetch));
            }
            State::Idle(idle) if idle.rejected_until.is_some_and(|until| now >= until) => {
                idle.rejected_until = None;
                self.acks.on_change(now);
            }
            _ => {}
        }
        self.answer_offer(now, actions);
        self.send_due_ack(now, actions);
    }

    /// When the next call of [`on_timeout`](Self::on_timeout) is due.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Recovering(recovering) => recovering.again,
            State::Proving(proving) => proving.poll_at(),
            State::Connecting(connecting) => connecting.again,
            State::Installing(_) => None,
            State::Idle(idle) => idle.rejected_until,
        };
        // Before recovery the agent sends nothing.
        let ack = self.acks.poll_at().filter(|_| self.may_send());
        Instant::earliest([own, ack, self.answers_offer_at()])
    }

    fn may_send(&self) -> bool {
        self.is_known || self.has_recovery_failed()
    }

    fn has_recovery_failed(&self) -> bool {
        !self.recovery_error.is_empty()
    }

    fn send_due_ack(&mut self, now: Instant, actions: &mut Actions) {
        if self.may_send() && self.acks.take_due(now) {
            actions.send(To::Controllers, Message::HelloAgentAck(self.ack()));
            if let Some((node, peer)) = self.asked_by.take() {
                actions.send(To::Node(node, peer), Message::HelloAgentAck(self.ack()));
            }
        }
    }

    /// The controller from which an install fetches.
    #[must_use]
    pub fn fetches_from(&self) -> Option<NodeId> {
        self.current_request().map(|(_, controller)| controller)
    }

    /// The request that is being executed, and its controller.
    fn current_request(&self) -> Option<(RequestId, NodeId)> {
        let task = match &self.state {
            State::Proving(proving) => return Some((proving.pending.request_id, proving.pending.controller)),
            State::Recovering(recovering) => recovering.crashed.as_ref()?,
            State::Connecting(connecting) => &connecting.task,
            State::Installing(installing) => &installing.task,
            State::Idle(_) => return None,
        };
        Some((task.install.request_id, task.install.controller))
    }

    /// Checks what must always hold.
    pub fn invariants(&self) {
        debug_assert!(self.nonce != Nonce(0), "nonce 0 is never the current one");
        debug_assert!(
            self.is_known || !matches!(self.state, State::Connecting(_) | State::Installing(_)),
            "no install before recovery"
        );
    }
}

fn respond(to: NodeId, peer: Peer, last: &LastInstall, actions: &mut Actions) {
    let response = AgentInstallResp {
        request_id: last.request_id,
        status: last.outcome == Outcome::Installed,
        outcome: Some(last.outcome),
        reject_reason: last.reason.clone(),
        reboot_required: last.reboot_required,
    };
    actions.send(To::Node(to, peer), Message::AgentInstallResp(response));
}

fn busy(request: &AgentInstallReq, reason: Reason) -> Message {
    Message::AgentInstallResp(AgentInstallResp {
        request_id: request.request_id,
        status: false,
        outcome: None,
        reject_reason: reason,
        reboot_required: false,
    })
}
